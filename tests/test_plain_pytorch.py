"""The blocks of docs/plain_pytorch.md on exported students, in processes without mmsskd, and without OpenMMLab where it says so."""

import shlex

import cv2
import numpy as np
import pytest
import torch
from detection import detection_cfg, detector, save_detector
from helpers import ROOT, python, run_cfg, save_weights, train, warm_python
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from test_docs import blocks

from mmsskd.distill.build import build_model, load_strictly

pytestmark = pytest.mark.slow
PAGE = ROOT / 'docs/plain_pytorch.md'
OPENMMLAB = ('mmengine', 'mmcv', 'mmpretrain', 'mmdet')
WITHOUT = """
import sys

class Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition('.')[0] in {gone!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Without)
"""
NORMAL = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


def block(start: str) -> str:
    """The block of the page that begins so."""
    (found,) = [code for _, code in blocks(PAGE, 'python') if code.startswith(start)]
    return found


def export(run, folder, formats: str = '') -> None:
    """The command of the page, for the run's last checkpoint."""
    command = shlex.split(blocks(PAGE, 'shell')[0][1])
    options = ['--formats', *formats.split()] if formats else command[4:]
    result = warm_python(ROOT / command[1], run, folder, *options, cwd=folder)
    assert result.returncode == 0, result.stderr


def run_block(text: str, folder, without, run=python) -> str:
    """The block in the folder of a student, in a process that has no ``without``."""
    result = run('-c', WITHOUT.format(gone=without) + text, cwd=folder)
    assert result.returncode == 0, result.stderr
    return result.stdout


def photograph(path, height: int, width: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))


def head_only(cfg: Config) -> Config:
    """The run with one phase of one epoch."""
    cfg.default_hooks.stage_schedule.phases = [dict(train='head')]
    return cfg


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """Folder of an exported ResNet of mmpretrain, with a photo and the logits of the student for it."""
    root = tmp_path_factory.mktemp('classifier')
    for label in ('cat', 'dog'):
        (root / 'data' / label).mkdir(parents=True)
        photograph(root / 'data' / label / '1.png', 64, 64)
    photograph(root / 'photo.jpg', 300, 417)
    model = dict(
        type='mmpretrain.ImageClassifier',
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', **NORMAL, to_rgb=True),
        backbone=dict(type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=2, in_channels=64),
    )
    cfg = head_only(run_cfg(root / 'run', save_weights(model, root / 'teacher.pth'), teacher=model, student=model))
    cfg.model.update(input_shape=(3, 224, 224), init_from_teacher='all')
    crop = [dict(type='ResizeEdge', scale=256, edge='short'), dict(type='CenterCrop', crop_size=224)]
    pipeline = [dict(type='LoadImageFromFile'), *crop, dict(type='PackInputs')]
    dataset = dict(type='CustomDataset', data_root=str(root / 'data'), pipeline=pipeline)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].batch_size, cfg[f'{split}_dataloader'].dataset = 2, dataset
    student = train(cfg).model.student.eval()
    export(root / 'run/epoch_1.pth', root)
    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.no_grad():
        data = Compose(pipeline)(dict(img_path=str(root / 'photo.jpg')))
        inputs = student.data_preprocessor(dict(inputs=[data['inputs']]), False)['inputs']
        return root, student(inputs, mode='tensor').numpy()


@pytest.fixture(scope='module')
def faster_rcnn(tmp_path_factory, photos):
    """Folder of an exported Faster R-CNN, with a photo."""
    root = tmp_path_factory.mktemp('faster_rcnn')
    teacher = save_detector(detector(), root / 'teacher.pth')
    cfg = head_only(detection_cfg(root / 'run', photos, teacher, student=detector()))
    cfg.model.init_from_teacher = 'all'
    train(cfg)
    photo = cv2.imread(str(sorted((photos / 'val').glob('*'))[0]))
    cv2.imwrite(str(root / 'photo.jpg'), cv2.resize(photo, (130, 100)))
    export(root / 'run/epoch_1.pth', root, 'onnx')
    return root


def test_mmpretrain(classifier):
    folder, logits = classifier
    told = "\nnumpy.save('scores.npy', result['pred_scores'])"
    text = 'import numpy\n' + block('from mmpretrain') + block('import torch\n\ntorch.jit') + told
    run_block(text, folder, ['mmsskd'], warm_python)
    scores = torch.from_numpy(logits).softmax(1)[0]
    torch.testing.assert_close(torch.from_numpy(np.load(folder / 'scores.npy')), scores, rtol=0, atol=1e-4)
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 3, 224, 224), np.float32))
    model = build_model(Config.fromfile(folder / 'student.py').model).eval()
    load_strictly(model, str(folder / 'student.pth'), 'student.pth')
    with torch.no_grad():
        script = torch.jit.load(folder / 'student.ts')(images)
        torch.testing.assert_close(script, model(images), rtol=0, atol=1e-4)


PREPROCESS = 'import cv2\nimport numpy as np\n\n\ndef preprocess'


def test_classifiers(classifier):
    folder, logits = classifier
    text = block(PREPROCESS) + block('import torch\n\nmodel') + "\ntorch.save(logits.detach(), 'logits.pt')"
    run_block(text, folder, ['mmsskd', *OPENMMLAB])
    found = torch.load(folder / 'logits.pt')
    torch.testing.assert_close(found, torch.from_numpy(logits), rtol=0, atol=1e-4)


def test_onnxruntime_alone(classifier, faster_rcnn):
    folder, logits = classifier
    without = ['mmsskd', *OPENMMLAB, 'torch', 'torchvision']
    text = block(PREPROCESS) + block('import onnxruntime') + "\nnp.save('logits.npy', logits)"
    run_block(text, folder, without)
    np.testing.assert_allclose(np.load(folder / 'logits.npy'), logits, rtol=0, atol=1e-4)
    shown = block('import cv2\nimport numpy as np\nimport onnxruntime')
    told = "\nnp.savez('found.npz', boxes=boxes, scores=scores[there], labels=labels[there])"
    run_block(shown + told, faster_rcnn, without)
    expected = stock(faster_rcnn)
    found = np.load(faster_rcnn / 'found.npz')
    assert len(found['labels']) == len(expected['labels']) >= 10
    np.testing.assert_allclose(found['boxes'], expected['bboxes'], rtol=0, atol=1e-2)
    np.testing.assert_allclose(found['scores'], expected['scores'], rtol=0, atol=1e-3)
    assert found['labels'].tolist() == expected['labels'].tolist()


def test_mmdet(faster_rcnn):
    assert len(stock(faster_rcnn)['labels']) >= 10


def stock(folder) -> dict:
    """What the block for mmdet finds in the photo."""
    if not (folder / 'stock.npz').exists():
        told = "\nimport numpy; numpy.savez('stock.npz', **{name: value.numpy() for name, value in found.items()})"
        run_block(block('from mmdet') + told, folder, ['mmsskd'], warm_python)
    return dict(np.load(folder / 'stock.npz'))
