"""The file that says what is compared: what it may hold, and what is said of what it may not."""

from pathlib import Path

import pytest
from helpers import ROOT
from mmengine.config import Config

from mmsskd.compare.comparison import Comparison
from mmsskd.compare.plan import parse_plan, read_plan
from mmsskd.errors import ConfigError

CONFIGS = ROOT / 'configs/plain'


def plan(**changes) -> dict:
    arms = dict(plain='digits_r8.py', kd=dict(config='digits_r8.py', options={'a.b': 1}))
    cfg = dict(metric='accuracy/top1', teacher='digits_r14x2.py', arms=arms, plain='plain', epochs=10)
    return {key: value for key, value in {**cfg, **changes}.items() if value is not None}


def parse(**changes):
    return parse_plan(plan(**changes), CONFIGS, 'FILE')


def test_defaults():
    found = parse()
    assert [arm.name for arm in found.arms] == ['plain', 'kd'] and found.seeds == (0, 1, 2) and found.title == 'FILE'
    assert found.arms[1].options == {'a.b': 1} and found.arms[1].plain == 'plain'
    assert Path(found.teacher) == CONFIGS / 'digits_r14x2.py'
    assert found.tries == 1


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(metrik='x'), ["unknown field 'metrik'", 'metric']),
        (dict(metric=None), ["'metric' is missing"]),
        (dict(epochs=0), ['epochs must be a whole number of at least 1', '0']),
        (dict(epochs='20'), ["found '20'"]),
        (dict(teacher='digits_r14.py'), ["no config 'digits_r14.py'", 'digits_r14x2.py']),
        (dict(teacher=dict(config='digits_r14x2.py', weights='x')), ["unknown field 'weights'", 'checkpoint']),
        (dict(teacher=dict(config='digits_r14x2.py', checkpoint='x.pth')), ["no checkpoint 'x.pth' beside the file"]),
        (dict(arms={}), ['arms must be a dict']),
        (dict(arms=dict(plain=dict(option={}))), ["unknown field 'option'", 'options']),
        (dict(plain='plane'), ["no arm 'plane'", 'plain']),
        (dict(equal_seconds='kt'), ['equal_seconds', "none 'kt'", 'kd']),
        (dict(seeds=[0, 0]), ['seeds must be a list of different whole numbers']),
        (dict(seeds=[0.5]), ['0.5']),
        (
            dict(arms=dict(plain=dict(config='digits_r8.py', tries=[{}, {}]), kd='digits_r8.py')),
            ['as many tries as every other', 'plain: 2', 'kd: 0'],
        ),
        (dict(arms=dict(plain=dict(config='digits_r8.py', tries=[1]))), ['tries must be a list of dicts']),
        (dict(metric=0), ['metric must be a text, found 0']),
        (dict(title=[]), ['title must be a text']),
        (dict(scale='100'), ['scale must be a number above 0', "'100'"]),
        (dict(scale=0), ['scale must be a number above 0']),
        (dict(options=['a']), ['options must be a dict such as', "['a']"]),
        (dict(seeds=[[0]]), ['seeds must be a whole number']),
        (
            dict(arms=dict(plain=dict(config='digits_r8.py', seeds=3)), seeds=[0, 1]),
            ["arms['plain']: seeds=3, but the plan has 2 ([0, 1])", 'leave it out for all of them'],
        ),
        (dict(arms={1: 'digits_r8.py'}), ['names are texts, found 1']),
        (dict(arms=dict(plain=dict(config='digits_r8.py', options=5))), ["arms['plain']: options must be a dict", '5']),
    ],
)
def test_mistakes_are_named(changes, words):
    with pytest.raises(ConfigError) as error:
        parse(**changes)
    for word in words:
        assert word in str(error.value)


def test_a_missing_or_broken_file_is_named(tmp_path):
    (tmp_path / 'mine.py').write_text('metric = (')
    with pytest.raises(ConfigError, match=r'cannot read .*mine\.py'):
        read_plan(str(tmp_path / 'mine.py'))
    with pytest.raises(ConfigError, match=r'no file .*mined\.py.*mine\.py'):
        read_plan(str(tmp_path / 'mined.py'))


def test_settings_are_not_chosen_on_the_test_images(tmp_path):
    arms = dict(plain=dict(config='digits_r8.py', tries=[{}, {'optim_wrapper.optimizer.lr': 0.01}]))
    whole = Config.fromfile(CONFIGS / 'digits_r8.py')
    same = {'test_dataloader': whole.val_dataloader, 'val_dataloader': whole.val_dataloader}
    with pytest.raises(
        ConfigError, match=r"arms\['plain'\]: tries are chosen on val_dataloader, which has the images of"
    ):
        Comparison(parse(arms=arms, options=same), tmp_path)
    Comparison(parse(arms=dict(plain='digits_r8.py'), options=same), tmp_path)  # nothing is chosen


@pytest.mark.slow
@pytest.mark.parametrize(
    'path', sorted((ROOT / 'configs/experiments/compare').glob('*.py')), ids=lambda path: path.stem
)
def test_files_of_the_repo_ask_for_runs_that_fit(path, tmp_path):
    """Configs, options and lengths of every arm."""
    plan = read_plan(str(path))
    Comparison(plan, tmp_path)
    assert plan.seeds[:3] == (0, 1, 2) and plan.arms[0].name.startswith('plain')
    assert not list(tmp_path.iterdir())
