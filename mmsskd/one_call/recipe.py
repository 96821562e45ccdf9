"""The recipe for each case, as docs/recipes.md found it by measurement."""

from dataclasses import dataclass, field
from functools import partial

import torch
from mmengine.config import ConfigDict

from ..compare.schedule import stretch
from ..distill.build import build_model, resolve_model_cfg, without_init
from ..distill.network.pairing import Pairing
from ..distill.network.stages import find_stages
from ..distill.summary import count_macs
from ..errors import ConfigError
from .data import Data

FAR_TOO_SMALL = 13  # times fewer parameters than the teacher
FEW = 0.5  # of the epochs that the teacher had


@dataclass
class Pair:
    """Two networks as the method sees them.

    Attributes:
        stages, teacher_stages: Names, of the student and of the teacher.
        same_widths: No stage needs an adapter.
        parameters, teacher_parameters: How many each has.
        macs, teacher_macs: Multiply-accumulate operations for one image; of a detector those of backbone and neck, for what its
            heads do depends on what they find.
        same_head: What is in no stage has the same names and shapes in both.
    """

    stages: list[str]
    teacher_stages: list[str]
    same_widths: bool
    parameters: int
    teacher_parameters: int
    macs: float
    teacher_macs: float
    same_head: bool

    @property
    def options(self) -> dict:
        """Options of the distiller: which stages there are, where its defaults are not meant."""
        if 'neck' not in self.stages and self.stages == self.teacher_stages:
            return {}
        other = {} if self.stages == self.teacher_stages else dict(teacher_stages=self.teacher_stages)
        return dict(stages=self.stages, **other)


def look_at_pair(student: dict, teacher: dict, side: int, task: str) -> Pair:
    """Build both networks, without their weights, cut them and pair them.

    Args:
        student, teacher: Configs of the models.
        side: Pixels of the square image that is tried.
        task: In detection a neck that both have is the last stage.

    Raises:
        ConfigError: They cannot be built, cut or paired.
    """
    networks = {}
    for key, cfg in (('student', student), ('teacher', teacher)):
        resolved = without_init(resolve_model_cfg(ConfigDict(cfg), key))
        networks[key] = build_model(resolved, f'model.{key}').eval()
    image = torch.zeros(1, 3, side, side)
    names = {key: [stage.name for stage in find_stages(each, None, image)] for key, each in networks.items()}
    if task == 'detection' and all(getattr(each, 'neck', None) is not None for each in networks.values()):
        names = {key: [*stages, 'neck'] for key, stages in names.items()}
    pairing = Pairing(stages=names['student'], teacher_stages=names['teacher'], input_shape=(3, side, side))
    stages, _, adapters = pairing.pair(networks['student'], networks['teacher'])
    sizes = {key: sum(weight.numel() for weight in each.parameters()) for key, each in networks.items()}
    macs = {key: count_macs(partial(_forward, each, image, task)) for key, each in networks.items()}
    taken = {name for stage in stages.values() for name in stage.parameters}
    own, other = (dict(networks[key].named_parameters()) for key in ('student', 'teacher'))
    head = [name for name in own if name not in taken]
    same_head = all(name in other and other[name].shape == own[name].shape for name in head)
    return Pair(
        names['student'], names['teacher'], not adapters, sizes['student'], sizes['teacher'], macs['student'],
        macs['teacher'], same_head,
    )  # fmt: skip


def _forward(network, image: torch.Tensor, task: str):
    return network.extract_feat(image) if task == 'detection' else network(image, mode='tensor')


@dataclass
class Recipe:
    """A schedule, why it is taken, and where the student starts.

    Attributes:
        name: As docs/recipes.md calls it.
        why: The rest of the line that says what is done.
        phases: With their epochs.
        model: Further options of the distiller.
        on_unlabelled: Whether the phases that look at no label take the photos without labels.
    """

    name: str
    why: str
    phases: list[dict]
    model: dict = field(default_factory=dict)
    on_unlabelled: bool = False

    def __str__(self) -> str:
        return f'{self.name}: {self.why} (docs/recipes.md)'


def choose(pair: Pair, data: Data, epochs: int, teacher_epochs: int | None, knows_classes: bool) -> Recipe:
    """Choose by the decision list of docs/recipes.md.

    Args:
        pair: The networks.
        data: What there is to learn from.
        epochs: Of the student, all phases together.
        teacher_epochs: Of the teacher; None: nobody knows, and they count as as many.
        knows_classes: Whether the teacher's head is for the classes of the data.

    Raises:
        ConfigError: There are fewer epochs than phases.
    """
    stages = pair.stages
    kept: list[dict] = [dict(train=stages[: i + 1]) for i in range(len(stages) - 1)] + [dict(train='stages')]
    few_labels = data.unlabelled_count > data.count
    few = teacher_epochs is not None and epochs < FEW * teacher_epochs
    inherits = knows_classes and pair.same_head
    too_small = pair.parameters * FAR_TOO_SMALL < pair.teacher_parameters
    then_all = kept + [dict(train='all')], [*[1] * (len(stages) - 1), 2, 16]
    default = kept + [dict(train='head')], [*[7] * len(stages), 3]
    model: dict = {}
    phases: list[dict]
    if not data.classes:
        name, why = (
            'features only',
            'no photo has a label, so the stages follow the teacher and the head stays as it is',
        )
        phases, shares = kept, [1] * len(stages)
    elif few_labels:
        name, why = (
            'default',
            'few labels: the stages follow the teacher on the photos without labels, then the head learns',
        )
        phases, shares = default
    elif not knows_classes:
        name, why = (
            'default',
            'the teacher knows other classes: the stages follow its features, then the head learns from labels',
        )
        phases, shares = default
    elif not few or too_small:
        reason = (
            'the student is far too small to follow to the end'
            if few
            else "labels for all photos and the teacher's epochs"
        )
        name, why = 'then all', f'{reason}: stage by stage as a start, then everything from labels'
        phases, shares = then_all
    elif data.task == 'detection' and inherits and 'neck' in stages:
        name, why = (
            'recommended',
            "few epochs, heads of the teacher's shape: all stages, then the neck, with the teacher's heads",
        )
        phases = [
            dict(train='stages'),
            dict(name='neck', train='stages', mimic='neck'),
            dict(train='all', mimic='neck', task_loss=True),
        ]
        shares, model = [1, 2, 3], dict(init_from_teacher='all' if pair.same_widths else 'head')
    elif pair.same_widths and inherits and data.task == 'classification':
        name, why = (
            'recommended',
            'few epochs, teacher of the same widths: start from its weights and keep its head, without labels',
        )
        phases = [dict(part, mimic=stage) for part, stage in zip(kept, stages)]
        shares, model = [*[1] * (len(stages) - 1), 3], dict(init_from_teacher='all')
    else:
        name, why = (
            'default',
            'few epochs, other widths: the stages follow the teacher, then the head learns from labels',
        )
        phases, shares = default
    if epochs < len(phases):
        raise ConfigError(
            f'epochs={epochs} is too few for {len(phases)} phases ({len(stages)} stages and what follows), which take at least '
            f'one each; set epochs={len(phases)} or more'
        )
    lengths = stretch(shares, epochs)
    return Recipe(
        name,
        why,
        [dict(phase, epochs=n) for phase, n in zip(phases, lengths)],
        model,
        few_labels and bool(data.classes),
    )
