"""The steps that `tools/benchmark.py` times: a pair of random weights, a batch of noise, and one training step in each scheme."""

import copy
import itertools
import os
import re
from types import SimpleNamespace

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from mmsskd.distill.build import build_model, resolve_model_cfg, without_init
from mmsskd.distill.losses import CosineMimicLoss, FeatureMimicLoss
from mmsskd.distill.network.forward import capture
from mmsskd.distill.network.projector import PATH as PROJECTOR
from mmsskd.distill.schedule.captured_step import WARM_UP, CapturedSteps, CudaGraph
from mmsskd.distill.schedule.runner_state import student_with_adapters
from mmsskd.distill.schedule.unwaited_step import UnwaitedSteps
from mmsskd.errors import ConfigError

BOXES = 8  # of ground truth in an image; COCO has 7 on average


def package_step(distiller, phase):
    """A training step of this package, as the hook makes it."""
    wrapper = optimizer(distiller, phase)
    if UnwaitedSteps.runs_on(next(distiller.parameters()).device):
        steps = UnwaitedSteps(_runner(), distiller, phase)
        return lambda batch: steps(batch, wrapper), distiller
    return lambda batch: distiller.train_step(batch, wrapper), distiller


def captured_package_step(distiller, phase):
    """A training step of this package as one CUDA graph, as ``cuda_graph=True`` in the hook makes it."""
    wrapper = optimizer(distiller, phase)
    steps = CapturedSteps(_runner(), distiller, phase, phase.name)
    return lambda batch: steps(batch, wrapper), distiller


def _runner() -> SimpleNamespace:
    """The part of a Runner that steps ask for: where their losses go."""
    hub = MessageHub.get_instance('benchmark')
    return SimpleNamespace(logger=MMLogger.get_current_instance(), message_hub=hub, iter=0)


def captured_bare_step(distiller, phase):
    """The step by hand as one CUDA graph, captured by hand."""
    adam = phase.optim_wrapper['optimizer']['type'] != 'SGD'
    step, _ = bare_step(distiller, phase, fused=True, **(dict(capturable=True) if adam else {}))
    graph, static, count = CudaGraph(), {}, 0

    def replay(batch):
        nonlocal count
        count += 1
        images = batch['inputs']
        images = images if torch.is_tensor(images) else torch.stack(images)
        if count <= WARM_UP:
            return graph.aside(lambda: step(batch))
        if not static:
            static['inputs'] = images.clone()
            static['losses'] = graph.record(lambda: step(static))
        static['inputs'].copy_(images)
        graph.replay()
        return static['losses']

    return replay, distiller


def bare_step(distiller, phase, **options):
    """The same work by hand, for ResNets, a neck and a projector, from the modules alone; nothing of MMEngine runs in a step.

    ``options`` are further ones of the optimizer.
    """
    (stage,) = phase.train
    own, theirs = distiller.stages[stage], distiller.teacher_stages[stage]
    _check_by_hand(distiller, stage)
    before, trained = (_sequential(distiller.student, paths) for paths in paths_before_and_in(distiller, stage))
    teacher = _sequential(distiller.teacher, paths_of(distiller.teacher, theirs.tap))
    adapter = distiller.adapter_of(stage)
    adapters = adapter.levels if adapter else nn.ModuleList(nn.Identity() for _ in own.levels)
    loss = distiller.mimic_loss_of(stage)
    compare, weight = loss_by_hand(loss), loss.loss_weight
    normalize = normalize_by_hand(distiller.data_preprocessor)
    settings = {key: value for key, value in phase.optim_wrapper['optimizer'].items() if key != 'type'}
    optimizer = getattr(torch.optim, phase.optim_wrapper['optimizer']['type'])(
        [*trained.parameters(), *adapters.parameters()], **settings, **options
    )

    def step(batch):
        images = normalize(batch['inputs'])
        with torch.no_grad():
            targets = levels(teacher(images))
            inputs = before(images)
        losses = [
            compare(adapt(level), target)
            for adapt, level, target in zip(adapters, levels(trained(inputs)), targets, strict=True)
        ]
        loss = sum(losses) * (weight / len(losses))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return {'loss': loss.detach()}

    return step, distiller


def full_step(distiller, phase):
    """Whole forwards of both networks, the features recorded on the way; the same loss, the same gradient, the same optimizer.

    Both forwards are ``mode='loss'``, heads and their losses included: so calls mmrazor's ``SingleTeacherDistill`` its teacher
    (under ``no_grad``) and its student, also where it leaves the student's task loss out of the sum. In a two-stage detector
    ``'tensor'`` would take longer: its box head sees all 1000 proposals, in training a sample of 512.
    """
    (stage,) = phase.train
    own, theirs = distiller.stages[stage], distiller.teacher_stages[stage]
    wrapper = optimizer(distiller, phase)

    def step(batch):
        data = distiller.data_preprocessor.forward(batch, True)  # with labels, which the heads need
        with torch.no_grad(), capture(distiller.teacher, [theirs.tap]) as target:
            distiller.teacher(**data, mode='loss')
        with capture(distiller.student, [own.tap]) as outputs:
            distiller.student(**data, mode='loss')
        image = data['inputs'].shape[-2:]
        pair = distiller.comparable(distiller.adapt(stage, outputs), theirs.feature(target), image)
        loss = distiller.mimic_loss_of(stage)(*pair)
        wrapper.update_params(loss)
        return {'loss': loss}

    return step, distiller


def unfrozen_step(distiller, phase):
    """Make the step of :func:`full_step` where the gradient runs through the whole student: only the optimizer knows what trains.

    So runs a framework that has a student and a teacher but no notion of stages, mmrazor for one, when it is given an optimizer
    over the stage's parameters.
    """
    step, model = full_step(distiller, phase)
    frozen = [parameter for parameter in distiller.student.parameters() if not parameter.requires_grad]

    def unfrozen(batch):
        for parameter in frozen:
            parameter.requires_grad = True
        losses = step(batch)
        for parameter in frozen:
            parameter.requires_grad, parameter.grad = False, None
        return losses

    return unfrozen, model


def stock_step(distiller, phase):
    """The head trained without mmsskd: a plain copy of the student, backbone (and neck, where it is a stage) frozen by hand."""
    model = copy.deepcopy(distiller.student)
    model.requires_grad_(True)  # what set_phase froze is not taken over, so the comparison of weights means something
    model.train()
    for part in {'backbone', *(stage.tap.split('.')[0] for stage in distiller.stages.values())}:
        getattr(model, part).eval()  # not chained: the train() of mmdet's backbones returns nothing
        getattr(model, part).requires_grad_(False)
    wrapper = build_optim_wrapper(model, ConfigDict(copy.deepcopy(phase.optim_wrapper)))
    return lambda batch: model.train_step(batch, wrapper), model


def optimizer(distiller, phase):
    """The phase's optimizer wrapper over what the phase trains."""
    with student_with_adapters(distiller) as student:
        wrapper = build_optim_wrapper(student, ConfigDict(copy.deepcopy(phase.optim_wrapper)))
    for group in wrapper.param_groups:
        group['params'] = [parameter for parameter in group['params'] if parameter.requires_grad]
    return wrapper


def in_backbone(distiller, stage: str) -> bool:
    """Whether a stage of the student lies in its backbone, but for a projector after it."""
    tap = distiller.stages[stage].tap
    return tap == PROJECTOR or tap.startswith('backbone.')


def _check_by_hand(distiller, stage: str) -> None:
    """Refuse a stage that the loop by hand does not know."""
    own, theirs = distiller.stages[stage], distiller.teacher_stages[stage]
    for model, tap in ((distiller.student, own.tap), (distiller.teacher, theirs.tap)):
        known = re.fullmatch(rf'backbone\.layer[1-9]|neck|{re.escape(PROJECTOR)}', tap)
        if not known or (tap == PROJECTOR and not hasattr(model.backbone, 'layer1')):
            raise ConfigError(
                'the loop by hand knows the stages layer1, layer2, ... of ResNets, a whole neck, and a projector; stage '
                f'{stage!r} ends at {tap!r}'
            )
    places = [[shape[1:] for shape in side.shapes] for side in (own, theirs)]
    if places[0] != places[1]:
        raise ConfigError(
            f'the loop by hand compares features of the same places; stage {stage!r} has {places[0]} and {places[1]}'
        )
    if getattr(distiller.teacher, 'own_input', None) is not None:
        raise ConfigError('the loop by hand gives teacher and student the same images; this teacher prepares its own')


def paths_of(model: nn.Module, tap: str) -> list[str]:
    """The modules that run in ``model`` up to ``tap``, in order."""
    if tap == 'neck':
        return ['backbone', 'neck']
    children = [f'backbone.{name}' for name, _ in model.backbone.named_children()]
    layers = [path for path in children if re.search(r'layer\d$', path)]
    stem = itertools.takewhile(lambda path: path not in layers, children)
    last = layers[-1] if tap == PROJECTOR else tap
    return [*stem, *layers[: layers.index(last) + 1], *([PROJECTOR] if tap == PROJECTOR else [])]


def paths_before_and_in(distiller, stage: str) -> tuple[list[str], list[str]]:
    """Those of :func:`paths_of` of the student that a phase of ``stage`` alone leaves frozen, and those that it trains."""
    own = distiller.stages[stage]
    paths = paths_of(distiller.student, own.tap)
    trained = [i for i, path in enumerate(paths) if any(name.startswith(f'{path}.') for name in own.parameters)]
    return paths[: trained[0]], paths[trained[0] :]


def _sequential(model: nn.Module, paths: list[str]) -> nn.Sequential:
    return nn.Sequential(*map(model.get_submodule, paths))


def loss_by_hand(loss: nn.Module):
    """The comparison of two tensors that a loss stands for."""

    def of_variance(student, teacher):
        channels_apart = [0, *range(2, teacher.ndim)]
        return nn.functional.mse_loss(student, teacher) / teacher.var(dim=channels_apart, correction=0).mean()

    def of_direction(student, teacher):
        return (1 - nn.functional.cosine_similarity(student, teacher)).mean()

    if type(loss) is FeatureMimicLoss:
        return of_variance if loss.normalize == 'variance' else nn.functional.mse_loss
    if type(loss) is CosineMimicLoss:
        return of_direction
    raise ConfigError(
        f'the loop by hand knows FeatureMimicLoss and CosineMimicLoss, found {type(loss).__name__}; to time the networks with '
        'another loss: --cfg-options model.mimic_loss.type=mmsskd.FeatureMimicLoss'
    )


def levels(output) -> tuple[torch.Tensor, ...]:
    return (output,) if torch.is_tensor(output) else tuple(output)


def normalize_by_hand(preprocessor):
    """Images as a data loader gives them -> the batch that the preprocessor makes of them."""
    mean, std, divisor = preprocessor.mean, preprocessor.std, preprocessor.pad_size_divisor or 1
    # mmpretrain and MMEngine have different names for it
    flip = getattr(preprocessor, 'to_rgb', False) or getattr(preprocessor, '_channel_conversion', False)

    def normalize(images):
        images = images if torch.is_tensor(images) else torch.stack(images)
        images = ((images.flip(1) if flip else images).float() - mean) / std
        height, width = images.shape[-2:]
        if height % divisor or width % divisor:
            around = (0, -width % divisor, 0, -height % divisor)
            images = nn.functional.pad(images, around, value=preprocessor.pad_value)
        return images

    return normalize


def random_model(cfg, folder: str) -> dict:
    """The model of a config with a teacher of random weights, saved into ``folder``, since a distiller loads them."""
    preprocessor = cfg.get('data_preprocessor') or cfg.model.get('data_preprocessor')
    torch.manual_seed(0)
    teacher = without_init(resolve_model_cfg(cfg.model.teacher, 'teacher'))
    path = os.path.join(folder, 'teacher.pth')
    torch.save(build_model(teacher).state_dict(), path)
    student = without_init(resolve_model_cfg(cfg.model.student, 'student', preprocessor))
    return dict(cfg.model, teacher=teacher, teacher_checkpoint=path, student=student)


def random_distiller(cfg, folder: str):
    """The distiller of a config with random weights."""
    preprocessor = cfg.get('data_preprocessor') or cfg.model.get('data_preprocessor')
    return MODELS.build(dict(random_model(cfg, folder), data_preprocessor=preprocessor))


def detects(distiller) -> bool:
    """Whether the student is a detector of mmdet, without importing mmdet."""
    return any(kind.__module__.startswith('mmdet.') for kind in type(distiller.student).__mro__)


def truth_of(distiller) -> str:
    """Name the ground truth that the student learns from: ``'labels'``, ``'boxes'``, or ``'masks'`` with boxes."""
    if not detects(distiller):
        return 'labels'
    return 'masks' if getattr(distiller.student, 'with_mask', False) else 'boxes'


def make_batch(distiller, shape, size: int, device) -> dict:
    """A batch as a data loader gives it: 8-bit images, and labels or boxes."""
    images, samples = noise(shape, size, truth_of(distiller))
    images = images.to(device)
    inputs = list(images) if detects(distiller) else images  # as the loaders of the two collate
    return dict(inputs=inputs, data_samples=[sample.to(device) for sample in samples])


def noise(shape, size: int, truth: str) -> tuple[torch.Tensor, list]:
    """8-bit images, (size, C, H, W), and their data samples; ``truth`` is one of :func:`truth_of`."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (size, *shape), dtype=torch.uint8, generator=generator)
    if truth != 'labels':
        return images, [_random_boxes(shape[-2:], truth == 'masks', generator) for _ in range(size)]
    from mmpretrain.structures import DataSample

    return images, [DataSample().set_gt_label(0) for _ in range(size)]


def _random_boxes(size, masks: bool, generator):
    """Ground truth of one image as mmdet's pipelines end: boxes of a tenth to half the image, where asked for with full masks."""
    from mmdet.datasets.transforms import PackDetInputs
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    height, width = size
    scale = torch.tensor([width, height], dtype=torch.float32)
    corner = 0.5 * torch.rand(BOXES, 2, generator=generator)
    extent = 0.1 + 0.4 * torch.rand(BOXES, 2, generator=generator)
    boxes = torch.cat([corner * scale, (corner + extent) * scale], dim=1)
    results = dict(
        gt_bboxes=HorizontalBoxes(boxes),
        gt_bboxes_labels=torch.zeros(BOXES, dtype=torch.int64).numpy(),  # every model has a class 0
        gt_ignore_flags=torch.zeros(BOXES, dtype=torch.bool).numpy(),
        **dict(img_id=0, img_path='noise', ori_shape=(height, width), img_shape=(height, width)),
        **dict(scale_factor=(1.0, 1.0), flip=False, flip_direction=None),
    )
    if masks:
        rows, columns = torch.arange(height)[:, None], torch.arange(width)
        inside = [(columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2) for x1, y1, x2, y2 in boxes]
        results['gt_masks'] = BitmapMasks(torch.stack(inside).to(torch.uint8).numpy(), height, width)
    return PackDetInputs()(results)['data_samples']
