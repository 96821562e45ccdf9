"""Batches whose images are one tensor."""

import torch
from mmengine.registry import FUNCTIONS
from mmpretrain.structures import DataSample

import mmsskd  # noqa: F401  registers the scope


def test_images_of_one_size_are_stacked_and_others_stay_a_list():
    stack = FUNCTIONS.get('mmsskd.stack_images')
    images = [torch.arange(12.0).view(3, 2, 2) + i for i in range(2)]
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    batch = stack([dict(inputs=image, data_samples=sample) for image, sample in zip(images, samples)])
    assert torch.equal(batch['inputs'], torch.stack(images)) and batch['data_samples'] == samples
    batch = stack([dict(inputs=images[0]), dict(inputs=torch.zeros(3, 4, 2))])
    assert [tuple(image.shape) for image in batch['inputs']] == [(3, 2, 2), (3, 4, 2)]
