"""ROC, DET, CMC and DIR of one or several models, as matplotlib figures of their reports. Imports no torch."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ..utils.files import replacing
from ..utils.labels import in_figure

COLORS = plt.get_cmap('tab10').colors  # type: ignore[attr-defined]  # a ListedColormap


def roc_figure(reports: Mapping[str, dict]) -> Figure:
    """TAR over FAR, 1:1, from 1 / N impostors on, by the exact rule; one line for each model, its mean over splits.

    Args:
        reports: For each model its report, of :func:`~mmsskd.face.evaluation.evaluate.evaluate_templates` or ``evaluate_pairs``.
    """
    return _curves(reports, 'roc', 'far', 'false accept rate', 'true accept rate')


def det_figure(reports: Mapping[str, dict]) -> Figure:
    """Share of genuine pairs rejected over FAR, 1:1, both axes logarithmic. Arguments as :func:`roc_figure`."""
    return _curves(reports, 'roc', 'far', 'false accept rate', 'false reject rate', misses=True)


def cmc_figure(reports: Mapping[str, dict]) -> Figure:
    """Share of mated probes whose mate is at a rank or better, 1:N. Arguments as :func:`roc_figure`."""
    return _curves(reports, 'cmc', 'rank', 'rank', 'mated probes found')


def dir_figure(reports: Mapping[str, dict]) -> Figure:
    """TPIR over FPIR, 1:N, from 1 / N probes without mate on. Arguments as :func:`roc_figure`."""
    ranks = {report['options']['tpir_rank'] for report in reports.values() if 'dir' in report['curves']}
    where = ' or '.join('any rank' if rank is None else f'rank {rank}' for rank in sorted(ranks, key=lambda x: x or 0))
    return _curves(reports, 'dir', 'fpir', 'false positive identification rate', f'mated probes identified, at {where}')


FIGURES = dict(roc=(roc_figure, 'roc'), det=(det_figure, 'roc'), cmc=(cmc_figure, 'cmc'), dir=(dir_figure, 'dir'))


def write_face_plots(
    reports: Mapping[str, dict], folder: str | os.PathLike, formats: Sequence[str] = ('png', 'svg')
) -> list[Path]:
    """Write ``roc``, ``det``, ``cmc`` and ``dir`` in each format, as far as the reports have their curves.

    Args:
        reports: As for :func:`roc_figure`.
        folder: Made if missing.
        formats: Endings that matplotlib knows.

    Returns:
        The files written.
    """
    folder, written = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    for name, (draw, curve) in FIGURES.items():
        if not any(curve in report['curves'] for report in reports.values()):
            continue
        figure = draw(reports)
        for ending in formats:
            path = folder / f'{name}.{ending}'
            with replacing(path) as part:
                figure.savefig(part, format=ending, dpi=150)
            written.append(path)
        plt.close(figure)
    return written


def _curves(
    reports: Mapping[str, dict], curve: str, over: str, xlabel: str, ylabel: str, misses: bool = False
) -> Figure:
    figure, axes = plt.subplots(figsize=(5.4, 3.8), layout='constrained')
    averaged, least = 1, 1.0
    for number, (name, report) in enumerate(reports.items()):
        if curve not in report['curves']:
            continue
        points = report['curves'][curve]
        averaged = max(averaged, points['over'])
        # a rate of 0 has no place on a logarithmic axis: the line ends where the misses do
        rates = [(1 - rate or None) if misses else rate for rate in points['rate']]
        least = min([least, *(rate for rate in rates if rate is not None)])
        axes.step(points[over], rates, where='post', color=COLORS[number % len(COLORS)], label=in_figure(name))
    axes.set(xlabel=xlabel, ylabel=ylabel, xscale='log', title=f'mean over {averaged} lists' if averaged > 1 else '')
    if misses:
        axes.set(yscale='log', ylim=(min(0.5 * least, 0.1), 1))
    else:
        axes.set_ylim(max(0, least - 0.05), 1.005)
    axes.grid(alpha=0.3, which='both')
    axes.legend()
    return figure
