"""The product: a plain student that stock mmpretrain loads strictly, tests and runs, with no mmsskd in the process."""

import json
from pathlib import Path

import cv2
import mmpretrain
import numpy as np
import pytest
import torch
from helpers import classifier, python, run_cfg, same, save_weights, train, weights
from mmengine.config import Config

from mmsskd.distill.export import export_checkpoint, plain_config
from mmsskd.errors import ConfigError

STOCK = """
import json, sys, torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from mmpretrain.apis import get_model
from mmpretrain.registry import MODELS
cfg = Config.fromfile('student.py')
model = get_model(cfg, pretrained='student.pth', device='cpu')
load_checkpoint(model, 'student.pth', strict=True)
with torch.no_grad():
    output = model.eval()(torch.load('images.pth'), mode='tensor')
torch.save(output, 'stock.pth')
print(json.dumps([name for name in sys.modules if name.startswith('mmsskd')]))
"""


@pytest.fixture(scope='module')
def folder_run(tmp_path_factory):
    """A run on an image folder with two classes, of a stock backbone, narrower than its teacher."""
    root = tmp_path_factory.mktemp('export')
    for split, count in (('train', 8), ('val', 4)):
        for label in ('cat', 'dog'):
            (root / 'data' / split / label).mkdir(parents=True)
            for i in range(count):
                image = np.random.default_rng(i).integers(0, 255, (16, 16, 3), dtype=np.uint8)
                cv2.imwrite(str(root / 'data' / split / label / f'{i}.png'), image)

    def model(channels):
        return dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=channels, stem_channels=8),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=8 * channels),
        )

    teacher = save_weights(model(8), root / 'teacher.pth')

    def loader(split):
        return dict(
            batch_size=8,
            num_workers=0,
            dataset=dict(
                type='CustomDataset',
                data_root=str(root / 'data' / split),
                pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
            ),
            sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
        )

    cfg = run_cfg(root / 'run', teacher, teacher=model(8), student=model(4), log_level='INFO')
    cfg.data_preprocessor = dict(mean=[120.0] * 3, std=[60.0] * 3, to_rgb=True)
    cfg.model.input_shape = (3, 16, 16)
    cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader = loader('train'), loader('val'), loader('val')
    return train(cfg), root / 'run'


def test_stock_mmpretrain_loads_strictly_and_gives_equal_outputs(folder_run):
    runner, folder = folder_run
    assert any(name.startswith('adapters') for name in weights(folder / 'epoch_5.pth'))
    assert not any(name.startswith('adapters') for name in weights(folder / 'student.pth'))
    torch.save(torch.randn(2, 3, 16, 16), folder / 'images.pth')
    result = python('-c', STOCK, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == []
    with torch.no_grad():
        expected = runner.model.student.eval()(torch.load(folder / 'images.pth'), mode='tensor')
    assert torch.equal(torch.load(folder / 'stock.pth'), expected)


def test_stock_tools_test_py(folder_run):
    runner, folder = folder_run
    tool = Path(mmpretrain.__file__).parent / '.mim/tools/test.py'
    result = python(tool, 'student.py', 'student.pth', '--work-dir', 'stock', cwd=folder)
    assert result.returncode == 0, result.stderr
    accuracy = runner.message_hub.get_scalar('val/accuracy/top1').current()
    assert f'accuracy/top1: {accuracy:.4f}' in result.stdout


def test_exported_config_is_plain(folder_run):
    text = (folder_run[1] / 'student.py').read_text()
    for word in ('mmsskd', 'StageScheduleHook', 'teacher', 'work_dir'):
        assert word not in text
    cfg = Config.fromfile(folder_run[1] / 'student.py')
    assert cfg.model.data_preprocessor == dict(mean=[120.0] * 3, std=[60.0] * 3, to_rgb=True)
    assert torch.load(folder_run[1] / 'student.pth', weights_only=False)['meta']['dataset_meta']['classes'] == (
        'cat',
        'dog',
    )
    assert not list(folder_run[1].glob('*.part*'))


def test_any_checkpoint_can_be_exported(folder_run, tmp_path):
    runner, folder = folder_run
    paths = export_checkpoint(str(folder / 'phase2_layer2.pth'), str(tmp_path / 'new' / 'out'))
    assert [Path(path).name for path in paths] == ['student.pth', 'student.py']
    saved = weights(folder / 'phase2_layer2.pth')
    assert same(weights(paths[0]), saved) and set(weights(paths[0])) == set(runner.model.student.state_dict())
    assert Config.fromfile(paths[1]).model == Config.fromfile(folder / 'student.py').model


def test_export_refuses_what_is_not_a_run(folder_run, tmp_path):
    with pytest.raises(ConfigError, match="checkpoint: no file 'nowhere.pth'"):
        export_checkpoint('nowhere.pth', str(tmp_path))
    with pytest.raises(ConfigError, match='was not written by a stage-by-stage run'):
        export_checkpoint(str(folder_run[1] / 'student.pth'), str(tmp_path))
    (tmp_path / 'cut.pth').write_bytes((folder_run[1] / 'epoch_1.pth').read_bytes()[:500])
    with pytest.raises(ConfigError, match='is the file truncated'):
        export_checkpoint(str(tmp_path / 'cut.pth'), str(tmp_path))


def test_types_of_mmsskd_are_imported_by_the_exported_config(tmp_path, teacher_path):
    cfg = run_cfg(tmp_path, teacher_path)
    plain = plain_config(cfg)
    assert plain.custom_imports.imports == ['mmsskd']
    assert plain_config(cfg, 'teacher').model.backbone.depth == 14
    assert 'teacher' in cfg.model and 'stage_schedule' in cfg.default_hooks  # the run's config is left alone


def test_pretrained_weights_are_not_asked_for_again(tmp_path, teacher_path):
    student = classifier(depth=8)
    student['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='torchvision://resnet18')
    assert 'init_cfg' not in plain_config(run_cfg(tmp_path, teacher_path, student=student)).model.backbone
