"""The page of a comparison: tables, curves, and what the students' features are like."""

from collections.abc import Sequence

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ..utils.labels import in_figure
from ..visualization.report import Report
from .plan import Plan
from .statistics import LEAST_GAP
from .tables import COLUMNS, Row, Table, show_gap

COLORS = plt.get_cmap('tab10').colors  # type: ignore[attr-defined]  # a ListedColormap


def build_page(plan: Plan, tables: Sequence[Table], searched: dict, command: str) -> Report:
    """The page as a report, to be written where it is wanted."""
    report = Report(plan.title)
    report.text(
        f'Each arm trains the same student; all numbers are of the test set, with {len(plan.seeds)} seeds (mean ± standard '
        f'deviation), {"each with a teacher of its own" if plan.teacher_checkpoint is None else "all with the teacher given"}. '
        'Gap closed is (arm - plain student) / (teacher - plain student), of means, with Fieller’s 95 % interval in brackets; none '
        f'is quoted where the gap is below {LEAST_GAP:.0f} points or twice its standard error. Seconds are those of training, the '
        'teacher’s forward included, validation not.'
    )
    report.text(_of_the_search(plan, searched))
    report.text(f'Made by: {command}')
    colors = colors_of([row for table in tables for row in table.rows[1:]])
    for table in tables:
        report.heading(table.title[:1].upper() + table.title[1:])
        report.table('Results on the test set', COLUMNS, [row.cells(table.seeds) for row in table.rows])
        for reason in sorted({row.gap.reason for row in table.rows if row.gap is not None and row.gap.reason}):
            report.text(f'No share of the gap is quoted: {reason}.')
        students = table.rows[1:]
        if any(len(curve) > 1 for row in students for curve in row.curves):
            names = ', '.join(row.name for row in students)
            report.figure(
                _curves(plan.metric, students, colors),
                f'{plan.metric} on the validation split, mean over seeds, as training goes on',
                f'Line charts over epochs and over seconds: {names}.',
                ['arm', 'first', 'last'],
                [[row.name, *_ends(_mean_curve(row))] for row in students if _mean_curve(row)],
            )
        if any(row.gap is not None and row.gap.share is not None for row in students):
            report.figure(
                _gaps(students, colors),
                'Share of the gap closed, with its interval',
                f'Bar chart: {", ".join(f"{row.name} {show_gap(row.gap)}" for row in students if row.gap)}',
            )
    first = tables[0].rows[1:]
    for key, caption in (
        (
            'relative_error',
            'Share of the variance of the teacher’s feature that is left unexplained, by stage (arms that mimic)',
        ),
        (
            'cka',
            'Linear CKA of the student’s and the teacher’s features, by stage: 1 is equal up to rotation and scale',
        ),
    ):
        rows = [row for row in first if any(key in values for values in row.stages.values())]
        if rows:
            report.heading('Relative error by stage' if key == 'relative_error' else 'Similarity by stage')
            stages = list(rows[0].stages)
            cells = [
                [row.name, *(f'{row.stages[stage].get(key, float("nan")):.3f}' for stage in stages)] for row in rows
            ]
            shows = f'Line chart of the {key.replace("_", " ")} by stage: {", ".join(row.name for row in rows)}'
            report.figure(_by_stage(rows, key, colors), caption, shows, ['arm', *stages], cells)
    rows = [row for row in first if row.classes and row.plain is not None]
    if rows:
        above = _above_plain(first, rows)
        report.heading('By class')
        report.figure(
            _by_class(rows, above),
            'Points above or below the plain student, by class, mean over seeds, at equal epochs',
            'Heat map of the points above the plain student, a row for each arm and a column for each class.',
            ['class', *(row.name for row in rows)],
            [[name, *(f'{value:+.1f}' for value in values)] for name, values in zip(rows[0].classes, above.T)],
        )
    return report


def _of_the_search(plan: Plan, searched: dict) -> str:
    if not searched:
        return 'No setting was searched for this page: one try for each arm.'
    finite = {name: [item for item in tries if item[1] is not None] for name, tries in searched.items()}
    best = {name: max(tries, key=lambda item: item[1])[0] for name, tries in finite.items()}
    lost = [
        f'{len(searched[name]) - len(tries)} of {name}' for name, tries in finite.items() if len(tries) < plan.tries
    ]
    diverged = f' Tries that diverged: {", ".join(lost)}.' if lost else ''
    chosen = '; '.join(
        f'{name}: {", ".join(_settings(options)) or "as in its config"}' for name, options in best.items()
    )
    return (
        f'Settings were chosen on the validation split with a seed of their own ({plan.search_seed}), never on the test set, '
        f'{plan.tries} tried for each arm. Chosen: {chosen}.{diverged}'
    )


def _settings(options: dict, path: str = '') -> list[str]:
    """Options as ``key=value``, the key of a nested one as on a command line."""
    found = []
    for key, value in options.items():
        whole = f'{path}{key}'.removeprefix('default_hooks.stage_schedule.')
        found += _settings(value, f'{whole}.') if isinstance(value, dict) else [f'{whole}={value}']
    return found


def colors_of(rows: Sequence[Row]) -> dict:
    """A color for each arm, the same in all plots."""
    names = dict.fromkeys(row.name for row in rows)
    return {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}


def _curves(metric: str, rows: Sequence[Row], colors: dict) -> Figure:
    figure, both = plt.subplots(1, 2, figsize=(11, 3.8), layout='constrained', sharey=True)
    for row in rows:
        curve = _mean_curve(row)
        if not curve:
            continue
        epochs, values = zip(*curve)
        total, seconds = sum(row.epochs), row.seconds or 0
        for axes, x in zip(both, (epochs, [seconds * epoch / total for epoch in epochs])):
            axes.plot(x, values, marker='.', color=colors[row.name], label=in_figure(row.name))
    both[0].set(xlabel='epochs', ylabel=in_figure(metric))
    both[0].locator_params(axis='x', integer=True)
    both[1].set(xlabel='seconds (an arm’s epochs at their mean length)')
    both[1].locator_params(axis='x', nbins=5)
    both[1].legend(fontsize=9, loc='center left', bbox_to_anchor=(1, 0.5))
    for axes in both:
        axes.grid(alpha=0.3)
    return figure


def _mean_curve(row: Row) -> list[tuple[float, float]]:
    """(epoch, mean over seeds); a run that was interrupted may lack the point of the epoch at which it was saved."""
    points = [dict(map(tuple, curve)) for curve in row.curves]
    epochs = sorted(set.intersection(*map(set, points))) if points else []
    return [(epoch, float(np.mean([curve[epoch] for curve in points]))) for epoch in epochs]


def _ends(curve: Sequence[tuple[float, float]]) -> list[str]:
    return [f'{value:.2f} (epoch {epoch:g})' for epoch, value in (curve[0], curve[-1])]


def _gaps(rows: Sequence[Row], colors: dict) -> Figure:
    rows = [row for row in rows if row.gap is not None and row.gap.share is not None]
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.35 * len(rows)), layout='constrained')
    for place, row in enumerate(rows):
        gap = row.gap
        low, high = (gap.share, gap.share) if gap.low is None else (gap.low, gap.high)
        axes.barh(place, 100 * gap.share, color=colors[row.name])
        axes.plot([100 * low, 100 * high], [place, place], color='black', linewidth=1.5)
    axes.set_yticks(range(len(rows)), [in_figure(row.name) for row in rows])
    axes.invert_yaxis()
    axes.axvline(0, color='grey', linewidth=0.8)
    axes.axvline(100, color='grey', linewidth=0.8, linestyle=':')
    axes.set(xlabel='% of the gap between plain student (0) and teacher (100)')
    return figure


def _by_stage(rows: Sequence[Row], key: str, colors: dict) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 3.2), layout='constrained')
    for row in rows:
        values = [stage.get(key, np.nan) for stage in row.stages.values()]
        axes.plot(
            list(map(in_figure, row.stages)), values, marker='.', color=colors[row.name], label=in_figure(row.name)
        )
    axes.set(ylabel=key.replace('_', ' '), ylim=(0, None))
    axes.legend(fontsize=9, loc='center left', bbox_to_anchor=(1, 0.5))
    axes.grid(alpha=0.3)
    return figure


def _above_plain(all_rows: Sequence[Row], rows: Sequence[Row]) -> np.ndarray:
    """Points of each of ``rows`` above its plain student, (arms, classes)."""
    by_name = {row.name: row for row in all_rows}
    return np.array([[value - by_name[row.plain].classes[c] for c, value in row.classes.items()] for row in rows])


def _by_class(rows: Sequence[Row], values: np.ndarray) -> Figure:
    """A cell for each arm and class."""
    classes = list(rows[0].classes)
    figure, axes = plt.subplots(figsize=(1.6 + 0.75 * len(classes), 0.9 + 0.4 * len(rows)), layout='constrained')
    most = max(np.abs(values).max(), 1e-6)
    axes.imshow(values, cmap='RdBu', vmin=-most, vmax=most, aspect='auto')
    for (i, j), value in np.ndenumerate(values):
        ink = 'white' if abs(value) > 0.6 * most else '#111111'  # on its cell, whatever the page is like
        axes.text(j, i, f'{value:+.1f}', ha='center', va='center', fontsize=7, color=ink)
    axes.set_xticks(range(len(classes)), list(map(in_figure, classes)), rotation=30, ha='right', fontsize=8)
    axes.set_yticks(range(len(rows)), [in_figure(row.name) for row in rows], fontsize=8)
    return figure
