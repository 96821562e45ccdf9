"""The columns of `tools/benchmark.py` that are whole iterations: MMEngine's Runner with its data, hooks and log."""

import statistics
import tempfile
import time

import benchmark_steps as steps
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from torch.utils.data import Dataset

from mmsskd.distill.schedule.captured_step import WARM_UP

AHEAD = (
    WARM_UP + 2
)  # iterations of a phase that are not counted: those before a step is recorded, its recording, and one more


@DATASETS.register_module()
class NoiseImages(Dataset):
    """Images of noise in memory; ``truth`` as for :func:`benchmark_steps.noise`."""

    metainfo: dict = {}

    def __init__(self, shape, count: int, truth: str, pipeline=None):
        self.images, self.samples = steps.noise(shape, count, truth)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.images[index], data_samples=self.samples[index])


class Clock(Hook):
    """Notes when iterations begin and end."""

    priority = 'LOWEST'

    def __init__(self):
        self.begins, self.ends = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.begins.append(time.perf_counter())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.ends.append(time.perf_counter())


def iterations(
    cfg, phases, truth: str, shape, size: int, rounds: int, captured: bool
) -> dict[str, tuple[float, float]]:
    """Run the phases in a Runner of their own; median seconds of an iteration of each, and those in which it waits for data.

    Images of classifiers are noise that stays in memory (``ResidentImages``), cropped with a padding of 4 and flipped; those of
    detectors come from memory one by one.
    """
    count = AHEAD + rounds + 1  # the last one of a phase ends with its border
    dataset = dict(type='mmpretrain.NoiseImages', shape=list(shape), count=4 * size, truth=truth)
    if truth == 'labels':
        crop = dict(type='RandomCrop', crop_size=tuple(shape[1:]), padding=4)
        pipeline = [crop, dict(type='RandomFlip', prob=0.5, direction='horizontal'), dict(type='PackInputs')]
        dataset.update(type='mmsskd.ResidentImages', of='NoiseImages', pipeline=pipeline)
    schedule = dict(
        type='mmsskd.StageScheduleHook',
        phases=[dict(train=list(phase.train), iters=count) for phase in phases],
        cuda_graph=captured,
    )
    logger = dict((cfg.get('default_hooks') or {}).get('logger') or dict(type='LoggerHook'))
    never = dict(type='CheckpointHook', by_epoch=False, interval=10**9, save_last=False)
    with tempfile.TemporaryDirectory() as folder:
        run = Config(
            dict(
                default_scope=cfg.get('default_scope') or 'mmpretrain',
                work_dir=folder,
                experiment_name=f'benchmark{"_captured" * captured}',
                model=steps.random_model(cfg, folder),
                data_preprocessor=cfg.get('data_preprocessor'),
                train_dataloader=dict(
                    batch_size=size,
                    num_workers=0,
                    dataset=dataset,
                    sampler=dict(type='InfiniteSampler'),
                    collate_fn=dict(type='mmsskd.stack_images' if truth == 'labels' else 'pseudo_collate'),
                ),
                train_cfg=dict(by_epoch=False, max_iters=1, val_interval=10**9),
                optim_wrapper=cfg.get('optim_wrapper'),
                default_hooks=dict(logger=logger, checkpoint=never, stage_schedule=schedule),
                env_cfg=cfg.get('env_cfg') or dict(dist_cfg=dict(backend='nccl')),
                log_processor=dict(by_epoch=False),
                randomness=dict(seed=0),
                log_level='WARNING',
            )
        )
        runner, clock = Runner.from_cfg(run), Clock()
        runner.register_hook(clock)
        runner.train()
    result = {}
    for i, phase in enumerate(phases):
        counted = range(i * count + AHEAD, (i + 1) * count - 1)
        whole = statistics.median(clock.begins[k + 1] - clock.begins[k] for k in counted)
        result[phase.name] = whole, statistics.median(clock.begins[k + 1] - clock.ends[k] for k in counted)
    return result
