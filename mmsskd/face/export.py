"""A face model as others use it: weights under InsightFace's names, and ONNX."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ConfigError
from ..utils.files import replacing
from ..utils.portable import write_portable
from .data.alignment import check_size
from .models.face_embed_neck import FaceEmbedNeck
from .models.face_gdc_neck import FaceGDCNeck
from .models.face_recognizer import FaceRecognizer
from .models.iresnet import IResNet
from .models.mobilefacenet import MobileFaceNet


def arcface_state_dict(model: FaceRecognizer) -> dict[str, Tensor]:
    """Backbone and embedding as a plain state dict with the names of InsightFace's arcface_torch, on the CPU.

    Its ``get_model('r50', fp16=False)`` (or ``r18``, ``r34``, ``r100``, ``mbf`` for a MobileFaceNet of scale 2) loads it strictly.
    The reverse of :meth:`FaceRecognizer.adopt_state_dict`; the head is dropped.

    Raises:
        ConfigError: The model is of another architecture than InsightFace's.
    """
    pairs = [(IResNet, FaceEmbedNeck), (MobileFaceNet, FaceGDCNeck)]
    if not any(isinstance(model.backbone, backbone) and isinstance(model.neck, neck) for backbone, neck in pairs):
        allowed = ' or '.join(f'{backbone.__name__} with {neck.__name__}' for backbone, neck in pairs)
        raise ConfigError(
            f'InsightFace has no {type(model.backbone).__name__} with {type(model.neck).__name__}; its names are those of '
            f'{allowed}. ONNX takes any model: tools/face/export_onnx.py'
        )
    state = {**model.backbone.state_dict(), **model.neck.state_dict()}
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def save_arcface(model: FaceRecognizer, path: str) -> None:
    """Write :func:`arcface_state_dict` to ``path``, beside its place and then renamed."""
    state = arcface_state_dict(model)
    with replacing(path) as part:
        torch.save(state, part)


def export_onnx(
    model: FaceRecognizer,
    path: str,
    size: int | Sequence[int] = 112,
    opset: int = 18,
    batches: Sequence[int] = (1, 3),
) -> float:
    """Write the embedding of a face model as ONNX, after a check with onnxruntime.

    Input ``input``: (N, 3, height, width) float32, normalized by the model's ``data_preprocessor`` already; output ``embedding``:
    (N, D) float32, not normalized. N is free.

    Args:
        model: In eval mode, on the CPU.
        path: File to write; replaced only once the check has passed.
        size: Height and width of the images in pixels, or one number for both.
        opset: Version of ONNX's operators.
        batches: Sizes of the random batches on which torch and onnxruntime are compared.

    Returns:
        The largest difference, relative to the largest number of the embeddings.

    Raises:
        ConfigError: A package is missing, torch cannot write that ``opset``, the model takes no images of that size, or the two
            differ by ``TOLERANCE`` or more of the largest number.
    """
    return write_portable(model, path, (3, *check_size(size, 'size')), 'embedding', opset, batches)


def normalization(model: FaceRecognizer) -> str:
    """Say in words what a user of the exported weights must do to an image."""
    preprocessor = model.data_preprocessor
    order = 'RGB' if getattr(preprocessor, 'to_rgb', False) else 'BGR (the order of the data set)'
    if getattr(preprocessor, 'mean', None) is None:
        return f'{order}, 0 to 255'
    mean, std = (value.flatten().tolist() for value in (preprocessor.mean, preprocessor.std))
    mean, std = (values[0] if len(set(values)) == 1 else values for values in (mean, std))
    return f'{order}, (x - {mean}) / {std}'
