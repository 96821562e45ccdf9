"""Small face recognizers with weights as training might leave them."""

from arcface_helpers import iresnet_table, random_state

from mmsskd.face.models import FaceRecognizer

WIDTH = 8  # channels of the first stage


PREPROCESSOR = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)


def ir_recognizer(depth=18, size=32, people=None, **fields) -> FaceRecognizer:
    return FaceRecognizer(
        backbone=dict(type='mmsskd.IResNet', depth=depth, base_channels=WIDTH),
        neck=dict(type='mmsskd.FaceEmbedNeck', in_channels=8 * WIDTH, feature_size=size // 16, num_features=32),
        head=None if people is None else dict(type='mmsskd.MarginClsHead', num_classes=people, in_channels=32),
        data_preprocessor=PREPROCESSOR,
        **fields,
    )


def small_state(seed=0, size=32):
    return random_state(iresnet_table(18, WIDTH, 32, size // 16), seed)


def shapes(state):
    return {name: tuple(value.shape) for name, value in state.items()}
