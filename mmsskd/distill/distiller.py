"""The method: what a step of a phase computes, what is frozen meanwhile, and what a checkpoint holds."""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from ..errors import ConfigError, check_keys
from ..registry import MODELS
from ..utils.states import makes_its_eval_mode
from .build import (
    BESIDE,
    build_model,
    build_teacher,
    copy_weights,
    load_strictly,
    predicts_nothing,
    weights_from_teacher,
)
from .losses import AgreementMeter, StepValues, build_loss, build_mimic_losses, takes_samples
from .network.folded import StepTeacher
from .network.forward import DEFAULT_SHAPE, capture, features_at
from .network.pairing import Pairing, find_logits, match_size, student_trains
from .network.projector import resolve_student
from .network.stages import taps_of
from .phases import HEAD, Phase
from .teacher import give_own_input, image_of

GONE = {
    'pre_activation': 'measured at nothing; commit 2d8540c had it last',
    'student_from_teacher': "set init_from_teacher='all' instead",
    'mimic_losses': 'give mimic_loss a dict of losses by stage instead',
    'teacher_logits': 'the module of the logits has the same path in both networks; commit 2d8540c had it last',
    'logits_loss': "set logits=dict(module='head.fc', loss=dict(type='mmsskd.LogitsKDLoss', ...)) instead",
}  # options that the distiller had


@MODELS.register_module()
class StagewiseDistiller(BaseModel):
    """Stage-by-stage distillation (SSKD, https://arxiv.org/abs/1812.01819): one student, one teacher, one phase at a time.

    :class:`StageScheduleHook` says which phase it is through :meth:`set_phase`. In a transfer phase a training step runs the
    batch through the data preprocessor once, both networks up to the last mimicked tap and no further, and the mimic loss. In a
    phase with task loss the student computes its own loss; without mimicked stages the teacher does not run.

    The teacher is held outside the parameter tree: it is in no state dict, optimizer, DDP bucket or EMA copy. It stays in eval
    mode without gradients whatever ``train()`` is called with, and moves with ``to()``, ``cuda()`` and ``half()``.

    A checkpoint of the distiller holds the student under the student's own names, ``adapters.*``, and weights of the losses.

    Args:
        teacher, student: A model config, a path such as ``'mmpretrain::resnet/resnet34_8xb32_in1k.py'``, or a dict with that
            path as ``cfg_path`` and what is to be changed in its ``model``.
        teacher_checkpoint: File or URL, loaded strictly.
        student_checkpoint: File or URL from which the student starts, loaded strictly. To start from backbone weights alone,
            use the backbone's ``init_cfg`` as in any OpenMMLab config.
        projector: Config of a small network that stays in the student, between its last mimicked feature and the head:
            ``dict(type='mmsskd.BottleneckProjector', reduction=2)``. It trains with the last stage, whose feature is then the
            projected one, and the student's head (a neck that is no stage included) is built as the teacher's. In front of the
            neck; after it where the neck is the last stage. None: there is none.
        init_from_teacher: ``'all'``: the student starts from those of the teacher's weights that have the name and shape of one
            of its own. Of the same widths with fewer blocks these are the first blocks of each stage. (DistilBERT,
            https://arxiv.org/abs/1910.01108, section 3, takes every other layer.) ``'head'``: only its head does, which must be
            that of the teacher, name by name and shape by shape. None: neither.
        stages: Module paths in execution order; ``layer1`` means ``backbone.layer1``, ``neck`` makes the neck a stage. None:
            the backbone's resolution stages.
        teacher_stages: The same for the teacher, where its names differ. A name may be repeated; where there are fewer than the
            student has, its last stages follow them. None: ``stages``.
        mimic_loss: Config of the loss by which stages follow the teacher; or a dict from the names of stages to such configs,
            where stages that it does not name keep the default. None: :class:`~mmsskd.FeatureMimicLoss`.
        resize: Features of different places (maps, tokens with a grid) are compared after the finer is pooled onto the other's
            grid. True: the levels of necks too, in their order. ``'bilinear'``: as True, but the coarser is interpolated onto the
            grid of the finer. False: they are refused.
        input_shape: (channels, height, width) of an image, for the forward that finds the stages.
        adapter_norm: Put batch normalization after the adapters of stages whose widths differ (docs/results.md: +1.4 points).
        logits: Path of the module whose outputs are the logits, in both networks, for instance ``'head.fc'``; or a dict of it as
            ``module`` and the config of a ``loss`` (None: :class:`~mmsskd.distill.LogitsKDLoss`). For phases with ``logits``.
        fold_teacher: Training steps run a copy of the teacher whose batch normalizations are folded into convolutions and, under
            autocast, whose weights are cast once (:class:`~mmsskd.distill.network.folded.StepTeacher`). Features differ by
            rounding. None: on a GPU. Nothing else ever sees the copy.
        data_preprocessor: Replaces the student's own; MMEngine passes the config's top-level one.

    Raises:
        ConfigError: Anything that does not fit, before training.

    Example:
        >>> import tempfile
        >>> from mmsskd.distill.build import resolve_model_cfg
        >>> def classifier(width):
        ...     return dict(
        ...         type='mmpretrain.ImageClassifier',
        ...         backbone=dict(type='mmsskd.CIFARResNet', depth=8, width=width),
        ...         neck=dict(type='mmpretrain.GlobalAveragePooling'),
        ...         head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=int(64 * width)),
        ...     )
        >>> teacher = classifier(0.25)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(build_model(resolve_model_cfg(teacher, 'teacher')).state_dict(), f'{folder}/teacher.pth')
        ...     distiller = StagewiseDistiller(
        ...         teacher, classifier(0.125), teacher_checkpoint=f'{folder}/teacher.pth', input_shape=(3, 16, 16)
        ...     )
        >>> list(distiller.stages)
        ['layer1', 'layer2', 'layer3']
        >>> phase = Phase(name='first', train=('layer1',), mimic=('layer1',), task_loss=False, begin=0, length=1)
        >>> distiller.set_phase(phase)
        >>> sorted(distiller(torch.randn(2, 3, 16, 16), mode='loss'))
        ['cosine_layer1', 'loss_mimic_layer1', 'relative_error_layer1']
    """

    def __init__(
        self,
        teacher: str | dict,
        student: str | dict,
        teacher_checkpoint: str | None = None,
        student_checkpoint: str | None = None,
        projector: dict | None = None,
        init_from_teacher: str | None = None,
        stages: Sequence[str] | None = None,
        teacher_stages: Sequence[str] | None = None,
        mimic_loss: dict | None = None,
        resize: bool | str | None = None,
        input_shape: Sequence[int] = DEFAULT_SHAPE,
        adapter_norm: bool = True,
        logits: str | dict | None = None,
        fold_teacher: bool | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        **unknown,
    ):
        check_keys(unknown, (), 'model', GONE)
        described = dict(student=student, teacher=teacher, projector=projector, stages=stages, input_shape=input_shape)
        student_model = build_model(resolve_student(described, data_preprocessor)[0], 'model.student')
        super().__init__(data_preprocessor=student_model.data_preprocessor, init_cfg=init_cfg)
        teacher_model, teacher_cfg, self.teacher_classes = build_teacher(teacher, teacher_checkpoint)
        give_own_input(teacher_model, teacher_cfg, student_model)
        self._check_teacher_predicts(teacher_model, init_from_teacher, logits)
        self._frozen_modules: list[nn.Module] = []
        self._frozen_parameters: list[nn.Parameter] = []
        self._training_modules: list[str] = []
        self.student = student_model
        self.student_checkpoint = student_checkpoint
        self._paths = {path for path, _ in student_model.named_modules(remove_duplicate=False)}
        self.__dict__['teacher'] = teacher_model  # past nn.Module's registration
        pairing = Pairing(
            stages=stages,
            teacher_stages=teacher_stages,
            input_shape=input_shape,
            resize=resize,
            adapter_norm=adapter_norm,
        )
        self.resize = resize
        self.stages, self.teacher_stages, adapters = pairing.pair(self.student, teacher_model)
        self.adapters = nn.ModuleDict({_key(name): adapter for name, adapter in adapters.items()})
        losses = build_mimic_losses({name: stage.shapes for name, stage in self.teacher_stages.items()}, mimic_loss)
        self.mimic_losses = nn.ModuleDict({_key(name): loss for name, loss in losses.items()})
        self.logits, self.logits_loss = self._build_logits(logits, input_shape)
        taps, logits_module = taps_of(self.teacher_stages.values()), self.logits and self.logits.module
        self.step_teacher = StepTeacher(teacher_model, taps, logits_module, fold_teacher)
        self.init_from_teacher = init_from_teacher
        head = self.head_state()
        self._shared = weights_from_teacher(init_from_teacher, student_model, teacher_model, head, student_checkpoint)
        # whether the whole head of the student starts as the teacher's
        self.has_teacher_head = init_from_teacher is not None and set(head) <= set(self._shared)
        self._trainable = student_trains(self.student, self.stages.values())
        self.phase: Phase | None = None
        self._predictor = 'student'
        self.on_non_finite: Callable[..., None] | None = None
        # makes the steps of the phase, where one is set
        self.steps: Callable[[dict, OptimWrapper], dict] | None = None
        self.measures_agreement = True
        self._values: StepValues | None = None  # of the current step, as long as nobody has looked at them
        self._looks_later = False
        self.data_preprocessor.register_forward_pre_hook(self._without_labels, with_kwargs=True)
        self.register_state_dict_post_hook(_strip_student_prefix)
        self.register_load_state_dict_pre_hook(_add_student_prefix)

    @staticmethod
    def _check_teacher_predicts(
        teacher: nn.Module, init_from_teacher: str | None, logits: str | Mapping | None
    ) -> None:
        """Refuse what needs the head of a teacher that has none."""
        reason = predicts_nothing(teacher)
        if reason and (logits is not None or init_from_teacher == 'head'):
            key = "init_from_teacher='head'" if init_from_teacher == 'head' else f'logits={logits!r}'
            raise ConfigError(
                f'model.{key}: the teacher has neither head nor logits to give: {reason}. Remove it (and logits=True from the '
                'phases), or name a teacher that was trained for the task.'
            )

    def _build_logits(self, cfg: str | Mapping | None, input_shape: Sequence[int]):
        """Find the logits and build the loss by which they follow the teacher's; (None, None) where nobody names them."""
        if cfg is None:
            return None, None
        cfg = dict(module=cfg) if isinstance(cfg, str) else cfg
        check_keys(cfg, ('module', 'loss'), 'model.logits')
        if not isinstance(cfg.get('module'), str):
            raise ConfigError(
                f"model.logits.module must be a module path such as 'head.fc', found {cfg.get('module')!r}"
            )
        loss = build_loss(cfg.get('loss') or dict(type='mmsskd.LogitsKDLoss'), 'model.logits.loss')
        return find_logits(self.student, self.teacher, cfg['module'], input_shape), loss

    # -- what trains -------------------------------------------------------------------------------------------------

    def set_phase(self, phase: Phase) -> None:
        """Make ``phase`` the current one: what it trains gets gradients, all else is frozen, BN statistics included."""
        self.phase = phase
        with self.own_names():
            self._divide(phase)
        self.train(self.training)

    def _divide(self, phase: Phase) -> None:
        """Note what ``phase`` trains and what it leaves frozen."""
        active = {name for part in phase.train for name in self.parameters_of(part)}
        followed = [_key(stage) for stage in phase.mimic if stage in phase.train]
        own_of_stages = [f'{holder}.{key}.' for key in followed for holder in ('adapters', 'mimic_losses')]
        beside = (*own_of_stages, *(['logits_loss.'] if phase.logits else []))
        active |= {name for name, _ in self.named_parameters() if name.startswith(beside)}
        frozen = []
        for name, parameter in self.named_parameters():
            own_name = name.removeprefix('student.')
            if own_name in active and self._trainable.get(own_name, True):
                parameter.requires_grad_(True)
            else:
                frozen.append(parameter.requires_grad_(False))
        own = {f'student.{path}'.rstrip('.') for part in phase.train for path in self.modules_of(part)}
        trains = {
            path: path in own or f'{path}.'.startswith(beside)
            for path, _ in self.named_modules()
            if f'{path}.'.startswith(('student.', *BESIDE)) and not path.startswith('student.data_preprocessor')
        }
        self._frozen_parameters = frozen
        self._frozen_modules = [
            self.get_submodule(path)
            for path, active in trains.items()
            if not active and f'{path}.' not in ('student.', *BESIDE)
        ]
        self._training_modules = [path for path, active in trains.items() if active]

    def train(self, mode: bool = True) -> 'StagewiseDistiller':
        """Set the mode; what the phase does not train stays in eval mode and without gradients."""
        super().train(mode)
        for module in self._frozen_modules:
            if not makes_its_eval_mode(module):
                module.training = False
        for parameter in self._frozen_parameters:
            parameter.requires_grad = False  # some models set the flag in their own train()
        return self

    def training_modules(self) -> dict[str, nn.Module]:
        """The modules of what the current phase trains, adapters and losses included, by their paths in the distiller."""
        return {path: self.get_submodule(path) for path in self._training_modules}

    def parameters_of(self, part: str) -> list[str]:
        """Names, in the student, of the parameters of a stage or of ``'head'``."""
        if part != HEAD:
            return list(self.stages[part].parameters)
        taken = {name for stage in self.stages.values() for name in (*stage.parameters, *stage.idle)}
        return [name for name, _ in self.student.named_parameters() if name not in taken]

    def modules_of(self, part: str) -> list[str]:
        """Paths, in the student, of the modules of a stage or of ``'head'``."""
        if part != HEAD:
            return list(self.stages[part].modules)
        taken = {path for stage in self.stages.values() for path in stage.modules}
        # modules that hold what no stage has, at any depth: a dense head that a stage ends in, levels of a neck that none has,
        # and what a backbone that classifies runs after its last stage
        holders = {name[:i] for name in self.parameters_of(HEAD) for i, letter in enumerate(name) if letter == '.'}
        taken |= {name.rpartition('.')[0] for stage in self.stages.values() for name in stage.idle}
        return [
            path
            for path, _ in self.student.named_modules()
            if path in holders or (path not in taken and (path.split('.')[0] != 'backbone' or 'backbone' in holders))
        ]

    def starts_trained(self, part: str) -> bool:
        """Whether a stage or ``'head'`` starts from weights that were trained: those of a checkpoint, or of the teacher."""
        inits = [getattr(module, 'init_cfg', None) or () for module in self.student.modules()]
        pretrained = any(
            cfg.get('type') == 'Pretrained' for init in inits for cfg in ([init] if isinstance(init, dict) else init)
        )
        return bool(self.student_checkpoint) or pretrained or set(self.parameters_of(part)) <= set(self._shared)

    def head_state(self) -> dict[str, Tensor]:
        """The student's head: the parameters and buffers that no stage owns, under their own names."""
        modules = set(self.modules_of(HEAD)) | {''}
        taken = {name for stage in self.stages.values() for name in stage.parameters}
        state = self.student.state_dict()
        return {
            name: value for name, value in state.items() if name.rpartition('.')[0] in modules and name not in taken
        }

    def adapter_of(self, stage: str) -> nn.Module | None:
        """The adapter from the student's feature of ``stage`` to the teacher's channels; None where they are equal."""
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

    def _without_labels(self, preprocessor: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Leave out ground truth, with its masks and its loop over samples, where no loss of the phase looks at it.

        Preprocessors that change it together with the images, and those of others, get it all the same.
        """
        data, *rest = args
        training = kwargs.get('training', rest[0] if rest else False)
        own_input = getattr(self.teacher, 'own_input', None)  # which asks the samples where an image ends
        needed = (
            self.looks_at_samples or getattr(preprocessor, 'batch_augments', None) or getattr(own_input, 'pads', False)
        )
        known = type(preprocessor).__module__.split('.')[0] in ('mmengine', 'mmpretrain', 'mmdet')
        if training and known and not needed:
            args = ({key: value for key, value in data.items() if key != 'data_samples'}, *rest)
        return args, kwargs

    @property
    def looks_at_samples(self) -> bool:
        """Whether a loss of the current phase looks at ground truth."""
        return (
            self.phase is None
            or self.phase.task_loss
            or any(takes_samples(self.mimic_loss_of(name)) for name in self.phase.mimic)
        )

    def loss(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """The losses of the current phase, and for each mimicked stage its relative error and cosine, which are only logged.

        The hook has these two measured in those iterations alone that are logged: they take more operations than the loss.

        Args:
            inputs: The preprocessed batch, (N, C, H, W).
            data_samples: Ground truth; for the task loss, and for mimic losses that take it.
        """
        phase = self.phase
        if phase is None:
            raise ConfigError('no phase is set; add dict(type="mmsskd.StageScheduleHook") to default_hooks')
        # 1. The teacher, up to the last tap that is followed. First, because it keeps no activations and the student does.
        teacher = self._teacher_outputs(inputs, phase)
        # 2. The student: its own loss on ground truth, or no further than the same tap. What is frozen builds no graph.
        losses, student = self._student_outputs(inputs, data_samples, phase)
        # 3. Each mimicked stage: the student's feature, with the teacher's channels, against the teacher's.
        for name in phase.mimic:
            teacher_feature = self.teacher_stages[name].feature(teacher)
            pair = self.comparable(self.adapt(name, student), teacher_feature, inputs.shape[-2:])
            loss = self.mimic_loss_of(name)
            losses[f'loss_mimic_{name}'] = loss(
                *pair, **(dict(data_samples=data_samples) if takes_samples(loss) else {})
            )
            if self.measures_agreement:
                losses[f'relative_error_{name}'], losses[f'cosine_{name}'] = AgreementMeter.of(*pair)
        # 4. The logits.
        if phase.logits:
            (student_logits,), (teacher_logits,) = student[self.logits.module], teacher[self.logits.module]
            losses['loss_logits'] = self.logits_loss(student_logits, teacher_logits)
        return losses

    @torch.no_grad()
    def _teacher_outputs(self, inputs: Tensor, phase: Phase) -> dict[str, tuple[Tensor, ...]]:
        """Run the teacher up to the last tap that the phase follows; nothing runs where it follows none."""
        if not phase.mimic and not phase.logits:
            return {}
        taps = taps_of(self.teacher_stages[name] for name in phase.mimic)
        return features_at(self.step_teacher(inputs), inputs, taps, self.logits.module if phase.logits else None)

    def _student_outputs(self, inputs: Tensor, data_samples: list | None, phase: Phase):
        """The student's own losses, weighted, where the phase has the task loss; and the outputs at its taps."""
        taps = taps_of(self.stages[name] for name in phase.mimic)
        logits = [self.logits.module] if phase.logits else []
        if not phase.task_loss:
            return {}, features_at(self.student, inputs, taps, *logits)
        with capture(self.student, {**dict.fromkeys(logits, 1), **taps}) as outputs:
            losses = dict(self.student(inputs, data_samples, mode='loss'))
        if phase.task_weight != 1:
            losses = {
                key: _times(phase.task_weight, value) if 'loss' in key else value for key, value in losses.items()
            }
        return losses, outputs

    @torch.no_grad()
    def compare(self, inputs: Tensor, names: Sequence[str]) -> dict[str, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
        """Compute for each stage named the student's feature, adapted, and the teacher's, for a preprocessed batch."""
        student = features_at(self.student, inputs, taps_of(self.stages[name] for name in names))
        teacher = self.teacher_features(inputs, names)
        image = inputs.shape[-2:]
        return {name: self.comparable(self.adapt(name, student), teacher[name], image) for name in names}

    @torch.no_grad()
    def teacher_features(self, inputs: Tensor, names: Sequence[str]) -> dict[str, tuple[Tensor, ...]]:
        """The teacher's feature of each stage named, for a preprocessed batch."""
        features = features_at(self.teacher, inputs, taps_of(self.teacher_stages[name] for name in names))
        return {name: self.teacher_stages[name].feature(features) for name in names}

    def adapt(self, name: str, outputs: dict[str, tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """The student's feature of a stage among the outputs of its taps, with the teacher's channels."""
        feature, adapter = self.stages[name].feature(outputs), self.adapter_of(name)
        return feature if adapter is None else adapter(feature)

    def comparable(self, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...], image: Sequence[int]):
        """Both features of a stage, of images of this height and width, as they are compared: on the same grid."""
        if self.resize is not False:
            images = image, image_of(self.teacher, image)
            pairs = [
                match_size(*pair, images, self.resize == 'bilinear') for pair in zip(student, teacher, strict=True)
            ]
            student, teacher = (tuple(side) for side in zip(*pairs))
        return student, teacher

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One step on a batch as the data loader gives it; in the way that the hook has set for the phase, if it has."""
        if self.steps is not None:
            return self.steps(data, optim_wrapper)
        trained = itertools.chain.from_iterable(group['params'] for group in optim_wrapper.param_groups)
        if any(parameter.grad is not None for parameter in trained):  # accumulated, and not to be spoilt
            return super().train_step(data, optim_wrapper)
        with self._looked_at_before_the_update(optim_wrapper):
            return super().train_step(data, optim_wrapper)

    def parse_losses(self, losses: dict) -> tuple[Tensor, dict]:
        """Sum the losses; a NaN or infinite one is reported before it reaches a weight.

        Whatever is logged comes from the GPU in one copy.
        """
        loss, log_vars = super().parse_losses(losses)
        self._values = values = StepValues([*log_vars], torch.stack([value.detach() for value in log_vars.values()]))
        if not self._looks_later:
            self._look_at_values()
        return loss, dict(zip(log_vars, values.values, strict=True))

    def _look_at_values(self) -> None:
        """Wait for the losses of the step and report those that are not finite."""
        values, self._values = self._values, None
        failure = values and values.failure()
        if failure and self.on_non_finite is not None:
            self._stop(failure, drop_gradients=self._looks_later)

    def check_norm(self, name: str, norm: Tensor) -> None:
        """Report a norm of gradients that is not finite, as a loss that is not; the loss first, if that is not."""
        self._look_at_values()
        if self.on_non_finite is not None and not norm.isfinite():
            self._stop(f'{name}={norm.item():.4g}', drop_gradients=True)

    def _stop(self, failure: str, drop_gradients: bool) -> None:
        """Report; what is saved then must not hold the gradients of this step: a resume would add them."""
        for parameter in self.parameters() if drop_gradients else ():
            parameter.grad = None
        self.on_non_finite(failure)

    @contextmanager
    def _looked_at_before_the_update(self, optim_wrapper: OptimWrapper):
        """Within this context losses are waited for when the backward pass has been launched, which keeps a GPU busy meanwhile.

        Under DDP, whose wrapper asks for the losses, they are waited for at once; so they are where gradients are accumulated.
        """
        self._looks_later = True
        hook = optim_wrapper.optimizer.register_step_pre_hook(lambda *step: self._look_at_values())
        try:
            yield
            self._look_at_values()  # where gradients are accumulated there is no update
        finally:
            self._looks_later = False
            hook.remove()

    @contextmanager
    def predicting_with_teacher(self):
        """Within this context ``mode='predict'`` runs the teacher, so that it is measured like the student."""
        self._predictor = 'teacher'
        try:
            yield
        finally:
            self._predictor = 'student'

    @contextmanager
    def own_names(self):
        """Within this context the student has no module under a name that a forward has given it beside its own.

        In training, DDQ's decoder borrows branches of the head. Names of parameters, their order and state dicts are then those
        of a student that has not run yet, which is what a resume and an export build.
        """
        modules = self.student.named_modules(remove_duplicate=False)
        originals = {id(module) for path, module in modules if path in self._paths}
        borrowed = [
            (parent, name, child)
            for parent, name, child in _added_modules(self.student, '', self._paths)
            if id(child) in originals
        ]
        for parent, name, _ in borrowed:
            del parent._modules[name]
        try:
            yield
        finally:
            for parent, name, child in borrowed:
                parent._modules[name] = child

    def state_dict(self, *args, **kwargs) -> dict[str, Tensor]:
        """The state dict, under the names that the student was built with."""
        with self.own_names():
            return super().state_dict(*args, **kwargs)

    @property
    def head(self):
        """The student's head, where hooks of mmpretrain look for it (``SwitchRecipeHook``, ``SetAdaptiveMarginsHook``)."""
        return self.student.get_submodule('head')

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
        """Initialize the student, never the teacher; then give it the weights that it is to start from."""
        super().init_weights()
        if self.student_checkpoint:
            load_strictly(self.student, self.student_checkpoint, 'model.student_checkpoint')
        copy_weights(self.student, self.teacher, self._shared)

    def _apply(self, fn, recurse: bool = True):
        super()._apply(fn, recurse)
        self.teacher._apply(fn, recurse)
        return self

    def __deepcopy__(self, memo: dict) -> 'StagewiseDistiller':
        """A copy, such as EMA makes, shares the teacher and drops the run's callbacks."""
        memo[id(self.teacher)] = self.teacher
        memo[id(self.on_non_finite)] = memo[id(self.steps)] = None
        clone = self.__class__.__new__(self.__class__)
        memo[id(self)] = clone
        clone.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return clone


def _added_modules(module: nn.Module, path: str, known: set[str]):
    """Parent, name and module of the children, at any depth, whose paths are not ``known``; not of what is in these."""
    for name, child in module._modules.items():
        if f'{path}{name}' not in known:
            yield module, name, child
        elif child is not None:
            yield from _added_modules(child, f'{path}{name}.', known)


def _key(stage: str) -> str:
    """A stage's key in the adapters: module names cannot hold a dot."""
    return stage.replace('.', '_')


def _times(weight: float, loss):
    """A loss, or the list of losses that models of mmdet return under one name."""
    return [weight * item for item in loss] if isinstance(loss, (list, tuple)) else weight * loss


def _strip_student_prefix(module, state_dict: dict, prefix: str, local_metadata: dict) -> None:
    """State dict hook: the student's weights under the student's own names."""
    own = f'{prefix}student.'
    for name in [name for name in state_dict if name.startswith(prefix)]:
        state_dict[prefix + name[len(own) :] if name.startswith(own) else name] = state_dict.pop(name)


def _add_student_prefix(module, state_dict: dict, prefix: str, *args) -> None:
    """Load hook, the reverse: accepts a distiller's checkpoint and a plain student's."""
    for name in [name for name in state_dict if name.startswith(prefix)]:
        if not name.removeprefix(prefix).startswith(BESIDE):
            state_dict[f'{prefix}student.{name[len(prefix) :]}'] = state_dict.pop(name)
