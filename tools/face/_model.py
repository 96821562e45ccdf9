"""Readers of a config for the export tools: the face model, its own or a run's student, and the size of its images."""

from mmengine.config import Config, ConfigDict

from mmsskd.distill.build import build_model, load_strictly, resolve_model_cfg, without_init
from mmsskd.distill.export import plain_config
from mmsskd.distill.phases import is_stagewise
from mmsskd.errors import ConfigError
from mmsskd.face.data.alignment import check_size
from mmsskd.face.models import FaceRecognizer
from mmsskd.registry import type_name


def read_recognizer(cfg: Config, checkpoint: str) -> FaceRecognizer:
    """The face model of a config with the weights of a checkpoint, in eval mode.

    Args:
        cfg: Of a face model, or of a stage-by-stage run, of which the student is taken.
        checkpoint: File or URL, loaded strictly: of a run, an exported student, or InsightFace's (then ``model.head=None``).

    Raises:
        ConfigError: The config is of another kind of model, or the weights do not fit.
    """
    plain = plain_config(cfg) if is_stagewise(cfg) else cfg
    model_cfg = ConfigDict(plain.model)
    model_cfg.setdefault('_scope_', plain.get('default_scope') or 'mmpretrain')
    preprocessor = model_cfg.get('data_preprocessor') or plain.get('data_preprocessor')
    model = build_model(without_init(resolve_model_cfg(model_cfg, 'student', preprocessor)))
    if not isinstance(model, FaceRecognizer):
        raise ConfigError(f'model.type must be mmsskd.FaceRecognizer, found {type(model).__name__}')
    load_strictly(model, checkpoint, 'checkpoint')
    return model.eval()


def image_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the crops that a config's network takes.

    Said by ``size`` of FaceEvaluation and of AlignFace in its pipeline, ``input_shape`` of a run, ``input_size`` of the backbone;
    without these by AlignFace in the training pipeline; else 112, the default of all of them.

    Raises:
        ConfigError: Two of them differ.
    """
    backbone = (plain_config(cfg) if is_stagewise(cfg) else cfg).model.get('backbone') or {}
    found = {
        **_sizes(cfg.get('test_dataloader'), 'test_dataloader'),
        **_sizes(cfg.get('val_dataloader'), 'val_dataloader'),
    }
    if cfg.model.get('input_shape') is not None:
        found['model.input_shape'] = tuple(cfg.model.input_shape)[1:]
    if 'input_size' in backbone:
        found['backbone.input_size'] = check_size(backbone['input_size'], 'backbone.input_size')
    found = found or _sizes(cfg.get('train_dataloader'), 'train_dataloader')  # in training a crop may be cut further
    if len(set(found.values())) > 1:
        said = ', '.join(f'{key}: {size[0]}x{size[1]}' for key, size in found.items())
        raise ConfigError(f'the config names images of different sizes ({said}); say with --size which one to export')
    return next(iter(found.values()), (112, 112))


def _sizes(cfg, where: str) -> dict[str, tuple[int, int]]:
    """The ``size`` of each FaceEvaluation and AlignFace in a part of a config, by its key."""
    if isinstance(cfg, (list, tuple)):
        inner = [(f'{where}[{place}]', value) for place, value in enumerate(cfg)]
    elif isinstance(cfg, dict):
        inner = [(f'{where}.{key}', value) for key, value in cfg.items()]
    else:
        return {}
    found = {}
    if type_name(cfg) in ('FaceEvaluation', 'AlignFace'):
        found[f'{where}.size'] = check_size(cfg.get('size', 112), f'{where}.size')
    for key, value in inner:
        found.update(_sizes(value, key))
    return found
