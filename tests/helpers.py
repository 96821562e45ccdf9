"""Small real runs: scikit-learn's digits, real mmpretrain models of a few thousand parameters, a real Runner on real files."""

import functools
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import warm
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS, MODELS
from mmengine.runner import Runner

import mmsskd  # noqa: F401  registers the scope

ROOT = Path(__file__).resolve().parents[1]
GPU = torch.cuda.is_available()
on_cpu = pytest.mark.skipif(GPU, reason='the numbers are those of a CPU')
_numbers = itertools.count()


def classifier(depth=14, width=0.5, num_classes=10, **backbone) -> dict:
    """A CIFAR ResNet on grey 8x8 images; with the defaults 22 thousand parameters."""
    return dict(
        type='mmpretrain.ImageClassifier',
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', mean=[127.5], std=[127.5]),
        backbone=dict(
            dict(type='mmsskd.CIFARResNet', depth=depth, width=width, in_channels=1, stem_channels=8), **backbone
        ),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead', num_classes=num_classes, in_channels=4 * round(16 * width), topk=(1,)
        ),
    )


GROUP_NORM = dict(norm_cfg=dict(type='GN', num_groups=2))


def save_weights(model_cfg: dict, path: Path, seed: int = 0) -> str:
    """Write randomly initialised weights of a model, BN statistics included, so that a teacher is not trivial."""
    torch.manual_seed(seed)
    model = MODELS.build(dict(_scope_='mmpretrain', **model_cfg))
    model.init_weights()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


@METRICS.register_module()
class Confidence(BaseMetric):
    """Probability of the true class: a number that grows from one validation to the next, where accuracy jumps."""

    def process(self, data_batch, data_samples):
        self.results += [sample['pred_score'][sample['gt_label'].item()].item() for sample in data_samples]

    def compute_metrics(self, results):
        return dict(confidence=sum(results) / len(results))


def loader(split='train', count=96, batch_size=32, infinite=False, **dataset) -> dict:
    return dict(
        batch_size=batch_size,
        num_workers=0,
        dataset=dict(
            type='mmsskd.Digits',
            split=split,
            indices=count,
            pipeline=[
                *([dict(type='RandomCrop', crop_size=8, padding=1)] if split == 'train' else []),
                dict(type='PackInputs'),
            ],
            **dataset,
        ),
        sampler=dict(type='InfiniteSampler' if infinite else 'DefaultSampler', shuffle=split == 'train'),
    )


def run_cfg(work_dir, teacher_checkpoint, *, teacher=None, student=None, iters=None, hook=None, **overrides) -> Config:
    """A stage-by-stage run: three stages of one epoch (three iterations), then the head.

    Args:
        iters: Use an iteration-based loop with phases of that many iterations.
        hook: Fields of the schedule hook, merged over the defaults.
        overrides: Merged over the config.
    """
    length = dict(epochs=1) if iters is None else dict(iters=iters)
    schedule = dict(type='mmsskd.StageScheduleHook', phases='sskd_literal', transfer=length, head=length)
    every = dict(by_epoch=True, interval=1) if iters is None else dict(by_epoch=False, interval=1)
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            work_dir=str(work_dir),
            experiment_name=f'test{next(_numbers)}_{os.getpid()}',
            model=dict(
                type='mmsskd.StagewiseDistiller',
                teacher=teacher or classifier(),
                teacher_checkpoint=str(teacher_checkpoint),
                student=student or classifier(depth=8),
                input_shape=(1, 8, 8),
            ),
            train_dataloader=loader(infinite=iters is not None),
            val_dataloader=loader('test', 50, 25),
            val_evaluator=dict(type='Accuracy', topk=(1,)),
            test_dataloader=loader('test', 50, 25),
            test_evaluator=dict(type='Accuracy', topk=(1,)),
            val_cfg=dict(),
            test_cfg=dict(),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-3)),
            param_scheduler=[],
            train_cfg=dict(by_epoch=True, max_epochs=1)
            if iters is None
            else dict(by_epoch=False, max_iters=1, val_interval=iters),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=dict(type='CheckpointHook', **every),
                stage_schedule=schedule,
            ),
            log_processor=dict(by_epoch=iters is None),
            visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
            randomness=dict(seed=0, deterministic=GPU),
            log_level='WARNING',
        )
    )
    if hook:
        schedule = cfg.default_hooks.stage_schedule
        schedule.update(hook)
    cfg.merge_from_dict(overrides)
    return cfg


def parse_phases(phases, stages, unit, transfer=None, head=None, optim_wrapper=None, param_scheduler=None) -> list:
    """The phases of a run with these parts."""
    from mmsskd.distill.phases import phases_of

    run = dict(train_cfg=dict(by_epoch=unit == 'epochs'), optim_wrapper=optim_wrapper, param_scheduler=param_scheduler)
    return phases_of(run, stages, dict(phases=phases, transfer=transfer, head=head))


def train(cfg: Config) -> Runner:
    """Run a config to its end; what comes back is on the CPU, where what tests compare it with is."""
    runner = Runner.from_cfg(cfg)
    runner.train()
    runner.model.cpu()
    return runner


@functools.cache
def is_detection(path: Path) -> bool:
    """Whether a config of ours is for mmdet."""
    return Config.fromfile(path).get('default_scope') == 'mmdet'


def is_face(path: Path) -> bool:
    """Whether a config of ours is for faces."""
    return path.name.startswith('face_')


def require_ops(*cfgs) -> None:
    """Skip what needs mmdet, which does not import without mmcv's compiled ops: in any case, or where ``cfgs`` name it."""
    if not cfgs or 'mmdet' in str(cfgs):
        pytest.importorskip('mmcv.ops', reason='detection needs mmcv with compiled ops', exc_type=ImportError)


def weights(path) -> dict[str, torch.Tensor]:
    return torch.load(path, map_location='cpu', weights_only=False)['state_dict']


def same(a: dict, b: dict, names=None) -> bool:
    """Equal to the bit, wherever they are."""
    return all(torch.equal(a[name].cpu(), b[name].cpu()) for name in (names if names is not None else a))


def environment(**changes) -> dict[str, str]:
    """The environment of a process that a test starts: this package on its path whether or not it is installed, a ``PYTHONPATH``
    among the changes before it.
    """
    path = [changes.pop('PYTHONPATH', ''), str(ROOT), os.environ.get('PYTHONPATH', '')]
    path = os.pathsep.join(map(str, filter(None, path)))
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable, 'PYTHONPATH': path, **changes}


def python(*args, cwd=None, timeout=300, **env) -> subprocess.CompletedProcess:
    """Run a Python process as a user would; returns it with output as text."""
    return subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def warm_python(*args, cwd=None, timeout=300, **env) -> subprocess.CompletedProcess:
    """``python`` in a process that has imported torch and OpenMMLab's packages already, and nothing of ours."""
    return warm.run([str(arg) for arg in args], cwd, environment(**env), timeout)


def warm_ranks(*args, port: int, timeout=300, **env) -> subprocess.CompletedProcess:
    """Two ranks as torchrun starts them, in warm processes; the script gets ``--launcher pytorch``. Returns what both say."""
    world = dict(WORLD_SIZE='2', LOCAL_WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    with ThreadPoolExecutor(2) as pool:
        ranks = [
            pool.submit(
                warm_python, *args, '--launcher', 'pytorch', timeout=timeout, RANK=rank, LOCAL_RANK=rank, **world, **env
            )
            for rank in '01'
        ]
        first, second = [rank.result() for rank in ranks]
    code = first.returncode or second.returncode
    return subprocess.CompletedProcess(args, code, first.stdout + second.stdout, first.stderr + second.stderr)
