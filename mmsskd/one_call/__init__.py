"""One call: from a folder of images, a teacher and a student to the student that the teacher has taught.

Above all other rooms: it looks at the data, finds the models, chooses a recipe, writes the configs, and runs them as
tools/train.py does. Whatever it decides is in the configs that it writes.
"""

import argparse
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from ..cli import explain, read_config
from ..cli.progress import Progress, duration
from ..cli.train import prepare, train, watch
from ..distill.build import build_model, load_strictly, read_checkpoint, resolve_model_cfg, without_init
from ..distill.export import export_checkpoint
from ..distill.network.forward import DEFAULT_SHAPE
from ..errors import ConfigError, candidates, check_whole
from ..utils.files import write_text
from ..utils.quiet import import_quietly, warnings_alone
from ..utils.tables import text_table
from ..utils.trust import config_of
from ..utils.work_dir import newest_checkpoint
from ..visualization.stage_table import short
from .compose import Composer, config_text, is_made_for_one_size, model_of, preprocessor_of, side_of
from .data import Data, look_at
from .estimate import FEW_EPOCHS, SIDES, Pace, measure, sooner
from .models import Model, find_model
from .recipe import RECIPES, Pair, Recipe, choose, look_at_pair, size_of_foreign

EPOCHS = {'classification': 20, 'detection': 12}
ZOO = 'zoo'
HOUR = 3600  # seconds from which on a CPU the call says how it would be minutes


@dataclass
class Distilled:
    """The files and numbers that a call leaves.

    Attributes:
        config: The config that was used for the student; ``tools/train.py`` takes it.
        teacher_config: That of the teacher, where one was trained.
        weights, student: ``student.pth`` and ``student.py``; None after a dry run.
        onnx: ``student.onnx``; None where it cannot be written.
        report: The page.
        metrics: What was measured last, the teacher's under ``teacher/``.
    """

    config: Path
    teacher_config: Path | None = None
    weights: Path | None = None
    student: Path | None = None
    onnx: Path | None = None
    report: Path | None = None
    metrics: dict[str, float] = field(default_factory=dict)


def distill(
    teacher: str,
    student: str,
    data: str,
    out: str,
    *,
    epochs: int | None = None,
    task: str | None = None,
    size: int | None = None,
    batch_size: int | None = None,
    teacher_checkpoint: str | None = None,
    features_only: bool = False,
    recipe: str | None = None,
    dry_run: bool = False,
    tensorboard: bool = False,
    wandb: str | None = None,
    progress: SimpleNamespace | None = None,
) -> Distilled:
    """Teach a student on a folder of images; ``mmsskd.distill`` and ``tools/distill.py`` are this function.

    Args:
        teacher, student: Names of models of mmpretrain or mmdet, such as ``'resnet34'``; ``'mmdet::...'``; or paths of configs.
            A teacher may be ``'timm:NAME'``, ``'torchvision:NAME'`` or ``'transformers:NAME'``: its features are followed.
        data: A folder: see :data:`mmsskd.one_call.data.LAYOUTS`.
        out: Where everything goes: configs, checkpoints, ``student.pth``, ``student.py``, ``report.html``. The same call again goes
            on with what was interrupted there.
        epochs: Of the student, and of the teacher where it is trained; default 20, for detectors 12.
        task: ``'classification'`` or ``'detection'``; None: what the folder says.
        size: Pixels of the square image; None: as in the student's config, or as the files of CIFAR have.
        batch_size: Images a step; None: as many as usual, fewer for few images.
        teacher_checkpoint: File or URL of the teacher's weights; ``'zoo'``: those of the model zoo, or that the library
            of the teacher brings. Where it does not know the
            classes of the data, or is None, the teacher is first trained on the data, from these weights.
        features_only: Take the teacher as it is, whatever its classes: the stages follow its features, and the student's head
            learns from the labels, if there are any.
        recipe: A name of :data:`mmsskd.one_call.recipe.RECIPES`; None: the one that was measured to be best for the case.
        dry_run: Print stages, cost and time, write the configs, and stop.
        tensorboard, wandb: See :func:`mmsskd.cli.train.watch`.
        progress: What :func:`mmsskd.cli.plain_errors` yields.

    Raises:
        ConfigError: Anything that cannot work; the message says what can.
    """
    import_quietly('mmpretrain.models', 'mmpretrain.datasets', 'mmdet.datasets')
    folder = Path(out).resolve()
    if file := next((path for path in (folder, *folder.parents) if path.is_file()), None):
        raise ConfigError(f'out: {str(file)!r} is a file; name a folder')
    check_whole('epochs', 1 if epochs is None else epochs)
    if recipe is not None and recipe not in list(RECIPES):
        raise ConfigError(f'recipe: there is none {recipe!r}; {candidates(str(recipe), RECIPES)}')
    progress = progress or SimpleNamespace(training=False)
    call = _Call(look_at(data, folder, task), folder)
    trained = (folder / 'student.pth').is_file()
    if trained and not dry_run and ((folder / 'report.html').is_file() or not call.has_begun()):
        raise ConfigError(f'out: {str(out)!r} holds a finished student; name another folder, or remove this one')
    with warnings_alone():
        call.find(teacher, student, size)
        call.look_at_teacher(teacher_checkpoint, features_only)
        call.decide(epochs or EPOCHS[call.data.task], batch_size, recipe)
    try:
        call.write()
    except OSError as error:
        raise ConfigError(f'out: cannot write into {str(out)!r} ({error.strerror}); name another folder') from error
    call.say()
    if dry_run or not any(newest_checkpoint(each) for each in (folder, folder / 'teacher')):
        with warnings_alone():
            call.estimate(table=dry_run)
    if dry_run:
        call.say_next()
        return Distilled(call.config, call.teacher_config if call.trains_teacher else None)
    options = dict(tensorboard=tensorboard, wandb=wandb)
    if call.trains_teacher:
        call.train_teacher(progress, options)
    if not trained:  # else it was interrupted while it wrote what comes after
        _run(call.config, progress, options, _Console(call.config))
    return call.finish()


class _Call:
    """The steps of a call, in their order, and what they found.

    Args:
        data: What the folder holds.
        out: Folder of the call.
    """

    def __init__(self, data: Data, out: Path):
        self.data, self.out = data, out
        self.config, self.teacher_config = out / 'distill.py', out / 'teacher.py'

    def has_begun(self) -> bool:
        """Whether a call has trained a student in the folder, or has begun to."""
        return self.config.is_file() and newest_checkpoint(self.out) is not None

    def find(self, teacher: str, student: str, size: int | None) -> None:
        self.student: Model = find_model(student, self.data.task, 'student', bool(self.data.side))
        self.teacher: Model = find_model(teacher, self.data.task, 'teacher', bool(self.data.side))
        self.side = side_of(self.student, self.teacher, self.data, size)

    def look_at_teacher(self, checkpoint: str | None, features_only: bool) -> None:
        """Find out whether the teacher knows the classes of the data, and so whether it is trained first."""
        foreign = self.teacher.foreign
        brings = foreign and (checkpoint == ZOO or bool(self.teacher.cfg.model.get('pretrained')))
        if brings:
            self.teacher.cfg.model.setdefault('pretrained', True)
            checkpoint = None
        elif checkpoint == ZOO:
            if self.teacher.zoo is None:
                path = self.teacher.path
                raise ConfigError(f"teacher_checkpoint='zoo': the model zoo has no weights of {path!r}; name a file")
            checkpoint = self.teacher.zoo
        zoo = 'those that its library brings' if foreign else self.teacher.zoo
        hint = f' (--teacher-checkpoint zoo takes {zoo})' if zoo else ''
        reasons = {
            'a teacher of another library is not trained here, its features are followed as it is': foreign,
            'the data has no labels to train a teacher on': not self.data.classes,
            'features_only takes the teacher as it is': features_only,
        }
        reason = next((reason for reason, holds in reasons.items() if holds), None)
        if reason and checkpoint is None and not brings:
            raise ConfigError(f'teacher_checkpoint is not set, but {reason}; name its weights{hint}')
        self.checkpoint, self.teacher_epochs, self.teacher_classes, self.knows = checkpoint, None, 0, False
        if checkpoint is not None:
            self._try_weights(checkpoint)
        self.trains_teacher = not (self.knows or features_only or foreign) and bool(self.data.classes)
        self.as_it_is = not self.knows and not self.trains_teacher

    def _try_weights(self, checkpoint: str) -> None:
        found = read_checkpoint(checkpoint, 'teacher_checkpoint')
        meta = found.get('meta') or {}
        names = (meta.get('dataset_meta') or {}).get('classes')
        self.teacher_epochs = meta.get('epoch') if isinstance(meta.get('epoch'), int) else None
        problems = []
        for count in dict.fromkeys((len(self.data.classes), len(names or ()), 0)):
            cfg = model_of(self.teacher, self.data, 'teacher', count)
            model = build_model(without_init(resolve_model_cfg(ConfigDict(cfg), 'teacher')), 'model.teacher')
            try:
                load_strictly(model, checkpoint, 'teacher_checkpoint')
            except ConfigError as error:
                problems.append(error)
                continue
            same = not names or tuple(names) == self.data.classes
            self.knows = 0 < count == len(self.data.classes) and same and not self.teacher.foreign
            self.teacher_classes = count
            self._take_normalization(meta, checkpoint)
            return
        raise problems[-1]

    def _take_normalization(self, meta: dict, checkpoint: str) -> None:
        """Give the teacher the images that its weights were trained with: an earlier call's student's, for instance."""
        with suppress(ConfigError):  # a config that is no data says nothing
            saved = config_of(meta.get('cfg') or {}, checkpoint)
            own = saved.get('data_preprocessor') or saved.get('model', {}).get('data_preprocessor') or {}
            if {'mean', 'std'} <= set(own):
                self.teacher.cfg.data_preprocessor = own

    def decide(self, epochs: int, batch_size: int | None, recipe: str | None) -> None:
        """Build both networks, and choose the recipe."""
        self.epochs = epochs
        student = model_of(self.student, self.data, 'student')
        classes = self.teacher_classes if self.as_it_is else None
        self.teacher_model = model_of(self.teacher, self.data, 'teacher', classes)
        if self.teacher.foreign:
            self.teacher_model['size'] = size_of_foreign(self.teacher_model, self.side or DEFAULT_SHAPE[-1])
        own = self.trains_teacher or self.teacher.foreign  # else a batch is made for the teacher
        preprocessor = preprocessor_of(self.student if own else self.teacher)
        if self.data.task == 'classification':
            student.pop('data_preprocessor')
            if self.trains_teacher:
                self.teacher_model.pop('data_preprocessor')
        self.pair: Pair = look_at_pair(student, self.teacher_model, self.side or DEFAULT_SHAPE[-1], self.data.task)
        knows = self.knows or self.trains_teacher

        def chosen(epochs: int) -> Recipe:
            teachers = epochs if self.trains_teacher else self.teacher_epochs
            return choose(self.pair, self.data, epochs, teachers, knows, recipe)

        self.choose, self.recipe = chosen, chosen(epochs)
        self.composer = Composer(self.student, self.data, self.side, batch_size, self.out, preprocessor)
        weights = str(self.out / 'teacher' / f'epoch_{epochs}.pth') if self.trains_teacher else self.checkpoint
        self.run = self.composer.student_run(self.recipe, self.pair, student, self.teacher_model, weights)
        self.teacher_run = self.composer.teacher(self.teacher_model, epochs, self.checkpoint)

    def write(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        self.data.write_lists()
        if self.trains_teacher:
            says = f'{self.teacher.name} on {self.data.said}: the teacher, trained plainly.'
            self._write(self.teacher_run, self.teacher_config, says)
            self.has_teacher = (self.out / 'teacher' / f'epoch_{self.epochs}.pth').is_file()
        says = f'{self.teacher.name} teaches {self.student.name} on {self.data.said}.\nRecipe {self.recipe}.'
        self._write(self.run, self.config, says)

    def _write(self, run: dict, path: Path, says: str) -> None:
        """Write a config, unless a run of another one has begun in its work dir: that goes on with what it began with."""
        begun = newest_checkpoint(run['work_dir']) and path.is_file()
        if begun and Config.fromfile(path).to_dict() != Config(run).to_dict():
            raise ConfigError(
                f'out: {str(self.out)!r} holds a run with other options (they are in {path}); name another folder, or repeat the '
                'call with its options to go on'
            )
        write_text(path, config_text(run, f'{says}\npython tools/train.py {path}'))

    def say(self) -> None:
        print(f'data:    {self.data.said}')
        print(f'teacher: {self.teacher.path}, {short(self.pair.teacher_parameters)} parameters, {self._teachers_way()}')
        side = f', images of {self.side} pixels' if self.side else ''
        print(f'student: {self.student.path}, {short(self.pair.parameters)} parameters{side}')
        print(f'recipe:  {self.recipe.name}: {self.recipe.why}\n         measured: {self.recipe.measured}')
        print(f'config:  {self.config}', flush=True)

    def _teachers_way(self) -> str:
        if self.knows:
            return f'its weights are {self.checkpoint}'
        if self.as_it_is:
            weights = f'in {self.checkpoint}' if self.checkpoint else 'with the weights that its library brings'
            return f'as it is {weights}: it gives its features only'
        if self.has_teacher:
            return f'trained before by the same config, {self.teacher_config}'
        start = f'from {self.checkpoint}, which knows other classes' if self.checkpoint else 'from scratch'
        if self.teacher.zoo and not self.checkpoint:
            start += '; --teacher-checkpoint zoo starts from the weights of the model zoo'
        return f'which knows no class of yours, so it is trained first, {start}'

    def say_next(self) -> None:
        configs = [self.teacher_config] * (self.trains_teacher and not self.has_teacher) + [self.config]
        print(
            'next: the same command without --dry-run, or',
            *(f'  python tools/train.py {each}' for each in configs),
            sep='\n',
        )

    def estimate(self, table: bool) -> None:
        """Print how long the call will take, and with which options it takes minutes; with a table of the phases if asked for."""
        try:
            pace = measure(self.run, self.data.task)
        except Exception as error:  # the checks before training say it better
            print(f'time:    cannot be estimated: {explain(error)}')
            return
        teaches = self.trains_teacher and not self.has_teacher
        seconds = self._seconds(pace, teaches, self.recipe.phases)
        total = sum(seconds)
        if table:
            rows = [('teacher', 'all', str(self.epochs))] * teaches
            for i, phase in enumerate(self.recipe.phases, 1):
                train = phase['train'] if isinstance(phase['train'], str) else ' '.join(phase['train'])
                rows.append((f'phase {i}', train, str(phase['epochs'])))
            print(text_table([['', 'parameters', self.data.macs], *self.pair.rows]))
            times = [(*row, duration(each)) for row, each in zip(rows, seconds)]
            print(text_table([('', 'trains', 'epochs', 'time'), *times], '<'))
        time = f'{duration(total)} on this {"GPU" if torch.cuda.is_available() else "CPU"}'
        print(f'time:    about {time}: from one forward of each network, so half or twice of it may be')
        if total > HOUR and not torch.cuda.is_available():
            self._advise(pace, teaches)

    def _advise(self, pace: Pace, teaches: bool) -> None:
        """Say with which images and epochs the call takes about ten minutes, or with the smallest of both."""
        fixed = self.data.side or is_made_for_one_size(self.student, self.teacher)
        smaller = [side for side in SIDES if side < pace.side and (side >= 256 or self.data.task == 'classification')]

        def total(side: float, epochs: int) -> float:
            return sum(self._seconds(pace.at(side), teaches, self.choose(epochs).phases, epochs))

        least = min(max(FEW_EPOCHS, len(self.pair.stages) + 1), self.epochs)
        side, epochs, seconds = sooner(total, [pace.side] if fixed else [pace.side, *smaller], self.epochs, least)
        options = ('' if side == pace.side else f'--size {side} ') + f'--epochs {epochs}'
        print(f'         {options} takes about {duration(seconds)}')

    def _seconds(self, pace: Pace, teaches: bool, phases: list[dict], epochs: int | None = None) -> list[float]:
        """Seconds of the teacher, where it is trained, and of each phase."""
        data, seconds = self.data, []
        if teaches:
            seconds.append(pace.of_teacher(epochs or self.epochs, data.count))
        for phase in phases:
            without = self.recipe.on_unlabelled and phase['train'] not in ('head', 'all')
            images = data.unlabelled_count if without else data.count
            seconds.append(pace.of_phase(phase, len(self.pair.stages), images))
        return seconds

    def train_teacher(self, progress: SimpleNamespace, options: dict) -> None:
        if not self.has_teacher:
            print('training the teacher', flush=True)
            pace = Pace(self.pair.macs, self.pair.teacher_macs, 0, 0)  # what the student costs after it, as a multiple
            seconds, *phases = self._seconds(pace, True, self.recipe.phases)
            then = sum(phases) / seconds
            _run(self.teacher_config, progress, options, _Console(self.teacher_config, 'teacher', then))

    def finish(self) -> Distilled:
        """Write ONNX where that is at hand, and last the page; print what there is, and what comes next."""
        from .page import write_page

        onnx, page = self._onnx(), self.out / 'report.html'
        title = f'{self.teacher.name} teaches {self.student.name}'
        metrics = write_page(page, title, self.data, self.recipe, self.pair, self.out)
        weights, config = self.out / 'student.pth', self.out / 'student.py'
        for key, value in metrics.items():
            print(f'{key}: {value:.4g}')
        print(f'student: {config}, {weights}{f", {onnx}" if onnx else ""}\nreport:  {page}')
        if self.data.classes:
            print(f'next: python tools/test.py {config} {weights}')
        else:
            print(f"next: its head has learned nothing; train it on labels: load_from = '{weights}' in a plain config")
        teacher_config = self.teacher_config if self.trains_teacher else None
        return Distilled(self.config, teacher_config, weights, config, onnx, page, metrics)

    def _onnx(self) -> Path | None:
        """Write ``student.onnx``, or say why there is none."""
        try:
            return Path(export_checkpoint(newest_checkpoint(self.out), str(self.out), formats=['onnx'])[2])
        except ConfigError as error:
            print(f'no student.onnx: {error}')
            return None


class _Console(Progress):
    """Progress of a call, whose config it puts back: the Runner has written that of its run over it, without a word of what it is.

    At once, not at the end: a call that is interrupted compares its options with that file when it goes on.
    """

    def __init__(self, config: Path, name: str = 'train', then: float = 0.0):
        super().__init__(name, then)
        self.config, self.text = config, config.read_text()

    def before_run(self, runner: Runner) -> None:
        if is_main_process():
            write_text(self.config, self.text)


def _run(config: Path, progress: SimpleNamespace, options: dict, console: Progress) -> None:
    """Train a config as tools/train.py does, the console left to what a person reads."""
    unset = dict(launcher='none', cfg_options=None, trust_checkpoint=False, work_dir=None, local_rank=0)
    cfg = read_config(argparse.Namespace(config=str(config), **unset))
    watch(cfg, **options)
    prepare(cfg, resume='auto' if newest_checkpoint(cfg.work_dir) else None)  # a call that was interrupted goes on
    train(cfg, progress, console)
