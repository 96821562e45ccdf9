"""The phases of a run, laid out on what its train loop counts."""

from collections.abc import Sequence

from torch.utils.data import DataLoader

from .distiller import StagewiseDistiller
from .phase import HEAD, Phase


class Schedule:
    """Phases and the loader of each; which phase it is follows from the run's epoch or iteration alone.

    Attributes:
        phases: In order.
        loaders: That of each phase; phases may share one.
        by_epoch: Whether the run counts epochs, else iterations.
    """

    def __init__(self, phases: Sequence[Phase], loaders: Sequence[DataLoader], by_epoch: bool):
        self.phases, self.loaders, self.by_epoch = list(phases), list(loaders), by_epoch

    @property
    def end(self) -> int:
        """Epochs or iterations of the whole run."""
        return self.phases[-1].end

    @property
    def iterations(self) -> list[int]:
        """Iterations of each phase."""
        return [
            phase.length * len(loader) if self.by_epoch else phase.length
            for phase, loader in zip(self.phases, self.loaders)
        ]

    def iterations_before(self, index: int) -> int:
        """Iterations of all phases before this one."""
        return sum(self.iterations[:index])

    def at(self, step: int) -> int:
        """Index of the phase that holds epoch or iteration ``step``; the last one once the schedule has ended."""
        return next((i for i, phase in enumerate(self.phases) if step < phase.end), len(self.phases) - 1)

    def first_iteration(self, epoch: int) -> int:
        """Iteration of the run with which an epoch begins."""
        index = self.at(epoch)
        return self.iterations_before(index) + (epoch - self.phases[index].begin) * len(self.loaders[index])

    def predicts(self, index: int, distiller: StagewiseDistiller) -> bool:
        """Whether the task metric says something in a phase: the head learns or is the teacher's, or the last stage needs none."""
        reached, last = self.phases[: index + 1], list(distiller.stages)[-1]
        headless = getattr(distiller.student, 'predicts_without_head', False)
        copied = any(phase.head_from_teacher or (headless and last in phase.train) for phase in reached)
        return copied or self.phases[index].learns_task

    @property
    def trains_head(self) -> bool:
        """Whether any phase trains the head."""
        return any(HEAD in phase.train for phase in self.phases)

    def __str__(self) -> str:
        unit = 'epochs' if self.by_epoch else 'iterations'
        lines = [
            f'  {i} {phase.name}: {phase.length} {unit}, {phase.purpose}' for i, phase in enumerate(self.phases, 1)
        ]
        return '\n'.join([f'schedule of {self.end} {unit}:', *lines])
