"""Folders of classes against each other, and configs whose data sets cannot be built."""

import pytest
from helpers import run_cfg, train
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from mmsskd.distill.schedule.data_checks import check_datasets, find_data_error
from mmsskd.errors import ConfigError


class Said(list):
    def warning(self, message):
        self.append(message)


def folders(path, *names):
    """Config of a set of one image a folder."""
    for name in names:
        (path / name).mkdir(parents=True)
        Image.new('RGB', (8, 8)).save(path / name / 'a.png')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    return dict(type='mmpretrain.CustomDataset', data_root=str(path), pipeline=pipeline)


def check(tmp_path, here, there):
    said = Said()
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        sets = [DATASETS.build(folders(tmp_path / split, *names)) for split, names in (('train', here), ('val', there))]
    check_datasets(dict(train_dataloader=sets[0], val_dataloader=sets[1]), said)
    return said


@pytest.mark.parametrize(
    'there, found',
    [
        (['cat', 'fox'], "label 1 means 'fox', but 'dog'"),  # lacks one
        (['cat', 'fox', 'hound'], "label 1 means 'fox', but 'dog'"),  # renames one
        (['ape', 'cat', 'dog', 'fox'], "label 0 means 'ape', but 'cat'"),  # has one more
    ],
)
def test_folders_that_lack_or_rename_a_class(tmp_path, there, found):
    with pytest.raises(ConfigError, match=f'val_dataloader: {found} in train_dataloader.*an empty folder for a class'):
        check(tmp_path, ['cat', 'dog', 'fox'], there)


def test_an_empty_folder_stands_for_a_class_without_images(tmp_path):
    (tmp_path / 'val/dog').mkdir(parents=True)
    assert not check(tmp_path, ['cat', 'dog', 'fox'], ['cat', 'fox'])


@pytest.mark.parametrize(
    'there, said',
    [
        (['Cat', 'traffic light'], None),
        (['cat'], 'the first of the 2'),  # labels are right
        (['n01440764', 'n01443537'], 'have other names than those of train_dataloader (cat, traffic_light)'),
    ],
)
def test_names_under_which_labels_may_well_be_right(tmp_path, there, said):
    found = check(tmp_path, ['cat', 'traffic_light'], there)
    assert (said is None and not found) or said in found[0]


def test_stages_with_folders_that_differ(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path / 'run', teacher_path)
    names = [f'class{i}' for i in range(10)]
    for split, own in (('train', names), ('val', [*names[:3], 'other', *names[4:]])):
        cfg[f'{split}_dataloader'].dataset = folders(tmp_path / split, *own)
    with pytest.raises(ConfigError, match="val_dataloader: label 3 means 'class4', but 'class3'"):
        train(cfg)
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_an_image_without_content(tmp_path):
    cfg = folders(tmp_path / 'train', 'cat', 'dog')
    (tmp_path / 'train/dog/a.png').write_bytes(b'')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(cfg)
    with pytest.raises(ConfigError, match='train_dataloader: 1 of 2 images have 0 bytes: .*dog/a.png'):
        check_datasets(dict(train_dataloader=dataset), Said())


@pytest.mark.parametrize('hook', [dict(phases='sskd_kept', transfer='long'), 'mmsskd.StageScheduleHook', None])
def test_a_data_set_that_cannot_be_built_is_found_beside_any_hook(tmp_path, hook):
    """Named schedules were taken for lists of phases, which hid the error."""
    dataset = dict(type='mmpretrain.CustomDataset', data_root=str(tmp_path / 'nowhere'))
    nested = dict(type='RepeatDataset', times=2, dataset=dataset)
    cfg = Config(dict(val_dataloader=dict(dataset=nested), default_hooks=dict(stage_schedule=hook)))
    with pytest.raises(Exception) as caught:
        DATASETS.build(dict(nested))
    message = find_data_error(cfg, caught.value)
    assert message.startswith(f"val_dataloader.dataset.dataset cannot be built from data_root='{tmp_path}/nowhere'")


def test_classes_of_a_file_that_is_not_there(tmp_path):
    dataset = dict(folders(tmp_path, 'cat'), classes='cat')
    with DefaultScope.overwrite_default_scope('mmpretrain'), pytest.raises(FileNotFoundError) as caught:
        DATASETS.build(dict(dataset))
    cfg = Config(dict(default_scope='mmpretrain', train_dataloader=dict(dataset=dataset)))
    assert r"train_dataloader.dataset: classes='cat' is a string, but no file" in find_data_error(cfg, caught.value)
