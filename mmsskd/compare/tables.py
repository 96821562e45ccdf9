"""Rows of numbers: of people's reading, as CSV and as JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from ..utils.labels import in_markdown, one_line
from ..utils.tables import text_table
from .plan import Plan
from .statistics import GapClosed, gap_closed, mean_std

COLUMNS = 'arm', 'score', 'gap closed', 'epochs', 'seconds', 'parameters'


@dataclass(frozen=True)
class Row:
    """Results of the runs of one arm.

    Attributes:
        name: Of the arm.
        scores: Points of 100 on the test set, one for each seed.
        epochs: Of each phase.
        seconds: Of training, teacher's forward included; None: not told.
        parameters: Of the model.
        plain: The plain student that it is compared with.
        gap: Share of the gap closed; None for the teacher and for a plain student.
        curves: For each seed [epoch, points] on the validation split.
        stages: For each stage and measure the mean over seeds.
        classes: For each class the mean over seeds, in points.
        seeds: Those of ``scores``.
    """

    name: str
    scores: tuple[float, ...]
    epochs: tuple[int, ...]
    seconds: float | None
    parameters: int
    plain: str | None = None
    gap: GapClosed | None = None
    curves: tuple = ()
    stages: dict = field(default_factory=dict)
    classes: dict = field(default_factory=dict)
    seeds: tuple[int, ...] = ()

    def cells(self, seeds: int = 0) -> list[str]:
        """The row as text, in the order of :data:`COLUMNS`; of fewer than ``seeds`` it says how many it has."""
        mean, spread = mean_std(self.scores)
        count = len(self.scores)
        few = f' ({count} seed{"s" * (count > 1)})' if count < seeds else ''
        return [
            self.name,
            f'{mean:.2f}' + ('' if spread is None else f' ± {spread:.2f}') + few,
            show_gap(self.gap),
            ' + '.join(map(str, self.epochs)) or '-',
            '-' if self.seconds is None else f'{self.seconds:.0f}',
            f'{self.parameters:,}',
        ]


@dataclass(frozen=True)
class Table:
    """Rows under one condition: equal epochs, or equal seconds."""

    title: str
    rows: Sequence[Row]
    seeds: int


def show_gap(gap: GapClosed | None) -> str:
    """``53 % [12, 90]``, or that none is quoted."""
    if gap is None:
        return ''
    if gap.share is None:
        return 'not quoted'
    interval = '' if gap.low is None else f' [{100 * gap.low:.0f}, {100 * gap.high:.0f}]'
    return f'{100 * gap.share:.0f} %{interval}'


def row_of(
    plan: Plan,
    name: str,
    results: Mapping[int, dict],
    plain: Mapping[int, dict] | None = None,
    teacher: Mapping[int, dict] | None = None,
    seconds: float | None = None,
    plain_name: str | None = None,
) -> Row:
    """The row of an arm, from what :func:`~mmsskd.compare.runs.execute` returned, by seed.

    The gap is of the seeds that arm, plain student and teacher have.
    """
    teacher, several = teacher or {}, list(results.values())
    compared = plain is not None and name != plain_name
    common = [seed for seed in results if seed in plain and seed in teacher] if compared else []

    def points(runs):
        return tuple(run['score'] * plan.scale for run in runs)

    return Row(
        name=name,
        scores=points(several),
        epochs=tuple(several[0].get('epochs', ())),
        seconds=seconds,
        parameters=several[0]['parameters'],
        plain=plain_name if compared else None,
        gap=gap_closed(*(points(of[seed] for seed in common) for of in (results, plain, teacher))) if common else None,
        curves=tuple([[epoch, value * plan.scale] for epoch, value in run.get('curve', ())] for run in several),
        stages={
            stage: {key: mean_std([run['stages'][stage][key] for run in several])[0] for key in values}
            for stage, values in several[0].get('stages', {}).items()
        },
        classes={key: mean_std([run['classes'][key] for run in several])[0] for key in several[0].get('classes', {})},
        seeds=tuple(results),
    )


def to_text(table: Table) -> str:
    """The table for a terminal."""
    lines = text_table([COLUMNS, *(row.cells(table.seeds) for row in table.rows)])
    reasons = sorted({row.gap.reason for row in table.rows if row.gap is not None and row.gap.reason})
    notes = [f'(no share of the gap is quoted: {reason})' for reason in reasons]
    return '\n'.join([f'{one_line(table.title)}, {table.seeds} seeds', lines, *notes])


def to_markdown(tables: Sequence[Table]) -> str:
    """The tables as they stand in a README."""
    parts = []
    for table in tables:
        lines = [f'**{in_markdown(table.title[:1].upper() + table.title[1:])}**, {table.seeds} seeds', '']
        lines += [f'| {" | ".join(COLUMNS)} |', f'|{" --- |" * len(COLUMNS)}']
        lines += [f'| {" | ".join([in_markdown(row.name), *row.cells(table.seeds)[1:]])} |' for row in table.rows]
        parts.append('\n'.join(lines))
    return '\n\n'.join(parts) + '\n'


def to_csv(tables: Sequence[Table]) -> str:
    """Write all tables as one, with a column for the condition and one for each seed's score."""
    out = io.StringIO()
    writer = csv.writer(out)
    seeds = max(table.seeds for table in tables)
    writer.writerow(
        ['table', 'arm', 'mean', 'std', 'gap_closed', 'gap_low', 'gap_high', 'epochs', 'seconds', 'parameters']
        + [f'run_{i}' for i in range(1, seeds + 1)]
    )
    for table in tables:
        for row in table.rows:
            gap = row.gap or GapClosed(None)
            mean, spread = mean_std(row.scores)
            writer.writerow(
                [
                    table.title,
                    row.name,
                    mean,
                    spread,
                    gap.share,
                    gap.low,
                    gap.high,
                    sum(row.epochs),
                    row.seconds,
                    row.parameters,
                ]
                + list(row.scores)
            )
    return out.getvalue()


def to_json(plan: Plan, tables: Sequence[Table], searched: dict) -> str:
    """Everything that the page shows, for programs."""
    content = dict(
        title=plan.title,
        metric=plan.metric,
        seeds=plan.seeds,
        tables=[asdict(table) for table in tables],
        search={
            name: [dict(options=options, score=score) for options, score in tries] for name, tries in searched.items()
        },
    )
    return json.dumps(content, indent=1)
