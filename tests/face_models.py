"""Small face recognizers with weights as training might leave them."""

import torch
from arcface_helpers import iresnet_table, random_state
from mmpretrain.datasets.transforms import PackInputs

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


def packed(count=4, size=32, seed=0, labels=True) -> dict:
    """A batch as a data loader gives it: BGR images of 0 to 255 and data samples of mmpretrain's PackInputs."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8).numpy()
    records = [dict(img=picture, img_path=f'{k}.jpg') for k, picture in enumerate(pictures)]
    if labels:
        records = [dict(record, gt_label=k % 4) for k, record in enumerate(records)]
    items = [PackInputs()(record) for record in records]
    return dict(inputs=[item['inputs'] for item in items], data_samples=[item['data_samples'] for item in items])
