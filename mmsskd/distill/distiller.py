"""What one phase computes, what is frozen in it, and what a checkpoint holds."""

import copy
from collections.abc import Callable, Sequence
from contextlib import contextmanager

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn

from ..errors import ConfigError, candidates
from ..registry import MODELS
from .adapter import match_size
from .host import host_trains
from .logits import find_logits
from .losses import phase_losses
from .model_cfg import build_model, load_strictly, resolve_model_cfg
from .pairing import pair_stages
from .phase import HEAD, Phase
from .shared_weights import check_shared_weights, copy_shared_weights
from .stages import taps_of
from .state_names import add_student_prefix, strip_student_prefix
from .tap import features_at
from .teacher import build_teacher, check_same_normalisation


@MODELS.register_module()
class StagewiseDistiller(BaseModel):
    """Stage-by-stage distillation (SSKD, https://arxiv.org/abs/1812.01819): one student, one teacher, one phase at a time.

    :class:`StageScheduleHook` says which phase it is through :meth:`set_phase`. In a transfer phase a training step runs the
    batch through the data preprocessor once, both networks up to the last mimicked tap and no further, and the mimic loss. In a
    phase with task loss the student computes its own loss; without mimicked stages the teacher does not run.

    The teacher is held outside the parameter tree: it is in no state dict, optimiser, DDP bucket or EMA copy, stays in eval mode
    without gradients whatever ``train()`` is called with, and moves with ``to()``, ``cuda()`` and ``half()``.

    A checkpoint of the distiller holds the student under the student's own names, and ``adapters.*``.

    Args:
        teacher, student: A model config, a path such as ``'mmpretrain::resnet/resnet34_8xb32_in1k.py'``, or a dict with that
            path as ``cfg_path`` and what is to be changed in its ``model``.
        teacher_checkpoint: File or URL, loaded strictly.
        student_checkpoint: File or URL from which the student starts, loaded strictly. To start from backbone weights alone,
            use the backbone's ``init_cfg`` as in any OpenMMLab config.
        student_from_teacher: The student starts from those of the teacher's weights that have the name and shape of one of its
            own: of the same widths with fewer blocks, the first blocks of each stage (as DistilBERT,
            https://arxiv.org/abs/1910.01108, section 3, which takes every other layer).
        stages: Module paths in execution order; ``layer1`` means ``backbone.layer1``, ``neck`` makes the neck a stage. None:
            the backbone's resolution stages.
        teacher_stages: The same for the teacher, where its names differ. None: ``stages``.
        mimic_loss: Config of the loss of a transfer phase.
        mimic_losses: Configs of the losses of single stages, by their names, in place of ``mimic_loss``.
        resize: Allow features of different height and width: the larger is average-pooled onto the smaller.
        input_shape: (channels, height, width) of an image, for the forward that finds the stages.
        adapter_norm: Put batch normalisation behind the adapters of stages whose widths differ.
        pre_activation: Compare features in front of the activation in which a stage ends, of student and teacher alike.
        logits: Path of the student's module whose output are its logits, for instance ``'head.fc'``; for phases with ``logits``.
        teacher_logits: The same in the teacher. None: ``logits``.
        logits_loss: Config of their loss.
        data_preprocessor: Replaces the student's own; MMEngine passes the config's top-level one.

    Raises:
        ConfigError: Anything that does not fit, before training.
    """

    def __init__(
        self,
        teacher: str | dict,
        student: str | dict,
        teacher_checkpoint: str | None = None,
        student_checkpoint: str | None = None,
        student_from_teacher: bool = False,
        stages: Sequence[str] | None = None,
        teacher_stages: Sequence[str] | None = None,
        mimic_loss: dict | None = None,
        mimic_losses: dict[str, dict] | None = None,
        resize: bool = False,
        input_shape: Sequence[int] = (3, 224, 224),
        adapter_norm: bool = False,
        pre_activation: bool = False,
        logits: str | None = None,
        teacher_logits: str | None = None,
        logits_loss: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        student_model = build_model(resolve_model_cfg(student, 'student', data_preprocessor))
        super().__init__(data_preprocessor=student_model.data_preprocessor, init_cfg=init_cfg)
        teacher_model, teacher_cfg = build_teacher(teacher, teacher_checkpoint)
        check_same_normalisation(teacher_cfg, student_model, teacher_model)
        flags = dict(
            adapter_norm=adapter_norm, pre_activation=pre_activation, student_from_teacher=student_from_teacher
        )
        for key, value in flags.items():
            if not isinstance(value, bool):
                raise ConfigError(f'model.{key} must be True or False, found {value!r}')
        self._frozen_modules: list[nn.Module] = []
        self._frozen_parameters: list[nn.Parameter] = []
        self._training_modules: list[str] = []
        self.student = student_model
        self.student_checkpoint = student_checkpoint
        self.student_from_teacher = student_from_teacher
        if student_from_teacher:
            check_shared_weights(student_model, teacher_model, student_checkpoint)
        self.__dict__['teacher'] = teacher_model  # past nn.Module's registration
        self.resize = resize
        self.stages, self.teacher_stages, adapters = pair_stages(
            self.student, teacher_model, stages, teacher_stages, input_shape, resize, pre_activation, adapter_norm
        )
        self.mimic_losses = _build_losses(list(self.stages), mimic_loss, mimic_losses)
        self.logits = find_logits(self.student, teacher_model, logits, teacher_logits, input_shape) if logits else None
        self.logits_loss = ROOT_MODELS.build(logits_loss or dict(type='mmsskd.LogitsKDLoss')) if logits else None
        self.adapters = nn.ModuleDict({_key(name): adapter for name, adapter in adapters.items()})
        self._trainable = host_trains(self.student, self.stages.values())
        self.phase: Phase | None = None
        self._predictor = 'student'
        self.on_non_finite: Callable[[str], None] | None = None
        self.register_state_dict_post_hook(strip_student_prefix)
        self.register_load_state_dict_pre_hook(add_student_prefix)

    # -- what trains -------------------------------------------------------------------------------------------------

    def set_phase(self, phase: Phase) -> None:
        """Make ``phase`` the current one: what it trains gets gradients, all else is frozen, BN statistics included."""
        self.phase = phase
        active = {name for part in phase.train for name in self.parameters_of(part)}
        adapters = [f'adapters.{_key(stage)}.' for stage in phase.mimic if stage in phase.train]
        active |= {name for name, _ in self.named_parameters() if name.startswith(tuple(adapters))}
        frozen = []
        for name, parameter in self.named_parameters():
            own_name = name.removeprefix('student.')
            if own_name in active and self._trainable.get(own_name, True):
                parameter.requires_grad_(True)
            else:
                frozen.append(parameter.requires_grad_(False))
        own = {f'student.{path}'.rstrip('.') for part in phase.train for path in self.modules_of(part)}
        trains = {
            path: path in own or f'{path}.'.startswith(tuple(adapters))
            for path, _ in self.named_modules()
            if f'{path}.'.startswith(('student.', 'adapters.')) and not path.startswith('student.data_preprocessor')
        }
        self._frozen_parameters = frozen
        self._frozen_modules = [
            self.get_submodule(path)
            for path, active in trains.items()
            if not active and path not in ('student', 'adapters')
        ]
        self._training_modules = [path for path, active in trains.items() if active]
        self.train(self.training)

    def train(self, mode: bool = True) -> 'StagewiseDistiller':
        """As usual, except that what the phase does not train stays in eval mode and without gradients."""
        super().train(mode)
        for module in self._frozen_modules:
            module.training = False
        for parameter in self._frozen_parameters:
            parameter.requires_grad = False  # some models set the flag in their own train()
        return self

    def training_modules(self) -> dict[str, nn.Module]:
        """The modules of what the current phase trains, adapters included, by their paths in the distiller."""
        return {path: self.get_submodule(path) for path in self._training_modules}

    def parameters_of(self, part: str) -> list[str]:
        """Names, in the student, of the parameters of a stage or of ``'head'``."""
        if part != HEAD:
            return list(self.stages[part].parameters)
        taken = {name for stage in self.stages.values() for name in stage.parameters}
        return [name for name, _ in self.student.named_parameters() if name not in taken]

    def modules_of(self, part: str) -> list[str]:
        """Paths, in the student, of the modules of a stage or of ``'head'``."""
        if part != HEAD:
            return list(self.stages[part].modules)
        roots = {'backbone'} | {stage.tap.split('.')[0] for stage in self.stages.values()}
        return [path for path, _ in self.student.named_modules() if path.split('.')[0] not in roots]

    def adapter_of(self, stage: str) -> nn.Module | None:
        """What brings the student's feature of ``stage`` to the teacher's channels; None where they are equal."""
        return self.adapters[_key(stage)] if _key(stage) in self.adapters else None  # noqa: SIM401  ModuleDict has no get

    def mimic_loss_of(self, stage: str) -> nn.Module:
        """The loss by which ``stage`` follows the teacher."""
        return self.mimic_losses[_key(stage)]

    # -- what is computed --------------------------------------------------------------------------------------------

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        """``'loss'``: the losses of the current phase; ``'predict'`` and ``'tensor'``: the student's own forward."""
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        model = self.teacher if self._predictor == 'teacher' else self.student
        return model(inputs, data_samples, mode=mode)

    def loss(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """The losses of the current phase; see :func:`~mmsskd.distill.losses.phase_losses`."""
        if self.phase is None:
            raise ConfigError('no phase is set; add dict(type="mmsskd.StageScheduleHook") to default_hooks')
        return phase_losses(self, inputs, data_samples)

    @torch.no_grad()
    def compare(self, inputs: Tensor, names: Sequence[str]) -> dict[str, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
        """For each stage named, the student's feature, adapted, and the teacher's, for a preprocessed batch."""
        student = features_at(self.student, inputs, taps_of(self.stages[name] for name in names))
        teacher = self._teacher_features(inputs, names)
        return {name: self.comparable(self.adapt(name, student), teacher[name]) for name in names}

    @torch.no_grad()
    def _teacher_features(self, inputs: Tensor, names: Sequence[str]) -> dict[str, tuple[Tensor, ...]]:
        features = features_at(self.teacher, inputs, taps_of(self.teacher_stages[name] for name in names))
        return {name: self.teacher_stages[name].feature(features) for name in names}

    def adapt(self, name: str, outputs: dict[str, tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """The student's feature of a stage among the outputs of its taps, with the teacher's channels."""
        feature, adapter = self.stages[name].feature(outputs), self.adapter_of(name)
        return feature if adapter is None else adapter(feature)

    def comparable(self, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]):
        """Both features of a stage as they are compared: where sizes may differ, on the same grid."""
        if self.resize:
            pairs = [match_size(own, theirs) for own, theirs in zip(student, teacher, strict=True)]
            student, teacher = tuple(own for own, _ in pairs), tuple(theirs for _, theirs in pairs)
        return student, teacher

    def parse_losses(self, losses: dict) -> tuple[Tensor, dict]:
        """As usual; a NaN or infinite loss is reported before it reaches a weight."""
        loss, log_vars = super().parse_losses(losses)
        if self.on_non_finite is not None and not torch.isfinite(loss.detach()):
            values = ', '.join(f'{name}={value.item():.4g}' for name, value in log_vars.items() if 'loss' in name)
            self.on_non_finite(values)
        return loss, log_vars

    @contextmanager
    def predicting_with_teacher(self):
        """Within this context ``mode='predict'`` runs the teacher, so that it is measured like the student."""
        self._predictor = 'teacher'
        try:
            yield
        finally:
            self._predictor = 'student'

    @property
    def detector(self) -> nn.Module:
        """The student, under the name by which hooks of mmdet look for a model inside a wrapper."""
        return self.student

    def set_epoch(self, epoch: int) -> None:
        """Tell the student the epoch, where it wants to know (mmdet's ``SetEpochInfoHook``)."""
        if hasattr(self.student, 'set_epoch'):
            self.student.set_epoch(epoch)

    # -- weights -----------------------------------------------------------------------------------------------------

    def init_weights(self) -> None:
        """Initialise the student, never the teacher; then give it the weights that it is to start from."""
        super().init_weights()
        if self.student_from_teacher:
            copy_shared_weights(self.student, self.teacher)
        if self.student_checkpoint:
            load_strictly(self.student, self.student_checkpoint, 'model.student_checkpoint')

    def _apply(self, fn, recurse: bool = True):
        super()._apply(fn, recurse)
        self.teacher._apply(fn, recurse)
        return self

    def __deepcopy__(self, memo: dict) -> 'StagewiseDistiller':
        """A copy, such as EMA makes, shares the teacher and leaves the run's callback behind."""
        memo[id(self.teacher)] = self.teacher
        memo[id(self.on_non_finite)] = None
        clone = self.__class__.__new__(self.__class__)
        memo[id(self)] = clone
        clone.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return clone


def _build_losses(stages: Sequence[str], common: dict | None, single: dict | None) -> nn.ModuleDict:
    """The loss of each stage, by the stage's key."""
    for name in single or ():
        if name not in stages:
            raise ConfigError(f'model.mimic_losses: there is no stage {name!r}; {candidates(name, stages)}')
    common = ROOT_MODELS.build(common or dict(type='mmsskd.FeatureMimicLoss'))
    single = {name: ROOT_MODELS.build(cfg) for name, cfg in (single or {}).items()}
    return nn.ModuleDict({_key(name): single.get(name, common) for name in stages})


def _key(stage: str) -> str:
    """A stage's key in the adapters: module names cannot hold a dot."""
    return stage.replace('.', '_')
