"""What a folder is taken for, and what is said of one that is of no use."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmsskd.errors import ConfigError
from mmsskd.one_call.compose import side_of
from mmsskd.one_call.data import Data, look_at
from mmsskd.one_call.models import find_model


def put_photos(folder: Path, count: int = 6) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new('RGB', (12, 10), (i, 0, 0)).save(folder / f'photo {i}.png')


def cifar(path: Path, **content) -> None:
    data = dict(data=np.zeros((4, 3 * 8 * 8), np.uint8), labels=[0, 1, 2, 2])
    path.write_bytes(pickle.dumps(dict(data, **content)))


def test_one_folder_of_classes_is_split_the_same_each_time(tmp_path):
    put_photos(tmp_path / 'set/cat', 10)
    put_photos(tmp_path / 'set/dog', 4)
    data = look_at(tmp_path / 'set', tmp_path / 'out')
    assert data.classes == ('cat', 'dog') and data.count == 11 and 'drawn with seed 0' in data.said
    assert not (tmp_path / 'out').exists()
    data.write_lists()
    lists = {split: (tmp_path / f'out/data/{split}.txt').read_text().splitlines() for split in ('train', 'val')}
    assert len(lists['val']) == 3 and len(set(lists['train'] + lists['val'])) == 14
    assert all(line.endswith(' 1') for line in lists['val'] if line.startswith('dog/photo '))
    assert look_at(tmp_path / 'set', tmp_path / 'out').lists == data.lists


def test_train_and_val_stay_as_they_are(tmp_path):
    for split in ('train', 'valid'):
        put_photos(tmp_path / split / 'cat', 3)
        put_photos(tmp_path / split / 'dog', 2)
    put_photos(tmp_path / 'unlabelled', 7)
    data = look_at(tmp_path, tmp_path)
    assert (data.count, data.unlabelled_count, data.shorter) == (5, 7, 10)
    assert data.lists[str(tmp_path / 'data/val.txt')].splitlines()[3] == 'valid/dog/photo 0.png 1'


def test_a_folder_train_alone_is_split_and_names_may_be_in_capitals(tmp_path):
    put_photos(tmp_path / 'Train/Katze grün', 10)
    put_photos(tmp_path / 'Train/犬/2021/more', 10)
    data = look_at(tmp_path, tmp_path)
    assert data.classes == ('Katze grün', '犬') and data.count == 16
    assert 'Train/犬/2021/more/photo 0.png 1' in data.lists[str(tmp_path / 'data/train.txt')].splitlines()


def test_what_is_no_image_is_left_out_and_said(tmp_path):
    for name in ('cat', 'dog'):
        put_photos(tmp_path / name, 10)
    (tmp_path / 'cat/photo 1.png').write_bytes(b'')
    (tmp_path / 'dog/page.jpg').write_text('<html>404</html>')
    whole = (tmp_path / 'dog/photo 1.png').read_bytes()
    (tmp_path / 'dog/photo 1.png').write_bytes(whole[:-30])
    (tmp_path / 'cow').mkdir()
    (tmp_path / 'cow/1.heic').write_bytes(b'of a phone')
    data = look_at(tmp_path, tmp_path)
    assert data.said.endswith(
        '; no image in cow; 3 left out that cannot be read (cat/photo 1.png, dog/page.jpg, dog/photo 1.png)'
    )
    assert 'page.jpg' not in ''.join(data.lists.values()) and data.count == 8 + 8


def test_a_flat_folder_has_no_labels(tmp_path):
    put_photos(tmp_path / 'set')
    data = look_at(tmp_path / 'set', tmp_path)
    assert (data.classes, data.train, data.unlabelled_count) == ((), None, 6)


def test_files_of_cifar(tmp_path):
    cifar(tmp_path / 'data_batch_1')
    cifar(tmp_path / 'test_batch')
    data = look_at(tmp_path, tmp_path)
    assert (data.classes, data.side, data.count) == (('0', '1', '2'), 8, 4)
    cifar(tmp_path / 'batches.meta', label_names=['cat', 'dog', 'cow'])
    assert look_at(tmp_path, tmp_path).classes == ('cat', 'dog', 'cow')


def test_boxes_of_coco(photos, tmp_path):
    data = look_at(photos, tmp_path)
    assert (data.task, data.classes[0], data.count) == ('detection', '0', 6)
    assert data.train['data_prefix'] == dict(img='train/') and data.val['ann_file'] == 'annotations/val.json'
    assert data.unlabelled_count == 5


def empty(folder):
    (folder / 'cat').mkdir(parents=True)


def one_class(folder):
    put_photos(folder / 'cat')


def mixed(folder):
    put_photos(folder)
    put_photos(folder / 'cat')


def no_classes(folder):
    put_photos(folder / 'train')
    put_photos(folder / 'val')


def mixed_below(folder):
    for name in ('train/cat', 'train/dog', 'val', 'val/cat', 'val/dog'):
        put_photos(folder / name, 2)


def only_val(folder):
    put_photos(folder / 'val/cat')


def one_more_level(folder):
    put_photos(folder / 'photos/cat')
    put_photos(folder / 'photos/dog')


def no_images(folder):
    put_photos(folder / 'cat')
    (folder / 'dog').mkdir()
    (folder / 'dog/1.jpg').write_text('no image')


def other_classes(folder):
    for name in ('train/cat', 'train/dog', 'val/cat', 'val/cow'):
        put_photos(folder / name, 2)


def one_photo(folder):
    put_photos(folder / 'cat')
    put_photos(folder / 'dog', 1)


def cifar_without_val(folder):
    folder.mkdir()
    cifar(folder / 'data_batch_1')


def cifar_without_labels(folder):
    cifar_without_val(folder)
    cifar(folder / 'test_batch')
    (folder / 'data_batch_1').write_bytes(pickle.dumps(dict(data=np.zeros((1, 192), np.uint8))))


def coco_without_val(folder):
    (folder / 'annotations').mkdir(parents=True)
    (folder / 'annotations/train.json').write_text('{}')


def coco_without_images(folder):
    coco_without_val(folder)
    content = dict(images=[dict(file_name='1.jpg')], annotations=[dict()], categories=[dict(name='cat')])
    for split in ('train', 'val'):
        (folder / f'annotations/{split}.json').write_text(json.dumps(content))


def line_break(folder):
    put_photos(folder / 'cat')
    put_photos(folder / 'a\ndog')


@pytest.mark.parametrize(
    ('make', 'task', 'message'),
    [
        (line_break, None, r"rename 'a\\ndog/photo 0.png' in .*: no line break in a name"),
        (lambda folder: None, None, 'no folder .*it may be one of'),
        (empty, None, 'holds no image'),
        (one_class, None, r'one class only \(cat\); a classifier needs two'),
        (mixed, None, 'holds 6 images and folders of images .*move the images beside them into set/unlabelled'),
        (no_classes, None, r"set/train' holds 6 images, but no folder of a class: .* name .*set/train' as the data"),
        (mixed_below, None, r"set/val' holds 2 images and folders of images \(cat, dog\)"),
        (only_val, None, 'has a folder val, but no train'),
        (one_more_level, None, r'holds one folder, photos, and that the folders cat, dog: .* name .*set/photos'),
        (no_images, None, 'no image that can be read in .*set/dog'),
        (other_classes, None, r"only in train: \['dog'\], only in val: \['cow'\]"),
        (one_photo, None, 'dog in .* has one image; one to train and one to validate'),
        (cifar_without_val, None, 'none to validate, such as val_batch'),
        (cifar_without_labels, None, "'data_batch_1' .* has no labels"),
        (one_class, 'detection', "no annotations to train and val in COCO's format; it may be"),
        (coco_without_val, None, 'no annotations to val .*there are annotations/train.json'),
        (coco_without_images, None, "no image '1.jpg' of .*train.json' in "),
        (one_class, 'faces', "task must be 'classification' or 'detection', found 'faces'"),
        (coco_without_images, 'classification', "no image '1.jpg'"),
    ],
)  # fmt: skip
def test_what_is_of_no_use_is_said_with_what_would_be(tmp_path, make, task, message):
    make(tmp_path / 'set')
    with pytest.raises(ConfigError, match=message.replace(' .*', r' (?s:.*)')):
        look_at(tmp_path / 'set', tmp_path / 'out', task)


@pytest.mark.parametrize(
    ('student', 'data', 'size', 'side'),
    [
        ('resnet18', dict(shorter=100), None, 96),
        ('resnet18', dict(shorter=20), None, 32),
        ('resnet18', dict(shorter=500), None, 224),
        ('resnet18', dict(shorter=500), 48, 48),
        ('resnet18', dict(side=8), None, 8),
        ('vit-base-p16', dict(shorter=100), None, 224),  # made for one size
    ],
)
def test_photos_are_not_blown_up(student, data, size, side):
    networks = [find_model(name, 'classification', 'student') for name in (student, 'resnet34')]
    assert side_of(*networks, Data('', 'classification', **data), size) == side
