"""Annotation lists against each other, the evaluators and the files: by names, ids and sizes. Real mmdet data sets."""

import copy
import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from detection import detection_cfg, detector, save_detector, scope
from helpers import ROOT, require_ops, warm_python
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, METRICS
from mmengine.runner import Runner
from PIL import Image

from mmsskd.compare.dry_run import dry_run
from mmsskd.compare.runs import Run
from mmsskd.distill.schedule.data_checks import DataChecks, check_datasets
from mmsskd.errors import ConfigError
from mmsskd.utils.coco_list import as_coco_list, keeping_lists

require_ops()

CATEGORIES = [dict(id=3, name='cat'), dict(id=8, name='dog'), dict(id=1, name='fox')]
NAMES = ('cat', 'dog', 'fox')
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]


class Said(list):
    """A logger whose warnings a test can read."""

    def warning(self, message):
        self.append(message)


class Pets:
    """Two lists of four images of 40 x 30 pixels, a cat and a dog on each, which a test may spoil."""

    def __init__(self, folder):
        self.folder, self.said = folder, Said()
        self.lists = {}
        for number, split in enumerate(('train', 'val')):
            (folder / split).mkdir()
            images = [dict(id=10 * number + i, file_name=f'{split}{i}.jpg', width=40, height=30) for i in range(1, 5)]
            for image in images:
                Image.new('RGB', (40, 30), (90, 20 * number, 5)).save(folder / split / image['file_name'])
            annotations = [
                dict(
                    id=100 * number + 2 * i + k,
                    image_id=image['id'],
                    category_id=(3, 8)[k],
                    bbox=[4.0 + 15 * k, 12.0, 14.0, 16.0],
                    area=224.0,
                    iscrowd=0,
                    segmentation=[[4, 12, 18, 12, 18, 28]],
                )
                for i, image in enumerate(images)
                for k in range(2)
            ]
            self.lists[split] = dict(images=images, annotations=annotations, categories=copy.deepcopy(CATEGORIES))

    def config(self, split='train', kind='CocoDataset', **changes):
        (self.folder / f'{split}.json').write_text(json.dumps(self.lists[split]))
        prefix = dict(img=split.split('_')[0] + '/')
        cfg = dict(type=kind, data_root=str(self.folder), ann_file=f'{split}.json', data_prefix=prefix)
        return dict(cfg, metainfo=dict(classes=NAMES), pipeline=PIPELINE, test_mode=split != 'train', **changes)

    def build(self, split='train', **changes):
        cfg = self.config(split)
        cfg.update(changes)
        with scope():
            return DATASETS.build(cfg)

    def evaluator(self, split='val', **changes):
        self.config(split)
        with scope():
            metric = METRICS.build(dict(type='CocoMetric', ann_file=str(self.folder / f'{split}.json'), **changes))
        return Evaluator(metric)

    def check(self, train=None, val=None, evaluator=None, **options):
        datasets = dict(train_dataloader=train or self.build(), val_dataloader=val or self.build('val'))
        evaluators = {} if evaluator is None else dict(val_dataloader=evaluator)
        check_datasets(datasets, self.said, evaluators=evaluators, **options)
        return datasets

    def refused(self, message, **arguments):
        with pytest.raises(ConfigError, match=message):
            self.check(**arguments)

    def ids(self, split='train'):
        return self.lists[split]['images'], self.lists[split]['annotations']


@pytest.fixture
def pets(tmp_path):
    return Pets(tmp_path)


def test_lists_that_fit_are_not_spoken_of(pets):
    pets.lists['train']['annotations'][0]['category_id'] = pets.lists['val']['annotations'][0]['category_id'] = 1
    pets.check(evaluator=pets.evaluator())
    assert not pets.said


# -- names -------------------------------------------------------------------------------------------------------------


def test_categories_in_another_order(pets):
    pets.lists['val']['categories'].reverse()
    message = (
        r"val_dataloader: label 0 means 'fox', but 'cat' in train_dataloader. Order of the classes here: fox, dog, cat; there: "
        r'cat, dog, fox. mmdet numbers .*val.json'
    )
    pets.refused(message)


def test_a_concatenated_list_in_another_order(pets):
    pets.lists['train_more'] = copy.deepcopy(pets.lists['train'])
    pets.lists['train_more']['categories'].reverse()
    both = [pets.config(), pets.config('train_more')]
    for wrapped in (
        dict(type='ConcatDataset', datasets=both),
        dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=both)),
        dict(type='MultiImageMixDataset', pipeline=[], dataset=dict(type='ConcatDataset', datasets=both)),
    ):
        with scope():
            dataset = DATASETS.build(copy.deepcopy(wrapped))
        pets.refused(
            r"train_dataloader datasets\[1\]: label 0 means 'fox', but 'cat' in train_dataloader ", train=dataset
        )


def test_names_in_another_order_than_the_labels_are_put_right(pets):
    given = dict(classes=('fox', 'dog', 'cat'), palette=[(1, 1, 1), (2, 2, 2), (3, 3, 3)])
    repeated = dict(type='RepeatDataset', times=2, dataset=dict(pets.config(), metainfo=given))
    with scope():
        train = DATASETS.build(repeated)
    val = pets.build('val', metainfo=given)
    pets.check(train=train, val=val, evaluator=pets.evaluator())
    for dataset in (train, train.dataset, val):
        assert tuple(dataset.metainfo['classes']) == NAMES
        assert dataset.metainfo['palette'] == [(3, 3, 3), (2, 2, 2), (1, 1, 1)]
    assert train.dataset.get_data_info(0)['instances'][0]['bbox_label'] == 0
    assert 'names the classes as fox, dog, cat, but mmdet numbers them' in '\n'.join(pets.said)


def test_one_class_whose_tuple_lacks_its_comma(pets):
    one = pets.build(metainfo=dict(classes=('cat')))
    pets.refused(r"train_dataloader: metainfo.classes is the string 'cat', .*classes=\('cat',\)", train=one)


def test_a_list_that_lacks_a_category(pets):
    pets.lists['val']['categories'].pop()
    pets.refused(r"val_dataloader: 1 of 3 classes are not in '.*val.json': 'fox'; .*or add the category to the file")


def test_category_ids_null_undefined_or_twice(pets):
    pets.lists['train']['annotations'][5]['category_id'] = None
    pets.refused(r"train.json': annotation id 5 of image id 3 has category_id None")
    pets.lists['train']['annotations'][5]['category_id'] = 'dog'
    pets.refused(
        r"category ids that its `categories` do not define: \['dog'\] \(annotation id 5; defined: \[3, 8, 1\]\)"
    )
    pets.lists['train']['annotations'][5]['category_id'] = 8
    pets.lists['train']['categories'].append(dict(id=3, name='hare'))
    pets.refused(r"train.json' defines category id 3 2 times, as 'cat', 'hare'")


# -- ids and evaluators ------------------------------------------------------------------------------------------------


def test_image_ids_used_twice(pets):
    images, _ = pets.ids()
    images[2]['id'] = 1
    pets.refused(r"train.json': 1 image ids are used twice; 1 by train1.jpg, train3.jpg")


def test_an_evaluator_of_another_list(pets):
    pets.refused(
        r'val_evaluator.ann_file is another list than that of val_dataloader \(.*val.json.\): 4 image ids are not in it, the first '
        r'11 \(val1.jpg\)',
        evaluator=pets.evaluator('train'),
    )
    pets.lists['val_half'] = copy.deepcopy(pets.lists['val'])
    pets.lists['val_half']['images'].pop()
    pets.refused('4 image ids|1 image ids are only in it', val=pets.build('val_half'), evaluator=pets.evaluator())
    pets.lists['val_renamed'] = copy.deepcopy(pets.lists['val'])
    pets.lists['val_renamed']['images'][0]['file_name'] = 'other.jpg'
    pets.refused(r'1 image ids are other files in it, the first 11 \(val1', evaluator=pets.evaluator('val_renamed'))


def test_an_evaluator_with_the_categories_in_another_order(pets):
    pets.lists['val_turned'] = copy.deepcopy(pets.lists['val'])
    pets.lists['val_turned']['categories'].reverse()
    message = "val_evaluator: label 0 means 'fox', but 'cat' in val_dataloader.*sort_categories"
    pets.refused(message, evaluator=pets.evaluator('val_turned'))


def test_an_evaluator_without_iscrowd_measures(pets):
    for annotation in pets.lists['val']['annotations']:
        del annotation['iscrowd']
    evaluator = pets.evaluator()
    val = pets.check(evaluator=evaluator)['val_dataloader']
    assert 'val_evaluator.ann_file: 8 annotations have no iscrowd' in pets.said[-1]
    evaluator.dataset_meta = val.metainfo
    found = [
        dict(
            img_id=info['img_id'],
            ori_shape=(30, 40),
            pred_instances=dict(
                bboxes=np.array([item['bbox'] for item in info['instances']]),
                labels=np.array([item['bbox_label'] for item in info['instances']]),
                scores=np.ones(2),
            ),
        )
        for info in map(val.get_data_info, range(4))
    ]
    for sample in found:
        sample['pred_instances'] = {name: torch.as_tensor(value) for name, value in sample['pred_instances'].items()}
    evaluator.process(found)
    assert evaluator.evaluate(4)['coco/bbox_mAP'] == pytest.approx(1)


def test_masks_need_segmentations(pets):
    _, annotations = pets.ids()
    del annotations[3]['segmentation']
    pets.check()
    with_masks = [PIPELINE[0], dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
    pets.refused(
        r"train.json': 1 annotations have no segmentation, which masks need; the first: annotation id 3 of image id 2",
        train=pets.build(pipeline=with_masks),
    )
    pets.lists['val']['annotations'][2]['segmentation'] = []
    pets.refused('val_evaluator: .*annotation id 102 of image id 12', evaluator=pets.evaluator(metric=['bbox', 'segm']))


def test_annotation_ids_used_twice_and_boxes_that_are_none(pets):
    """mmdet stops while it builds the data set, without id or fix; the command line finds them, see test_bad_data.py."""

    def refused(message, **change):
        content = copy.deepcopy(pets.lists['train'])
        content['annotations'][1].update(change)
        with pytest.raises(ConfigError, match=message):
            as_coco_list(content, 'a.json').check('train_dataloader', print, NAMES, False, False)

    refused("'a.json': 1 annotation ids are used twice, the first 0", id=0)
    refused(
        r'annotation id 1 of image id 1 has bbox \[1, 2, None, 4\] and area 224.0; mmdet needs', bbox=[1, 2, None, 4]
    )
    refused('annotation id 1 of image id 1 has bbox .* and area None', area=None)


# -- sizes and boxes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [dict(width=0), dict(height=None), dict(width=0, height=0)])
def test_a_listed_size_of_nothing(pets, size):
    pets.lists['val']['images'][1].update(size)
    with pytest.raises(
        ConfigError, match=r'image id 12 \(val2.jpg\) is listed with width (0|40) and height (30|None|0)'
    ):
        as_coco_list(pets.lists['val'], 'val.json').check('val_dataloader', print, NAMES, False, False)


def test_listed_sizes_that_are_halved(pets):
    for image in pets.lists['val']['images']:
        image.update(width=20, height=15)
    pets.refused(
        r'val_dataloader: 4 of 4 images that were looked at have another size than listed: .*val1.jpg \(image id 11\) is 40 x 30, '
        'but listed as 20 x 15'
    )


def test_images_that_exif_turns(pets):
    """A list of the sizes as stored: mmcv turns such images when it decodes them."""
    for image in pets.lists['train']['images']:
        path = pets.folder / 'train' / image['file_name']
        picture = Image.open(path)
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(path, exif=exif)
    pets.refused(
        r'train1.jpg \(image id 1\) is 30 x 40, turned by its EXIF orientation 6, but listed as 40 x 30.*color_ignore_orientation'
    )
    unturned = [dict(type='LoadImageFromFile', color_type='color_ignore_orientation'), PIPELINE[1]]
    pets.check(train=pets.build(pipeline=unturned))
    for image in pets.lists['train']['images']:
        image.update(width=30, height=40)
    pets.check()


def test_one_wrong_size_of_many_is_said(pets, monkeypatch):
    monkeypatch.setattr('mmsskd.distill.schedule.data_checks.FEW', 0.25)
    pets.lists['train']['images'][3]['width'] = 39
    pets.check()
    assert 'train4.jpg (image id 4) is 40 x 30, but listed as 39 x 30' in '\n'.join(pets.said)


def test_boxes_that_are_left_out_are_counted(pets):
    _, annotations = pets.ids()
    annotations[0]['bbox'] = [41, 2, 8, 8]
    annotations[2]['bbox'] = [30, 2, 14, 8]
    annotations[4]['bbox'] = [30, 2, 0.5, 8]
    annotations[6]['image_id'] = 77
    pets.check()
    text = '\n'.join(pets.said)
    assert '1 of 8 boxes are outside their image and are dropped, the first: annotation id 0, [41, 2, 8, 8]' in text
    assert '1 of 8 boxes are smaller than one pixel' in text and 'in image id 3 (train3.jpg, listed as 40 x 30)' in text
    assert '1 of 8 boxes are of images that are not listed' in text and 'image id 77' in text
    assert '1 of 8 boxes reach beyond their image, the farthest: annotation id 2' in text
    assert "1 of 3 classes have no box: 'fox'" in text


def test_no_box_is_left(pets):
    for annotation in pets.lists['train']['annotations']:
        annotation['image_id'] = str(annotation['image_id'])
    pets.refused(r"8 of 8 boxes are of images that are not listed .*image id '1'.* No box is left")


def test_corners_instead_of_sizes(pets):
    for annotation in pets.lists['train']['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['bbox'] = [x, y, x + width, y + height]
    pets.check()
    assert 'Are they (x1, y1, x2, y2)?' in '\n'.join(pets.said)


# -- files -------------------------------------------------------------------------------------------------------------


def test_images_without_content_or_cut_short(pets):
    (pets.folder / 'train/train2.jpg').write_bytes(b'')
    pets.refused('train_dataloader: 1 of 4 images have 0 bytes: .*train2.jpg')
    (pets.folder / 'train/train2.jpg').write_bytes(b'no picture')
    pets.refused("train_dataloader: '.*train2.jpg' cannot be decoded")


def test_a_missing_file_of_an_image_that_is_filtered_out(pets):
    _, annotations = pets.ids()
    annotations[:] = [item for item in annotations if item['image_id'] != 2]
    (pets.folder / 'train/train2.jpg').unlink()
    pets.check(train=pets.build(filter_cfg=dict(filter_empty_gt=True)))
    pets.refused('1 of 4 images are not there: .*train2.jpg', train=pets.build())


@pytest.mark.parametrize('name', ['../train/train1.jpg', '/etc/passwd', 'a/../../b.jpg'])
def test_file_names_that_lead_out_of_the_folder(pets, name):
    pets.lists['train']['images'][0]['file_name'] = name
    pets.refused(f"train.json': file name '{name}' leads out of the folder of the images.*outside_files=True")


def test_file_names_that_lead_out_of_the_folder_may_be_allowed(pets):
    pets.lists['train']['images'][0]['file_name'] = '../train/train1.jpg'
    pets.check(outside_files=True)


# -- other kinds of sets -----------------------------------------------------------------------------------------------


def test_objects365_sorts_its_categories(pets):
    """Its labels follow the ids, in lists of another order too; and so must its evaluator."""
    turned = pets.lists['val']['categories'] = list(reversed(CATEGORIES))
    assert [item['id'] for item in turned] == [1, 8, 3]
    names = dict(classes=('fox', 'cat', 'dog'))
    train = pets.build(type='Objects365V1Dataset', metainfo=names)
    val = pets.build('val', type='Objects365V1Dataset', metainfo=names)
    pets.check(train=train, val=val, evaluator=pets.evaluator(sort_categories=True))
    pets.refused('sort_categories=True', train=train, val=val, evaluator=pets.evaluator())


def test_panoptic_lists_have_segments(pets, tmp_path):
    for split in ('train', 'val'):
        content = pets.lists[split]
        for category in content['categories']:
            category['isthing'] = 1
        content['annotations'] = [
            dict(
                image_id=image['id'],
                file_name=image['file_name'].replace('jpg', 'png'),
                segments_info=[dict(id=5, category_id=3, bbox=[4, 2, 14, 16], area=224, iscrowd=0)],
            )
            for image in content['images']
        ]
    kind = dict(type='CocoPanopticDataset', metainfo=dict(classes=NAMES, thing_classes=NAMES, stuff_classes=()))
    for change in (kind,):
        prefix = dict(img='train/', seg='train/')
        pets.check(
            train=pets.build(**change, data_prefix=prefix),
            val=pets.build('val', **change, data_prefix=dict(img='val/', seg='val/')),
        )


@pytest.mark.slow
def test_voc_sets_are_numbered_by_their_names(tmp_path, pets):
    """No list of categories: the labels are those of metainfo, which another set may have in another order."""
    root = tmp_path / 'VOC2007'
    for folder in ('Annotations', 'JPEGImages', 'ImageSets'):
        (root / folder).mkdir(parents=True)
    (root / 'ImageSets/a.txt').write_text('x\n')
    Image.new('RGB', (40, 30)).save(root / 'JPEGImages/x.jpg')
    box = '<bndbox><xmin>4</xmin><ymin>4</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>'
    (root / 'Annotations/x.xml').write_text(
        '<annotation><size><width>40</width><height>30</height></size>'
        f'<object><name>cat</name><difficult>0</difficult>{box}</object></annotation>'
    )

    def voc(*names):
        cfg = dict(
            type='VOCDataset', data_root=str(root), ann_file='ImageSets/a.txt', data_prefix=dict(sub_data_root='')
        )
        with scope():
            return DATASETS.build(dict(cfg, metainfo=dict(classes=names), pipeline=PIPELINE, test_mode=True))

    pets.check(train=voc('cat', 'dog'), val=voc('cat', 'dog'))
    assert not pets.said
    pets.refused("label 0 means 'dog', but 'cat' in train_dataloader", train=voc('cat', 'dog'), val=voc('dog', 'cat'))
    pets.check(train=pets.build(), val=voc(*NAMES))


# -- who calls ---------------------------------------------------------------------------------------------------------


def plain(tmp_path, photos, **overrides):
    """A plain run of a detector."""
    cfg = detection_cfg(tmp_path / 'run', photos, 'none.pth', **overrides)
    cfg.model = detector(width=4)
    del cfg.default_hooks['stage_schedule']
    return cfg


@pytest.mark.slow
def test_plain_training_with_a_class_misspelt(photos, tmp_path):
    """Labels of all classes after it would shift."""
    classes = ('0', '1', 'two', '3', '4', '5', '6', '7', '8', '9')
    changes = {f'{name}_dataloader.dataset.metainfo.classes': classes for name in ('train', 'val', 'test')}
    cfg = plain(tmp_path, photos, **changes)
    cfg.pop('experiment_name')
    cfg.dump(tmp_path / 'config.py')
    result = warm_python(ROOT / 'tools/train.py', tmp_path / 'config.py', cwd=tmp_path)
    assert result.returncode == 1 and 'train_dataloader: 1 of 10 classes are not in' in result.stderr
    assert 'Traceback' not in result.stderr and not list(tmp_path.glob('run/*.pth'))


@pytest.fixture
def own(photos, tmp_path):
    """A copy of the digits on photos that a test may spoil."""
    shutil.copytree(photos, tmp_path / 'own')
    return tmp_path / 'own'


def turn(folder, split, name=None):
    """Write the list of a split with its categories in the other order, to a file of another name."""
    content = json.loads((folder / f'annotations/{split}.json').read_text())
    content['categories'].reverse()
    path = folder / f'annotations/{name or split}.json'
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.slow
def test_tools_test_knows_the_order_of_a_checkpoint_of_ours(own, tmp_path):
    """And refuses a list without a category as training does; of a checkpoint of others it cannot know."""
    spec = importlib.util.spec_from_file_location('tools_test', ROOT / 'tools/test.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    weights = save_detector(detector(width=4), tmp_path / 'plain.pth')
    checkpoint = torch.load(weights)
    checkpoint['meta'] = dict(mmsskd_version='0.1.0', dataset_meta=dict(classes=tuple('0123456789')))
    torch.save(checkpoint, tmp_path / 'ours.pth')
    tool.evaluate(plain(tmp_path, own), str(tmp_path / 'ours.pth'), 'checkpoint')
    turn(own, 'val')
    with pytest.raises(ConfigError, match="test_dataloader: label 0 means '9', but '0' in the checkpoint"):
        tool.evaluate(plain(tmp_path, own), str(tmp_path / 'ours.pth'), 'checkpoint')
    tool.evaluate(plain(tmp_path, own), weights, 'checkpoint')
    path = own / 'annotations/val.json'
    content = json.loads(path.read_text())
    lacking = content['categories'].pop()
    content['annotations'] = [item for item in content['annotations'] if item['category_id'] != lacking['id']]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="test_dataloader: 1 of 10 classes are not in '.*val.json': '0'"):
        tool.evaluate(plain(tmp_path, own), weights, 'checkpoint')


@pytest.mark.slow
def test_a_plain_checkpoint_says_that_its_names_are_in_order(own, tmp_path):
    backward = tuple('9876543210')
    changes = {f'{name}_dataloader.dataset.metainfo.classes': backward for name in ('train', 'val', 'test')}
    runner = Runner.from_cfg(plain(tmp_path, own, **changes))
    runner.register_hook(DataChecks())
    with keeping_lists():
        runner.train()
    meta = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)['meta']
    assert meta['mmsskd_version'] and meta['dataset_meta']['classes'] == tuple('0123456789')
    assert (
        runner.val_evaluator.dataset_meta['classes'] == runner.visualizer.dataset_meta['classes'] == tuple('0123456789')
    )


@pytest.mark.slow
def test_compare_looks_at_the_test_set(own, tmp_path):
    cfg = plain(tmp_path, own)
    cfg.pop('experiment_name')
    cfg.test_dataloader.dataset.ann_file = cfg.test_evaluator.ann_file = turn(own, 'val', 'test')
    cfg.dump(tmp_path / 'config.py')
    run = Run(
        label='teacher',
        config=str(tmp_path / 'config.py'),
        seed=0,
        epochs=None,
        work_dir=str(tmp_path / 'dry'),
        metric='coco/bbox_mAP',
    )
    with pytest.raises(ConfigError, match="test_dataloader: label 0 means '9', but '0' in train_dataloader"):
        dry_run(run)


def test_a_list_is_read_once(pets, monkeypatch):
    """Reading COCO's list once more takes longer than all checks."""
    reads = []
    monkeypatch.setattr('mmsskd.utils.coco_list.get', lambda path, **_: reads.append(path))
    pets.build()
    with keeping_lists():
        datasets = dict(train_dataloader=pets.build(), val_dataloader=pets.build('val'))
        check_datasets(datasets, pets.said)
    assert not reads and type(datasets['train_dataloader']).COCOAPI.__name__ == 'COCO'
