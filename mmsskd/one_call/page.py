"""The report of a call: what was done, what came out, and how each stage learned."""

from pathlib import Path

from ..visualization.history import read_history
from ..visualization.report import Report
from ..visualization.sections import add_phases, add_stages
from .data import Data
from .recipe import Pair, Recipe

METRICS = {'accuracy/top1': ('accuracy, %', 1.0), 'coco/bbox_mAP': ('AP', 100.0)}


def write_page(path: Path, title: str, data: Data, recipe: Recipe, pair: Pair, work_dir: Path) -> dict[str, float]:
    """Write the page; returns what was measured last, by the name of the metric, the teacher's under ``teacher/``."""
    checkpoint = (work_dir / 'last_checkpoint').read_text().strip()
    history = read_history(work_dir, Path(checkpoint).name)
    found = {}
    for key in METRICS:
        for prefix in ('', 'teacher/'):
            values = [record[prefix + key] for record in history.records if prefix + key in record]
            found.update({prefix + key: values[-1]} if values else {})
    report = Report(title)
    report.text(f'Data: {data.said}.')
    report.text(f'Recipe: {recipe}.')
    columns, rows = ['network', 'parameters', data.macs], pair.rows
    for key, (label, scale) in METRICS.items():
        if key in found:
            columns.append(label)
            for row, name in zip(rows, (f'teacher/{key}', key)):
                row.append(f'{scale * found[name]:.2f}' if name in found else '-')
    report.table('Teacher and student', columns, rows)
    if data.classes:
        report.text('Measured on the images that validate, after the last epoch. One seed: small gaps mean nothing.')
        add_stages(report, history, 'the images that validate')
    add_phases(report, history.phases)
    report.write(path)
    return found
