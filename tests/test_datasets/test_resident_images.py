"""Images that stay in memory: their batches are those of the pipeline that they stand for, drawn at once."""

import copy
import re

import numpy as np
import pytest
import torch
from helpers import ROOT, run_cfg, same, train, weights
from mmengine.config import Config
from mmengine.registry import DATASETS

from mmsskd.cli.loaders import complete_loaders
from mmsskd.datasets import Digits, ResidentImages
from mmsskd.datasets.resident_images import _crop, _split
from mmsskd.errors import ConfigError
from mmsskd.utils.states import seed_random_states

PACK = dict(type='PackInputs')
CROP = dict(type='RandomCrop', crop_size=(8, 7), padding=(1, 2), pad_val=7)
FLIP = dict(type='RandomFlip', prob=0.25, direction='horizontal')


def resident(*pipeline, **kwargs):
    return ResidentImages(of='mmsskd.Digits', pipeline=[*pipeline, PACK], device='cpu', **kwargs)


def test_without_draws_a_batch_is_that_of_the_data_set_to_the_bit():
    digits = Digits(pipeline=[dict(type='mmpretrain.Resize', scale=10), dict(type='mmpretrain.PackInputs')], indices=30)
    images = resident(dict(type='Resize', scale=10), indices=30)
    batch = images.__getitems__([3, 29, 3])
    for i, index in enumerate([3, 29, 3]):
        assert torch.equal(batch['inputs'][i], digits[index]['inputs'])
        assert torch.equal(batch['data_samples'][i].gt_label, digits[index]['data_samples'].gt_label)
    assert torch.equal(images[29]['inputs'], digits[29]['inputs'])
    assert len(images) == 30 and images.metainfo == digits.metainfo
    assert batch['data_samples'][0] is not batch['data_samples'][2]  # a model writes into it


@pytest.mark.parametrize('count', [2, 32])
def test_a_gray_batch_is_not_in_channels_last_order(count):
    """Models would follow such strides, in which a CPU's torch 2.12.1 dies at 1x1 convolutions of stride 2 with few channels."""
    pipeline = [dict(type='RandomCrop', crop_size=8, padding=1), FLIP]
    inputs = resident(*pipeline, indices=32).__getitems__(list(range(count)))['inputs']
    assert inputs.stride() == (64, 64, 8, 1)


def test_each_crop_is_one_of_the_padded_image_and_all_are_as_likely():
    torch.manual_seed(0)
    images = resident(CROP, FLIP, indices=4)
    image = np.pad(Digits(indices=4)[2]['img'], ((2, 2), (1, 1)), constant_values=7)
    possible = [image[y : y + 8, x : x + 7] for y in range(5) for x in range(4)]
    possible = torch.tensor(np.stack([*possible, *(crop[:, ::-1] for crop in possible)]))
    draws = 8000
    drawn = images.__getitems__([2] * draws)['inputs'][:, 0]
    found = (drawn[:, None] == possible).all((2, 3))
    assert (found.sum(1) == 1).all()
    counts = found.sum(0).double()
    expected = torch.tensor([0.75] * 20 + [0.25] * 20, dtype=torch.float64) * draws / 20
    assert (
        (counts - expected) ** 2 / expected
    ).sum() < 72.1  # chi-square, 39 degrees of freedom: one in a thousand is above


def test_the_same_distribution_as_the_pipeline_that_it_replaces():
    seed_random_states(0)
    pipeline = [dict(cfg, type=f'mmpretrain.{cfg["type"]}') for cfg in (CROP, FLIP, PACK)]
    digits = Digits(pipeline=pipeline, indices=1)
    one_by_one = torch.stack([digits[0]['inputs'] for _ in range(3000)]).double()
    at_once = resident(CROP, FLIP, indices=1).__getitems__([0] * 3000)['inputs'].double()
    deviation = one_by_one.std(0).clamp_min(1) * (2 / 3000) ** 0.5
    assert ((one_by_one.mean(0) - at_once.mean(0)).abs() / deviation).max() < 4.5


@pytest.mark.parametrize(
    ('pipeline', 'message'),
    [
        (
            [dict(type='ColorJitter', brightness=0.4)],
            r"pipeline has \['ColorJitter'\].*it can do \['LoadImageFromFile'",
        ),
        ([FLIP, CROP], 'then RandomCrop and RandomFlip, each at most once'),
        ([CROP, dict(type='Resize', scale=8)], 'order that cannot be split'),
        ([dict(CROP, padding_mode='reflect')], "must have padding_mode='constant'"),
        ([dict(FLIP, direction='vertical')], 'RandomFlip must be horizontal'),
    ],
    ids=['unknown', 'order', 'fixed behind drawn', 'padding', 'vertical'],
)
def test_what_it_cannot_do_is_refused(pipeline, message):
    with pytest.raises(ConfigError, match=message):
        resident(*pipeline)


def test_images_of_different_sizes_are_refused(tmp_path):
    from PIL import Image

    for size in (8, 9):
        (tmp_path / 'one').mkdir(exist_ok=True)
        Image.new('L', (size, 8)).save(tmp_path / f'one/{size}.png')
    pipeline = [dict(type='LoadImageFromFile'), PACK]
    images = ResidentImages(of='CustomDataset', data_root=str(tmp_path), pipeline=pipeline, device='cpu')
    with pytest.raises(ConfigError, match=r'of one size, found \[\(3, 8, 8\), \(3, 8, 9\)\]'):
        images[0]


@pytest.mark.slow
def test_a_run_trains_on_them_and_resumes_to_the_bit(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path / 'whole', teacher_path, hook=dict(evaluate_teacher=False))
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.update(type='mmsskd.ResidentImages', of='mmsskd.Digits')
        loader.num_workers = 2  # as inherited
    complete_loaders(cfg)
    again = copy.deepcopy(cfg)
    whole = train(cfg)
    assert isinstance(whole.train_loop.dataloader.dataset, DATASETS.get('mmsskd.ResidentImages'))
    again.work_dir, again.experiment_name = str(tmp_path / 'again'), f'{cfg.experiment_name}_again'
    again.resume, again.load_from = True, str(tmp_path / 'whole/epoch_2.pth')
    train(again)
    assert same(weights(tmp_path / 'whole/epoch_4.pth'), weights(tmp_path / 'again/epoch_4.pth'))


def test_the_config_of_the_page():
    (code,) = re.findall(
        r'test_resident_images.py -->\n```python\n(.*?)```', (ROOT / 'docs/speed.md').read_text(), re.S
    )
    cfg = Config.fromstring(code, '.py')
    for split in ('train', 'val'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.type == 'mmsskd.ResidentImages' and dataset.of == 'CIFAR100' and dataset.split
        _split(dataset.pipeline)
    assert _crop(cfg.train_dataloader.dataset.pipeline[0])['padding'] == (4, 4, 4, 4)
