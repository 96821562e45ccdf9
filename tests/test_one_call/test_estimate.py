"""What a timed run looks at."""

from mmengine.config import ConfigDict

from mmsskd.one_call.estimate import _shorten


def test_the_few_images_that_are_timed_are_of_all_classes():
    loader = ConfigDict(batch_size=4, dataset=dict(), num_workers=2, persistent_workers=True)
    _shorten(loader, 1600)  # a set that is sorted by class
    assert loader.dataset.indices == list(range(0, 1600, 100)) and loader.num_workers == 0
    _shorten(loader, 5)
    assert len(loader.dataset.indices) == 16 and max(loader.dataset.indices) == 4
