"""StageScheduleHook: when phases change, and what the Runner must do then."""

from collections.abc import Sequence

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ...errors import ConfigError
from ...registry import HOOKS
from ...utils.work_dir import claim, release
from ..distiller import StagewiseDistiller
from ..export import export_run
from ..phases import HEAD, Phase, phases_of
from . import checks, dry_run, mmengine_private, resume, runner_state, samples, validation
from .captured_step import CapturedSteps, cannot_capture
from .data_checks import check_data
from .unwaited_step import UnwaitedSteps, send_without_waiting


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
        """Whether the task metric says something in a phase: the task is learned, or what the last stage gives meets a head that
        is the teacher's, or needs none."""
        if self.phases[index].learns_task:
            return True
        last = list(distiller.stages)[-1]
        features = distiller.init_from_teacher == 'all' or any(
            last in phase.train for phase in self.phases[: index + 1]
        )
        return features and (distiller.has_teacher_head or getattr(distiller.student, 'predicts_without_head', False))

    def learned(self, index: int, stages: Sequence[str]) -> tuple[str, ...]:
        """The stages that have followed the teacher by the end of a phase, as far as the last that this one mimics."""
        reached = stages.index(self.phases[index].mimic[-1])
        followed = {stage for phase in self.phases[: index + 1] for stage in phase.mimic}
        return tuple(stage for stage in stages[: reached + 1] if stage in followed)

    def __str__(self) -> str:
        unit = 'epochs' if self.by_epoch else 'iterations'
        lines = [
            f'  {i} {phase.name}: {phase.length} {unit.rstrip("s") if phase.length == 1 else unit}, {phase.purpose}'
            for i, phase in enumerate(self.phases, 1)
        ]
        return '\n'.join([f'schedule of {self.end} {unit}:', *lines])


@HOOKS.register_module()
class StageScheduleHook(Hook):
    """Run a list of phases inside one ordinary Runner, epoch- or iteration-based.

    Which phase it is follows from the Runner's epoch or iteration alone, so a resumed run is where it was. At the start of a
    phase the distiller is told, and the model is wrapped anew for DDP, so that only what trains is reduced. Optimizer,
    schedulers, gradient accumulation and best-checkpoint bookkeeping start afresh. ``max_epochs`` or ``max_iters`` of the train
    loop become the sum of the phases.

    Random states are derived from seed, epoch (or iteration) and rank, which makes a resumed run equal to an uninterrupted one.

    Put it into ``default_hooks``, where a downstream config can change one field of it by inheritance::

        default_hooks = dict(stage_schedule=dict(type='mmsskd.StageScheduleHook', transfer=dict(epochs=10), head=dict(epochs=20)))

    Args:
        phases: List of phases, each a dict with those fields of :class:`~mmsskd.distill.phases.Phase` that are not default; or the
            name of a schedule. ``'sskd_kept'``, which None means: stage by stage with the earlier stages and their losses kept,
            then the head. ``'sskd_literal'``: the same with the earlier stages frozen, as in the paper. ``'sskd_then_all'``: stage
            by stage as a start, then backbone and head together from ground truth.
        transfer: Recipe (``epochs`` or ``iters``, ``optim_wrapper``, ``param_scheduler``, ``train_dataloader``) of the phases
            without task loss. Lengths and milestones count from the phase's own start.
        head: The same for phases with task loss; what it leaves out is the run's own ``optim_wrapper`` and
            ``param_scheduler``.
        evaluate_teacher: Measure the teacher once on the validation set before training.
        stitched: In phases in which the student itself predicts nothing yet, validate its stages so far with the teacher's
            remaining ones and its head after them: ``val/stitched_top1_layer2``. It costs a forward of student and teacher for
            each validation image.
        cuda_graph: Make the steps of each phase by one CUDA graph, recorded in its first steps: for small networks, of which a
            GPU waits for Python. Where a phase cannot be recorded the log says why, and it runs as without. See docs/speed.md.
        save_phase_ends: Keep a checkpoint at the end of each phase, from which a run with other later phases can be resumed.

    Raises:
        ConfigError: Before training, for anything in the schedule that cannot work.
        NonFiniteLossError: During training, for a loss or a weight; the message names the last good checkpoint.

    Example:
        >>> hook = StageScheduleHook(phases='sskd_literal', transfer=dict(epochs=10), head=dict(epochs=20))
        >>> hook.cfg['phases']
        'sskd_literal'
    """

    priority = 'HIGH'  # before the sampler's seed and the timer, after the runtime info

    def __init__(
        self,
        phases: Sequence[dict] | str | None = None,
        transfer: dict | None = None,
        head: dict | None = None,
        evaluate_teacher: bool = True,
        save_phase_ends: bool = True,
        stitched: bool = True,
        cuda_graph: bool = False,
    ):
        self.cfg = dict(phases=phases, transfer=transfer, head=head)
        switches = dict(
            evaluate_teacher=evaluate_teacher, save_phase_ends=save_phase_ends, stitched=stitched, cuda_graph=cuda_graph
        )
        for key, value in switches.items():
            if not isinstance(value, bool):
                raise ConfigError(f'StageScheduleHook.{key} must be True or False, found {value!r}')
        self.evaluate_teacher = evaluate_teacher
        self.save_phase_ends = save_phase_ends
        self.stitched = stitched
        self.cuda_graph = cuda_graph
        self.schedule: Schedule | None = None
        self.index: int | None = None
        self.learning: checks.Learning | None = None
        self.steps: UnwaitedSteps | None = None
        self.first_batches: list[dict | None] = []
        self.pending: dict = {}
        self.ranks_equal = True

    # -- set-up ------------------------------------------------------------------------------------------------------

    def before_run(self, runner: Runner) -> None:
        checks.check_strategy(runner)
        if sum(isinstance(hook, StageScheduleHook) for hook in runner.hooks) > 1:
            raise ConfigError('the config has two StageScheduleHooks, in default_hooks or custom_hooks; remove one')
        if mmengine_private.has_train_loop(runner) and self.schedule is None:  # a test after training comes here too
            if is_main_process():
                claim(runner.work_dir, mmengine_private.is_resuming(runner))
            resume.prepare(runner)
            self._set_up(runner)

    def _set_up(self, runner: Runner) -> None:
        """Check the schedule against model and run, build the loaders of all phases, give the train loop its length."""
        if self.schedule is not None:
            return
        self.reminder = checks.Reminder(runner.logger)
        loop, cfg = runner.train_loop, runner.cfg
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        model = runner_state.unwrap(runner.model)
        if not isinstance(model, StagewiseDistiller):
            found = type(model).__name__
            raise ConfigError(f'StageScheduleHook needs model.type mmsskd.StagewiseDistiller, found {found}')
        self.distiller = model
        run = dict(cfg, train_cfg=dict(by_epoch=by_epoch))
        phases = phases_of(run, list(self.distiller.stages), self.cfg)
        checks.check_run(runner, phases, by_epoch, self.distiller)
        schedule = Schedule(phases, runner_state.build_loaders(runner, phases), by_epoch)
        if by_epoch:
            checks.check_ends(phases, schedule.loaders)
        checks.check_early_stopping(
            runner, phases, [schedule.predicts(index, self.distiller) for index in range(len(phases))]
        )
        check_data(runner, phases, schedule.loaders, self.distiller)
        dry_run.try_recipes(runner, self.distiller, phases, schedule.loaders, schedule.iterations)
        self.first_batches = dry_run.first_batches(phases, schedule.loaders)
        samples.check_samples(runner, self.distiller, phases, schedule.loaders)
        self.schedule = schedule
        self.pins = resume.pins_of(runner, self.distiller, schedule.loaders)
        if not by_epoch:
            loop.dataloader_iterator = runner_state.PhaseBatches(self, runner)
        mmengine_private.set_loop_length(runner, schedule.end if by_epoch else None, sum(schedule.iterations))
        runner.logger.info(str(schedule))
        if not self.distiller.has_teacher_head and not any(HEAD in phase.train for phase in phases):
            runner.logger.warning(
                'no phase trains the head: this run only transfers, the head of the student stays as it was'
            )

    def _now(self, runner: Runner) -> int:
        return runner.epoch if self.schedule.by_epoch else runner.iter

    @property
    def phase(self) -> Phase:
        """The phase that the run is in."""
        return self.schedule.phases[self.index]

    @property
    def position(self) -> str:
        """Number and name of the current phase, for the log."""
        return f'phase {self.index + 1}/{len(self.schedule.phases)} {self.phase.name}'

    # -- entering a phase --------------------------------------------------------------------------------------------

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Build the phase's own optimizer on resume, before the Runner loads its state into it."""
        if not mmengine_private.is_resuming(runner):
            checks.check_load_from(runner, checkpoint, runner_state.unwrap(runner.model))
            return
        mmengine_private.build_train_loop(runner)
        self._set_up(runner)
        schedule = self.schedule
        saved = resume.check_resumable(checkpoint, self.distiller, schedule.by_epoch)
        step = checkpoint['meta']['epoch' if schedule.by_epoch else 'iter']
        index = schedule.at(step)
        resume.check_same_schedule(saved, schedule.phases, step, index)
        reached = index + (step > schedule.phases[index].begin)
        resume.check_pins(checkpoint, self.pins, schedule.phases, reached, schedule.by_epoch, runner.logger)
        if schedule.by_epoch:
            resume.begin_epoch_anew(checkpoint, schedule.first_iteration(step), runner.logger)
        if checkpoint['meta'].get('seed') is not None:
            runner_state.reseed_samplers(schedule.loaders, checkpoint['meta']['seed'])
        # the phase of which it is: where it closed one, the next is entered as in the uninterrupted run
        self._enter(runner, min(saved['phase'], index))
        self.pending = saved['gradients']
        resume.count_on_cpu(checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Try the losses of all phases, enter the one in which the run starts or goes on, and measure the teacher.

        The first event after MMEngine has initialized the weights, and loaded those of ``load_from`` or of a resume.
        """
        resume.watch_signals()
        self._try_losses(runner)
        checks.check_teacher(runner, self.distiller)
        self.distiller.on_non_finite = lambda *step: checks.stop(
            runner, self.distiller, self.phase, self.position, *step
        )
        reason = self.cuda_graph and cannot_capture(runner, self.distiller)
        if reason:
            runner.logger.warning(f'cuda_graph: the run goes without: {reason}')
            self.cuda_graph = False
        send_without_waiting(self.distiller.data_preprocessor)
        resumed = self.index is not None
        index = self.index if resumed else self.schedule.at(self._now(runner))
        self._enter(runner, index, keep_optimization=resumed)
        resume.restore_gradients(self.distiller, self.pending)
        if self.evaluate_teacher and runner.val_loop is not None:
            validation.measure_teacher(runner, self.distiller)
        if not resumed:
            self._begin(runner)

    def _try_losses(self, runner: Runner) -> None:
        schedule = self.schedule
        begins = [
            (phase.begin if schedule.by_epoch else runner.epoch, schedule.iterations_before(index))
            for index, phase in enumerate(schedule.phases)
        ]
        dry_run.try_losses(runner, self.distiller, schedule.phases, self.first_batches, begins)
        self.first_batches = []

    def before_train_epoch(self, runner: Runner) -> None:
        if self.schedule.by_epoch:
            self.advance(runner)
            runner_state.seed_everything(runner.seed, runner.epoch)
            runner_state.begin_pass(runner.train_loop.dataloader, runner.seed, runner.epoch)
            phase = self.phase
            runner.logger.info(f'{self.position} epoch {runner.epoch - phase.begin + 1}/{phase.length}')

    def advance(self, runner: Runner) -> None:
        """Enter the next phase if the current one has ended; between two iterations, or epochs, with all of the last one done."""
        if resume.asked():  # what is saved then
            self._check_weights(runner)
        resume.end_if_asked(runner, self.schedule.by_epoch, within=False)
        index = self.schedule.at(self._now(runner))
        if index != self.index:
            self._enter(runner, index)
            self._begin(runner)

    def _enter(self, runner: Runner, index: int, keep_optimization: bool = False) -> None:
        """Make the Runner ready for a phase; ``keep_optimization`` leaves optimizer and schedulers as a resume loaded them."""
        schedule, self.index = self.schedule, index
        for parameter in self.distiller.parameters():
            parameter.grad = None
        self.distiller.set_phase(self.phase)
        if runner.distributed:
            runner_state.wrap_anew(runner, self.distiller)
            self.distiller.set_phase(self.phase)  # the wrapping may have converted BN layers
        runner.train_loop.dataloader = schedule.loaders[index]
        for loader in set(schedule.loaders) - set(schedule.loaders[index:]):
            mmengine_private.end_workers(loader)  # which no later phase needs
        if not keep_optimization:
            runner_state.build_optimization(runner, self.phase, schedule.iterations[index])
        done = runner.iter - schedule.iterations_before(index)
        runner.optim_wrapper.initialize_count_status(runner.model, max(done, 0), schedule.iterations[index])
        self.distiller.steps = self.steps = self._steps(runner)
        # both train loops look at val_begin
        begin = runner.cfg.get('train_cfg', {}).get('val_begin', 1)
        predicts = schedule.predicts(index, self.distiller)
        runner.train_loop.val_begin = begin if predicts else self.phase.end + 1

    def _steps(self, runner: Runner) -> UnwaitedSteps | None:
        """The maker of the steps of the current phase; None: they are made as always."""
        if self.cuda_graph:
            return CapturedSteps(runner, self.distiller, self.phase, self.position)
        if UnwaitedSteps.runs_on(next(self.distiller.parameters()).device) and not runner.distributed:
            return UnwaitedSteps(runner, self.distiller, self.phase)
        return None

    def _begin(self, runner: Runner) -> None:
        """Do once what belongs to a phase that really begins rather than goes on."""
        runner_state.forget_last_phase(runner)
        loaded = bool(runner.cfg.get('load_from'))
        self.learning = checks.Learning(self.distiller, self.schedule.phases, self.index, loaded)
        runner.logger.info(f'{self.position} begins: {self.phase.purpose}')

    # -- during a phase ----------------------------------------------------------------------------------------------

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        if self.schedule.by_epoch:
            resume.end_if_asked(runner, by_epoch=True, within=batch_idx > 0)
            checks.check_still_ends(self.phase, runner.train_loop.dataloader, batch_idx)
        self.ranks_equal = not runner.distributed
        self.distiller.measures_agreement = runner_state.is_logged(runner, batch_idx)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if checks.checkpoint_is_due(runner):
            self._settle(runner)
        if self.schedule.by_epoch:
            return
        phase, done = self.phase, runner.iter + 1
        interval = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 10)
        if done % interval == 0 or done == phase.end:
            runner.logger.info(f'{self.position} iter {done - phase.begin}/{phase.length}')
        self._close_step(runner, done)

    def after_train_epoch(self, runner: Runner, metrics=None) -> None:
        if self.schedule.by_epoch:
            self._close_step(runner, runner.epoch + 1)

    def _close_step(self, runner: Runner, done: int) -> None:
        """After an epoch or iteration: equal ranks, validation of what is mimicked, the phase's checkpoint."""
        phase = self.phase
        due = done % runner.train_loop.val_interval == 0 or done == phase.end
        if due or self.schedule.by_epoch:
            self._settle(runner)
        if due and phase.mimic and runner.val_loop is not None:
            stitch = self.stitched and not self.schedule.predicts(self.index, self.distiller)
            learned = self.schedule.learned(self.index, list(self.distiller.stages)) if stitch else ()
            values = validation.validate_features(runner, self.distiller, phase.mimic, learned)
            for key, value in values.items():
                runner.message_hub.update_scalar(key, value)
            runner.visualizer.add_scalars(values, step=done)
            runner.logger.info(f'{self.position} validation  {validation.show(values)}')
        if due and self.learning is not None:
            self.learning.check(runner, self.position, ended=done == phase.end)
        if done == phase.end and done != self.schedule.end and self.save_phase_ends and is_main_process():
            meta = dict(epoch=runner.epoch + self.schedule.by_epoch, iter=runner.iter + (not self.schedule.by_epoch))
            mmengine_private.save_on_this_rank(runner, f'phase{self.index + 1}_{phase.name}.pth', meta)

    def _settle(self, runner: Runner) -> None:
        """Before weights are saved or validated: they are finite, and what the first rank has is what all have."""
        self._check_weights(runner)
        if runner.distributed:
            validation.average_over_ranks(self.distiller)
        self.ranks_equal = True

    def _check_weights(self, runner: Runner) -> None:
        if self.steps is not None:
            self.steps.late.read()
        checks.check_weights(runner, self.distiller, self.phase, self.position)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        teacher = runner.message_hub.runtime_info.get('teacher_metrics')
        if teacher and metrics and self.index is not None:
            student = {key: metrics[key] for key in teacher if key in metrics}
            runner.logger.info(
                f'{self.position} student: {validation.show(student)} | teacher: {validation.show(teacher)}'
            )
        if metrics and self.index is not None and self.phase.learns_task and self._now(runner) == self.phase.end:
            validation.check_student(runner, self.distiller, metrics, self.position)

    # -- files -------------------------------------------------------------------------------------------------------

    def after_run(self, runner: Runner) -> None:
        resume.ignore_signals_no_more()
        release(runner.work_dir)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        state = resume.schedule_state(self.distiller, self.schedule.phases, self.index, self.schedule.by_epoch)
        if state['gradients'] and not self.ranks_equal:  # one rank alone saves, where a signal or a loss ends the run
            state['gradients'] = {}
            runner.logger.warning(
                'the checkpoint is without the gradients of an unfinished accumulation, of which this rank has only its own: '
                'after a resume the next update follows fewer batches'
            )
        checkpoint.update(stage_schedule=state, pins=self.pins)

    def after_train(self, runner: Runner) -> None:
        """Write the plain student."""
        self._check_weights(runner)
        if is_main_process():
            export_run(runner, self.distiller, Config(self.pins['student_config']), self.schedule.loaders)
        self.reminder.close_run()
