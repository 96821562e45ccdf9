"""A model as one file that needs neither OpenMMLab nor mmsskd, which is there only once it has computed what the model does."""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .detections import Detections, is_detector
from .files import replacing

FORMATS = ('onnx', 'pt2')
TOLERANCE = 1e-4  # float32 in another order of summation differs by about 1e-6
DETECTIONS = ('boxes', 'scores', 'labels')


def check_onnx() -> None:
    """Look for the packages.

    Raises:
        ConfigError: One is missing.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  torch's exporter asks for it late, in words of its own
    except ImportError as error:
        raise ConfigError(f'ONNX needs {error.name}, which is not installed: pip install mmsskd[onnx]') from error


def write_portable(
    model: nn.Module,
    path: str,
    shape: Sequence[int],
    output: str = 'output',
    opset: int = 18,
    batches: Sequence[int] = (1, 3),
    nms: bool = True,
) -> float:
    """Write a model for torch.export (a ``path`` that ends in .pt2) or as ONNX (any other), after a check on random images.

    Input ``input``: (N, C, H, W) float32, normalized already. What comes out is ``model(images, mode='tensor')``, and N is free;
    of a detector it is what :class:`~mmsskd.utils.detections.Detections` says, and N is 1.

    torch's own exporter writes detectors too. onedl-mmdeploy has no build for Linux, mmdeploy none since 2023.

    Args:
        model: In eval mode, on the CPU.
        path: File to write; replaced only once the check has passed.
        shape: (channels, height, width) of an image.
        output: Name of the output in ONNX, of all but detectors.
        opset: Version of ONNX's operators.
        batches: Sizes of the random batches on which the file is compared with the model.
        nms: Of a detector: what is left after its last non-maximum suppression; False: what goes into that.

    Returns:
        The largest difference, relative to the largest number of the output. Of detections: a hundredth of that between corners
        in pixels, or a tenth of that between scores.

    Raises:
        ConfigError: A package is missing; the model gives more than one tensor and is no detector that can be written; torch
            cannot write that ``opset``; or the two differ by ``TOLERANCE`` or more.
    """
    pt2 = path.endswith('.pt2')
    if not pt2:
        check_onnx()
    generator = torch.Generator().manual_seed(0)
    inputs: list[tuple[Tensor, ...]]
    if is_detector(model):
        module: nn.Module = Detections(model, nms).eval()
        names, outputs, dynamic = ['input', 'size'], list(DETECTIONS), None
        sizes = [torch.tensor([float(side) - cut for side in shape[1:]]) for cut in (0, 5)]
        inputs = [(torch.randn(1, *shape, generator=generator), size) for size in sizes]
        example = inputs[0]
    else:
        module = _Tensors(model).eval()
        names, outputs, dynamic = ['input'], [output], ({0: torch.export.Dim('batch')},)
        inputs = [(torch.randn(batch, *shape, generator=generator),) for batch in batches]
        example = (torch.zeros(2, *shape),)
    with torch.no_grad():
        expected = [_as_tuple(module(*each)) for each in inputs]
    if not all(isinstance(each, Tensor) for answer in expected for each in answer) or len(expected[0]) != len(outputs):
        raise ConfigError(
            f'{type(model).__name__} does not give one tensor, as a classifier or a face model does, and is no detector'
        )
    with replacing(path, '.pt2' if pt2 else '') as part, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore', FutureWarning)  # of torch about itself
        warnings.simplefilter('ignore', UserWarning)
        try:
            if pt2:
                program = torch.export.export(module, example, dynamic_shapes=dynamic)
                program.example_inputs = None  # an image of zeros, which would lie in the file
                torch.export.save(program, str(part))
                run: Callable = torch.export.load(str(part)).module()
            else:
                run = _write_onnx(module, example, dynamic, str(part), names, outputs, opset)
        except ConfigError:
            raise
        except Exception as error:  # torch has many, one for each kind of operator that it does not export
            raise ConfigError(
                f'torch cannot export {type(model).__name__}: {_reason(error)}; {path} was not written. Use student.pth with the '
                'package of the model'
            ) from error
        gap = _gap_of_detections if len(outputs) > 1 else _gap
        worst = max(gap(answer, _as_tuple(run(*each))) for answer, each in zip(expected, inputs, strict=True))
        if not worst < TOLERANCE:
            raise ConfigError(
                f'torch and {"the exported program" if pt2 else "onnxruntime"} differ by {worst:.1e} of the largest number, '
                f'{TOLERANCE:.0e} is allowed; {path} was not written.{"" if pt2 else " Try another --opset"}'
            )
    return worst


def _write_onnx(module, example, dynamic, path: str, names: list[str], outputs: list[str], opset: int) -> Callable:
    """Write the file; returns what onnxruntime computes with it."""
    import onnxruntime

    program = torch.onnx.export(
        module, example, path, input_names=names, output_names=outputs, dynamic_shapes=dynamic, opset_version=opset,
        dynamo=True, external_data=False, verbose=False,
    )  # fmt: skip
    if program.model.opset_imports[''] != opset:  # torch only warns
        raise ConfigError(
            f'torch cannot write opset {opset}, it wrote {program.model.opset_imports[""]}; set opset to that'
        )
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        found = session.run(outputs, {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)})
        return tuple(torch.from_numpy(each) for each in found)

    return run


def _reason(error: BaseException) -> str:
    """The first line of an error; of torch's chain of causes, that of the first."""
    while error.__cause__:
        error = error.__cause__
    return f'{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}'


def _as_tuple(value) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def _gap(expected: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> float:
    return ((found[0] - expected[0]).abs().max() / expected[0].abs().max()).item()


def _gap_of_detections(expected: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> float:
    """Distance of the best of one side from the next one of the other. One in twenty may be a tie that was decided otherwise."""
    rows = []
    for boxes, scores, labels in (expected, found):
        best = scores.argsort(descending=True)[: int((scores > 0).sum())][:100]
        rows.append(torch.cat([boxes[best] / 100, scores[best, None] / 10, labels[best, None].float()], 1))
    if not all(map(len, rows)):
        return float('inf') if any(map(len, rows)) else 0.0
    apart = torch.cdist(rows[0], rows[1], p=float('inf'))
    return max(apart.min(side).values.quantile(0.95).item() for side in (0, 1))


class _Tensors(nn.Module):
    """The forward that is exported of all but detectors."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images, mode='tensor')
