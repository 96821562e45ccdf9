"""Photos without labels: each real folder once, in order; corrupt ones are named."""

import cv2
import pytest
from detection import detection_cfg
from helpers import ROOT, warm_python
from mmengine.logging import MMLogger

from mmsskd.datasets import UnlabelledImages
from mmsskd.errors import ConfigError


@pytest.fixture
def folder(photos, tmp_path):
    """Five photos: one in a folder below, one cut off in the middle, one that is no image; and a text file."""
    root = tmp_path / 'photos'
    (root / 'more').mkdir(parents=True)
    for i, path in enumerate(sorted((photos / 'unlabelled').glob('*.png'))[:3]):
        cv2.imwrite(str(root / ('more' if i == 2 else '.') / f'{i}.jpg'), cv2.imread(str(path)))
    whole = (root / '0.jpg').read_bytes()
    (root / 'cut.jpg').write_bytes(whole[: len(whole) // 2])
    (root / 'text.JPG').write_bytes(b'not an image')
    (root / 'README.txt').write_text('none')
    return root


def photos_of(folder, **fields):
    return UnlabelledImages(str(folder), pipeline=[lambda item: item], **fields)


def test_unlabelled_images_are_those_of_the_folder_in_order(folder):
    dataset = photos_of(folder)
    names = [dataset.get_data_info(i)['img_path'].removeprefix(f'{folder}/') for i in range(len(dataset))]
    assert names == ['0.jpg', '1.jpg', 'cut.jpg', 'more/2.jpg', 'text.JPG']
    info = dataset.get_data_info(0)
    assert (info['width'], info['height'], info['instances']) == (64, 64, [])


def test_each_real_folder_of_photos_is_taken_once(folder, caplog):
    (folder / 'more' / 'loop').symlink_to('..')
    (folder / 'again').symlink_to('more')
    far = folder.with_name('far')
    far.mkdir()
    (folder / '0.jpg').rename(far / '0.jpg')
    (folder / 'far').symlink_to(far)
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        dataset = photos_of(folder)
    finally:
        logger.removeHandler(caplog.handler)
    names = [dataset.get_data_info(i)['img_path'].removeprefix(f'{folder}/') for i in range(len(dataset))]
    assert names == ['1.jpg', 'cut.jpg', 'far/0.jpg', 'more/2.jpg', 'text.JPG']
    (record,) = [record for record in caplog.records if 'left out' in record.message]
    assert f"left out 2 folders: '{folder}/again', '{folder}/more/loop'; links lead" in record.message


@pytest.mark.parametrize(('index', 'name'), [(2, 'cut.jpg'), (4, 'text.JPG')])
def test_a_corrupt_image_is_named_and_skipped(folder, index, name, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        dataset = photos_of(folder)
        for _ in range(3):
            assert dataset[index]['img_path'].endswith(('/0.jpg', '/1.jpg', '/2.jpg'))
    finally:
        logger.removeHandler(caplog.handler)
    named = [record for record in caplog.records if name in record.message]
    assert len(named) == 1 and 'another image takes its place' in named[0].message  # said once


def test_a_corrupt_image_stops_the_run_if_so_set(folder):
    with pytest.raises(ConfigError, match=r"cut.jpg' is corrupt \(.*truncated.*set corrupt='skip'"):
        photos_of(folder, corrupt='stop')[2]


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 1])
def test_a_corrupt_image_among_few_stops_the_run_before_it_trains(photos, folder, detection_teacher, tmp_path, workers):
    """One message names the file, also where the phase that it is for has workers."""
    (folder / 'text.JPG').unlink()
    dataset = dict(type='mmsskd.UnlabelledImages', data_root=str(folder), corrupt='stop')
    cfg = detection_cfg(tmp_path / 'run', photos, detection_teacher)
    loader = dict(cfg.train_dataloader, num_workers=workers, sampler=dict(type='DefaultSampler', shuffle=False))
    loader['dataset'] = dict(dataset, pipeline=cfg.train_dataloader.dataset.pipeline)
    cfg.default_hooks.stage_schedule.phases = [dict(train='layer1'), dict(train='layer2', train_dataloader=loader)]
    cfg.pop('experiment_name')
    cfg.dump(tmp_path / 'config.py')
    result = warm_python(ROOT / 'tools/train.py', tmp_path / 'config.py', cwd=tmp_path)
    assert result.returncode == 1
    message = result.stderr[result.stderr.index('error: ') :]
    assert message.startswith(f"error: the image '{folder}/cut.jpg' is corrupt") and message.count('\n') == 1
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_a_pipeline_that_drops_images_without_boxes_is_named(folder):
    dataset = UnlabelledImages(str(folder), pipeline=[lambda item: None])
    with pytest.raises(ConfigError, match=r'which has no boxes: set allow_negative_crop=True'):
        dataset[0]


def test_a_missing_or_empty_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"data_root: no folder '.*nowhere'"):
        photos_of(tmp_path / 'nowhere')
    with pytest.raises(ConfigError, match='holds no image'):
        photos_of(tmp_path)
    with pytest.raises(ConfigError, match="must be 'skip' or 'stop', found 'ignore'"):
        photos_of(tmp_path, corrupt='ignore')
