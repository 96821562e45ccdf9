"""Names with any character: no page, plot, table or log breaks on one, and each shows it."""

import csv
import html.parser
import io
import json
import warnings
from dataclasses import asdict

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from mmsskd.cli import plain_errors
from mmsskd.compare.page import build_page
from mmsskd.compare.plan import Arm, Plan
from mmsskd.compare.statistics import GapClosed
from mmsskd.compare.tables import Row, Table, to_csv, to_json, to_markdown, to_text
from mmsskd.face.evaluation.options import EvaluationOptions
from mmsskd.face.evaluation.tables import compare_reports
from mmsskd.face.plots import write_face_plots
from mmsskd.utils.files import write_text
from mmsskd.utils.labels import in_figure, one_line
from mmsskd.utils.tables import text_table
from mmsskd.visualization.history import History
from mmsskd.visualization.plots import detections, feature_maps, mimic_curves, timeline
from mmsskd.visualization.report import Report

NAMES = [
    '$', 'US$ and A$', '$x^$', '$\\frac{$', '\\$', 'a_{b}^', '{}', '{0}', '%s %d %', '<b>x</b>', '<script>alert(1)</script>',
    '&lt;', '"\'', 'a\nb', 'a\r\tb', '_hidden', '犬 🐕', 'e\u0301 \u202e', '\udc80', '\x00\x1b[31m', 'a|b', '\\|', '`', '*a*',
    '#', '',
]  # fmt: skip


class Words(html.parser.HTMLParser):
    """The texts of a page, and its tags."""

    def __init__(self, page: str):
        super().__init__()
        self.texts, self.tags = [], set()
        self.feed(page)

    def handle_data(self, data):
        self.texts.append(data)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)


@pytest.fixture(autouse=True)
def no_missing_glyphs():
    """A font that lacks a sign draws a box, and warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph .* missing from', UserWarning)
        yield
        plt.close('all')


def compared() -> tuple[Plan, list[Table]]:
    """A comparison whose arms, classes and stages have such names, every part of the page included."""
    arms = tuple(Arm(name=name, config='x.py', plain=NAMES[0]) for name in NAMES)
    plan = Plan(title=NAMES[9], metric='$m_$', teacher='t.py', arms=arms, epochs=2, equal_seconds=NAMES[2])
    rows = [
        Row(
            name=name,
            scores=(80.0, 82.0),
            epochs=(2, 3),
            seconds=1.0,
            parameters=10,
            plain=None if name == NAMES[0] else NAMES[0],
            gap=GapClosed(0.5, 0.2, 0.9),
            curves=([[1, 50.0], [2, 60.0]],),
            stages={name: dict(relative_error=0.5, cka=0.5) for name in NAMES},
            classes=dict.fromkeys(NAMES, 50.0),
        )
        for name in ('teacher', *NAMES)
    ]
    return plan, [Table(f'equal seconds (9 s, those of {NAMES[2]})', rows, 2), Table('equal epochs', rows, 2)]


@pytest.mark.slow
def test_the_page_of_a_comparison(tmp_path):
    plan, tables = compared()
    searched = {name: [({name: name}, 0.5)] for name in NAMES}
    build_page(plan, tables[:1], searched, 'python "$x^$" <b>').write(tmp_path / 'index.html')
    page = Words((tmp_path / 'index.html').read_text(encoding='utf-8'))
    assert {one_line(name) for name in NAMES} - set(page.texts) == {''}
    assert not {'b', 'script'} & page.tags


def test_the_tables_of_a_comparison(tmp_path):
    plan, tables = compared()
    text, count = to_text(tables[0]), len(NAMES) + 1
    assert len(text.splitlines()) == 2 + count and '\x1b' not in text
    lines = to_markdown(tables[:1]).strip().split('\n')
    assert len(lines) == 4 + count
    assert all(line.replace('\\\\', '').replace('\\|', '').count('|') == 7 for line in lines[2:])
    write_text(tmp_path / 'results.md', to_markdown(tables))
    write_text(tmp_path / 'results.csv', to_csv(tables))
    write_text(tmp_path / 'results.json', to_json(plan, tables, {}))
    rows = list(csv.reader(io.StringIO(to_csv(tables[:1]), newline='')))
    assert [row[1] for row in rows[2:]] == NAMES
    assert [
        row['name'] for row in json.loads((tmp_path / 'results.json').read_text())['tables'][0]['rows'][1:]
    ] == NAMES


@pytest.mark.slow
def test_the_pages_of_the_demo(tmp_path):
    """All of their plots, in one report, with such names for networks, classes, stages and parts."""
    records = [{f'val/relative_error_{name}': 0.5, 'step': step} for name in NAMES for step in (1, 2)]
    phases = [dict(train=NAMES, length=1, task_loss=task) for task in (True, False)]
    features = {name: [torch.rand(1, 2, 4, 4)] * 2 for name in NAMES[:4]}
    box = (np.array([[0.0, 0.0, 3.0, 3.0]]), np.array([0]), np.array([0.5]))
    report = Report('$x^$ <b>')
    report.table(NAMES[1], NAMES, [NAMES])
    for figure in (
        mimic_curves(History(records, phases)),
        timeline(phases),
        feature_maps(torch.rand(1, 3, 4, 4), features, NAMES[4:6]),
        detections([np.zeros((9, 9, 3), np.uint8)], {name: [box] for name in NAMES[:6]}, ['$x^$']),
    ):
        report.figure(figure, '$x^$ <b>', '"$x^$" <b>')
    report.write(tmp_path / 'index.html')
    page = Words((tmp_path / 'index.html').read_text(encoding='utf-8'))
    assert {one_line(name) for name in NAMES} - set(page.texts) == {''} and 'b' not in page.tags


def test_a_label_of_a_figure_is_the_name():
    """Also in a legend, which hides names that begin with an underscore."""
    axes = mimic_curves(History([{f'val/relative_error_{name}': 0.5, 'step': 1} for name in NAMES], [])).axes[0]
    shown = {text.get_text() for text in axes.get_legend().get_texts()}
    assert shown == {in_figure(f'{name}: 0.50') for name in NAMES}
    drawn = [axes.title._preprocess_math(in_figure(name)) for name in NAMES]
    assert [(text.strip(), math) for text, math in drawn] == [(one_line(name), False) for name in NAMES]


@pytest.mark.slow
def test_the_plots_and_tables_of_faces(tmp_path):
    points = dict(far=[0.1, 1.0], fpir=[0.1, 1.0], rank=[1, 2], rate=[0.5, 1.0], over=1)
    rate = dict(mean=0.5, std=None, over=1)
    faces = dict(count=1, failed=0)
    report = dict(
        name='x', kind='pairs', curves=dict.fromkeys(('roc', 'cmc', 'dir'), points), options=asdict(EvaluationOptions()),
        summary={'tar': rate}, crop_hash='abc', faces=faces, warnings=[],
    )  # fmt: skip
    assert len(write_face_plots(dict.fromkeys(NAMES[:6], report), tmp_path)) == 8
    table = compare_reports(dict.fromkeys(NAMES, report)).split('\n\n')[0].split('\n')
    assert len(table) == 2 + len(NAMES)
    assert all(line.replace('\\|', '').count('|') == table[0].count('|') for line in table)


def test_what_tools_print(capfd):
    print(text_table([NAMES, NAMES]))
    assert len(capfd.readouterr().out.splitlines()) == 2
    with plain_errors():
        print(*NAMES)
    assert '\\udc80' in capfd.readouterr().out
