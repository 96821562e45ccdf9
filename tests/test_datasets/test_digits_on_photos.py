"""Digits on photos: the same bytes every time, annotations exact to the pixel, and nothing shared between the two sides."""

import json
import runpy
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.datasets
from helpers import ROOT, require_ops
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmsskd.datasets import digits_on_photos
from mmsskd.datasets.digits_on_photos import VISIBLE, draw_scene, load_sources, write_digits_on_photos
from mmsskd.errors import ConfigError

SMALL = dict(train=12, val=6, unlabelled=3, size=96)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp('digits') / 'new' / 'set'
    assert write_digits_on_photos(out, **SMALL)
    return out


@pytest.fixture(scope='module', params=['train', 'val'])
def coco(request, folder):
    return COCO(folder / 'annotations' / f'{request.param}.json')


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_bytes_follow_from_the_seed_and_images_do_not_depend_on_their_number(folder, tmp_path):
    write_digits_on_photos(tmp_path / 'same', **SMALL)
    write_digits_on_photos(tmp_path / 'other', **SMALL, seed=1)
    write_digits_on_photos(tmp_path / 'few', **dict(SMALL, train=4, val=2, unlabelled=1))
    first, same, other, few = map(content, (folder, *(tmp_path / name for name in ('same', 'other', 'few'))))
    images = {f'{split}/{i:06}.png' for split in ('train', 'val', 'unlabelled') for i in range(SMALL[split])}
    assert set(first) == images | {'annotations/train.json', 'annotations/val.json', 'info.json'}
    assert len({first[name] for name in images} | {other[name] for name in images}) == 2 * len(images)
    assert same == first
    assert all(few[name] == first[name] for name in images & set(few)) and len(images & set(few)) == 7
    for split, count in dict(train=4, val=2).items():
        short, long = (json.loads(files[f'annotations/{split}.json'])['annotations'] for files in (few, first))
        assert short == [annotation for annotation in long if annotation['image_id'] < count]


def test_boxes_areas_and_masks_agree_to_the_pixel(coco):
    assert {cat['id']: cat['name'] for cat in coco.dataset['categories']} == {i + 1: str(i) for i in range(10)}
    for image in coco.imgs:
        annotations = coco.loadAnns(coco.getAnnIds(image))
        assert 1 <= len(annotations) <= 5
        masks = np.stack([coco.annToMask(annotation) for annotation in annotations])
        assert masks.shape[1:] == (96, 96) and masks.sum(0).max() == 1
        for mask, annotation in zip(masks, annotations):
            (rows, columns), (x, y, w, h) = np.nonzero(mask), annotation['bbox']
            assert (x, y, x + w, y + h) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert annotation['area'] == mask.sum() and annotation['iscrowd'] == 0


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_the_annotations_as_predictions_score_one(coco, kind):
    found = [dict(annotation, score=1.0) for annotation in coco.dataset['annotations']]
    evaluation = COCOeval(coco, coco.loadRes(found), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_mmdet_reads_the_same_masks(folder):
    require_ops()
    from mmcv.transforms import LoadImageFromFile
    from mmdet.datasets import CocoDataset
    from mmdet.datasets.transforms import LoadAnnotations

    path, prefix = folder / 'annotations' / 'train.json', dict(img=str(folder / 'train'))
    pipeline = [LoadImageFromFile(), LoadAnnotations(with_mask=True)]
    items = list(
        CocoDataset(ann_file=str(path), data_prefix=prefix, metainfo=dict(classes='0123456789'), pipeline=pipeline)
    )
    coco = COCO(path)
    assert len(items) == SMALL['train']
    for item in items:
        expected = coco.loadAnns(coco.getAnnIds(item['img_id']))
        assert item['gt_bboxes_labels'].tolist() == [annotation['category_id'] - 1 for annotation in expected]
        assert (item['gt_masks'].masks == [coco.annToMask(annotation) for annotation in expected]).all()
        assert not item['gt_ignore_flags'].any()


def test_masks_lie_on_the_ink_and_enough_of_each_digit_is_visible(monkeypatch):
    """On black photos whatever is not black is ink; the glyphs themselves tell how much of each is left."""
    _, digits, labels = load_sources('train')
    whole, glyph = [], digits_on_photos._glyph
    monkeypatch.setattr(digits_on_photos, '_glyph', lambda *args: whole.append(glyph(*args)) or whole[-1])
    covered = 0
    for seed in range(60):
        whole.clear()
        image, _, masks = draw_scene(
            np.random.default_rng(seed), [np.zeros((427, 426, 3), np.uint8)], digits, labels, 96
        )
        ink, union = image.max(-1) > 0, np.any(masks, axis=0)
        assert ink[union].all() and union.sum() > 0.5 * ink.sum()  # the rest of the ink is edges
        if len(masks) == len(whole):  # none left out
            shares = [mask.sum() / (coverage > 0.5).sum() for mask, coverage in zip(masks, whole)]
            assert min(shares) >= VISIBLE and shares[-1] == 1
            covered += min(shares) < 1
    assert covered > 10  # or there would be no overlaps


def test_the_sides_share_nothing_and_masks_lie_on_the_written_digits(tmp_path, monkeypatch):
    """Photos whose left two thirds are red and whose right third is blue; digits that say 1 up to number 1,200, then 7."""
    photo = np.zeros((427, 640, 3), np.uint8)
    photo[:, :426, 0] = photo[:, 426:, 2] = 200
    digits = SimpleNamespace(images=sklearn.datasets.load_digits().images, target=np.repeat([1, 7], [1200, 597]))
    monkeypatch.setattr(sklearn.datasets, 'load_sample_images', lambda: SimpleNamespace(images=[photo, photo]))
    monkeypatch.setattr(sklearn.datasets, 'load_digits', lambda: digits)
    # black ink: the only colour is that of the photo, and dark pixels are those of digits
    monkeypatch.setattr(digits_on_photos, '_paint', lambda rng, patch, coverage: patch * (1 - coverage[..., None]))
    write_digits_on_photos(tmp_path / 'set', **SMALL)
    for split, colour in dict(train=0, unlabelled=0, val=2).items():
        for path in (tmp_path / 'set' / split).iterdir():
            assert np.flatnonzero(np.asarray(Image.open(path)).any((0, 1))).tolist() == [colour]
    for side, colour, label in (('train', 0, 1), ('val', 2, 7)):
        photos, images, _ = load_sources(side)
        assert np.flatnonzero(np.any(photos, axis=(0, 1, 2))).tolist() == [colour]
        assert len(images) == (digits.target == label).sum()
        coco = COCO(tmp_path / 'set' / 'annotations' / f'{side}.json')
        assert {annotation['category_id'] for annotation in coco.anns.values()} == {label + 1}
        for item in coco.imgs.values():
            value = np.asarray(Image.open(tmp_path / 'set' / side / item['file_name']))[..., colour]
            masks = [coco.annToMask(annotation) for annotation in coco.loadAnns(coco.getAnnIds(item['id']))]
            dark, masked = value <= value.max() / 2 + 1, np.any(masks, axis=0)
            # soft edges of two digits may make a pixel dark that is more than half of neither
            assert dark[masked].all() and (dark & ~masked).sum() < 0.1 * masked.sum()


def test_an_interrupted_call_leaves_no_set_and_the_next_starts_afresh(tmp_path, folder, monkeypatch):
    out = tmp_path / 'set'
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(digits_on_photos, '_write_json', lambda *args: 1 / 0)
        write_digits_on_photos(out, **SMALL)
    assert not out.exists()
    (tmp_path / 'set.part' / 'train').mkdir(parents=True)  # as a process that was killed leaves it
    (tmp_path / 'set.part' / 'train' / 'stray.png').touch()
    out.mkdir()  # an empty folder is as good as none
    assert write_digits_on_photos(out, **SMALL)
    assert content(out) == content(folder) and not (tmp_path / 'set.part').exists()


@pytest.mark.parametrize('wrong', [dict(train=0), dict(val=0), dict(unlabelled=-1), dict(size=63), dict(seed=-1)])
def test_parameters_out_of_range_are_named(tmp_path, wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError, match=rf'{name} must be at least \d+, found {value}'):
        write_digits_on_photos(tmp_path / 'set', **wrong)
    assert not list(tmp_path.iterdir())


def test_the_tool_writes_once_and_touches_nothing_that_is_there(tmp_path, folder, monkeypatch, capsys):
    out = tmp_path / 'set'

    def call(**changes):
        options = [f'--{key}={value}' for key, value in dict(SMALL, **changes).items()]
        monkeypatch.setattr(sys, 'argv', ['make_digits_on_photos.py', str(out), *options])
        runpy.run_path(str(ROOT / 'tools' / 'make_digits_on_photos.py'), run_name='__main__')
        return capsys.readouterr().out

    assert f'{out}: wrote 12 training, 6 validation and 3 unlabeled images' in call()
    assert content(out) == content(folder)
    times = {path: path.stat().st_mtime_ns for path in out.rglob('*')}
    assert 'already there, nothing to do' in call()
    with pytest.raises(SystemExit):
        call(val=7, seed=3)
    assert 'val 6 (asked for: 7), seed 0 (asked for: 3); choose another folder or' in capsys.readouterr().err
    monkeypatch.setattr(digits_on_photos, 'VERSION', 99)
    with pytest.raises(SystemExit):
        call()
    assert 'version 1 (asked for: 99)' in capsys.readouterr().err
    (out / 'info.json').unlink()
    with pytest.raises(SystemExit):
        call()
    assert 'holds something else; choose another folder or remove it' in capsys.readouterr().err
    assert times == {
        **{path: path.stat().st_mtime_ns for path in out.rglob('*')},
        out / 'info.json': times[out / 'info.json'],
    }
