"""Wrong annotations, files and heads: one clear message before training, or training that copes."""

import json
import shutil

import pytest
import torch
from detection import detection_cfg, detector, save_detector, scope
from helpers import ROOT, train, warm_python
from mmengine.registry import DATASETS

from mmsskd.distill.schedule.data_checks import find_data_error
from mmsskd.errors import ConfigError

pytestmark = pytest.mark.slow


@pytest.fixture
def own(photos, tmp_path):
    """A copy of the data set that a test may spoil."""
    shutil.copytree(photos, tmp_path / 'own')
    return tmp_path / 'own'


def edit(folder, change, split='train'):
    path = folder / f'annotations/{split}.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(message, own, weights, tmp_path, **overrides):
    with pytest.raises(ConfigError, match=message):
        train(detection_cfg(tmp_path / 'run', own, weights, **overrides))
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_category_id_that_the_file_does_not_define(own, detection_teacher, tmp_path):
    edit(own, lambda content: content['annotations'][0].update(category_id=77))
    refused(
        r'train_dataloader: .*category ids that its `categories` do not define: \[77\]',
        own,
        detection_teacher,
        tmp_path,
    )


def test_classes_beyond_the_head(own, tmp_path):
    small = detector(num_classes=4)
    teacher = save_detector(small, tmp_path / 'teacher.pth')
    student = detector(width=4, num_classes=4)
    message = r'train_dataloader: 10 classes \(0, 1, 2, 3, 4, ...\), but model.student.roi_head.bbox_head is made for 4'
    refused(message, own, teacher, tmp_path, teacher=small, student=student)


def test_class_that_the_file_does_not_have(own, detection_teacher, tmp_path):
    """mmdet would number the classes that it finds, and so shift the labels of all that follow."""
    classes = ('0', '1', 'two', '3', '4', '5', '6', '7', '8', '9')
    changes = {f'{name}_dataloader.dataset.metainfo.classes': classes for name in ('train', 'val', 'test')}
    refused(
        r"1 of 10 classes are not in '.*train.json': 'two'; .*Candidates: ", own, detection_teacher, tmp_path, **changes
    )


FEW = {f'{name}_dataloader.dataset.metainfo.classes': ('3', '7') for name in ('train', 'val', 'test')}


def test_head_of_more_classes_than_the_data_set(own, detection_teacher, tmp_path):
    """COCO's metric would stop with an IndexError at the first prediction of another class."""
    message = r'train_dataloader: 2 classes \(3, 7\), but model.student.roi_head.bbox_head is made for 10'
    refused(message, own, detection_teacher, tmp_path, **FEW)


def test_some_of_the_classes_of_the_file_with_a_teacher_of_all(own, detection_teacher, tmp_path):
    """As mmdet does it, what is not named is left out; it is said. The teacher still gives its features."""
    student = detector(width=4, num_classes=2)
    runner = train(detection_cfg(tmp_path / 'run', own, detection_teacher, student=student, **FEW))
    (log,) = (tmp_path / 'run').glob('*/*.log')
    text = log.read_text()
    assert 'also has annotations of 8 classes that the config does not name, left out: 0, 1, 2, 4, 5' in text
    assert 'the teacher is not evaluated: roi_head.bbox_head for 10 classes, the data set has 2' in text
    assert 'teacher_metrics' not in runner.message_hub.runtime_info


@pytest.mark.parametrize('split', ['train', 'val'])
def test_missing_images(own, detection_teacher, tmp_path, split):
    (own / f'{split}/000001.png').unlink()
    count = {'train': 6, 'val': 4}[split]
    refused(rf'{split}_dataloader: 1 of {count} images are not there: .*000001.png', own, detection_teacher, tmp_path)


def fails_on_the_command_line(own, teacher, tmp_path, **overrides) -> str:
    cfg = detection_cfg(tmp_path / 'run', own, teacher, **overrides)
    cfg.pop('experiment_name')
    cfg.dump(tmp_path / 'config.py')
    result = warm_python(ROOT / 'tools/train.py', tmp_path / 'config.py', cwd=tmp_path)
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    assert not list((tmp_path / 'run').glob('*.pth'))
    return result.stderr


def test_no_annotations_at_all(own, detection_teacher, tmp_path):
    edit(own, lambda content: content.update(annotations=[]))
    empty = {'train_dataloader.dataset.filter_cfg': dict(filter_empty_gt=True, min_size=32)}
    error = fails_on_the_command_line(own, detection_teacher, tmp_path, **empty)
    assert 'train_dataloader.dataset' in error and 'annotations/train.json' in error and 'no image is left' in error


def test_truncated_annotation_file(own, detection_teacher, tmp_path):
    path = own / 'annotations/val.json'
    path.write_text(path.read_text()[:1000])
    error = fails_on_the_command_line(own, detection_teacher, tmp_path)
    assert 'val_dataloader.dataset' in error and 'annotations/val.json' in error and 'JSONDecodeError' in error


def crowd_only(content):
    first = content['images'][0]['id']
    for annotation in content['annotations']:
        annotation['iscrowd'] = int(annotation['image_id'] == first)


def one_pixel(content):
    for annotation in content['annotations'][::2]:
        annotation.update(bbox=[*annotation['bbox'][:2], 1, 1], area=1)


def some_empty(content):
    first = content['images'][0]['id']
    content['annotations'] = [item for item in content['annotations'] if item['image_id'] != first]


@pytest.mark.parametrize('change', [crowd_only, one_pixel, some_empty])
def test_odd_annotations_are_trained_with(own, detection_teacher, tmp_path, change):
    edit(own, change)
    cfg = detection_cfg(tmp_path / 'run', own, detection_teacher)
    cfg.default_hooks.stage_schedule.phases = [dict(train='neck'), dict(train='head')]
    runner = train(cfg)
    assert runner.iter == 6
    assert all(torch.isfinite(value).all() for value in runner.model.state_dict().values() if value.is_floating_point())


def test_different_numbers_of_neck_outputs(own, detection_teacher, tmp_path):
    """P2 to P5 follow the teacher's; what has no partner there, the pooled P6, is left out."""
    student = detector(width=4, **{'neck.num_outs': 5, 'rpn_head.anchor_generator.strides': [4, 8, 16, 32, 64]})
    cfg = detection_cfg(tmp_path / 'run', own, detection_teacher, student=student)
    cfg.default_hooks.stage_schedule.phases = [dict(train='neck')]
    assert [shape[1] for shape in train(cfg).model.stages['neck'].shapes] == [16, 8, 4, 2]


def test_teacher_of_another_number_of_classes(own, tmp_path):
    teacher = save_detector(detector(num_classes=80), tmp_path / 'teacher.pth')
    message = (
        r'(?s)other shape \(2\): roi_head.bbox_head.fc_cls.weight \(81, 32\) \(model: \(11, 32\)\).*number of classes'
    )
    refused(message, own, teacher, tmp_path)


def test_category_defined_twice(own, detection_teacher, tmp_path):
    """As some exporters write it; mmdet would number eleven classes."""
    edit(own, lambda content: content['categories'].append(dict(id=99, name='7')))
    refused(r"train.json' defines \['7'\] more than once", own, detection_teacher, tmp_path)


def test_warm_up_longer_than_its_phase(own, detection_teacher, tmp_path):
    cfg = detection_cfg(tmp_path / 'run', own, detection_teacher)
    warm_up = dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=500)
    cfg.default_hooks.stage_schedule.head.param_scheduler = [warm_up]
    cfg.default_hooks.stage_schedule.phases = [dict(train='head')]
    train(cfg)
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert 'LinearLR ends at iteration 500, the phase at 3;' in log.read_text()


def test_names_in_another_order_than_the_file_are_put_right(own, detection_teacher, tmp_path):
    """mmdet numbers the classes by the file, so that the student would have named each class as another."""
    backward = {f'{name}_dataloader.dataset.metainfo.classes': tuple('9876543210') for name in ('train', 'val', 'test')}
    cfg = detection_cfg(tmp_path / 'run', own, detection_teacher, **backward)
    cfg.default_hooks.stage_schedule.phases = [dict(train='head')]
    runner = train(cfg)
    exported = torch.load(tmp_path / 'run/student.pth', weights_only=False)['meta']
    assert exported['dataset_meta']['classes'] == tuple('0123456789')
    assert runner.val_evaluator.dataset_meta['classes'] == tuple('0123456789')


def other_order(content):
    content['categories'].reverse()


def ids_twice(content):
    content['images'][1]['id'] = content['images'][0]['id']


def halved(content):
    for image in content['images']:
        image.update(width=32, height=32)


def nothing(content):
    content['images'][0].update(width=0, height=0)


@pytest.mark.parametrize(
    'change, message',
    [
        (other_order, "val_dataloader: label 0 means '9', but '0' in train_dataloader"),
        (ids_twice, '1 image ids are used twice'),
        (halved, 'have another size than listed: .* is 64 x 64, but listed as 32 x 32'),
        (nothing, 'is listed with width 0 and height 0'),
    ],
)
def test_lists_that_do_not_fit(own, detection_teacher, tmp_path, change, message):
    edit(own, change, 'val')
    refused(message, own, detection_teacher, tmp_path)


def test_evaluator_of_another_list(own, detection_teacher, tmp_path):
    other = {'val_evaluator.ann_file': f'{own}/annotations/train.json'}
    message = 'val_evaluator.ann_file is another list than that of val_dataloader'
    refused(message, own, detection_teacher, tmp_path, **other)


def test_an_annotation_without_area(own, tmp_path):
    """mmdet raises KeyError('area') while it builds the data set; tools/train.py then asks what is wrong."""
    edit(own, lambda content: content['annotations'][1].pop('area'))
    cfg = detection_cfg(tmp_path / 'run', own, 'none.pth')
    with scope(), pytest.raises(KeyError) as caught:
        DATASETS.build(cfg.train_dataloader.dataset)
    message = find_data_error(cfg, caught.value)
    assert message.startswith('train_dataloader.dataset: ') and 'annotations/train.json' in message
    assert 'annotation id 2 of image id 1 has bbox' in message and 'area None' in message
