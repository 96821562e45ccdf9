import torch
from mmengine.dataset import pseudo_collate

from ..registry import FUNCTIONS


@FUNCTIONS.register_module()
def stack_images(batch: list[dict] | dict) -> dict:
    """Collate a batch with its images as one tensor where they have one size, as MMEngine's ``pseudo_collate`` does where not.

    A list of images costs a copy to the GPU, a normalization and a padding each. MMEngine's ``default_collate``, with which
    mmpretrain's own tools train, stacks too, and fails where sizes differ.

    Args:
        batch: Samples, of which ``inputs`` is an image (C, H, W); or a batch that its data set has made, which stays as it is.

    Returns:
        A dict with the keys of the samples; ``inputs`` is (N, C, H, W), or a list.

    Example:
        >>> stack_images([dict(inputs=torch.zeros(3, 8, 8)), dict(inputs=torch.ones(3, 8, 8))])['inputs'].shape
        torch.Size([2, 3, 8, 8])
    """
    if isinstance(batch, dict):
        return batch
    data = pseudo_collate(batch)
    images = data['inputs'] if isinstance(data, dict) else None
    if images and all(torch.is_tensor(image) and image.shape == images[0].shape for image in images):
        data['inputs'] = torch.stack(images)
    return data
