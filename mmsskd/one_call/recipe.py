"""The recipe for each case, as docs/recipes.md found it by measurement."""

from dataclasses import dataclass, field
from functools import partial

import torch
from mmengine.config import ConfigDict

from ..compare.schedule import stretch
from ..distill.build import build_model, resolve_model_cfg, without_init
from ..distill.network.pairing import Pairing
from ..distill.network.stages import find_stages
from ..distill.teacher import give_own_input
from ..errors import ConfigError
from ..visualization.stage_table import count_macs, short
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
    def rows(self) -> list[list[str]]:
        """Name, parameters and MACs of each, for a table."""
        teacher, student = (self.teacher_parameters, self.teacher_macs), (self.parameters, self.macs)
        return [['teacher', *map(short, teacher)], ['student', *map(short, student)]]

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

    Where one has more stages, those of it count that lie evenly, with the last one.

    Raises:
        ConfigError: They cannot be built, cut or paired.
    """
    networks = {}
    for key, cfg in (('student', student), ('teacher', teacher)):
        resolved = without_init(resolve_model_cfg(ConfigDict(cfg), key))
        networks[key] = build_model(resolved, f'model.{key}').eval()
    give_own_input(networks['teacher'], ConfigDict(teacher), networks['student'])
    image = torch.zeros(1, 3, side, side)
    names = {
        key: [stage.name for stage in find_stages(each, None, image, must_own=key == 'student')]
        for key, each in networks.items()
    }
    if task == 'detection' and all(getattr(each, 'neck', None) is not None for each in networks.values()):
        names = {key: [*stages, 'neck'] for key, stages in names.items()}
    count = min(map(len, names.values()))
    names = {key: [each[(i + 1) * len(each) // count - 1] for i in range(count)] for key, each in names.items()}
    pairing = Pairing(stages=names['student'], teacher_stages=names['teacher'], input_shape=(3, side, side))
    stages, _, adapters = pairing.pair(networks['student'], networks['teacher'])
    sizes = {key: sum(weight.numel() for weight in each.parameters()) for key, each in networks.items()}
    macs = {key: count_macs(partial(_forward, each, image, task)) for key, each in networks.items()}
    taken = {name for stage in stages.values() for name in (*stage.parameters, *stage.idle)}
    own, other = (dict(networks[key].named_parameters()) for key in ('student', 'teacher'))
    head = [name for name in own if name not in taken]
    same_head = all(name in other and other[name].shape == own[name].shape for name in head)
    return Pair(
        names['student'], names['teacher'], not adapters, sizes['student'], sizes['teacher'], macs['student'],
        macs['teacher'], same_head,
    )  # fmt: skip


def size_of_foreign(teacher: dict, side: int) -> int | None:
    """Pixels of the images of a network of another library: its own where it takes no others, else None, the student's.

    Args:
        teacher: Config of an :class:`~mmsskd.distill.ExternalTeacher`.
        side: Pixels of the student's images.
    """
    if teacher.get('size'):
        return teacher['size']
    network = build_model(ConfigDict(teacher), 'model.teacher').eval().backbone
    timms = (getattr(network, 'pretrained_cfg', None) or {}).get('input_size') or [None]
    own = getattr(network, 'image_size', None) or getattr(getattr(network, 'config', None), 'image_size', timms[-1])
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, side, side))
    except Exception:
        if own is None:
            raise
        return own
    return None


def _forward(network, image: torch.Tensor, task: str):
    return network.extract_feat(image) if task == 'detection' else network(image, mode='tensor')


@dataclass
class Recipe:
    """A schedule, why it is taken, and where the student starts.

    Attributes:
        name: As docs/recipes.md calls it.
        why: The rest of the line that says what is done.
        measured: What docs/recipes.md has of it, and where.
        phases: With their epochs.
        model: Further options of the distiller.
        on_unlabelled: Whether the phases that look at no label take the photos without labels.
    """

    name: str
    why: str
    measured: str
    phases: list[dict]
    model: dict = field(default_factory=dict)
    on_unlabelled: bool = False

    def __str__(self) -> str:
        return f'{self.name}: {self.why}. Measured: {self.measured}'


ITEM = '{}; docs/recipes.md, item {}'
NOT_MEASURED = 'not in this case; docs/recipes.md'
MEASURED = {  # a case of the decision list, and what was found there
    'few labels': ITEM.format('87.4, plain training 67.5 (Fashion-MNIST, labels for 1 %)', 1),
    'all labels': ITEM.format('90.7, plain training 90.0 (Fashion-MNIST)', 2),
    'all boxes': ITEM.format('56.5 AP, plain training 52.9 (photos of digits)', 2),
    'same widths': ITEM.format('89.7, plain training 84.6, from the same weights 89.5 (Fashion-MNIST)', 3),
    'other widths': ITEM.format('87.2, plain training 80.6 (Fashion-MNIST)', 4),
    'weights in shape': ITEM.format('52.7 AP, plain training 32.7, from the same weights 54.5 (photos of digits)', 5),
    'heads in shape': ITEM.format('51.9 AP, plain training 32.7 (photos of digits)', 5),
    'far too small': ITEM.format('87.0, plain training 86.7: level (Fashion-MNIST, with all the epochs)', 6),
    'projector': ITEM.format(
        '78.0 the last stage alone, 74.6 after others, plain training 71.6 (Fashion-MNIST, half widths)', 7
    ),
}


def choose(
    pair: Pair, data: Data, epochs: int, teacher_epochs: int | None, knows_classes: bool, wanted: str | None = None
) -> Recipe:
    """Choose by the decision list of docs/recipes.md.

    Args:
        pair: The networks.
        data: What there is to learn from.
        epochs: Of the student, all phases together.
        teacher_epochs: Of the teacher; None: nobody knows, and they count as as many.
        knows_classes: Whether the teacher's head is for the classes of the data.
        wanted: A name of :data:`RECIPES` to take whatever the list says.

    Raises:
        ConfigError: The recipe that is wanted does not fit the case, or there are fewer epochs than phases.
    """
    few_labels = data.unlabelled_count > data.count
    few = teacher_epochs is not None and epochs < FEW * teacher_epochs
    too_small = pair.parameters * FAR_TOO_SMALL < pair.teacher_parameters
    detects = data.task == 'detection'
    fits = knows_classes and pair.same_head and ('neck' in pair.stages if detects else pair.same_widths)
    if wanted is not None and data.classes and not dict(recommended=fits, projector=knows_classes).get(wanted, True):
        lacks = 'knows the classes of the data' + ', and has the widths and the head of the student' * (
            wanted != 'projector'
        )
        raise ConfigError(
            f'recipe={wanted!r} needs a teacher that {lacks}; leave it out for the one that fits the case'
        )
    cases = [  # the first that holds: whether it does, the recipe, what was measured, and why
        (not data.classes, 'features only', '',
         'no photo has a label, so the stages follow the teacher and the head stays as it is'),
        (wanted, wanted, 'projector' if wanted == 'projector' else '', f'as asked for: {RECIPES.get(wanted)}'),
        (few_labels, 'default', 'few labels',
         'few labels: the stages follow the teacher on the photos without labels, then the head learns'),
        (not knows_classes, 'default', '',
         'the teacher knows other classes: the stages follow its features, then the head learns from labels'),
        (not few, 'then all', 'all boxes' if detects else 'all labels',
         f"labels for all photos and the teacher's epochs: {RECIPES['then all']}"),
        (too_small, 'then all', 'far too small',
         f'the student is far too small to follow to the end: {RECIPES["then all"]}'),
        (fits and detects and pair.same_widths, 'recommended', 'weights in shape',
         "few epochs, teacher of the same widths: from its weights all stages, then the neck, then boxes too"),
        (fits and detects, 'recommended', 'heads in shape',
         "few epochs, heads of the teacher's shape: the neck follows most where boxes are, with the teacher's heads"),
        (fits, 'recommended', 'same widths',
         'few epochs, teacher of the same widths: start from its weights and keep its head, without labels'),
        (True, 'default', 'other widths', f'few epochs, other widths: {RECIPES["default"]}'),
    ]  # fmt: skip
    name, case, why = next(row for holds, *row in cases if holds)
    phases, shares, model = _schedule(name, pair, detects, epochs, few_labels)
    if epochs < len(phases):
        raise ConfigError(
            f'epochs={epochs} is too few for {len(phases)} phases ({len(pair.stages)} stages and what follows), which take at '
            f'least one each; set epochs={len(phases)} or more'
        )
    return Recipe(
        name, why, MEASURED.get(case, NOT_MEASURED),
        [dict(phase, epochs=n) for phase, n in zip(phases, stretch(shares, epochs))],
        model, few_labels and bool(data.classes),
    )  # fmt: skip


RECIPES = {
    'default': 'the stages follow the teacher, then the head learns from labels',
    'then all': 'stage by stage as a start, then everything from labels',
    'recommended': "starts from the teacher's weights, and keeps its head",
    'projector': "the stages follow the teacher, the last one through a projector that stays; the head is the teacher's",
}


def _schedule(
    name: str, pair: Pair, detects: bool, epochs: int, few_labels: bool
) -> tuple[list[dict], list[int], dict]:
    """The phases of a recipe, their lengths in proportion, and further options of the distiller."""
    stages, count = pair.stages, len(pair.stages)
    kept: list[dict] = [dict(train=stages[: i + 1]) for i in range(count - 1)] + [dict(train='stages')]
    following = [dict(part, mimic=stage) for part, stage in zip(kept, stages)]
    # more than a third of the epochs for the start was nowhere measured to pay
    if name == 'then all' and 3 * count > epochs:
        return [dict(train='stages'), dict(train='all')], [1, 4], {}
    if name == 'then all':
        return kept + [dict(train='all')], [*[1] * (count - 1), 2, 16], {}
    if name == 'recommended' and detects:
        first: list[dict] = [dict(train='stages'), dict(name='neck', train='stages', mimic='neck')]
        start: dict = dict(init_from_teacher='all' if pair.same_widths else 'head')
        if not pair.same_widths and not few_labels:
            return first, [1, 5], dict(start, mimic_loss=dict(type='mmsskd.ForegroundMimicLoss'))
        return first + [dict(train='all', mimic='neck', task_loss=True)], [1, 2, 3], start
    if name == 'recommended':
        return following, [*[1] * (count - 1), 3], dict(init_from_teacher='all')
    if name == 'projector':
        projector = dict(type='mmsskd.BottleneckProjector', reduction=2)
        model = dict(init_from_teacher='head', projector=projector)
        if 3 * (count - 1) > epochs:
            return following[-1:], [1], model
        return following, [*[1] * (count - 1), 6], model
    if name == 'default':
        return kept + [dict(train='head')], [*[7] * count, 3], {}
    return kept, [1] * count, {}
