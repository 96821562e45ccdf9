"""Wrong values in a config: one message of ours with the key in it, before training, whoever would have stumbled over the value."""

import contextlib
import copy
import io
import runpy
import sys
from types import SimpleNamespace

import pytest
from helpers import ROOT, run_cfg
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from mmsskd.errors import ConfigError

HOOK = 'default_hooks.stage_schedule'


@pytest.fixture(scope='module')
def train_tool(tmp_path_factory, teacher_path):
    """``tools/train.py`` in this process, as a function of the changes to a config; returns what it printed."""
    folder = tmp_path_factory.mktemp('values')
    path = folder / 'config.py'
    path.write_text('model = dict()\n')
    (folder / 'broken.py').write_text('model = dict(\n')
    main = runpy.run_path(str(ROOT / 'tools/train.py'), run_name='train')['main']
    base, read = run_cfg(folder / 'work', teacher_path), Config.fromfile

    def run(changes):
        cfg = copy.deepcopy(base)
        for key, value in changes.items():
            node, *parts = [cfg._cfg_dict, *key.split('.')]
            for part in parts[:-1]:
                node = node[part]
            node[parts[-1]] = value
        held = {kind: kind._instance_dict.copy() for kind in (DefaultScope, MessageHub, MMLogger, Visualizer)}
        printed = io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            patch.setattr(
                Config, 'fromfile', lambda file, *args, **kw: cfg if file == str(path) else read(file, *args, **kw)
            )
            patch.setattr(sys, 'argv', ['train.py', str(path)])
            patch.chdir(folder)
            try:
                with pytest.raises(ConfigError) as caught:
                    main(SimpleNamespace(training=False))
            finally:
                for kind, instances in held.items():
                    kind._instance_dict.clear()
                    kind._instance_dict.update(instances)
        return str(caught.value), printed.getvalue()

    return run


# what the table of kinds refuses, before anything is built
KINDS = [
    ('model.type', 3, 'model: `type` must be the name of what is to be built; found type=3'),
    ('model.data_preprocessor', 3, 'model.data_preprocessor must be a dict; found 3'),
    ('model.init_cfg', dict(a=1), 'model.init_cfg must be a dict with a type'),
    ('model.stagess', [], "unknown field 'stagess'; did you mean 'stages'"),
    ('train_cfg', None, 'train_cfg not set, but train_dataloader, optim_wrapper: give all of'),
    ('train_cfg', 'epochs', "train_cfg must be a dict; found 'epochs'"),
    ('train_cfg', dict(by_epoch=True), 'train_cfg of a loop with by_epoch=True needs max_epochs'),
    ('train_cfg', dict(by_epoch=True, max_epochs=1, max_iter=3), "unknown field 'max_iter'"),
    ('train_cfg.by_epoch', 'yes', "train_cfg.by_epoch must be True or False; found 'yes'"),
    ('train_cfg.type', 'EpochBasedTrainLoop', 'train_cfg: by_epoch and type both say which loop it is'),
    ('train_cfg.max_epochs', -1, 'train_cfg.max_epochs must be a whole number of at least 1; found -1'),
    ('val_cfg', 3, 'val_cfg must be a dict; found 3'),
    ('val_evaluator', None, 'val_evaluator not set, but val_dataloader, val_cfg'),
    ('train_dataloader', [], 'train_dataloader must be a dict'),
    ('train_dataloader.dataset', 'images/', "train_dataloader.dataset must be a dict; found 'images/'"),
    ('train_dataloader.dataset.pipeline', None, 'train_dataloader.dataset.pipeline must be a list of dicts'),
    ('train_dataloader.sampler', dict(shuffle=True), 'train_dataloader.sampler: `type` must be'),
    ('train_dataloader.batch_size', b'4', "train_dataloader.batch_size must be a whole number of at least 1; found b'4'"),
    ('val_dataloader.num_workers', -1, 'val_dataloader.num_workers must be a whole number, 0 or more'),
    ('optim_wrapper', 'SGD', "optim_wrapper must be a dict; found 'SGD'"),
    ('optim_wrapper', dict(lr=1), 'optim_wrapper must have the form dict(optimizer=dict(type=..., lr=...))'),
    ('optim_wrapper.optimizer.lr', '0.1', "optim_wrapper.optimizer.lr must be a number above 0, found '0.1'"),
    ('optim_wrapper.clip_grad', dict(max_nrom=1.0), "optim_wrapper.clip_grad: unknown field 'max_nrom'; did you mean 'max_norm'"),
    ('optim_wrapper.clip_grad', dict(type='value', clip_value=None), 'clip_grad.clip_value must be a number above 0, found None'),
    ('optim_wrapper.clip_grad', dict(type='nrom', max_norm=1.0), "clip_grad.type must be one of norm, value; found 'nrom'"),
    ('optim_wrapper.paramwise_cfg', dict(norm_decay_mul=0), "paramwise_cfg: unknown field 'norm_decay_mul'; did you mean"),
    ('auto_scale_lr', dict(base_batchsize=64), "auto_scale_lr: unknown field 'base_batchsize'; did you mean 'base_batch_size'"),
    ('load_form', 'epoch_1.pth', "load_form: nobody reads this; did you mean 'load_from'? If it is a variable of your own"),
    ('default_hooks.checkpoint.max_keep_ckpt', 1, "checkpoint: unknown field 'max_keep_ckpt'; did you mean 'max_keep_ckpts'"),
    ('param_scheduler', 'cosine', "param_scheduler must be a dict or a list of dicts; found 'cosine'"),
    ('param_scheduler', [dict(by_epoch=True)], 'param_scheduler[0]: `type` must be'),
    ('default_hooks', [], 'default_hooks must be a dict; found []'),
    (HOOK, 'sskd_kept', "default_hooks.stage_schedule must be a dict with a type; found 'sskd_kept'"),
    (HOOK, None, 'default_hooks.stage_schedule must be a dict with a type; found None'),
    ('default_hooks.checkpoint.interval', 0.5, 'default_hooks.checkpoint.interval must be a whole number'),
    ('custom_hooks', dict(type='EMAHook'), 'custom_hooks must be a list of dicts'),
    ('custom_hooks', [dict(momentum=1)], 'custom_hooks[0]: `type` must be'),
    ('randomness', 0, 'randomness must be a dict; found 0'),
    ('randomness', dict(sed=0), "randomness: unknown field 'sed'; did you mean 'seed'"),
    ('randomness.seed', -1, 'randomness.seed must be a whole number from 0'),
    ('work_dir', 3, 'work_dir must be text; found 3'),
    ('work_dir', 'broken.py', "work_dir: 'broken.py' is a file; name a folder"),
    ('load_from', 3, 'load_from must be text; found 3'),
    ('resume', 'yes', "resume must be True or False; found 'yes'"),
    ('default_scope', 'mmpretrian', "default_scope: there is no package 'mmpretrian'; did you mean 'mmpretrain'"),
    ('log_level', 'LOUD', "log_level must be INFO, WARNING, ERROR, CRITICAL or DEBUG, in quotes; found 'LOUD'"),
    ('visualizer', dict(name='x'), 'visualizer: `type` must be'),
    ('env_cfg', None, 'env_cfg must be a dict; found None'),
    ('env_cfg', dict(mp_cfg=dict(mp_start_metod='fork')), "env_cfg.mp_cfg: unknown field 'mp_start_metod'; did you mean"),
    ('env_cfg', dict(mp_cfg=dict(mp_start_method='forkk')), "must be 'fork', 'spawn' or 'forkserver'; found 'forkk'"),
    ('env_cfg', dict(resource_limit='many'), "env_cfg.resource_limit must be a whole number of at least 1; found 'many'"),
    ('model_wrapper_cfg', dict(type='NoWrapper'), "model_wrapper_cfg: there is no model_wrapper of type 'NoWrapper'"),
    ('train_dataloader.collate_fn', dict(type='default_colate'),
     "train_dataloader.collate_fn: there is no function of type 'default_colate'; did you mean 'default_collate'"),
    ('model.teacher', 'teacher.py', "model.teacher: no config file 'teacher.py'"),
    ('model.teacher', dict(cfg_path=3), 'model.teacher.cfg_path must be the path of a config, found 3'),
    ('model.student', dict(cfg_path='mmpretrain::resnet/resnet18_8xb32_in1.py'), 'model.student.cfg_path: no config'),
    ('model.student', 3, 'model.student must be the path of a config, found 3'),
    ('model.teacher_checkpoint', 'teacher.pt', "model.teacher_checkpoint: no file 'teacher.pt'"),
    ('model.teacher', dict(type='mmsskd.ExternalTeacher', build='torchvision:resnet18', pretrained='resnet.pt'),
     "model.teacher.pretrained: no file 'resnet.pt'"),
    ('model.teacher', dict(cfg_path='mmpretrain::resnet/resnet18_8xb32_in1k.py', pretrained='resnet.pt'),
     "model.teacher.pretrained: no file 'resnet.pt'"),
    ('model.student_checkpoint', [1], 'model.student_checkpoint must be a file or URL, found [1]'),
]  # fmt: skip

# what building tells: the part, what is wrong with it, and what it is
PARTS = [
    ('model.teacher', dict(cfg_path='broken.py'), "model.teacher.cfg_path: cannot read the config 'broken.py': SyntaxError"),
    ('model.student', dict(type='ImageClasifier', _scope_='mmpretrain'), 'model.student cannot be built: there is no model of'),
    ('model.student.backbone', 3, "model.student.backbone cannot be built: TypeError: cfg should be a dict"),
    ('model.student.backbone.depth', [8], "model.student.backbone cannot be built: TypeError: unhashable type: 'list'"),
    ('model.student.head', dict(type='LinearHead'), 'model.student.head cannot be built: there is no model of type'),
    ('model.mimic_loss', dict(type='MSELos'), "model.mimic_loss cannot be built: there is no model of type 'MSELos'"),
    ('model.mimic_loss', dict(layer1=3), 'model.mimic_loss.layer1 must be the config of a loss, a dict with a type; found 3'),
    ('model.mimic_loss', dict(layer1=dict(type='FeatureMimicLoss', norm=1, _scope_='mmsskd')), 'model.mimic_loss.layer1 cannot'),
    ('model.logits', dict(module='head.fc', loss=dict(type='Nonsense')), 'model.logits.loss cannot be built: there is no'),
    ('model.logits', dict(loss=None), 'model.logits.module must be a module path'),
    ('data_preprocessor', dict(type='ClsDataPreprocessor', avg=1), 'data_preprocessor cannot be built: TypeError'),
    (f'{HOOK}.type', 'mmsskd.ScheduleHook', 'default_hooks.stage_schedule cannot be built: there is no hook of type'),
    (f'{HOOK}.transfer.train_dataloader', dict(batch_size=1), 'train_dataloader must be the config of a data loader'),
    (f'{HOOK}.transfer.optim_wrapper', dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(norm=1.0)),
     "optim_wrapper.clip_grad: unknown field 'norm'"),
    ('default_hooks.checkpoint.save_best', 'acuracy/top1', "save_best: no metric 'acuracy/top1' is measured; did you mean"),
    ('custom_hooks', [dict(type='EarlyStoppingHook', monitor='accuracy')], "EarlyStoppingHook.monitor: no metric 'accuracy' is"),
    ('default_hooks.logger', dict(type='LoggerHook', every=1), 'default_hooks.logger cannot be built: TypeError'),
    ('custom_hooks', [dict(type='EMAHok')], "custom_hooks[0] cannot be built: there is no hook of type 'EMAHok'; did you"),
    ('val_evaluator', [dict(type='Accurcy')], "val_evaluator[0] cannot be built: there is no metric of type 'Accurcy'"),
    ('train_dataloader.collate', 1, "train_dataloader cannot be built: TypeError: DataLoader.__init__() got an unexpected"),
    ('train_dataloader.dataset.type', 'Digit', "there is no dataset of type 'Digit'"),
    ('log_processor', dict(windows=1), 'log_processor cannot be built: TypeError'),
]  # fmt: skip


@pytest.mark.parametrize(('key', 'value', 'message'), KINDS + PARTS, ids=lambda value: str(value)[:40])
def test_the_key_is_named(train_tool, key, value, message):
    found, printed = train_tool({key: value})
    assert message in found
    if (key, value, message) in KINDS:
        assert not printed  # MMEngine's log of a run, with the whole config, has 200 lines
