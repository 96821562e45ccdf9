"""The product: a plain student that stock mmpretrain loads strictly, tests and runs, with no mmsskd in the process."""

import copy
import json
from pathlib import Path

import cv2
import mmpretrain
import mmpretrain.models
import numpy as np
import pytest
import torch
from distill_helpers import build
from helpers import classifier, run_cfg, same, save_weights, train, warm_python, weights
from mmengine.config import Config

from mmsskd.distill.export import export_checkpoint, plain_config, weights_of
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


def test_a_network_that_takes_what_it_makes_itself_out_of_what_it_loads(tmp_path):
    """SwinV2 and its tables of positions: its student has the weights of another moment meanwhile, then its own again."""
    model = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='SwinTransformerV2',
            arch=dict(embed_dims=4, depths=[1] * 4, num_heads=[1] * 4, extra_norm_every_n_blocks=0),
            img_size=64,
            window_size=2,
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=32),
    )
    teacher = save_weights(model, tmp_path / 'teacher.pth')
    distiller = build(teacher, teacher=model, student=model, input_shape=(3, 64, 64))
    own = copy.deepcopy(distiller.state_dict())
    other = {name: value + 1 if value.is_floating_point() else value for name, value in own.items()}
    trained = dict(distiller.student.named_parameters())
    with weights_of(distiller, other) as student:
        assert same(other, student.state_dict(), trained)
    assert same(own, distiller.state_dict())
    name = 'head.fc.bias'
    for wrong in ({key: value for key, value in other.items() if key != name}, {**other, 'extra': other[name]}):
        with pytest.raises(ConfigError, match=r'not those of this model: (head.fc.bias|extra) differ'):
            weights_of(distiller, wrong).__enter__()
        assert same(own, distiller.state_dict())


@pytest.mark.slow
def test_stock_mmpretrain_loads_strictly_and_gives_equal_outputs(folder_run):
    runner, folder = folder_run
    assert any(name.startswith('adapters') for name in weights(folder / 'epoch_5.pth'))
    assert not any(name.startswith('adapters') for name in weights(folder / 'student.pth'))
    torch.save(torch.randn(2, 3, 16, 16), folder / 'images.pth')
    result = warm_python('-c', STOCK, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == []
    with torch.no_grad():
        expected = runner.model.student.eval()(torch.load(folder / 'images.pth'), mode='tensor')
    assert torch.equal(torch.load(folder / 'stock.pth'), expected)


@pytest.mark.slow
def test_stock_tools_test_py(folder_run):
    runner, folder = folder_run
    tool = Path(mmpretrain.__file__).parent / '.mim/tools/test.py'
    result = warm_python(tool, 'student.py', 'student.pth', '--work-dir', 'stock', cwd=folder)
    assert result.returncode == 0, result.stderr
    accuracy = runner.message_hub.get_scalar('val/accuracy/top1').current()
    assert f'accuracy/top1: {accuracy:.4f}' in result.stdout


@pytest.mark.slow
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


@pytest.mark.slow
def test_any_checkpoint_can_be_exported(folder_run, tmp_path):
    runner, folder = folder_run
    paths = export_checkpoint(str(folder / 'phase2_layer2.pth'), str(tmp_path / 'new' / 'out'))
    assert [Path(path).name for path in paths] == ['student.pth', 'student.py']
    saved = weights(folder / 'phase2_layer2.pth')
    assert same(weights(paths[0]), saved) and set(weights(paths[0])) == set(runner.model.student.state_dict())
    assert Config.fromfile(paths[1]).model == Config.fromfile(folder / 'student.py').model


@pytest.mark.slow
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


OWN_BACKBONE = """
from mmpretrain.models import ResNet_CIFAR
from mmpretrain.registry import MODELS
@MODELS.register_module()
class OwnBackbone(ResNet_CIFAR):
    pass
"""
TRAINING_ONLY = """
from mmpretrain.models import CrossEntropyLoss, ResNet_CIFAR  # which the student has too
from mmsskd.distill import FeatureMimicLoss
from mmengine.registry import MODELS
@MODELS.register_module()
class OwnMimicLoss(FeatureMimicLoss):
    pass
"""
LOADS = """
import sys
assert not any(name.startswith('mmsskd') for name in sys.modules)
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from mmpretrain.apis import get_model
model = get_model(Config.fromfile('student.py'), pretrained='student.pth', device='cpu')
load_checkpoint(model, 'student.pth', strict=True)
assert type(model.backbone).__name__ == 'OwnBackbone'
assert 'training_only' not in sys.modules
"""


@pytest.mark.slow
def test_the_student_takes_along_the_imports_that_it_needs_and_no_others(tmp_path, monkeypatch):
    """The student's own config file imports its backbone, the run's imports a loss; a patch that registers nothing stays."""
    modules = dict(own_backbone=OWN_BACKBONE, training_only=TRAINING_ONLY, patches='')
    for name, text in modules.items():
        (tmp_path / f'{name}.py').write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import training_only  # noqa: F401  as Config.fromfile would for the run's config

    def model(backbone):
        return dict(
            type='ImageClassifier',
            backbone=dict(type=backbone, depth=18, in_channels=1, base_channels=4, stem_channels=4),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=32),
            data_preprocessor=dict(type='ClsDataPreprocessor', mean=[127.5], std=[127.5]),
        )

    imports = dict(imports=['own_backbone'], allow_failed_imports=False)
    (tmp_path / 'own.py').write_text(
        f'default_scope = "mmpretrain"\nmodel = {model("OwnBackbone")}\ncustom_imports = {imports}\n'
    )
    teacher = save_weights(model('ResNet_CIFAR'), tmp_path / 'teacher.pth')
    hook = dict(phases=[dict(train='layer1'), dict(train='head')])
    own = str(tmp_path / 'own.py')
    cfg = run_cfg(tmp_path / 'run', teacher, teacher=model('ResNet_CIFAR'), student=own, hook=hook)
    cfg.model.mimic_loss = dict(type='OwnMimicLoss')
    cfg.custom_imports = dict(imports=['training_only', 'patches'], allow_failed_imports=False)
    cfg.default_hooks.checkpoint.interval = 10
    train(cfg)
    exported = Config.fromfile(tmp_path / 'run/student.py').custom_imports
    assert exported == dict(imports=['patches', 'own_backbone', 'mmsskd'], allow_failed_imports=False)
    result = warm_python('-c', LOADS, cwd=tmp_path / 'run', PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert plain_config(cfg, 'teacher').custom_imports.imports == ['patches', 'mmsskd']


def test_imports_of_a_package_of_openmmlab_follow_the_scope(tmp_path, teacher_path):
    """A detector's config imports mmpretrain for the teacher's backbone; one that it shares a name with is not it."""
    cfg = run_cfg(tmp_path, teacher_path, default_scope='mmdet')
    cfg.custom_imports = dict(imports=['mmpretrain.models'], allow_failed_imports=False)
    ours = dict(type='mmdet.RetinaNet', backbone=dict(type='ResNet', depth=18))
    cfg.model.teacher = dict(ours, backbone=dict(type='mmpretrain.ConvNeXt'))
    cfg.model.student = ours
    cfg.train_dataloader = cfg.val_dataloader = cfg.test_dataloader = None
    assert 'custom_imports' not in plain_config(cfg)
    assert plain_config(cfg, 'teacher').custom_imports.imports == ['mmpretrain.models']
