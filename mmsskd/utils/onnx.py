"""A model as an ONNX file, which is there only once onnxruntime has computed with it what torch does."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .files import replacing

TOLERANCE = 1e-4  # float32 in another order of summation differs by about 1e-6


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


def write_onnx(
    model: nn.Module, path: str, shape: Sequence[int], output: str, opset: int = 18, batches: Sequence[int] = (1, 3)
) -> float:
    """Write what ``model(images, mode='tensor')`` gives as ONNX, after a check with onnxruntime.

    Input ``input``: (N, C, H, W) float32, preprocessed already; N is free.

    Args:
        model: In eval mode, on the CPU.
        path: File to write; replaced only once the check has passed.
        shape: (channels, height, width) of an image.
        output: Name of the output.
        opset: Version of ONNX's operators.
        batches: Sizes of the random batches on which torch and onnxruntime are compared.

    Returns:
        The largest difference, relative to the largest number of the output.

    Raises:
        ConfigError: A package is missing, the model gives more than one tensor, torch cannot write that ``opset``, or the two
            differ by ``TOLERANCE`` or more of the largest number.
    """
    check_onnx()
    import onnxruntime

    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(batch, *shape, generator=generator) for batch in batches]
    with torch.no_grad():
        outputs = [model(images, mode='tensor') for images in inputs]
    if not all(isinstance(each, Tensor) for each in outputs):
        raise ConfigError(
            f'ONNX: {type(model).__name__} does not give one tensor, as a classifier or a face model does; detectors are exported '
            'by mmdeploy'
        )
    with replacing(path) as part:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', FutureWarning)  # of torch about itself
            program = torch.onnx.export(
                _Tensors(model).eval(),
                (torch.zeros(2, *shape),),
                str(part),
                input_names=['input'],
                output_names=[output],
                dynamic_shapes=({0: torch.export.Dim('batch')},),
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        if program.model.opset_imports[''] != opset:  # torch only warns
            raise ConfigError(
                f'torch cannot write opset {opset}, it wrote {program.model.opset_imports[""]}; set opset to that'
            )
        session = onnxruntime.InferenceSession(str(part), providers=['CPUExecutionProvider'])
        worst = 0.0
        for images, expected in zip(inputs, outputs, strict=True):
            found = torch.from_numpy(session.run([output], {'input': images.numpy()})[0])
            worst = max(worst, ((found - expected).abs().max() / expected.abs().max()).item())
        if not worst < TOLERANCE:
            raise ConfigError(
                f'torch and onnxruntime differ by {worst:.1e} of the largest number, {TOLERANCE:.0e} is allowed; {path} was not '
                'written. Try another --opset'
            )
    return worst


class _Tensors(nn.Module):
    """The forward that is exported."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images, mode='tensor')
