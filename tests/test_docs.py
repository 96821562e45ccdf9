"""README and docs do what they say: files, options and links exist, and each block of code is run by a test or says why not."""

import ast
import contextlib
import functools
import io
import pickle
import re
import runpy
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import mmengine
import numpy as np
import pytest
from helpers import ROOT, environment, parse_phases, warm_python
from mmengine.config import Config
from torch import Tensor, nn

from mmsskd.compare.comparison import Comparison
from mmsskd.compare.plan import read_plan
from mmsskd.distill.phases import named_schedule

PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
BLOCK = re.compile(r'(?:<!-- ([^\n]*) -->\n)?```(python|shell|yaml|dockerfile)\n(.*?)```', re.S)
by_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str | None = None) -> list[tuple[str, str]]:
    """(comment before it, text) of each block of code."""
    text = page.read_text()
    whole = re.search(r'<!-- no block is (run: [^\n]+) -->', text)
    found = BLOCK.findall(text)
    return [
        (comment or (f'not {whole[1]}' if whole else ''), code)
        for comment, kind, code in found
        if language in (None, kind)
    ]


def block(page: str, start: str) -> str:
    (found,) = [code for _, code in blocks(ROOT / 'docs' / page, 'python') if code.startswith(start)]
    return found


def anchors(page: Path) -> set[str]:
    headings = re.findall(r'^#+ (.*)$', page.read_text(), re.M)
    return {re.sub(r'[^\w -]', '', heading).lower().replace(' ', '-') for heading in headings}


def test_the_readme_is_short():
    text = (ROOT / 'README.md').read_text()
    assert len(text.splitlines()) <= 150 and len(text.split()) <= 1200


@by_page
def test_each_block_is_run_by_a_test_or_says_why_not(page):
    for comment, code in blocks(page):
        if comment.startswith('tested by '):
            path, _, name = comment.removeprefix('tested by ').partition('::')
            assert (ROOT / path).is_file(), comment
            assert f'def {name}' in (ROOT / path).read_text(), comment
        else:
            assert re.match(r'not run: \w+', comment), f'{page.name}: nothing says how this is tested: {code[:100]}'


@by_page
def test_files_and_tools_that_it_names_exist(page):
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.S)
    for target in re.findall(r'\]\((?!https?:)([^)\s]+)\)', text):
        path, _, anchor = target.partition('#')
        found = page.parent / path if path else page
        assert found.exists(), target
        assert not anchor or found.suffix != '.md' or anchor in anchors(found), target
    for target in re.findall(r'(?<![\w/])(?:tools|configs|docs)/[\w/.]+\.(?:py|sh|md)', page.read_text()):
        assert (ROOT / target).is_file(), target


def test_the_table_of_rooms_is_the_tree_of_the_method():
    """A row a file, and no file more; no arrow up to the schedule, and none to a room that knows a task."""
    room = ROOT / 'mmsskd/distill'
    files = [path for path in room.rglob('*.py') if path.name != '__init__.py']
    rows = re.findall(r'^\| `distill/([\w/]+\.py)` \|', (ROOT / 'docs/design.md').read_text(), re.M)
    assert sorted(rows) == sorted(path.relative_to(room).as_posix() for path in files)
    for path in files:
        for arrow in _arrows(path):
            assert arrow.parts[0] in ('distill', 'errors', 'registry', 'utils', 'version'), (path, arrow)
            assert 'schedule' in path.parts or 'schedule' not in arrow.parts, (path, arrow)
            own = arrow.parts[1:2] in (('network',), ('build',), ('teacher',)) or arrow.parts[0] != 'distill'
            assert 'network' not in path.parts or own, (path, arrow)


def test_tasks_know_nothing_of_the_method():
    """Nor of what stands above it, within their functions either."""
    tasks = 'face', 'models', 'datasets'
    paths = [path for task in tasks for path in (ROOT / 'mmsskd' / task).rglob('*.py')]
    assert len(paths) > 20
    for path in paths:
        for arrow in _arrows(path, ast.walk):
            assert arrow.parts[0] in (*tasks, 'errors', 'registry', 'utils', 'version'), (path, arrow)


def test_private_names_of_mmengine_are_in_one_module():
    """A name with an underscore that its classes have, and torch's have not, no other module of ours reads of another object."""
    source = ''.join(path.read_text() for path in Path(mmengine.__file__).parent.rglob('*.py'))
    private = set(re.findall(r'\b(?:self\.|cls\.|def )(_[a-z]\w*)', source)) - {*dir(nn.Linear(1, 1)), *dir(Tensor)}
    private.remove('_channel_conversion')  # docs/design.md says so
    assert {'_cfg_dict', '_merge_a_into_b', '_metainfo', '_train_loop'} <= private
    for path in (ROOT / 'mmsskd').rglob('*.py'):
        if path.name != 'mmengine_private.py':
            read = re.findall(r"(?<!\bself)(?<!\bcls)\.(_[a-z]\w*)|attr\(\w+, '(_[a-z]\w*)'", path.read_text())
            assert not private & {name for names in read for name in names}, path


def _arrows(path: Path, nodes=lambda tree: tree.body):
    """The modules, as paths in the package, that the relative imports among the ``nodes`` name; else those outside functions."""
    for node in nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].relative_to(ROOT / 'mmsskd')
            names = [node.module] if node.module else [each.name for each in node.names]
            yield from (base.joinpath(*name.split('.')) for name in names)


@functools.cache
def options_of(tool: str) -> set[str]:
    """The options that the help of a Python tool lists."""
    said, held = io.StringIO(), sys.argv
    sys.argv = [tool, '--help']
    try:
        with contextlib.redirect_stdout(said), pytest.raises(SystemExit, match='0'):
            runpy.run_path(str(ROOT / tool), run_name='__main__')
    finally:
        sys.argv = held
    return set(re.findall(r'--[\w-]+', said.getvalue()))


def commands(page: Path):
    """Words of each command that starts one of our Python tools."""
    for _, code in blocks(page, 'shell'):
        for line in code.replace('\\\n', ' ').splitlines():
            words = shlex.split(re.sub(r'\$\{?\w+\}?', 'x', line), comments=True)
            tools = [i for i, word in enumerate(words) if re.fullmatch(r'tools/[\w/]+\.py', word)]
            if tools:
                yield words[tools[0] :]


@pytest.mark.slow
@by_page
def test_commands_use_options_of_their_tools(page):
    for tool, *words in commands(page):
        for word in words:
            if re.fullmatch(r'--[a-z][\w-]*(=.*)?', word):
                assert word.partition('=')[0] in options_of(tool), f'{tool} {word}'


def test_options_in_the_table_of_tools_are_those_of_the_tools():
    rows = re.findall(r'^\| `(tools/\w+\.py)[^|]*\|(.*)\|$', (ROOT / 'docs/running.md').read_text(), re.M)
    assert len(rows) >= 7
    for tool, text in rows:
        assert set(re.findall(r'--[a-z-]+', text)) <= options_of(tool), tool


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet', '--site-dir', tmp_path / 'site']
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment(NO_MKDOCS_2_WARNING='1'))
    assert result.returncode == 0, result.stdout + result.stderr
    page = (tmp_path / 'site/index.html').read_text()
    assert 'start.html' in page and 'StagewiseDistiller' in (tmp_path / 'site/api.html').read_text()


def test_config_blocks_parse(tmp_path):
    """Blocks that are parts of configs: each is read as one."""
    marked = [
        code
        for page in PAGES
        for comment, code in blocks(page, 'python')
        if comment.endswith('::test_config_blocks_parse')
    ]
    assert len(marked) >= 2
    for code in marked:
        assert dict(Config.fromstring(code.replace('...', 'None'), '.py')), code


READING = "reading = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32))]\n"


def test_folders_of_images(tmp_path, monkeypatch):
    """The block as it stands over the pair of the page: images in folders are read to the size that the networks want."""
    import cv2

    for name in ('train/cat', 'train/dog', 'val/cat', 'val/dog'):
        (tmp_path / 'mine' / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / 'mine' / name / 'a.png'), np.full((40, 50, 3), 9, np.uint8))
    monkeypatch.chdir(tmp_path)
    base = "_base_ = 'mmsskd::plain/cifar100_r56.py'\n"
    (tmp_path / 'mine.py').write_text(base + block('own_data.md', READING + 'train'))
    cfg = Config.fromfile('mine.py')
    assert_reads(cfg.train_dataloader.dataset, 2)
    assert_reads(cfg.val_dataloader.dataset, 2)


def test_images_without_labels(tmp_path, monkeypatch):
    import cv2

    (tmp_path / 'mine/photos/deep').mkdir(parents=True)
    for name in ('a.png', 'deep/b.png'):
        cv2.imwrite(str(tmp_path / 'mine/photos' / name), np.full((40, 50, 3), 9, np.uint8))
    monkeypatch.chdir(tmp_path)
    base = "_base_ = 'mmsskd::sskd/cifar100_r56_r20.py'\n"
    (tmp_path / 'mine.py').write_text(base + block('own_data.md', READING + 'photos'))
    assert_reads(Config.fromfile('mine.py').default_hooks.stage_schedule.transfer.train_dataloader.dataset, 2)


def assert_reads(cfg, count):
    from mmengine.registry import DATASETS, DefaultScope

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(cfg)
    assert len(dataset) == count and dataset[0]['inputs'].shape == (3, 32, 32)


STAGES = ['layer1', 'layer2', 'layer3']
LINES = [line for line in block('schedules.md', 'phases = [').splitlines() if line.startswith('phases')]


@pytest.mark.parametrize('line', LINES, ids=lambda line: line.partition('#')[2].strip())
def test_schedules_that_it_shows_are_schedules(line):
    phases = []
    exec(line.replace('..., ', '').replace(', ...', ''), scope := {})
    phases = scope['phases']
    length = dict(epochs=1)
    optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
    assert len(parse_phases(phases, STAGES, 'epochs', length, length, optim_wrapper)) == len(
        named_schedule(phases, STAGES)
    )


def own_configs() -> list[str]:
    return [code for _, code in blocks(ROOT / 'docs/own_data.md', 'python') if "type='mmsskd.CIFARFiles'" in code]


def write_batch(path, seed):
    data = np.random.default_rng(seed).integers(0, 256, (4, 3072), dtype=np.uint8)
    path.write_bytes(pickle.dumps(dict(data=data, labels=[0, 1, 2, 4])))


def test_own_comparison_fits_the_configs_of_own_data(tmp_path, monkeypatch):
    """The file as it stands, beside the two configs and the plain student in two lines: every arm and every try of it."""
    (tmp_path / 'mine').mkdir()
    teacher, sskd = own_configs()
    page = (ROOT / 'docs/compare.md').read_text()
    lines = re.search(r'`mine/student\.py`,\s+which is `(_base_ = .*?)` and `(model = .*?)`:', page).groups()
    texts = dict(teacher=teacher, sskd=sskd, student='\n'.join(lines), compare=block('compare.md', '# mine/compare.py'))
    for name, text in texts.items():
        (tmp_path / f'mine/{name}.py').write_text(text)
    monkeypatch.chdir(tmp_path)
    plan = read_plan('mine/compare.py')
    Comparison(plan, tmp_path / 'out')
    assert len(plan.arms) == 6 and plan.tries == 3


@pytest.mark.slow
def test_own_data_in_cifar_format_by_inheritance(tmp_path):
    """The two files of the page as they stand, run by its two commands; only the epochs are cut."""
    (tmp_path / 'mine/data').mkdir(parents=True)
    for seed, name in enumerate(('data_batch_1', 'data_batch_2', 'val_batch', 'test_batch')):
        write_batch(tmp_path / 'mine/data' / name, seed)
    teacher, student = own_configs()
    short = blocks(ROOT / 'README.md', 'python')[0][1]
    assert student.startswith(short.rstrip())  # what the README shows is its beginning
    (tmp_path / 'mine/teacher.py').write_text(teacher)
    (tmp_path / 'mine/sskd.py').write_text(student)
    schedule = 'default_hooks.stage_schedule'
    cut = {
        'teacher': ['train_cfg.max_epochs=1'],
        'sskd': [*(f'{schedule}.phases.{i}.epochs=1' for i in range(3)),
                    'model.teacher_checkpoint=work_dirs/teacher/epoch_1.pth'],
    }  # fmt: skip
    for name, options in cut.items():
        command = f'tools/train.py mine/{name}.py'
        assert f'python {command}' in (ROOT / 'docs/own_data.md').read_text()
        script, config = command.split()
        options = [*options, 'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']
        options += ['val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False']
        result = warm_python(ROOT / script, config, '--cfg-options', *options, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    cfg = Config.fromfile(tmp_path / 'work_dirs/sskd/student.py')
    assert cfg.model.head.num_classes == 5 and (tmp_path / 'work_dirs/sskd/student.pth').is_file()


def test_the_api_page_has_every_public_name():
    page = re.findall(r'^::: \S+\.(\w+)$', (ROOT / 'docs/api.md').read_text(), re.MULTILINE)
    rooms = (
        'distill',
        'datasets',
        'models',
        'face.models',
        'face.data',
        'face.data.transforms',
        'face.evaluation.metrics',
    )
    public = {name for room in rooms for name in import_module(f'mmsskd.{room}').__all__}
    assert public <= set(page), sorted(public - set(page))
