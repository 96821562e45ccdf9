"""Profile of one step of `tools/benchmark.py`: what it spends its time on."""

import time
from collections import Counter

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

WAITS = ('cudaStreamSynchronize', 'cudaDeviceSynchronize', 'cudaEventSynchronize', 'aten::_local_scalar_dense')
COLUMNS = ('step', 'Python', 'operations', 'kernels', 'waits', 'number of operations', 'number of waits')
TOP = 4


def profile_of(step) -> dict:
    """Seconds of a step by :data:`COLUMNS`, two numbers, and its dearest operations with their own seconds and their number.

    ``operations`` are those of the CPU, launches included, ``Python`` what is between them, and ``kernels`` the GPU's, which run
    meanwhile. The profiler takes time too, most of it in Python. A wait is a synchronization, or a value that is read.
    """
    gpu = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as records:
        start = time.perf_counter()
        step()
        launched = time.perf_counter() - start
        if gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    own, counts, kernels, waits = Counter(), Counter(), 0.0, Counter()
    for event in records.events():
        if event.device_type != DeviceType.CPU:
            kernels += event.self_device_time_total / 1e6
            continue
        own[event.name] += event.self_cpu_time_total / 1e6
        counts[event.name] += 1
        if event.name in WAITS:
            waits[event.name] += 1
    if gpu:
        waits['cudaDeviceSynchronize'] -= 1  # the one above
    waiting = sum(own[name] for name in waits) - (seconds - launched)
    operations = sum(own.values()) - sum(own[name] for name in waits)
    values = seconds, max(launched - operations - max(waiting, 0.0), 0.0), operations, kernels, max(waiting, 0.0)
    number = sum(count for name, count in counts.items() if name.startswith('aten::'))
    top = [(name, value, counts[name]) for name, value in own.most_common(TOP)]
    return dict(zip(COLUMNS, (*values, number, waits.total())), top=top)


def profile_lines(stage: str, profiles: dict[str, dict], data: dict[str, float]) -> list[list[str]]:
    """Lines of a table; ``data``: seconds of a whole iteration that wait for data, by scheme."""
    lines = []
    for name, values in profiles.items():
        waiting = data.get(name.replace('mmsskd', 'runner'))
        cells = [f'{1000 * values[column]:.1f} ms' for column in COLUMNS[:5]]
        cells += ['-' if waiting is None else f'{1000 * waiting:.1f} ms', *(str(values[key]) for key in COLUMNS[5:])]
        top = ', '.join(f'{what} {1000 * seconds:.1f} ms ({count})' for what, seconds, count in values['top'])
        lines.append([stage, name, *cells, top])
    return lines


HEADER = ['stage', 'scheme', *COLUMNS[:5], 'data', *COLUMNS[5:], 'dearest operations']
