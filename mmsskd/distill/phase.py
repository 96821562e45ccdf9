"""A phase is a value: what trains, what is mimicked, whether the task loss counts, how long, with which recipe."""

from dataclasses import dataclass, field

HEAD = 'head'  # everything of the student that is in no stage: a neck that is not named as one, and the heads
LEVERS = dict(
    logits=False, task_weight=1.0, prefix='student', reload_best=False, recalibrate_bn=0
)  # fields that came later, with what a phase without them does


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of a schedule, resolved and checked.

    Attributes:
        name: Shown in logs and file names.
        train: Parts that train: stage names and ``'head'``. All else is frozen to the bit.
        mimic: Stages whose features follow the teacher's.
        task_loss: Whether the student's own loss on ground truth counts.
        logits: Whether the student's logits follow the teacher's (``model.logits`` says where they are).
        task_weight: Factor on the student's own loss.
        prefix: Whose features a mimicked stage gets as input: the ``'student'``'s own, or the ``'teacher'``'s, by which all
            stages learn at once and independently of each other. Validation is always on the student's own.
        reload_best: End the phase with the weights that had the lowest error on the validation set during it (Stagewise
            Knowledge Distillation, https://arxiv.org/abs/1911.06786).
        recalibrate_bn: At the end of the phase, compute the BN statistics of what trains anew over that many training batches.
        begin, length: In epochs or iterations of the whole run, as the train loop counts.
        head_from_teacher: Copy the teacher's head into the student's when the phase begins.
        optim_wrapper, param_scheduler, train_dataloader: The recipe, in MMEngine's config form; lengths count from the
            beginning of the phase. None: :func:`default_param_scheduler`, and the run's own loader.
    """

    name: str
    train: tuple[str, ...]
    mimic: tuple[str, ...]
    task_loss: bool
    begin: int
    length: int
    head_from_teacher: bool = False
    logits: bool = LEVERS['logits']
    task_weight: float = LEVERS['task_weight']
    prefix: str = LEVERS['prefix']
    reload_best: bool = LEVERS['reload_best']
    recalibrate_bn: int = LEVERS['recalibrate_bn']
    optim_wrapper: dict = field(default_factory=dict)
    param_scheduler: list | None = None
    train_dataloader: dict | None = None

    @property
    def end(self) -> int:
        """First epoch or iteration after the phase."""
        return self.begin + self.length

    @property
    def learns_task(self) -> bool:
        """Whether the outputs of the student are learnt, from ground truth or from the teacher's logits."""
        return self.task_loss or self.logits

    @property
    def purpose(self) -> str:
        """What the phase is for, in words."""
        behind = ' behind those of the teacher' if self.prefix == 'teacher' else ''
        weight = '' if self.task_weight == 1 else f' (weight {self.task_weight})'
        goals = [f'mimics {", ".join(self.mimic)}{behind}'] if self.mimic else []
        goals += ["follows the teacher's logits"] if self.logits else []
        goals += [f'learns the task{weight}'] if self.task_loss else []
        return f'trains {", ".join(self.train)}, {" and ".join(goals)}'

    def fingerprint(self) -> dict:
        """What must be the same for a checkpoint taken in or after this phase to be resumed."""
        return dict(
            name=self.name,
            head_from_teacher=self.head_from_teacher,
            train=list(self.train),
            mimic=list(self.mimic),
            task_loss=self.task_loss,
            length=self.length,
            optimizer=repr(_plain(self.optim_wrapper)),
            schedule=repr(_plain(self.param_scheduler)),
            # only where they are used: checkpoints from before there were levers remain resumable
            **{key: getattr(self, key) for key, default in LEVERS.items() if getattr(self, key) != default},
        )


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
