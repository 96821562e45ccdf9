"""Time that a call will take: a forward of each network, scaled. Within a factor of two, for that costs seconds."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from ..distill.build import build_model, resolve_model_cfg, without_init
from ..distill.teacher import give_own_input

FORWARDS = 3  # that a training step costs: the backward counts as two
PIXELS = 200_000  # of the images that are timed on a CPU: a few of 224 pixels, or a batch of small ones
SIDES = (640, 512, 416, 320, 256, 192, 160, 128, 96, 64, 48, 32)
SOON = 600  # seconds
FEW_EPOCHS = 5  # the least that are proposed
READ = 8  # images that are read for the pace of reading


@dataclass
class Pace:
    """Seconds that an image costs; or MACs, where only shares of a run are asked for.

    Attributes:
        student, teacher: A forward of the whole network; of a detector without its heads.
        reading: Its file and its transforms.
        side: Pixels of a square image of its size.
    """

    student: float
    teacher: float
    reading: float
    side: float

    def at(self, side: float) -> 'Pace':
        """The pace with images of another size, as the MACs are.

        Example:
            >>> Pace(student=0.4, teacher=0.8, reading=0.1, side=224).at(112)
            Pace(student=0.1, teacher=0.2, reading=0.1, side=112)
        """
        scale = (side / self.side) ** 2
        return Pace(scale * self.student, scale * self.teacher, self.reading, side)

    def of_teacher(self, epochs: int, images: int) -> float:
        """Seconds in which a teacher is trained on so many images an epoch."""
        return epochs * images * (FORWARDS * self.teacher + self.reading)

    def of_phase(self, phase: dict, stages: int, images: int) -> float:
        """Seconds of a phase of a recipe. A phase of a network's first stages costs its share of them.

        Args:
            phase: With its epochs.
            stages: How many the networks have.
            images: How many the phase sees in an epoch.

        Example:
            >>> pace = Pace(student=0.1, teacher=0.2, reading=0.0, side=224)
            >>> pace.of_phase(dict(train=['layer1', 'layer2'], epochs=1), stages=4, images=100)
            25.0
            >>> pace.of_phase(dict(train='head', epochs=1), stages=4, images=100)
            10.0
        """
        train = phase['train']
        share = 1.0 if isinstance(train, str) else len(train) / stages
        student = self.student * (1 if train == 'head' else FORWARDS)
        teacher = self.teacher * (train not in ('head', 'all') or 'mimic' in phase)
        return phase['epochs'] * images * (share * (student + teacher) + self.reading)


def measure(run: dict, task: str) -> Pace:
    """Read a few images of a run, and time a forward of them through each network.

    Args:
        run: The config of the student's run; left unchanged.
        task: ``'classification'`` or ``'detection'``.
    """
    cfg = Config(copy.deepcopy(run))
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    loader = cfg.train_dataloader
    count = loader.batch_size
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.no_grad():
        dataset = DATASETS.build(loader.dataset)
        begun = time.monotonic()
        shapes = [dataset[i * len(dataset) // READ]['inputs'].shape for i in range(READ)]
        reading = (time.monotonic() - begun) / READ
        networks = {
            key: build_model(without_init(resolve_model_cfg(cfg.model[key], key)), f'model.{key}').eval().to(device)
            for key in ('student', 'teacher')
        }
        give_own_input(networks['teacher'], cfg.model.teacher, networks['student'])
        channels, height, width = (max(each) for each in zip(*shapes))
        if device == 'cpu':
            count = min(count, max(PIXELS // (height * width), 2))
        images = torch.zeros(count, channels, height, width, device=device)
        method = 'extract_feat' if task == 'detection' else 'forward'
        forwards = {key: _seconds(getattr(each, method), images) for key, each in networks.items()}
    if device == 'cuda':  # workers read meanwhile; on a CPU they take the cores from the networks
        reading /= max(loader.num_workers, 1)
    return Pace(forwards['student'], forwards['teacher'], reading, (height * width) ** 0.5)


def _seconds(network: Callable, images: torch.Tensor) -> float:
    """Seconds of a forward for an image; one of two images goes before it, which allocates and chooses kernels."""
    for part in (images[:2], images):
        begun = time.monotonic()
        network(part)
        if images.is_cuda:
            torch.cuda.synchronize()
    return (time.monotonic() - begun) / len(images)


def sooner(
    total: Callable[[float, int], float], sides: Sequence[float], epochs: int, least: int
) -> tuple[float, int, float]:
    """The largest side, and epochs, with which a call takes ten minutes; the smallest of both where none does.

    Args:
        total: Seconds of a call by side and epochs.
        sides: To choose from, in falling order.
        epochs: Those of the call as it is, the most that are proposed.
        least: Epochs below which the recipe does not go.

    Returns:
        Side, epochs, and the seconds with both.

    Example:
        >>> sooner(lambda side, epochs: epochs * side**2 / 10, [128, 64, 32], epochs=20, least=5)
        (32, 5, 512.0)
    """
    for side in sides:
        count = max((each for each in range(least, epochs + 1) if total(side, each) <= SOON), default=0)
        if count:
            break
    return side, count or least, total(side, count or least)
