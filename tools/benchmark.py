#!/usr/bin/env python
"""Step time and peak memory of each stage of a pair of ResNets, in one run, three ways:

  mmsskd  this package, `StagewiseDistiller.train_step`;
  bare    a PyTorch loop written by hand that does the same work: what mmsskd costs is the ratio mmsskd / bare;
  full    the whole teacher and the whole student every step, as frameworks do that compare recorded features after a full
          forward: what cutting the forward at the tap saves is the ratio full / mmsskd.

Weights are random, images are noise: neither changes the time. The three take turns step by step, so that a machine that slows
down slows all three; times are medians. Memory is what a step allocates beyond weights and optimiser state.
"""

import argparse
import copy
import json
import os
import statistics
import tempfile
import time
from itertools import accumulate

os.environ.setdefault('KINETO_LOG_LEVEL', '5')  # the profiler would print between the lines of the table

import torch
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from torch import nn
from torch.profiler import ProfilerActivity, profile

import mmsskd  # noqa: F401  before configs are read, so that `mmsskd::` resolves in them
from mmsskd.distill.export import is_stagewise
from mmsskd.distill.model_cfg import build_model, resolve_model_cfg
from mmsskd.distill.phases import parse_phases, stage_by_stage
from mmsskd.distill.tap import capture
from mmsskd.distill.teacher import without_init
from mmsskd.errors import ConfigError
from mmsskd.utils.cli import add_common_arguments, plain_errors, read_config

COLUMNS = ('stage', 'mmsskd', 'bare', 'full', 'mmsskd/bare', 'full/mmsskd', 'memory: mmsskd', 'bare', 'full')


def optimiser(distiller, phase):
    """The phase's optimiser wrapper over what the phase trains."""
    wrapper = build_optim_wrapper(distiller, copy.deepcopy(phase.optim_wrapper))
    for group in wrapper.param_groups:
        group['params'] = [parameter for parameter in group['params'] if parameter.requires_grad]
    return wrapper


def package_step(distiller, phase):
    """A training step of this package."""
    wrapper = optimiser(distiller, phase)
    return lambda batch: distiller.train_step(batch, wrapper)


def bare_step(distiller, phase):
    """The same work by hand, for ResNets, from the modules alone: nothing of mmsskd or MMEngine runs in a step."""
    (stage,) = phase.train
    cuts = [[part.name for part in side.values()] for side in (distiller.stages, distiller.teacher_stages)]
    if any(names != [f'layer{i + 1}' for i in range(len(names))] for names in cuts):
        raise ConfigError(
            f'the loop by hand knows ResNets with stages layer1, layer2, ... without a gap, found {cuts[0]}'
        )
    student, own_parts = _resnet(distiller.student.backbone, stage)
    teacher, their_parts = _resnet(distiller.teacher.backbone, distiller.teacher_stages[stage].name)
    prefix, trained = nn.Sequential(*student[:-1]), student[-1]
    teacher = nn.Sequential(*teacher)
    adapter = distiller.adapters[stage].levels[0] if stage in distiller.adapters else nn.Identity()
    preprocessor = distiller.data_preprocessor
    mean, std, flip = preprocessor.mean, preprocessor.std, preprocessor.to_rgb
    settings = {key: value for key, value in phase.optim_wrapper['optimizer'].items() if key != 'type'}
    optimizer = getattr(torch.optim, phase.optim_wrapper['optimizer']['type'])(
        [*trained.parameters(), *adapter.parameters()], **settings
    )
    first = own_parts == 1 and their_parts == 1

    def step(batch):
        images = torch.stack(batch['inputs']).to(mean.device)
        images = ((images.flip(1) if flip else images).float() - mean) / std
        with torch.no_grad():
            target = teacher(images)
            before = images if first else prefix(images)
        feature = adapter(trained(before))
        loss = nn.functional.mse_loss(feature, target) / target.var(dim=(0, 2, 3), correction=0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {'loss': loss}

    return step


def _resnet(backbone: nn.Module, stage: str) -> tuple[list[nn.Module], int]:
    """The parts of a ResNet up to ``stage``, the stem in the first."""
    if hasattr(backbone, 'stem'):
        stem = [backbone.stem]
    else:
        stem = [backbone.conv1, backbone.norm1, backbone.relu]
    stem += [backbone.maxpool] if hasattr(backbone, 'maxpool') else []
    count = int(stage.removeprefix('layer'))
    layers = [getattr(backbone, f'layer{i}') for i in range(1, count + 1)]
    return [nn.Sequential(*stem, layers[0]), *layers[1:]], count


def full_step(distiller, phase):
    """Whole forwards of both networks, the features recorded on the way; the same loss, the same gradient, the same optimiser."""
    (stage,) = phase.train
    own, theirs = distiller.stages[stage], distiller.teacher_stages[stage]
    wrapper = optimiser(distiller, phase)

    def step(batch):
        data = distiller.data_preprocessor(batch, True)
        with torch.no_grad(), capture(distiller.teacher, [theirs.tap]) as target:
            distiller.teacher(**data, mode='tensor')
        with capture(distiller.student, [own.tap]) as outputs:
            distiller.student(**data, mode='loss')  # the task loss is computed and not used, as with a loss weight of 0
        feature = own.feature(outputs)
        if stage in distiller.adapters:
            feature = distiller.adapters[stage](feature)
        loss = distiller.mimic_loss(feature, theirs.feature(target))
        wrapper.update_params(loss)
        return {'loss': loss}

    return step


SCHEMES = {'mmsskd': package_step, 'bare': bare_step, 'full': full_step}


def random_distiller(cfg, folder: str):
    """The distiller of a config with a teacher of random weights, saved first, since the distiller loads them."""
    preprocessor = cfg.get('data_preprocessor')
    torch.manual_seed(0)
    teacher = build_model(without_init(resolve_model_cfg(cfg.model.teacher, 'teacher')))
    path = os.path.join(folder, 'teacher.pth')
    torch.save(teacher.state_dict(), path)
    student = without_init(resolve_model_cfg(cfg.model.student, 'student', preprocessor))
    return MODELS.build(dict(cfg.model, teacher_checkpoint=path, student=student, data_preprocessor=preprocessor))


def make_batch(distiller, shape, size: int, device) -> dict:
    """A batch as a data loader gives it: 8-bit images and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (size, *shape), dtype=torch.uint8, generator=generator).to(device)
    return dict(inputs=list(images), data_samples=[DataSample().set_gt_label(0).to(device) for _ in range(size)])


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


def check_equal_work(distiller, steps: dict, batch: dict) -> None:
    """From the same weights, one step of each scheme must give the same loss and the same weights."""
    before = copy.deepcopy(distiller.state_dict())
    results = {}
    for name, step in steps.items():
        distiller.load_state_dict(before)
        loss = step(batch)['loss'].item()
        results[name] = loss, copy.deepcopy(distiller.state_dict())
    loss, weights = results['mmsskd']
    for name, (other_loss, other_weights) in results.items():
        torch.testing.assert_close(other_loss, loss, rtol=1e-4, atol=0.0, msg=lambda text: f'{name}: {text}')  # noqa: B023
        changed = {key for key in weights if not torch.equal(weights[key], before[key])}
        assert changed == {key for key in weights if not torch.equal(other_weights[key], before[key])}, name


def measure(distiller, phase, batch: dict, rounds: int) -> dict:
    """Median seconds and peak bytes of a step of each scheme."""
    distiller.set_phase(phase)
    distiller.train()
    steps = {name: make(distiller, phase) for name, make in SCHEMES.items()}
    check_equal_work(distiller, steps, batch)
    names, times = list(steps), {name: [] for name in steps}
    for number in range(rounds + 2):
        for i in range(len(names)):
            name = names[(i + number) % len(names)]
            seconds = seconds_of(lambda: steps[name](batch))  # noqa: B023
            if number >= 2:
                times[name].append(seconds)
    memory = {name: peak_memory(lambda: step(batch)) for name, step in steps.items()}  # noqa: B023
    return dict(
        stage=phase.name, seconds={name: statistics.median(values) for name, values in times.items()}, memory=memory
    )


def show(rows: list[dict]) -> None:
    """The table, times in ms and memory in MiB; the last row sums the times and takes the highest memory."""
    total = dict(
        stage='sum / highest',
        seconds={name: sum(row['seconds'][name] for row in rows) for name in SCHEMES},
        memory={name: max(row['memory'][name] for row in rows) for name in SCHEMES},
    )
    lines = [COLUMNS]
    for row in [*rows, total]:
        seconds, memory = row['seconds'], row['memory']
        ratios = seconds['mmsskd'] / seconds['bare'], seconds['full'] / seconds['mmsskd']
        cells = [f'{1000 * seconds[name]:.0f} ms' for name in SCHEMES] + [f'{ratio:.3f}' for ratio in ratios]
        lines.append([row['stage'], *cells, *(f'{memory[name] / 2**20:.0f} MiB' for name in SCHEMES)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    for line in lines:
        print('  '.join(cell.rjust(width) for cell, width in zip(line, widths)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', default='configs/sskd/imagenet_r50_r18.py', help='%(default)s')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--rounds', type=int, default=15, help='timed steps of each scheme for each stage')
    parser.add_argument('--json', metavar='FILE', help='write the figures to this file as well')
    add_common_arguments(parser)
    args = parser.parse_args()
    MMLogger.get_instance('mmengine', log_level='WARNING')
    cfg = read_config(args)
    if args.batch_size < 1 or args.rounds < 1:
        raise ConfigError(f'--batch-size and --rounds must be at least 1, found {args.batch_size} and {args.rounds}')
    if not is_stagewise(cfg):
        raise ConfigError(f'{args.config} is not the config of a stage-by-stage run')
    init_default_scope('mmpretrain')
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    shape = cfg.model.get('input_shape', (3, 224, 224))
    with tempfile.TemporaryDirectory() as folder:
        distiller = random_distiller(cfg, folder).to(device)
    batch = make_batch(distiller, shape, args.batch_size, device)
    phases = parse_phases(stage_by_stage(list(distiller.stages))[:-1], list(distiller.stages), 'iters', dict(iters=1))
    place = torch.cuda.get_device_name() if device == 'cuda' else f'{torch.get_num_threads()} CPU threads'
    print(f'{args.config}, batch {args.batch_size} of {"x".join(map(str, shape))}, {place}, torch {torch.__version__}')
    rows = [measure(distiller, phase, batch, args.rounds) for phase in phases]
    show(rows)
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(rows, file, indent=1)


if __name__ == '__main__':
    with plain_errors():
        main()
