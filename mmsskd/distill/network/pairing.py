"""Pairing of two networks: which stage follows which, the adapter between them, what the student itself freezes, the logits."""

import inspect
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import prod

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import Tensor, nn

from ...errors import ConfigError, candidates, explaining
from ..build import build_model, resolve_model_cfg, without_init
from ..teacher import give_own_input, image_of
from .forward import DEFAULT_SHAPE, as_found, features_at, parameters_behind
from .projector import LastNorm, channels, resolve_student
from .stages import Stage, find_stages


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Options of a :class:`~mmsskd.StagewiseDistiller` that say how two networks are cut and paired, under the same names.

    Example:
        >>> Pairing(stages=['layer1'], input_shape=(3, 32, 32)).adapter_norm
        True
    """

    stages: Sequence[str] | None = None
    teacher_stages: Sequence[str] | None = None
    input_shape: Sequence[int] = DEFAULT_SHAPE
    resize: bool | str | None = None
    adapter_norm: bool = True

    def __post_init__(self):
        shape = self.input_shape
        if not (isinstance(shape, (list, tuple)) and all(isinstance(n, int) and n > 0 for n in shape)):
            raise ConfigError(f'model.input_shape must be (channels, height, width) of an image, found {shape!r}')
        for key, allowed in (('resize', (True, False, None, 'bilinear')), ('adapter_norm', (True, False))):
            value = getattr(self, key)
            if not isinstance(value, (bool, str, type(None))) or value not in allowed:
                raise ConfigError(f'model.{key} must be {" or ".join(map(repr, allowed))}, found {value!r}')

    @classmethod
    def of_config(cls, model: Mapping) -> 'Pairing':
        """Read the options from the config of a :class:`~mmsskd.StagewiseDistiller`."""
        return cls(**{each.name: model[each.name] for each in fields(cls) if each.name in model})

    @classmethod
    def built(cls, cfg: Mapping) -> tuple[nn.Module, nn.Module, 'Pairing']:
        """Student and teacher of the config of a run, with random weights, and their pairing: no file is read."""
        model = cfg['model']
        preprocessor = cfg.get('data_preprocessor') or model.get('data_preprocessor')
        student = build_model(without_init(resolve_student(model, preprocessor)[0]), 'model.student')
        teacher_cfg = resolve_model_cfg(model['teacher'], 'teacher')
        teacher = build_model(without_init(teacher_cfg), 'model.teacher')
        give_own_input(teacher, teacher_cfg, student)
        return student, teacher, cls.of_config(model)

    def pair(
        self, student: nn.Module, teacher: nn.Module
    ) -> tuple[dict[str, Stage], dict[str, Stage], dict[str, 'FeatureAdapter']]:
        """Cut both networks and check that each pair of features can be compared.

        Args:
            student, teacher: Models with ``backbone`` and ``extract_feat``.

        Returns:
            The student's stages, the teacher's, and the adapters where widths differ, all by the name of the student's stage.

        Raises:
            ConfigError: Different numbers of stages, or features that cannot be compared.
        """
        inputs = torch.randn(1, *self.input_shape, generator=torch.Generator().manual_seed(0))
        student_stages = find_stages(student, self.stages, inputs)
        teacher_stages = self._of_teacher(teacher, inputs)
        student_stages, teacher_stages = self._as_many(student, student_stages, teacher_stages, inputs)
        student_stages, teacher_stages = _with_places(student, student_stages, teacher, teacher_stages, inputs)
        if len(student_stages) != len(teacher_stages):
            raise ConfigError(
                f'the student has {len(student_stages)} stages {[stage.name for stage in student_stages]}, the teacher '
                f'{len(teacher_stages)} {[stage.name for stage in teacher_stages]}; name as many in model.stages as in '
                'model.teacher_stages, or fewer there: the last stages of the student follow these'
            )
        if len(student_stages) == 1 and self.stages is None and not self.teacher_stages:
            _warn(
                f'{type(student.backbone).__name__} is cut into one stage, {student_stages[0].name!r}: nothing is learned stage '
                'by stage. Name several module paths in model.stages, in the order in which they run.'
            )
        if student_stages[-1].idle:
            idle = student_stages[-1].idle
            _warn(
                f'{len(idle)} parameters of the backbone stay as they are, because nothing that the student gives depends on them: '
                f'{", ".join(idle[:3])}{", ..." if len(idle) > 3 else ""}'
            )
        images = self.input_shape[1:], image_of(teacher, self.input_shape[1:])
        students, teachers, adapters = {}, {}, {}
        for stage, other in zip(student_stages, teacher_stages):
            students[stage.name], teachers[stage.name] = stage, other = match_levels(stage, other, self.resize)
            adapter = build_adapter(stage.shapes, other.shapes, stage.name, self.resize, self.adapter_norm, images)
            if adapter is not None:
                adapters[stage.name] = adapter
        return students, teachers, adapters

    def _as_many(
        self, student: nn.Module, mine: list[Stage], theirs: list[Stage], inputs: Tensor
    ) -> tuple[list[Stage], list[Stage]]:
        """As many stages of the one as of the other, where nobody named those of the network that has more.

        Those of as many places as the other's stages are taken, or the last. Where ``teacher_stages`` names fewer than the student
        has, its last stages follow these.
        """
        few, many = sorted((mine, theirs), key=len)
        named = self.teacher_stages if many is theirs else self.stages and not self.teacher_stages
        if len(few) == len(many) or named:
            return mine, theirs
        names = [stage.name for stage in many]
        kept = many[-len(few) :] if self.teacher_stages else _of_same_places(few, many)
        if many is mine and kept[-1] is not many[-1]:  # all of the student's backbone learns
            kept = many[-len(few) :]
        own = [stage.name for stage in kept]
        if many is theirs:
            _warn(f'the teacher has {len(names)} stages, of which the {len(few)} of the student follow {own}')
            return mine, kept
        _warn(
            f'the student has {len(names)} stages, the teacher {len(few)}: {own} follow these, and what comes before each of them '
            'is part of it'
        )
        return find_stages(student, own, inputs), theirs

    def _of_teacher(self, teacher: nn.Module, inputs: Tensor) -> list[Stage]:
        """The teacher's stages: a name that is repeated is one stage that several of the student's follow.

        Where nobody names them, they are called as the student's, or, where it has none of these modules, found as its own.
        """
        key, names = ('teacher_stages', self.teacher_stages) if self.teacher_stages else ('stages', self.stages)
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            return find_stages(teacher, names, inputs, key, must_own=False)
        paths = {path for path, _ in teacher.named_modules()}
        # neck.1: of what neck gives
        whole = [re.sub(r'\.\d+$', '', name) if name.startswith('neck.') else name for name in names]
        if key == 'stages' and not any({name, f'backbone.{name}'} & paths for name in whole):
            return find_stages(teacher, None, inputs, must_own=False)
        found = find_stages(teacher, list(dict.fromkeys(names)), inputs, key, must_own=False)
        return [stage for name in names for stage in found if stage.name == name]


def _of_same_places(few: Sequence[Stage], many: Sequence[Stage]) -> list[Stage]:
    """Those of ``many`` with as many places as ``few``, in order; the last of them where one has no partner."""
    rest = iter(many)
    found = [next((other for other in rest if _count(other) == _count(stage)), None) for stage in few]
    return [stage for stage in found if stage] if all(found) else list(many[-len(few) :])


def _count(stage: Stage) -> int:
    """Places of the finest level of a stage; 1 of a vector."""
    return max(prod(_places(shape)) for shape in stage.shapes)


def _with_places(
    student: nn.Module, mine: list[Stage], teacher: nn.Module, theirs: list[Stage], inputs: Tensor
) -> tuple[list[Stage], list[Stage]]:
    """The stages, ending before the pooling in a backbone that pools what it returns, where those of the other have places."""

    def before_pooling(model: nn.Module, stages: list[Stage], others: list[Stage], who: str) -> list[Stage]:
        if not any(_count(stage) == 1 < _count(other) for stage, other in zip(stages, others)):
            return stages
        names = list(dict.fromkeys(stage.name for stage in stages))
        found = find_stages(model, names, inputs, must_own=who == 'student', pooled=False)
        ends = {stage.name: stage for stage in found}
        if {name: _count(stage) for name, stage in ends.items()} == {stage.name: _count(stage) for stage in stages}:
            return stages
        print_log(
            f'the backbone of the {who} pools what it returns: its stages end before that, in '
            f"{', '.join(stage.tap for stage in found)}; what follows is the head's",
            logger='current',
        )
        return [ends[stage.name] for stage in stages]

    return before_pooling(student, mine, theirs, 'student'), before_pooling(teacher, theirs, mine, 'teacher')


class FeatureAdapter(nn.Module):
    """Map each tensor of a student feature to the teacher's number of channels.

    A 1x1 convolution for maps (N, C, H, W), a linear layer for tokens (N, L, C) and vectors (N, C), nothing where the channels
    already agree; with ``norm`` batch normalization after it, in place of the bias. The paper does not say how widths are
    matched; a 1x1 convolution on the student's side follows FitNets (https://arxiv.org/abs/1412.6550, section 2.2). Trained
    with its stage, dropped when the student is exported.
    """

    def __init__(
        self,
        student_shapes: Sequence[tuple[int, ...]],
        teacher_shapes: Sequence[tuple[int, ...]],
        norm: bool = False,
    ):
        super().__init__()
        self.levels = nn.ModuleList()
        for student, teacher in zip(student_shapes, teacher_shapes, strict=True):
            if channels(student) == channels(teacher):
                self.levels.append(nn.Identity())
                continue
            if len(student) == 3:
                level: nn.Module = nn.Conv2d(channels(student), channels(teacher), kernel_size=1, bias=not norm)
                bn: nn.Module = nn.BatchNorm2d(channels(teacher)) if norm else None
            else:
                level = nn.Linear(channels(student), channels(teacher), bias=not norm)
                bn = LastNorm(channels(teacher)) if norm else None
            self.levels.append(nn.Sequential(level, bn) if norm else level)

    def forward(self, feature: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(level(tensor) for level, tensor in zip(self.levels, feature, strict=True))


def match_levels(stage: Stage, other: Stage, resize: bool | str | None) -> tuple[Stage, Stage]:
    """Pair the tensors of two features by size: each of the student's with the first of the teacher's left that has as many places.

    So levels of equal strides are paired, in whichever order a neck returns them (YOLOv3's begins with the coarsest). Levels
    without a partner (P7 of a RetinaNet beside a Faster R-CNN that has P2 to P6, a class token) are dropped, which is
    logged; what of the student's neck only they need is then trained with the head. A map beside tokens is compared place by
    place. One map or patch tokens on each side that differ in places are partners all the same, unless ``resize`` is False; so are
    features of as many tensors where it is True. What else has no partner stays as it is, for the message.

    Raises:
        ConfigError: No two sizes are equal, or without a level a parameter of the backbone would belong to no stage.
    """
    pairs, left = [], list(range(len(other.levels)))
    for i, level in enumerate(stage.levels):
        j = next((j for j in left if _fit(level.shape, other.levels[j].shape)), None)
        if j is not None:
            pairs.append((i, j))
            left.remove(j)
    counts = len(stage.levels), len(other.levels)
    maps, theirs = ([k for k, level in enumerate(each.levels) if _has_places(level.shape)] for each in (stage, other))
    sized = [i for i, _ in pairs if i in maps]
    if not sized and resize is not False and len(maps) == len(theirs) and (len(maps) == 1 or (resize and maps)):
        pairs = sorted([*zip(maps, theirs), *pairs])
    if not pairs:
        if counts[0] != counts[1] or counts[0] > 1:
            raise ConfigError(
                f'stage {stage.name!r}: student {show(stage.shapes)}, teacher {show(other.shapes)}: no tensor of the one has as '
                'many places as one of the other; name stages of equal resolution, or necks of the same strides '
                '(tools/print_stages.py lists them)'
            )
        return stage, other
    student_levels, teacher_levels = [stage.levels[i] for i, _ in pairs], [other.levels[j] for _, j in pairs]
    student_levels, teacher_levels = (
        [
            level.flattened() if len(level.shape) > len(beside.shape) and _fit(level.shape, beside.shape) else level
            for level, beside in zip(these, those)
        ]
        for these, those in ((student_levels, teacher_levels), (teacher_levels, student_levels))
    )
    paired = stage.with_levels(student_levels)
    out = [
        show(level.shape for i, level in enumerate(levels) if i not in kept) or 'nothing'
        for levels, kept in ((stage.levels, {i for i, _ in pairs}), (other.levels, {j for _, j in pairs}))
    ]
    untaught = [name for name in stage.parameters if name not in set(paired.parameters)]
    bare = [name for name in untaught if name.startswith('backbone.')]
    if bare:
        raise ConfigError(
            f'stage {stage.name!r}: the teacher {show(other.shapes)} has no tensor of the size of {out[0]} of the student; '
            f'without it {len(bare)} parameters of the backbone ({bare[0]}, ...) would learn nothing. Take a teacher that has '
            'features of these strides, or a student whose backbone returns only those that the teacher has.'
        )
    if out != ['nothing', 'nothing']:
        head = f'; {len(untaught)} parameters of the student after what is dropped train with the head'
        print_log(
            f'stage {stage.name!r}: paired by size, {show(paired.shapes)} of the student with '
            f'{show(t.shape for t in teacher_levels)} of the teacher; dropped: student {out[0]}, teacher '
            f'{out[1]}{head if untaught else ""}',
            logger='current',
        )
    return paired, other.with_levels(teacher_levels)


def _fit(student: tuple[int, ...], teacher: tuple[int, ...]) -> bool:
    """Whether two shapes have the same places; a map's are as good as tokens, but its only one is no class token."""
    if len(student) == len(teacher):
        return _places(student) == _places(teacher)
    return {len(student), len(teacher)} == {2, 3} and prod(_places(student)) == prod(_places(teacher)) > 1


def _has_places(shape: tuple[int, ...]) -> bool:
    """Whether a feature is a map, or tokens of which there are several; a class token is none."""
    return len(shape) == 3 or (len(shape) == 2 and shape[0] > 1)


def build_adapter(
    student_shapes,
    teacher_shapes,
    stage: str,
    resize: bool | str | None,
    norm: bool = False,
    images: Sequence[Sequence[int]] = ((1, 1), (1, 1)),
) -> FeatureAdapter | None:
    """The adapter of a stage, or None where none is needed.

    Args:
        student_shapes, teacher_shapes: One shape for each tensor of the feature, without the batch dimension.
        stage: Name of the stage, for messages.
        resize: False: features of different places are refused.
        norm: Put batch normalization after the linear map.
        images: Height and width of the images of student and teacher, whose proportions the grids of tokens have.

    Raises:
        ConfigError: The features cannot be compared; both shapes are in the message.
    """
    pair = f'stage {stage!r}: student {show(student_shapes)}, teacher {show(teacher_shapes)}'
    for student, teacher in zip(student_shapes, teacher_shapes, strict=True):
        if len(student) != len(teacher) and 1 in (len(student), len(teacher)):
            raise ConfigError(
                f'{pair}: one is a vector without places, the other a map or tokens; end the stage in layers of the same kind'
            )
        if prod(_places(student)) == prod(_places(teacher)) and (
            len(student) != len(teacher) or _places(student) == _places(teacher)
        ):
            continue
        counts = f'{prod(_places(student))} and {prod(_places(teacher))}'
        if resize is False:
            raise ConfigError(
                f'{pair}: the places differ ({counts}); remove model.resize=False, and the finer of the two is pooled, or name '
                'stages of equal resolution (tools/print_stages.py lists them)'
            )
        if any(len(shape) == 2 and grid(shape[0], image) is None for shape, image in zip((student, teacher), images)):
            raise ConfigError(
                f'{pair}: tokens that lie on no grid cannot be compared with another number of places ({counts}); '
                'name stages of equal resolution (tools/print_stages.py lists them)'
            )
        how = 'the coarser of the two is interpolated' if resize == 'bilinear' else 'the finer of the two is pooled'
        print_log(f'{pair}: the places differ ({counts}), {how}', logger='current')
    if all(channels(student) == channels(teacher) for student, teacher in zip(student_shapes, teacher_shapes)):
        return None
    return FeatureAdapter(student_shapes, teacher_shapes, norm)


def match_size(
    student: Tensor, teacher: Tensor, images: Sequence[Sequence[int]] = ((1, 1), (1, 1)), interpolate: bool = False
) -> tuple[Tensor, Tensor]:
    """Bring two features to the same places: the finer of two maps (N, C, H, W) is average-pooled onto the grid of the coarser.

    Tokens (N, L, C) of another number are first put back on their grid. What has the same places already passes unchanged.

    Args:
        student, teacher: The features.
        images: Height and width of the images of either, whose proportions the grids of tokens have.
        interpolate: Interpolate the coarser onto the grid of the finer instead, bilinearly.
    """
    if student.ndim == teacher.ndim and _places(student.shape[1:]) == _places(teacher.shape[1:]):
        return student, teacher
    maps = [_as_map(feature, image) for feature, image in zip((student, teacher), images)]
    if interpolate:
        size = [max(sides) for sides in zip(*(each.shape[-2:] for each in maps))]
        mine, theirs = (F.interpolate(each, size=size, mode='bilinear', align_corners=False) for each in maps)
    else:
        height, width = (min(sides) for sides in zip(*(each.shape[-2:] for each in maps)))
        mine, theirs = (F.adaptive_avg_pool2d(each, (height, width)) for each in maps)
    return mine, theirs


def _as_map(feature: Tensor, image: Sequence[int]) -> Tensor:
    if feature.ndim == 4:
        return feature
    size = grid(feature.shape[1], image)
    if size is None:
        raise ConfigError(
            f'{feature.shape[1]} tokens of an image of {image[0]}x{image[1]} lie on no grid of its proportions, so they cannot be '
            'brought to another number of places. Use images of one size, or stages of equal resolution.'
        )
    return feature.transpose(1, 2).unflatten(2, size)


def grid(count: int, image: Sequence[int]) -> tuple[int, int] | None:
    """Height and width of ``count`` tokens whose proportions are those of an image, up to a place; None where there are none."""
    height = (count * image[0] / image[1]) ** 0.5
    rows = [n for n in range(max(int(height) - 1, 1), int(height) + 3) if count % n == 0 and abs(n - height) < 1]
    best = min(rows, key=lambda n: abs(n - height), default=None)
    return None if best is None or (image[0] == image[1] and best**2 != count) else (best, count // best)


def _places(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if len(shape) == 3 else shape[:-1]


def show(shapes: Iterable[tuple[int, ...]]) -> str:
    """Shapes for a message or a table."""
    return ' + '.join('x'.join(map(str, shape)) for shape in shapes)


def student_trains(student: nn.Module, stages: Iterable[Stage]) -> dict[str, bool]:
    """Tell by name which parameters the student's own config trains. Warns about stages that it freezes in part.

    Raises:
        ConfigError: It freezes the whole of a stage, which would then have nothing to learn.
    """
    student.train()
    trains = {name: parameter.requires_grad for name, parameter in student.named_parameters()}
    constant = {
        f'{path}.{name}'
        for path, module in student.named_modules()
        for name in getattr(module, 'constant_parameters', ())
    }
    for stage in stages:
        frozen = [name for name in stage.parameters if not trains[name] and name not in constant]
        if len(frozen) == len(stage.parameters):
            raise ConfigError(
                f'stage {stage.name!r} has nothing to train: its own config freezes all of its {len(frozen)} parameters; '
                f'{_thaw(student, frozen)}'
            )
        modules = [student.get_submodule(path) for path in stage.modules]
        still = sum(isinstance(module, (_BatchNorm, _InstanceNorm)) and not module.training for module in modules)
        if frozen:
            _warn(
                f'stage {stage.name!r}: the config of the student keeps {len(frozen)} of {len(stage.parameters)} parameters frozen '
                f'({frozen[0]}, ...). If that is not meant, {_thaw(student, frozen)}.'
            )
        if still:
            _warn(
                f'stage {stage.name!r}: {still} normalization layers keep their statistics while the stage trains. If that is not '
                'meant, set norm_eval=False in model.student.backbone.'
            )
    return trains


def thawing(student: nn.Module) -> dict:
    """The changes of a backbone config by which the whole of it trains; only those that it needs."""
    backbone, changes = student.backbone, {}
    for key in ('frozen_stages', 'norm_eval'):
        value, free = getattr(backbone, key, None), _default(type(backbone), key)
        free = False if key == 'norm_eval' else free
        if value is not None and value != free:
            changes[key] = free
    norms = [layer for layer in backbone.modules() if isinstance(layer, (_BatchNorm, _InstanceNorm))]
    if norms and not any(p.requires_grad for layer in norms for p in layer.parameters()):
        changes['norm_cfg'] = dict(requires_grad=True)
    return changes


def _thaw(student: nn.Module, frozen: Sequence[str]) -> str:
    """Advise what to set so that the parameters ``frozen`` train: only what is not set yet."""
    value, thawed = getattr(student.backbone, 'frozen_stages', None), _default(type(student.backbone), 'frozen_stages')
    fixes = []
    if value is not None and value != thawed and any(name.startswith('backbone.') for name in frozen):
        fixes.append(f'set frozen_stages={thawed} in model.student.backbone')
    if all('Norm' in type(student.get_submodule(name.rpartition('.')[0])).__name__ for name in frozen):
        fixes.append('set requires_grad=True in its norm_cfg')
    return ', or '.join(fixes) or (
        f'no option of its config is known to do that, so its code sets requires_grad=False, for instance of {frozen[0]}: '
        'remove that there'
    )


def _default(kind: type, key: str):
    """The default of an argument of a class, which its subclasses may pass on unseen; -1 where nobody has one."""
    signatures = (inspect.signature(vars(each).get('__init__', object.__init__)).parameters for each in kind.__mro__)
    return next((found[key].default for found in signatures if key in found), -1)


def _warn(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)


# -- logits: one more pair, of a module that both have -----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Logits:
    """The module whose outputs are the logits.

    Attributes:
        module: Its path in both networks, for instance ``head.fc``.
        reached: Names of the student's parameters that its logits depend on.
    """

    module: str
    reached: frozenset[str]


def find_logits(student: nn.Module, teacher: nn.Module, path: str, input_shape) -> Logits:
    """Run both networks on two images and look at the outputs of the module named.

    Args:
        student, teacher: Models whose ``mode='tensor'`` forward runs the module; left as they were found.
        path: Module path in both.
        input_shape: (channels, height, width) of an image.

    Raises:
        ConfigError: No such module, it does not run, or the two do not give (N, K) of the same K.
    """
    inputs = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
    with as_found(student, teacher):
        student_logits = _logits_of(student, path, inputs, 'student')
        teacher_logits = _logits_of(teacher, path, inputs, 'teacher')
        behind = parameters_behind((student_logits,))
        reached = frozenset(name for name, parameter in student.named_parameters() if id(parameter) in behind)
    if student_logits.shape != teacher_logits.shape:
        raise ConfigError(
            f'model.logits: {path!r} of the student has {student_logits.shape[1]} classes, that of the teacher '
            f'{teacher_logits.shape[1]}; give both heads the same num_classes'
        )
    return Logits(module=path, reached=reached)


def _logits_of(model: nn.Module, path: str, inputs: Tensor, who: str) -> Tensor:
    paths = [name for name, _ in model.named_modules() if name]
    if path not in paths:
        raise ConfigError(
            f'model.logits: the {who}, {type(model).__name__}, has no module {path!r}; {candidates(str(path), paths)}'
        )
    what = f"does not run with mode='tensor' on an input of shape {tuple(inputs.shape)}"
    with explaining(f'model.logits: {type(model).__name__} {what}'):
        tensors = features_at(model, inputs, (), logits=path).get(path, ())
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][0] != len(inputs):
        found = ' + '.join(map(str, shapes)) or "nothing: it does not run with mode='tensor'"
        raise ConfigError(
            f'model.logits: {path!r} of the {who} must give logits of shape (N, classes), for {len(inputs)} images it gave '
            f'{found}; name the layer after which only the softmax comes'
        )
    return tensors[0]
