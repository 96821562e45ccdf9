"""The pictures of a report, as matplotlib figures."""

import textwrap
from collections.abc import Sequence

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..utils.labels import in_figure
from .history import History

PREFIX = 'val/relative_error_'
COLORS = plt.get_cmap('tab10').colors  # type: ignore[attr-defined]  # a ListedColormap


def mimicked(history: History) -> list[str]:
    """Stages whose relative error was measured, in the order of their names."""
    names = {name for record in history.records for name in record if name.startswith(PREFIX)}
    return [name.removeprefix(PREFIX) for name in sorted(names)]


def mimic_curves(history: History) -> Figure:
    """Relative error of each stage on the validation set over the epochs of the run."""
    figure, axes = plt.subplots(figsize=(5.4, 3.2), layout='constrained')
    for number, stage in enumerate(mimicked(history)):
        steps, values = history.series(f'{PREFIX}{stage}')
        axes.plot(steps, values, marker='.', color=COLORS[number % 10], label=in_figure(f'{stage}: {values[-1]:.2f}'))
    axes.set(xlabel='epoch', ylabel='relative error', ylim=(0, None))
    axes.locator_params(axis='x', integer=True)
    axes.legend(title='stage: last value')
    axes.grid(alpha=0.3)
    return figure


def timeline(phases: Sequence[dict]) -> Figure:
    """Draw what trains in which phase: one row for each part, one bar for each phase; hatched where the task loss counts."""
    parts = list(dict.fromkeys(part for phase in phases for part in phase['train']))
    figure, axes = plt.subplots(figsize=(5.4, 0.5 + 0.4 * len(parts)), layout='constrained')
    begin = 0
    for number, phase in enumerate(phases):
        for part in phase['train']:
            style = dict(color=COLORS[number % 10], hatch='//' if phase['task_loss'] else None, edgecolor='white')
            axes.barh(parts.index(part), phase['length'], left=begin, **style)
        begin += phase['length']
        axes.axvline(begin, color='grey', linewidth=0.5)
    axes.set_yticks(range(len(parts)), list(map(in_figure, parts)))
    axes.invert_yaxis()
    axes.set(xlabel='epoch', xlim=(0, begin))
    axes.locator_params(axis='x', integer=True)
    return figure


def feature_maps(images: Tensor, rows: dict[str, Sequence[Tensor]], stages: Sequence[str]) -> Figure:
    """Feature maps of a few images side by side.

    Args:
        images: (N, C, H, W), shown as they are.
        rows: For each network its features, one tensor (N, C, H, W) for each stage. Networks are shown in one scale of gray for
            each stage and image: mean over channels.
        stages: Their names.
    """
    count, height = len(images), 1 + len(stages) * len(rows)
    figure, axes = plt.subplots(height, count, figsize=(1.1 * count + 1.2, 1.05 * height), squeeze=False)
    for column in range(count):
        image = images[column].permute(1, 2, 0).squeeze(-1)
        axes[0][column].imshow(_unit(image), cmap='gray')
        for k in range(len(stages)):
            maps = [features[k][column].float().mean(0) for features in rows.values()]
            low, high = min(m.min() for m in maps), max(m.max() for m in maps)
            for r, values in enumerate(maps):
                axes[1 + k * len(rows) + r][column].imshow(values, cmap='viridis', vmin=low, vmax=high)
    labels = ['image', *(f'{in_figure(stage)}\n{in_figure(name)}' for stage in stages for name in rows)]
    for row, label in zip(axes, labels):
        row[0].set_ylabel(label, rotation=0, ha='right', va='center', fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_visible(False)
    figure.subplots_adjust(left=0.18, right=0.99, top=0.99, bottom=0.01, wspace=0.06, hspace=0.06)
    return figure


def detections(images: Sequence[np.ndarray], rows: dict[str, Sequence[tuple]], classes: Sequence[str]) -> Figure:
    """Boxes that several networks draw on the same images, one column for each network.

    Args:
        images: RGB, uint8 (H, W, 3).
        rows: For each network, and for each image, boxes (n, 4) as x1, y1, x2, y2 in pixels, labels (n,) and scores (n,).
        classes: Names by label. A color stands for a class.
    """
    figure, axes = plt.subplots(
        len(images), len(rows), figsize=(2.1 * len(rows), 2.1 * len(images)), squeeze=False, layout='constrained'
    )
    for column, (name, found) in enumerate(rows.items()):
        for row, (image, (boxes, labels, scores)) in enumerate(zip(images, found, strict=True)):
            axis = axes[row][column]
            axis.imshow(image)
            axis.set(xticks=[], yticks=[], title=textwrap.fill(in_figure(name), 22) if row == 0 else '')
            for (x1, y1, x2, y2), label, score in zip(boxes, labels, scores):
                color = COLORS[label % len(COLORS)]
                axis.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=1.2))
                text = classes[label] if score >= 1 else f'{classes[label]} {100 * score:.0f}'
                box = dict(facecolor=color, pad=0.5, linewidth=0)
                axis.text(x1, y1, in_figure(text), fontsize=6, color='white', va='bottom', bbox=box)
    return figure


def _unit(values: Tensor) -> np.ndarray:
    values = values.float()
    return ((values - values.min()) / (values.max() - values.min()).clamp_min(torch.finfo(torch.float32).tiny)).numpy()
