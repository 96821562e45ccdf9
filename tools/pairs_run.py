"""One pair of tools/pairs.py: built, trained two iterations a phase, and checked."""

import os

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner
from pairs_list import Pair
from torch.utils.data import Dataset

import mmsskd  # noqa: F401  registers the scope
from mmsskd.distill.build import build_model, load_strictly, resolve_model_cfg, without_init
from mmsskd.distill.distiller import StagewiseDistiller
from mmsskd.distill.export import plain_config
from mmsskd.distill.network.forward import capture, features_at
from mmsskd.distill.network.stages import taps_of
from mmsskd.distill.schedule.runner_state import unwrap
from mmsskd.errors import ConfigError

IMAGES = 2


@DATASETS.register_module()
class Noise(Dataset):
    """Images of noise with a label, or with two boxes, and masks where the student wants them; as a pipeline packs them."""

    def __init__(self, size: int, boxes: bool, masks: bool):
        self.size, self.boxes, self.masks = size, boxes, masks
        self.metainfo = {}

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (3, self.size, self.size), generator=generator, dtype=torch.uint8)
        return dict(inputs=image, data_samples=self._boxed(index) if self.boxes else self._labelled(index))

    def _labelled(self, index: int):
        from mmpretrain.structures import DataSample

        return DataSample().set_gt_label(index)

    def _boxed(self, index: int):
        from mmdet.structures import DetDataSample
        from mmdet.structures.mask import BitmapMasks
        from mmengine.structures import InstanceData

        size = self.size
        boxes = torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.3, 0.2, 0.9, 0.9]]) * size
        labels = torch.tensor([index, index + 1])
        sample = DetDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size), scale_factor=(1.0, 1.0)))
        sample.set_metainfo(dict(img_id=index, img_path=f'{index}.png', flip=False))
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=labels[:0])
        if self.masks:
            masks = torch.zeros(2, size, size, dtype=torch.uint8)
            for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist()):
                mask[top:bottom, left:right] = 1
            sample.gt_instances.masks = BitmapMasks(masks.numpy(), height=size, width=size)
            sample.ignored_instances.masks = sample.gt_instances.masks[:0]
        return sample


@HOOKS.register_module()
class FrozenBits(Hook):
    """Compare the student of the beginning of each phase with that of its end: what the phase does not train has not changed."""

    priority = 'LOWEST'

    def __init__(self):
        self.phase, self.before, self.phases = None, {}, 0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        distiller = unwrap(runner.model)
        if distiller.phase is not self.phase:
            self.check(distiller)
            self.phase, self.before = distiller.phase, _state(distiller)
            self.phases += 1

    def after_train(self, runner: Runner) -> None:
        self.check(unwrap(runner.model))

    def check(self, distiller: StagewiseDistiller) -> None:
        if self.phase is None:
            return
        after = _state(distiller)
        changed = {name for name, value in after.items() if not torch.equal(value, self.before[name])}
        parameters = {name for part in self.phase.train for name in distiller.parameters_of(part)}
        modules = {path for part in self.phase.train for path in distiller.modules_of(part)}
        buffers = {name for name, _ in distiller.student.named_buffers()}
        trained = parameters | {name for name in buffers if name.rpartition('.')[0] in modules}
        wrong = list(changed - trained)
        assert not wrong, f'phase {self.phase.name!r} changed {wrong[:3]}, which it does not train'
        assert changed & parameters, f'phase {self.phase.name!r} changed nothing'


def _state(distiller: StagewiseDistiller) -> dict[str, torch.Tensor]:
    """Copies of the student's parameters and buffers, each under its one name: some models share branches."""
    with distiller.own_names():
        named = [*distiller.student.named_parameters(), *distiller.student.named_buffers()]
    return {name: value.detach().clone() for name, value in named}


def run_pair(pair: Pair, folder: str) -> dict:
    """Run a pair as it stands, and where that is refused and a line is known that helps, with that.

    Returns:
        ``result`` (``'works'``, ``'line'`` or ``'refused'``), ``why``, names of the ``stages``, number of ``adapters``.
    """
    why: dict = {}
    for result, changes in [('works', {}), *([('line', pair.line_options)] if pair.line else ())]:
        try:
            return dict(result=result, **why, **_run(pair, f'{folder}/{result}', changes))
        except ConfigError as error:
            why = dict(why=str(error))
    return dict(result='refused', **why)


def _run(pair: Pair, folder: str, changes: dict) -> dict:
    os.makedirs(folder)
    torch.manual_seed(1)  # the run has 0: of the same seed, stages of one architecture would be equal before they learn
    model = dict(type='mmsskd.StagewiseDistiller', input_shape=(3, pair.size, pair.size), **pair.options)
    model['student'] = _for_a_cpu(resolve_model_cfg(pair.student, 'student'))
    model['teacher'] = _for_a_cpu(resolve_model_cfg(pair.teacher, 'teacher'))
    model['teacher_checkpoint'] = f'{folder}/teacher.pth'
    cfg = Config(dict(model=model))
    cfg.merge_from_dict(changes)
    torch.save(build_model(cfg.model.teacher, 'model.teacher').state_dict(), f'{folder}/teacher.pth')
    cfg = Config(dict(_run_cfg(pair, folder, cfg.model.student), model=cfg.model))
    runner = Runner.from_cfg(cfg)
    runner.train()
    distiller = unwrap(runner.model)
    hook = next(hook for hook in runner.hooks if isinstance(hook, FrozenBits))
    assert hook.phases == len(distiller.stages) + 1 and runner.iter == 2 * hook.phases
    _check_export(runner, folder)
    _check_features(distiller, pair.size)
    return dict(stages=list(distiller.stages), adapters=len(distiller.adapters))


def _for_a_cpu(model):
    """A model without weights that would be fetched, and with BN for SyncBN, which does not train on a CPU."""
    model = without_init(model)
    if isinstance(model, dict):
        kept = {key: value for key, value in model.items() if key != 'init_cfg' or 'checkpoint' not in (value or ())}
        model = type(model)({key: _for_a_cpu(value) for key, value in kept.items()})
        if model.get('type') == 'SyncBN':
            model['type'] = 'BN'
    elif isinstance(model, (list, tuple)):
        model = type(model)(_for_a_cpu(value) for value in model)
    return model


def _run_cfg(pair: Pair, folder: str, student: dict) -> dict:
    """All but the model: each stage alone, then the head, two iterations each."""
    length, masks = dict(iters=2), bool(student.get('data_preprocessor', {}).get('pad_mask'))
    noise = dict(type='Noise', size=pair.size, boxes=pair.package == 'mmdet', masks=masks)
    sampler = dict(type='InfiniteSampler', shuffle=False)
    schedule = dict(phases='sskd_literal', transfer=length, head=length, save_phase_ends=False)
    return dict(
        default_scope=pair.package,
        work_dir=folder,
        experiment_name=pair.name,
        train_dataloader=dict(batch_size=IMAGES, num_workers=0, dataset=noise, sampler=sampler),
        train_cfg=dict(by_epoch=False, max_iters=1, val_interval=1000),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3), clip_grad=dict(max_norm=1.0)),
        param_scheduler=[],
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1000, save_last=False),
            stage_schedule=dict(type='mmsskd.StageScheduleHook', **schedule),
        ),
        custom_hooks=[dict(type='FrozenBits')],
        log_processor=dict(by_epoch=False),
        visualizer=dict(type='Visualizer', vis_backends=[]),
        randomness=dict(seed=0),
        log_level='ERROR',
    )


def _check_export(runner: Runner, folder: str) -> None:
    """The student of the run fits the plain student strictly, and has the weights that it had."""
    plain = plain_config(runner.cfg)
    assert 'StagewiseDistiller' not in plain.pretty_text
    student = build_model(plain.model)
    load_strictly(student, f'{folder}/student.pth', 'student.pth')
    own = unwrap(runner.model).student.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in student.state_dict().items())


@torch.no_grad()
def _check_features(distiller: StagewiseDistiller, size: int) -> None:
    """The features of both networks are those of whole forwards, in the modules that the taps name."""
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    distiller.eval()
    for model, stages in ((distiller.student, distiller.stages), (distiller.teacher, distiller.teacher_stages)):
        cut = features_at(model, image, taps_of(stages.values()))
        with capture(model, taps_of(stages.values())) as whole:
            feature = model.extract_feat(image)
            for head in {stage.tap.split('.')[0] for stage in stages.values() if stage.tap not in whole}:
                getattr(model, head)(feature)
        for name, stage in stages.items():
            equal = map(torch.equal, stage.feature(cut), stage.feature(whole))
            assert all(equal), f'stage {name!r}: its feature is not that of the whole forward'
