"""The arms of the repository's own comparisons: what cannot begin is named, and what they feed on can be loaded."""

import numpy as np
import pytest
from helpers import ROOT
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from mmsskd.compare.comparison import Comparison
from mmsskd.compare.plan import parse_plan, read_plan
from mmsskd.compare.runs import Run, build_config
from mmsskd.errors import ConfigError

FASHION = sorted((ROOT / 'configs/experiments/compare').glob('fashion_mnist*.py'))


def loaders(cfg) -> list[dict]:
    schedule = cfg.default_hooks.get('stage_schedule') or {}
    phases = [*(schedule.get('phases') or []), schedule.get('transfer') or {}, schedule.get('head') or {}]
    own = [phase['train_dataloader'] for phase in phases if phase.get('train_dataloader')]
    return [cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader, *own]


@pytest.mark.parametrize('path', FASHION, ids=lambda path: path.stem)
def test_every_pipeline_of_every_arm_takes_a_grey_image(path):
    """The sets are not in the repository, and a transform for colours would only fail after the teacher has been trained."""
    DefaultScope.get_instance(f'arms_{path.stem}', scope_name='mmpretrain')
    rng, seen, arms = np.random.default_rng(0), 0, read_plan(str(path)).arms
    for arm in arms:
        run = Run(label=arm.name, config=arm.config, options=arm.options, seed=0, epochs=None, work_dir='w', metric='m')
        cfg, _ = build_config(run)
        for loader in loaders(cfg):
            image = rng.integers(0, 255, (28, 28), dtype=np.uint8)
            dataset = loader['dataset']
            dataset = dataset.get('dataset', dataset)  # repeated, where labels are few
            packed = Compose(dataset['pipeline'])(dict(img=image, gt_label=3))
            assert packed['inputs'].shape == (1, 28, 28), arm.name
            seen += 1
    assert len(arms) >= 2 and seen >= 3 * len(arms)


@pytest.mark.parametrize(
    ('phase', 'words'),
    [
        (dict(train='layer5'), ["unknown stage 'layer5'", 'layer1']),
        (dict(train='layer1', optim_wrapper=dict(optimizer=dict(lr=0.1))), ['optim_wrapper must have the form']),
        (dict(train='layer1', logits='pupil'), ['logits', 'pupil']),
    ],
)
def test_a_schedule_that_could_not_begin_is_named_with_its_arm(phase, words, tmp_path):
    phases = {'default_hooks.stage_schedule.phases': [dict(phase, epochs=1)]}
    mine = dict(config='../sskd/digits_r14x2_r8.py', options=phases)
    arms = dict(plain='digits_r8.py', mine=mine)
    cfg = dict(metric='accuracy/top1', teacher='digits_r14x2.py', arms=arms, plain='plain', epochs=3)
    plan = parse_plan(cfg, ROOT / 'configs/plain', 'FILE')
    with pytest.raises(ConfigError) as error:
        Comparison(plan, tmp_path)
    for word in ["arms['mine']", 'phase 1 of 1', *words]:
        assert word in str(error.value)


def test_what_a_config_starts_from_stays_until_there_is_a_checkpoint_of_the_run(tmp_path):
    """A teacher is often tuned from ImageNet's weights; a comparison that starts it from scratch compares something else."""
    path = tmp_path / 'mine.py'
    path.write_text(
        f"_base_ = {str(ROOT / 'configs/plain/digits_r8.py')!r}\nload_from, default_hooks = 'imagenet.pth', None\n"
    )
    run = Run(label='mine', config=str(path), seed=0, epochs=4, work_dir=str(tmp_path / 'work'), metric='m')
    cfg, _ = build_config(run)
    assert cfg.load_from == 'imagenet.pth' and cfg.resume is False
    assert cfg.default_hooks.checkpoint.interval == 1  # also where a config has no hooks of its own
