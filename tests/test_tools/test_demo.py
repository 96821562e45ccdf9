"""The demo's tasks, on phases of one epoch, and the pages that they write."""

from html.parser import HTMLParser

import demo_classification
import demo_detection
import demo_face
import demo_steps
import pytest
import warm
from face import write_people
from helpers import ROOT, require_ops, warm_python
from mmengine.config import Config
from pages import check_page

from mmsskd.datasets.digits_on_photos import write_digits_on_photos
from mmsskd.face.evaluation.protocols.ijba_writer import write_ijba_shaped
from mmsskd.visualization.history import read_history


def short_arms(task, folder, count=None, images=None) -> list:
    """The same trainings, or the first ``count``, each phase one epoch, of at most that many images where a loader has all; the
    tests of all configs train the others.
    """
    arms = []
    for name, config, plain in task.arms[:count]:
        lines = [f"_base_ = '{ROOT / 'configs' / config}'", 'train_cfg = dict(max_epochs=1, val_interval=1)']
        if images and 'indices' not in Config.fromfile(ROOT / 'configs' / config).train_dataloader.dataset:
            lines.append(f'train_dataloader = dict(dataset=dict(indices={images}))')
        if config.startswith('sskd/'):
            schedule = dict(transfer=dict(epochs=1), head=dict(epochs=1))
            phases = Config.fromfile(ROOT / 'configs' / config).default_hooks.stage_schedule.get('phases')
            if phases is not None:
                schedule = dict(phases=[dict(phase, epochs=1) for phase in phases])
            lines.append(f'default_hooks = dict(stage_schedule={schedule!r})')
        path = folder / config.rpartition('/')[2]
        path.write_text('\n'.join(lines))
        arms.append((name, str(path), plain))
    return arms


def run_demo(task_name, arms, out, cwd, seeds=1):
    """Run it, with its trainings in warm processes too."""
    script = (
        f'import sys; sys.path[:0] = {[str(ROOT / "tools"), str(ROOT / "tests")]!r}; '
        f'import demo, demo_steps, warm, demo_{task_name} as task; from types import SimpleNamespace; '
        'demo_steps.subprocess = SimpleNamespace(Popen=warm.Popen, PIPE=None, STDOUT=None); '
        f'task.TASK.arms, task.TASK.seeds = {arms!r}, {seeds}; demo.main()'
    )
    result = warm_python('-c', script, task_name, '--out', out, cwd=cwd, **{warm.SERVER: warm.address()})
    assert result.returncode == 0, result.stderr
    return result.stdout


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags, self.links, self.rows = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == 'tr':
            self.rows.append([])
        self.links += [value for name, value in attrs if name in ('src', 'href') and not value.startswith('#')]

    def handle_data(self, data):
        if self.rows and self.tags[-1] in ('th', 'td'):
            self.rows[-1].append(data)
            self.tags.append('')


@pytest.mark.slow
def test_classification(tmp_path):
    out, arms = tmp_path / 'out', short_arms(demo_classification.TASK, tmp_path, images=192)
    printed = run_demo('classification', arms, out, tmp_path, seeds=2)
    for name, *_ in arms:
        assert f'\n{name} ' in printed
    assert 'phase 3/4 layer3 begins: trains layer1, layer2, layer3, mimics layer1, layer2, layer3' in printed
    assert 'teacher on the validation' in printed
    check_page(out / 'classification.html')
    page = Page((out / 'classification.html').read_text())
    assert page.tags.count('svg') == 3
    for stage, drawn, curve in page.rows[-3:]:  # the feature maps are those of the checkpoint at which the curves end
        assert float(drawn) == pytest.approx(float(curve), abs=2e-3), stage
    assert page.tags.index('table') < page.tags.index('svg'), 'the page leads with the row that wins'
    assert [link for link in page.links if not link.startswith('data:')] == [], (
        'the page must need nothing beside itself'
    )
    for (name, config, _), (_, cell, *_) in zip(arms, page.rows[1:]):
        stem = config.rpartition('/')[2].removesuffix('.py')
        runs = [stem] if name == 'teacher' else [stem, f'{stem}_seed_1']  # one teacher, and students of two seeds
        scores = [read_history(out / run).last('accuracy/top1') for run in runs]
        mean, _, deviation = cell.partition(' ± ')
        assert float(mean) == pytest.approx(sum(scores) / len(scores), abs=0.005), name
        assert bool(deviation) == (len(runs) > 1) and len(set(scores)) == len(runs), name
    assert page.rows[1][2] in ('693 K', '692 K')


@pytest.mark.slow
def test_detection(tmp_path):
    """On six photos, which it finds in place of the eight hundred that it would write."""
    require_ops()
    write_digits_on_photos(tmp_path / 'data/digits_on_photos', train=6, val=4, unlabelled=0, size=64)
    out, arms = tmp_path / 'out', short_arms(demo_detection.TASK, tmp_path, 3)
    printed = run_demo('detection', arms, out, tmp_path)
    assert 'phase 2/3 fpn begins: trains layer1, layer2, layer3, layer4, neck, mimics neck' in printed
    assert 'writing digits' not in printed
    check_page(out / 'detection.html')
    page = Page((out / 'detection.html').read_text())
    assert page.tags.count('svg') == 3
    for (name, config, _), (_, cell, *_) in zip(arms, page.rows[1:]):
        run = out / config.rpartition('/')[2].removesuffix('.py')
        assert 100 * read_history(run).last('coco/bbox_mAP') == pytest.approx(float(cell), abs=0.05), name


@pytest.mark.slow
def test_face(tmp_path):
    """On patterns in place of faces, which it finds in place of those that it would write."""
    write_people(tmp_path / 'data/orl_faces/train', 20, 10, shape=(112, 92))
    write_ijba_shaped(write_people(tmp_path / 'people', 14, 6, first=20, shape=(112, 92)), tmp_path / 'data/orl_ijba')
    out, arms = tmp_path / 'out', short_arms(demo_face.TASK, tmp_path, 3, images=64)
    printed = run_demo('face', arms, out, tmp_path)
    assert 'phase 2/2 embedding begins: trains layer1, layer2, layer3, layer4, neck, mimics neck' in printed
    assert 'writing' not in printed
    assert '| recommended, no names |' in printed, 'the numbers of IJB-A, a row for each network'
    check_page(out / 'face.html')
    page = Page((out / 'face.html').read_text())
    assert page.tags.count('svg') == 5
    for (name, config, _), (_, cell, *_) in zip(arms, page.rows[1:]):
        run = out / config.rpartition('/')[2].removesuffix('.py')
        assert 100 * read_history(run).last('orl/tar@far=1e-2') == pytest.approx(float(cell), abs=0.005), name


def result(name, score):
    return demo_steps.Result(name, None, [score], 1000, 2000, 1.0)


def test_no_gap_is_quoted_where_there_is_none():
    """Teacher 98, plain 97.5: a share of half a point would be noise. With plain 88 it is none."""
    task = demo_classification.TASK
    for plain, student, closed in ((97.5, 97.9, 'gap of 0.5'), (88.0, 95.0, '70 %')):
        results = [result(name, value) for (name, *_), value in zip(task.arms, (98.0, plain, student))]
        results[2].scores = [student - 0.1, student + 0.1]
        rows = demo_steps.table(task, results)
        assert [row[4] for row in rows] == ['-', '-', closed]
        assert rows[0][1:4] == ['98.00', '1 K', '2 K'] and rows[2][1] == f'{student:.2f} ± 0.14'


def test_demo_configs_take_equal_totals():
    """Plain and stage by stage take the same number of iterations, with all labels and with few."""

    def iterations(name):
        cfg = Config.fromfile(ROOT / f'configs/{name}.py')
        labels = cfg.train_dataloader.dataset.get('indices', 1200)
        per_epoch = -(-labels // cfg.train_dataloader.batch_size)
        if 'stage_schedule' not in cfg.default_hooks:
            return cfg.train_cfg.max_epochs * per_epoch
        schedule = cfg.default_hooks.stage_schedule
        head = schedule.head.get('train_dataloader', cfg.train_dataloader)
        head_epoch = -(-head.dataset.get('indices', 1200) // head.batch_size)
        return 3 * schedule.transfer.epochs * per_epoch + schedule.head.epochs * head_epoch

    assert iterations('sskd/digits_r14x2_r8') == iterations('plain/digits_r8') == 48 * 19
    assert iterations('sskd/digits_r14x2_r8_few_labels') == iterations('plain/digits_r8_few_labels')


def phase_iterations(config, images, batch_size) -> int:
    """Iterations of all phases; those that learn the task may have a loader of their own."""
    schedule = Config.fromfile(ROOT / f'configs/sskd/{config}.py').default_hooks.stage_schedule
    few = schedule.get('head', {}).get('train_dataloader')
    own = images // batch_size if few is None else few.dataset.indices // few.batch_size
    return sum(p.epochs * (own if p.get('task_loss') else images // batch_size) for p in schedule.phases)


def plain_iterations(config, images) -> int:
    cfg = Config.fromfile(ROOT / f'configs/plain/{config}.py')
    indices = cfg.train_dataloader.dataset.get('indices', images)
    return cfg.train_cfg.max_epochs * (
        (len(indices) if isinstance(indices, list) else indices) // cfg.train_dataloader.batch_size
    )


@pytest.mark.slow
def test_face_demo_takes_equal_iterations():
    assert phase_iterations('face_orl_r18_r18', 198, 32) == plain_iterations('face_orl_r18_student', 198) == 90
    assert plain_iterations('face_orl_r18_student_few_labels', 198) == 90


@pytest.mark.slow
def test_detection_demo_takes_equal_iterations():
    assert phase_iterations('digits_on_photos_r34_r18_w16', 800, 8) == 600
    assert phase_iterations('digits_on_photos_r34_r18_w16_few_labels', 800, 8) == 600
    assert plain_iterations('digits_on_photos_r18_w16', 800) == 600
    assert plain_iterations('digits_on_photos_r18_w16_few_labels', 800) == 600
