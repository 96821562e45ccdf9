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
from .mimic_loss import AgreementMeter
from .model_cfg import build_model, load_strictly, resolve_model_cfg
from .pairing import pair_stages
from .phases import HEAD, Phase
from .tap import capture, features_at
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
        stages: Module paths in execution order; ``layer1`` means ``backbone.layer1``, ``neck`` makes the neck a stage. None:
            the backbone's resolution stages.
        teacher_stages: The same for the teacher, where its names differ. None: ``stages``.
        mimic_loss: Config of the loss of a transfer phase.
        mimic_losses: Configs of the losses of single stages, by their names, in place of ``mimic_loss``.
        resize: Allow features of different height and width: the larger is average-pooled onto the smaller.
        input_shape: (channels, height, width) of an image, for the forward that finds the stages.
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
        stages: Sequence[str] | None = None,
        teacher_stages: Sequence[str] | None = None,
        mimic_loss: dict | None = None,
        mimic_losses: dict[str, dict] | None = None,
        resize: bool = False,
        input_shape: Sequence[int] = (3, 224, 224),
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        student_model = build_model(resolve_model_cfg(student, 'student', data_preprocessor))
        super().__init__(data_preprocessor=student_model.data_preprocessor, init_cfg=init_cfg)
        teacher_model, teacher_cfg = build_teacher(teacher, teacher_checkpoint)
        check_same_normalisation(teacher_cfg, student_model, teacher_model)
        self._frozen_modules: list[nn.Module] = []
        self._frozen_parameters: list[nn.Parameter] = []
        self.student = student_model
        self.student_checkpoint = student_checkpoint
        self.__dict__['teacher'] = teacher_model  # past nn.Module's registration
        self.resize = resize
        self.stages, self.teacher_stages, adapters = pair_stages(
            self.student, teacher_model, stages, teacher_stages, input_shape, resize
        )
        self.mimic_losses = _build_losses(list(self.stages), mimic_loss, mimic_losses)
        self.adapters = nn.ModuleDict({_key(name): adapter for name, adapter in adapters.items()})
        self._trainable = host_trains(self.student, self.stages.values())
        self.phase: Phase | None = None
        self._predictor = 'student'
        self.on_non_finite: Callable[[str], None] | None = None
        self.register_state_dict_post_hook(_strip_student_prefix)
        self.register_load_state_dict_pre_hook(_add_student_prefix)

    # -- what trains -------------------------------------------------------------------------------------------------

    def set_phase(self, phase: Phase) -> None:
        """Make ``phase`` the current one: what it trains gets gradients, all else is frozen, BN statistics included."""
        self.phase = phase
        active = {name for part in phase.train for name in self.parameters_of(part)}
        for name in self.adapters:
            trains = name in {_key(stage) for stage in phase.mimic if stage in phase.train}
            active |= {f'adapters.{name}.{inner}' for inner, _ in self.adapters[name].named_parameters() if trains}
        frozen = []
        for name, parameter in self.named_parameters():
            own_name = name.removeprefix('student.')
            if own_name in active and self._trainable.get(own_name, True):
                parameter.requires_grad_(True)
            else:
                frozen.append(parameter.requires_grad_(False))
        modules = {path for part in phase.train for path in self.modules_of(part)}
        self._frozen_parameters = frozen
        self._frozen_modules = [
            module
            for path, module in self.student.named_modules()
            if path and path not in modules and not path.startswith('data_preprocessor')
        ]
        self.train(self.training)

    def train(self, mode: bool = True) -> 'StagewiseDistiller':
        """As usual, except that what the phase does not train stays in eval mode and without gradients."""
        super().train(mode)
        for module in self._frozen_modules:
            module.training = False
        for parameter in self._frozen_parameters:
            parameter.requires_grad = False  # some models set the flag in their own train()
        return self

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
        """The losses of the current phase, and for each mimicked stage its relative error and cosine, which are only logged.

        Args:
            inputs: The preprocessed batch, (N, C, H, W).
            data_samples: Ground truth; not looked at without task loss.
        """
        phase = self.phase
        if phase is None:
            raise ConfigError('no phase is set; add dict(type="mmsskd.StageScheduleHook") to default_hooks')
        if not phase.mimic:
            return self.student(inputs, data_samples, mode='loss')
        losses = {}
        taps = [self.stages[name].tap for name in phase.mimic]
        teacher = self._teacher_features(inputs, phase.mimic)  # first: it keeps no activations, the student does
        if phase.task_loss:
            with capture(self.student, taps) as student:
                losses.update(self.student(inputs, data_samples, mode='loss'))
        else:
            student = features_at(self.student, inputs, taps)
        for name in phase.mimic:
            own, theirs = self._comparable(name, self.stages[name].feature(student), teacher[name])
            losses[f'loss_mimic_{name}'] = self.mimic_loss_of(name)(own, theirs)
            meter = AgreementMeter()
            meter.update(own, theirs)
            losses[f'relative_error_{name}'], losses[f'cosine_{name}'] = meter.compute()
        return losses

    @torch.no_grad()
    def compare(self, inputs: Tensor, names: Sequence[str]) -> dict[str, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
        """For each stage named, the student's feature, adapted, and the teacher's, for a preprocessed batch."""
        student = features_at(self.student, inputs, [self.stages[name].tap for name in names])
        teacher = self._teacher_features(inputs, names)
        return {name: self._comparable(name, self.stages[name].feature(student), teacher[name]) for name in names}

    @torch.no_grad()
    def _teacher_features(self, inputs: Tensor, names: Sequence[str]) -> dict[str, tuple[Tensor, ...]]:
        features = features_at(self.teacher, inputs, [self.teacher_stages[name].tap for name in names])
        return {name: self.teacher_stages[name].feature(features) for name in names}

    def _comparable(self, name: str, student, teacher):
        """Both features of a stage with the same channels and, where allowed, on the same grid."""
        adapter = self.adapter_of(name)
        if adapter is not None:
            student = adapter(student)
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
        """Initialise the student, never the teacher; then load ``student_checkpoint`` where there is one."""
        super().init_weights()
        if self.student_checkpoint:
            load_strictly(self.student, self.student_checkpoint, 'model.student_checkpoint')

    def head_mismatch(self) -> list[str]:
        """Why the teacher's head cannot be the student's: names and shapes that differ; empty where it can."""
        theirs = self.teacher.state_dict()
        problems = []
        for name, own in self.head_state().items():
            if name not in theirs:
                problems.append(f'{name} (not in the teacher)')
            elif theirs[name].shape != own.shape:
                problems.append(f'{name} {tuple(own.shape)} (teacher: {tuple(theirs[name].shape)})')
        return problems

    def head_state(self) -> dict[str, Tensor]:
        """The student's head: the parameters and buffers that no stage owns, under their own names."""
        parts = set(self.modules_of(HEAD)) | {''}
        return {name: value for name, value in self.student.state_dict().items() if name.rpartition('.')[0] in parts}

    @torch.no_grad()
    def copy_head_from_teacher(self) -> None:
        """Copy the teacher's weights and buffers into the student's head."""
        theirs = self.teacher.state_dict()
        for name, own in self.head_state().items():
            own.copy_(theirs[name])

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


def _strip_student_prefix(module, state_dict: dict, prefix: str, local_metadata: dict) -> None:
    """State dict hook: the student's weights under the student's own names."""
    own = f'{prefix}student.'
    for name in [name for name in state_dict if name.startswith(prefix)]:
        state_dict[prefix + name[len(own) :] if name.startswith(own) else name] = state_dict.pop(name)


def _add_student_prefix(module, state_dict: dict, prefix: str, *args) -> None:
    """Load hook, the reverse: accepts a distiller's checkpoint and a plain student's."""
    for name in [name for name in state_dict if name.startswith(prefix)]:
        if not name.startswith(f'{prefix}adapters.'):
            state_dict[f'{prefix}student.{name[len(prefix) :]}'] = state_dict.pop(name)
