"""The cut of a pair as a table, to be checked before a run is paid for."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from ..distill.network.forward import features_at
from ..distill.network.pairing import Pairing, show, student_trains
from ..distill.network.projector import PATH
from ..distill.network.stages import taps_of
from ..distill.phases import HEAD

COLUMNS = (
    'stage', 'modules', 'parameters', 'student feature', 'teacher feature', 'adapter', 'student MACs', 'teacher MACs',
    'backward MACs',
)  # fmt: skip


def stage_table(student: nn.Module, teacher: nn.Module, pairing: Pairing) -> list[dict[str, str]]:
    """One row for each stage and one for the head.

    MACs are those of one image, counted while it runs: forward of student and teacher from the image to the tap, and backward
    through the stage that trains. Where the student has a projector, one more row says what of it is the projector's own.
    """
    stages, teacher_stages, adapters = pairing.pair(student, teacher)
    student_trains(student, stages.values())  # refuses what training would refuse
    image = torch.zeros(1, *pairing.input_shape)
    sizes = {name: parameter.numel() for name, parameter in student.named_parameters()}
    student.eval()
    teacher.eval()
    rows = []
    for name, stage in stages.items():
        for parameter_name, parameter in student.named_parameters():
            parameter.requires_grad_(parameter_name in stage.parameters)
        with _counter() as forward:
            feature = stage.feature(features_at(student, image, taps_of([stage])))
        with _counter() as backward:
            sum(tensor.sum() for tensor in feature).backward()
        with _counter() as teaching, torch.no_grad():
            features_at(teacher, image, taps_of([teacher_stages[name]]))
        adapter = adapters.get(name)
        values = (
            name + (f' ({stage.tap})' if stage.tap.removeprefix('backbone.') != name else ''),
            ' '.join(_outermost(stage.modules, stages.values())),
            short(sum(sizes[parameter] for parameter in stage.parameters)),
            show(stage.shapes),
            show(teacher_stages[name].shapes),
            short(sum(p.numel() for p in adapter.parameters())) if adapter is not None else '-',
            *(short(counter.get_total_flops() / 2) for counter in (forward, teaching, backward)),
        )
        rows.append(dict(zip(COLUMNS, values)))
    rows += _projector_row(student, image, sizes)
    taken = {parameter for stage in stages.values() for parameter in (*stage.parameters, *stage.idle)}
    head = sum(size for name, size in sizes.items() if name not in taken)
    parts = sorted({name.split('.')[0] for name in sizes if name not in taken})
    rows.append(dict(zip(COLUMNS, (HEAD, ' '.join(parts), short(head), *['-'] * 6))))
    return rows


def _projector_row(student: nn.Module, image: torch.Tensor, sizes: dict[str, int]) -> list[dict[str, str]]:
    """A row of what the projector adds to the student, which the last stage's row counts already; no row where there is none."""
    projector = dict(student.named_modules()).get(PATH)
    if projector is None:
        return []
    seen: list = []
    handle = projector.register_forward_pre_hook(lambda module, args: seen.extend(args))
    features_at(student, image, [PATH])
    handle.remove()
    parameters = sum(size for name, size in sizes.items() if name.startswith(f'{PATH}.'))
    macs = short(count_macs(lambda: projector(*seen)))
    values = ('of it projector', PATH, short(parameters), *['-'] * 3, macs, '-', '-')
    return [dict(zip(COLUMNS, values))]


def _counter() -> FlopCounterMode:
    """A counter of floating-point operations, two for each MAC; torch's own miscounts the backward of grouped convolutions."""

    def backward(grad, image, weight, bias, stride, padding, dilation, transposed, extra, groups, mask, out_shape=None):
        return conv_flop_count(image, weight, grad, transposed) * (mask[0] + mask[1])

    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: backward})


def _outermost(modules: Sequence[str], stages) -> list[str]:
    """The modules that lie wholly in one stage and in no other such module, without ``backbone.``"""
    shared = {path for path in modules if sum(path in stage.modules for stage in stages) > 1}
    whole = [path for path in modules if path not in shared]
    inner = set(whole)
    return [path.removeprefix('backbone.') for path in whole if path.rpartition('.')[0] not in inner]


def count_macs(forward: Callable[[], object]) -> float:
    """Multiply-accumulate operations of what ``forward`` runs."""
    with _counter() as counter, torch.no_grad():
        forward()
    return counter.get_total_flops() / 2


def short(number: float) -> str:
    """Three digits and a unit: 1.82 G."""
    units = ['', ' K', ' M', ' G']
    while number >= 999.5 and units[1:]:
        number, units = number / 1000, units[1:]
    return f'{number:.3g}{units[0]}'
