"""What a loader has where its config does not say."""

import copy

from helpers import loader, run_cfg, same, train
from mmengine.config import Config

from mmsskd.cli.loaders import complete_loaders


def test_a_batch_is_one_tensor_and_the_student_the_same_to_the_bit(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path / 'a', teacher_path, iters=1, hook=dict(evaluate_teacher=False))
    listed = train(copy.deepcopy(cfg))
    assert isinstance(next(iter(listed.val_dataloader))['inputs'], list)
    cfg.work_dir, cfg.experiment_name = str(tmp_path / 'b'), f'{cfg.experiment_name}_stacked'
    complete_loaders(cfg)
    stacked = train(cfg)
    batch = next(iter(stacked.val_dataloader))
    assert batch['inputs'].shape == (25, 1, 8, 8)
    assert same(listed.model.state_dict(), stacked.model.state_dict())


def test_loaders_of_phases_are_completed_too_and_what_is_said_stays():
    own = dict(loader(), num_workers=2, collate_fn=dict(type='pseudo_collate'))
    phases = [dict(name='one', train=['layer1'], train_dataloader=dict(loader(), num_workers=1))]
    hook = dict(
        type='mmsskd.StageScheduleHook', phases=phases, transfer=dict(epochs=1), head=dict(train_dataloader=own)
    )
    cfg = Config(dict(default_scope='mmpretrain', train_dataloader=loader(), default_hooks=dict(stage_schedule=hook)))
    complete_loaders(cfg)
    hook = cfg.default_hooks.stage_schedule
    assert cfg.train_dataloader.collate_fn == dict(type='mmsskd.stack_images')
    assert not cfg.train_dataloader.persistent_workers  # which torch refuses without workers
    assert hook.phases[0].train_dataloader.persistent_workers
    assert hook.head.train_dataloader.collate_fn == dict(type='pseudo_collate')
    assert hook.transfer == dict(epochs=1)


def test_detectors_whose_images_differ_in_size_are_left_alone():
    cfg = Config(dict(default_scope='mmdet', train_dataloader=loader()))
    before = copy.deepcopy(cfg.train_dataloader)
    complete_loaders(cfg)
    assert cfg.train_dataloader == before
