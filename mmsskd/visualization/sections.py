"""Sections that the pages of several tools share."""

from collections.abc import Sequence

from .history import History
from .plots import PREFIX, mimic_curves, mimicked, timeline
from .report import Report


def add_stages(report: Report, history: History, images: str) -> None:
    """Add how each stage learned; ``images`` says on which images that was measured."""
    rows = []
    for stage in mimicked(history):
        epochs, values = history.series(f'{PREFIX}{stage}')
        rows.append([stage, f'{values[0]:.3f} (epoch {epochs[0]})', f'{values[-1]:.3f} (epoch {epochs[-1]})'])
    report.heading('Each stage learns in its turn')
    report.figure(
        mimic_curves(history),
        f'Relative error of each stage on {images}, at each validation within the phases that train the stage: the share of the '
        'variance of the teacher’s feature that is left unexplained. 0 is a copy of the teacher.',
        'Line chart of the relative error over the epochs. '
        + '; '.join(f'{stage}: from {first} to {last}' for stage, first, last in rows),
        ['stage', 'first relative error', 'last relative error'],
        rows,
    )


def add_phases(report: Report, phases: Sequence[dict], caption: str = 'What trains when.') -> None:
    """Add what trains when."""
    report.heading('Phases')
    rows, begin = [], 0
    for number, phase in enumerate(phases, 1):
        end = begin + phase['length']
        learns = ' + '.join(['features'] * bool(phase['mimic']) + ['task'] * bool(phase['task_loss'])) or '-'
        epochs = f'{end}' if phase['length'] == 1 else f'{begin + 1} to {end}'
        rows.append([f'{number}', epochs, ', '.join(phase['train']), learns])
        begin = end
    report.figure(
        timeline(phases),
        f'{caption} A bar is a phase in which the part trains, hatched where the loss of the task counts.',
        'Bar chart of what trains in which phase: '
        + '; '.join(f'epochs {epochs}: {parts}' for _, epochs, parts, _ in rows),
        ['phase', 'epochs', 'trains', 'learns from'],
        rows,
    )
