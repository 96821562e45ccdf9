#!/usr/bin/env python
"""Measure step time and peak memory of each stage of a pair, four ways:

  mmsskd  this package, `StagewiseDistiller.train_step`;
  bare    a PyTorch loop written by hand that does the same work: what mmsskd costs is the ratio mmsskd / bare;
  full    the whole teacher and the whole student every step, as frameworks do that compare recorded features after a full
          forward: what cutting the forward at the tap saves is the ratio full / mmsskd;
  unfrozen  as full, and the gradient runs through the whole student, only the optimizer knows what trains: so runs a
          framework that has no stages to freeze.

On a GPU also, '-' on a CPU:

  mmsskd captured, bare captured  the steps of mmsskd (`cuda_graph=True`) and of bare, each as one CUDA graph.

Where torchdistill is installed also, for backbones, '-' without:

  torchdistill  both networks cut to a Sequential, its own DistillationBox.

A column that cannot be had for a stage is '-', and a line says why.

With --runner also whole iterations of MMEngine's Runner, with data that are noise in memory (of classifiers as ResidentImages),
hooks and log:

  runner, runner captured  as `tools/train.py` runs them; the second on a GPU alone.

With --profile also where the time of one step of mmsskd goes, captured too on a GPU, and of bare, by torch's profiler.

With --head also the head phase, two ways: mmsskd, and

  stock   the plain student with the same parts frozen, `train_step` of its own.

Weights are random, images are noise. The schemes take turns step by step, so that a machine that slows down slows all; each step
starts from the same weights, and those that take turns from the same random state, so that all sample the same boxes. Times are
medians. Memory is what a step allocates beyond weights and optimizer state.
"""

import copy
import json
import os
import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from itertools import accumulate

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # where benchmark_steps is, however this was started
os.environ.setdefault('KINETO_LOG_LEVEL', '6')  # the profiler would print between the lines of the table

import benchmark_steps as steps
import torch
from matplotlib.figure import Figure
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch.profiler import ProfilerActivity, profile

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.cli import add_common_arguments, plain_errors, read_config
from mmsskd.distill.network.forward import DEFAULT_SHAPE
from mmsskd.distill.phases import is_schedule_hook, is_stagewise, phases_of, stage_by_stage
from mmsskd.distill.schedule.captured_step import WARM_UP
from mmsskd.distill.schedule.runner_state import seed_everything
from mmsskd.errors import ConfigError
from mmsskd.utils.arguments import ToolParser
from mmsskd.utils.tables import text_table

TRANSFER = dict(mmsskd=steps.package_step, bare=steps.bare_step, full=steps.full_step, unfrozen=steps.unfrozen_step)
CAPTURED = {'mmsskd captured': steps.captured_package_step, 'bare captured': steps.captured_bare_step}
HEAD = dict(mmsskd=steps.package_step, stock=steps.stock_step)
TRANSFER_RATIOS = (
    ('mmsskd', 'bare'),
    ('mmsskd', 'torchdistill'),
    ('full', 'mmsskd'),
    ('unfrozen', 'mmsskd'),
    tuple(CAPTURED),
)
RUNNER_RATIOS = (('runner', 'bare'), ('runner captured', 'bare captured'))
HEAD_RATIOS = (('mmsskd', 'stock'),)
DETECTION = dict(shape=(3, 320, 480), batch_size=1)  # in place of the defaults of classification


def peak_memory(step) -> int:
    """Bytes allocated beyond what was there before, at the highest point of ``step``."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as records:
        step()
    events = [event for event in records.profiler.kineto_results.events() if event.name() == '[memory]']
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


def seconds_of(step) -> float:
    start = time.perf_counter()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


class Schemes:
    """The steps of one phase in each scheme, all from the weights that the distiller has now."""

    def __init__(self, distiller, phase, batch: dict):
        distiller.set_phase(phase)
        distiller.train()
        self.weights = copy.deepcopy(distiller.state_dict())
        self.batch = batch
        captured = CAPTURED if torch.cuda.is_available() else {}
        makers = HEAD if phase.task_loss else TRANSFER | captured
        if find_spec('torchdistill') and not phase.task_loss and steps.in_backbone(distiller, phase.name):
            from benchmark_torchdistill import torchdistill_step

            makers = makers | dict(torchdistill=torchdistill_step)
        self.parts, self.missing = {}, {}
        for name, make in makers.items():
            try:
                self.parts[name] = make(distiller, phase)
            except ConfigError as error:
                if name == 'mmsskd':
                    raise
                self.missing[name] = str(error)
        for _ in range(WARM_UP + 1):  # as many as are made before one is recorded
            for name in set(self.parts) & set(captured):
                self.prepare(name, 0)()

    def prepare(self, name: str, number: int):
        """The next step of a scheme as a function without arguments, with weights and random state set for it."""
        step, model = self.parts[name]
        model.load_state_dict({key: self.weights[key] for key in model.state_dict()})
        seed_everything(0, number)
        return lambda: step(self.batch)

    def check_equal_work(self, exact: bool) -> None:
        """Check that a step of each scheme gives the same loss and changes the same weights.

        ``exact``: all losses, to the same weights. To the bit, that is; but not on a GPU, where sums are taken in an order that
        changes.
        """
        close = dict(rtol=1e-3, atol=1e-5) if torch.cuda.is_available() else dict(rtol=0.0, atol=0.0)
        results = {}
        for name, (_, model) in self.parts.items():
            losses = self.prepare(name, 0)()
            results[name] = losses, copy.deepcopy(model.state_dict())
        losses, weights = results.pop('mmsskd')
        for name, (other_losses, other_weights) in results.items():
            label = lambda text: f'{name}: {text}'  # noqa: B023, E731
            if exact:
                torch.testing.assert_close(dict(other_losses), dict(losses), **close, msg=label)
                expected = {key: weights[key] for key in other_weights}  # a plain student has no adapters
                torch.testing.assert_close(dict(other_weights), expected, **close, msg=label)
            else:
                loss, other = losses['loss'].item(), other_losses['loss'].item()
                torch.testing.assert_close(other, loss, rtol=1e-4, atol=0.0, msg=label)
            assert self._changed(weights) == self._changed(other_weights), name
            self._check_same_update(weights, other_weights, name)

    def _check_same_update(self, weights: dict, others: dict, name: str) -> None:
        """Check that two steps moved the weights alike. Not one by one: Adam turns rounding of a gradient near 0 into a step."""
        moved, apart = (
            sum((a[key].double() - b[key].double()).abs().sum().item() for key in self._changed(weights))
            for a, b in ((weights, self.weights), (weights, others))
        )
        allowed = 0.3 if torch.cuda.is_available() else 0.05
        assert apart <= allowed * moved, f'{name}: its update differs by {apart / moved:.3f} of it'

    def _changed(self, weights: dict) -> set[str]:
        return {key for key in weights if not torch.equal(weights[key], self.weights[key])}


def check_equal_work(distiller, phase, batch: dict) -> dict[str, str]:
    """Check the schemes of a phase, see :meth:`Schemes.check_equal_work`; the distiller keeps its weights.

    Returns:
        The reason of each scheme that cannot be had.
    """
    schemes = Schemes(distiller, phase, batch)
    schemes.check_equal_work(exact=phase.task_loss)
    distiller.load_state_dict(schemes.weights)
    return schemes.missing


def measure(distiller, phase, batch: dict, rounds: int, profiled: bool = False) -> dict:
    """Median seconds and peak bytes of a step of each scheme, and what one spends its time on where that is asked for."""
    schemes = Schemes(distiller, phase, batch)
    names = list(schemes.parts)
    times = {name: [] for name in names}
    for number in range(rounds + 2):
        for i in range(len(names)):
            name = names[(i + number) % len(names)]
            seconds = seconds_of(schemes.prepare(name, number))
            if number >= 2:
                times[name].append(seconds)
    memory = {name: peak_memory(schemes.prepare(name, 0)) for name in names}
    profiles = {}
    if profiled:
        from benchmark_profile import profile_of

        kinds = [name for name in ('mmsskd', 'bare', *CAPTURED) if name in names]
        profiles = dict(profile={name: profile_of(schemes.prepare(name, 0)) for name in kinds})
    distiller.load_state_dict(schemes.weights)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    return dict(stage=phase.name, seconds=seconds, memory=memory, **profiles)


def add_iterations(rows: list[dict], cfg, distiller, phases: list, batch: dict, rounds: int) -> None:
    """Give the rows of the phases their columns of whole iterations; ``data`` is what of it waits for data."""
    from benchmark_runner import iterations

    images = batch['inputs']
    for name in ['runner', *(['runner captured'] if torch.cuda.is_available() else [])]:
        shape, truth = tuple(images[0].shape), steps.truth_of(distiller)
        found = iterations(cfg, phases, truth, shape, len(images), rounds, captured=name != 'runner')
        for row in rows:
            if row['stage'] in found:
                row['seconds'][name], waits = found[row['stage']]
                row.setdefault('data', {})[name] = waits


def total_of(rows: list[dict]) -> dict:
    """A row with the sum of the times and the highest memory."""
    return dict(
        stage='sum / highest',
        **{
            kind: {
                name: total(row[kind][name] for row in rows)
                for name in rows[0][kind]
                if all(name in row[kind] for row in rows)
            }
            for kind, total in dict(seconds=sum, memory=max).items()
        },
    )


def show(rows: list[dict], ratios) -> None:
    """A table, times in ms and memory in MiB; ``ratios`` are the pairs of schemes whose times are divided."""
    names, memory = (list(dict.fromkeys(name for row in rows for name in row[kind])) for kind in ('seconds', 'memory'))
    missing = [name for name in dict.fromkeys(sum(ratios, ())) if name not in names]  # what is not to be had here
    lines = [
        ['stage', *names, *missing, *('/'.join(pair) for pair in ratios), f'memory: {memory[0]}', *memory[1:]],
    ]
    for row in rows:
        seconds = row['seconds']
        cells = [_cell(1000 * seconds[name] if name in seconds else None, ' ms') for name in names + missing]
        cells += [f'{seconds[a] / seconds[b]:.3f}' if {a, b} <= set(seconds) else '-' for a, b in ratios]
        cells += [f'{row["memory"][name] / 2**20:.0f} MiB' if name in row['memory'] else '-' for name in memory]
        lines.append([row['stage'], *cells])
    print(text_table(lines, '>'))


def _cell(value: float | None, unit: str) -> str:
    return '-' if value is None else f'{value:.{0 if value > 100 else 1}f}{unit}'


def draw(rows: list[dict], path: str) -> None:
    """Bars of the times, in ms, of each stage's schemes; a PNG."""
    figure = Figure(figsize=(2 + 1.5 * len(rows), 4), layout='constrained')
    axes = figure.subplots()
    names = list(dict.fromkeys(name for row in rows for name in row['seconds']))
    for i, name in enumerate(names):
        bars = [
            (place + i / (len(names) + 1), 1000 * row['seconds'][name])
            for place, row in enumerate(rows)
            if name in row['seconds']
        ]
        axes.bar(*zip(*bars), width=1 / (len(names) + 1), align='edge', label=name)
    axes.set(
        ylabel='ms a step',
        xticks=[place + 0.4 for place in range(len(rows))],
        xticklabels=[row['stage'] for row in rows],
    )
    axes.legend()
    figure.savefig(path, dpi=150)


def timed_phases(cfg, distiller, head: bool) -> list:
    """A phase for each stage, as by default, and the head's with the run's optimizer."""
    stages = list(distiller.stages)
    recipes = [hook.get('head') or {} for hook in cfg.get('default_hooks', {}).values() if is_schedule_hook(hook)]
    wrappers = [each['optim_wrapper'] for each in recipes if 'optim_wrapper' in each] or [cfg.get('optim_wrapper')]
    phases = stage_by_stage(stages)
    length = dict(iters=1)
    hook = dict(phases=phases if head else phases[:-1], transfer=length, head=dict(length, optim_wrapper=wrappers[0]))
    return phases_of(dict(train_cfg=dict(by_epoch=False)), stages, hook)


def make_pair(cfg, shape=None, size: int | None = None) -> tuple:
    """The distiller of a config with random weights, and a batch of noise of this height and width, and of this many images."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    with tempfile.TemporaryDirectory() as folder:
        distiller = steps.random_distiller(cfg, folder).to(device)
    distiller.measures_agreement = False  # as in all iterations but those that are logged
    defaults = dict(shape=tuple(cfg.model.get('input_shape', DEFAULT_SHAPE)), batch_size=8)
    defaults = DETECTION if steps.detects(distiller) else defaults
    channels, *default = defaults['shape']
    return distiller, steps.make_batch(
        distiller, (channels, *(shape or default)), size or defaults['batch_size'], device
    )


def main():
    parser = ToolParser(__doc__, 'python tools/benchmark.py configs/sskd/faster_rcnn_r101_r50.py --rounds 5')
    parser.add_argument(
        'config', nargs='?', default='configs/sskd/imagenet_r50_r18.py', help='config of the pair; default: %(default)s'
    )
    parser.number('--batch-size', 'images a step; default: 8, for detection 1')
    shape = 'of an image; default: model.input_shape, detection 320 480'
    parser.add_argument('--shape', type=int, nargs=2, metavar=('H', 'W'), help=shape)
    parser.number('--rounds', 'timed steps of each way and stage', 15)
    parser.add_argument('--head', action='store_true', help='also measure the head phase')
    parser.add_argument('--runner', action='store_true', help='also time whole iterations of a Runner, with data')
    parser.add_argument('--profile', action='store_true', help='also say where the time of a step goes')
    parser.add_argument(
        '--json', metavar='FILE', help='also write the numbers to this file, and their bars to a PNG beside it'
    )
    add_common_arguments(parser)
    args = parser.parse_args()
    MMLogger.get_current_instance().setLevel('WARNING')
    cfg = read_config(args, whole=False)
    for name in ('batch_size', 'rounds', 'shape'):
        value = getattr(args, name)
        if value is not None and min(value if name == 'shape' else [value]) < 1:
            raise ConfigError(f'--{name.replace("_", "-")} must be at least 1, found {value}')
    if not is_stagewise(cfg):
        raise ConfigError(f'{args.config} is not the config of a stage-by-stage run')
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    distiller, batch = make_pair(cfg, args.shape, args.batch_size)
    size, *shape = len(batch['inputs']), *batch['inputs'][0].shape
    device = batch['inputs'][0].device.type
    place = torch.cuda.get_device_name() if device == 'cuda' else f'{torch.get_num_threads()} CPU threads'
    print(f'{args.config}, batch {size} of {"x".join(map(str, shape))}, {place}, torch {torch.__version__}')
    phases = timed_phases(cfg, distiller, args.head)
    for phase in phases:  # all of them before the first is timed, which can take minutes
        for name, reason in check_equal_work(distiller, phase, batch).items():
            print(f'{phase.name}: no column {name!r}: {reason}')
    rows = [measure(distiller, phase, batch, args.rounds, args.profile) for phase in phases]
    ratios = TRANSFER_RATIOS
    if args.runner:
        add_iterations(rows, cfg, distiller, [phase for phase in phases if not phase.task_loss], batch, args.rounds)
        ratios += RUNNER_RATIOS
    inner = [row for row in rows if row['stage'] in distiller.stages and steps.in_backbone(distiller, row['stage'])]
    outer = [row for row in rows if row['stage'] in distiller.stages and row not in inner]
    show([*inner, total_of(inner), *outer], ratios)
    if args.head:
        print()
        show(rows[-1:], HEAD_RATIOS)
    if args.profile:
        from benchmark_profile import HEADER, profile_lines

        lines = [line for row in rows for line in profile_lines(row['stage'], row['profile'], row.get('data', {}))]
        print(f'\n{text_table([HEADER, *lines], ">")}')
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(rows, file, indent=1)
        draw(rows, f'{os.path.splitext(args.json)[0]}.png')


if __name__ == '__main__':
    with plain_errors():
        main()
