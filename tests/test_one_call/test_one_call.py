"""From a folder to a student in one call, as a user makes it: real files, real small networks, real runs."""

import os
import pickle
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from detection import detector
from helpers import ROOT, classifier, save_weights, warm_python
from mmengine.config import Config
from pages import check_page
from PIL import Image
from sklearn.datasets import load_digits
from test_docs import blocks
from tool_helpers import call

import mmsskd
from mmsskd.cli.progress import Progress
from mmsskd.errors import ConfigError
from mmsskd.one_call.estimate import Pace
from mmsskd.visualization.history import read_history


def small(depth: int, width: float, num_classes: int = 10) -> dict:
    model = classifier(depth, width, num_classes, in_channels=3)
    model['data_preprocessor'].update(mean=[127.5] * 3, std=[127.5] * 3)
    return model


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Three digits as photos, fourteen of each, in a folder for each class; beside them a teacher and a student."""
    root, digits = tmp_path_factory.mktemp('one_call'), load_digits()
    for digit in range(3):
        (root / f'my_photos/{digit}').mkdir(parents=True)
        for i in np.flatnonzero(digits.target == digit)[:14]:
            image = Image.fromarray((digits.images[i] * 15.9).astype(np.uint8)).convert('RGB')
            image.resize((20, 16)).save(root / f'my_photos/{digit}/{i} of scikit-learn.png')
    for name, model in (('resnet34', small(14, 0.5)), ('resnet18', small(8, 0.25))):
        Config(dict(model=model, default_scope='mmpretrain')).dump(root / f'{name}.py')
    return root


def page(language: str) -> str:
    """The block of the page, its two networks replaced by small ones."""
    code = blocks(ROOT / 'docs/one_call.md', language)[0][1]
    return code.replace('resnet34', 'resnet34.py').replace('resnet18', 'resnet18.py')


@pytest.fixture(scope='module')
def called(folder):
    command = shlex.split(page('shell').removeprefix('python '))
    result = warm_python(ROOT / command[0], *command[1:], '--epochs', 4, '--size', 16, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder, result.stdout


@pytest.mark.slow
def test_a_folder_of_classes_gives_a_student_a_report_and_the_next_command(called):
    folder, said = called
    out = folder / 'work_dirs/mine'
    assert {'distill.py', 'teacher.py', 'student.pth', 'student.py', 'student.onnx', 'report.html', 'data'} <= set(
        os.listdir(out)
    )
    assert '42 photos of 3 classes (0, 1, 2); 6 of them, a fifth of each class' in said
    assert 'which knows no class of yours, so it is trained first, from scratch' in said
    assert re.search('time:    about 0:0.:.. on this .PU', said)
    assert (
        'recipe:  then all: ' in said
        and '\n         measured: 90.7, plain training 90.0' in said
        and 'phase 2/2 all epoch 3/3  loss' in said
    )
    assert (
        'teacher epoch 4/4  loss' in said
        and 'OneDL' not in said
        and 'Epoch(val)' not in said
        and 'deprecated' not in said
    )
    assert f'next: python tools/test.py {out}/student.py {out}/student.pth' in said
    assert '\naccuracy/top1: ' in said and '\nteacher/accuracy/top1: ' in said
    assert 'deterministic' not in said and 'Epoch(train)' not in said  # neither config nor columns
    assert Config.fromfile(out / 'student.py').model.head.num_classes == 3
    check_page(out / 'report.html')
    text = (out / 'report.html').read_text()
    assert 'accuracy, %' in text and text.count('<svg') == 2


@pytest.mark.slow
def test_the_commands_of_the_page(called, capsys, monkeypatch):
    """The second block in the same folder, as after an interruption in the second phase: the teacher is there, and a phase."""
    folder, _ = called
    with pytest.raises(ConfigError, match='holds a finished student'):
        mmsskd.distill('resnet34.py', 'resnet18.py', str(folder / 'my_photos'), str(folder / 'work_dirs/mine'))
    for name in ('student.pth', 'epoch_4.pth', 'epoch_3.pth'):
        (folder / 'work_dirs/mine' / name).unlink(missing_ok=True)
    code = page('python').replace("'work_dirs/mine'", "'work_dirs/mine', epochs=4, size=16")
    monkeypatch.chdir(folder)
    exec(code, scope := {})
    result = scope['result']
    assert result.student.is_file() and 'accuracy/top1' in result.metrics
    assert result.onnx.is_file() and len(list(result.report.parent.glob('*/vis_data'))) == 2
    assert read_history(result.report.parent).series('val/relative_error_layer1')[0] == [1]  # of the first part
    said = capsys.readouterr().out
    assert 'trained before by the same config' in said and 'training the teacher' not in said
    assert 'phase 2/2 all epoch 3/3' in said and 'phase 1/2' not in said


@pytest.mark.slow
def test_a_call_that_ended_before_its_report_writes_it(called, capsys, monkeypatch):
    folder, _ = called
    out = folder / 'work_dirs/mine'
    call_again = lambda: mmsskd.distill('resnet34.py', 'resnet18.py', 'my_photos', str(out), epochs=4, size=16)  # noqa: E731
    monkeypatch.chdir(folder)
    for name in ('report.html', 'student.onnx'):
        (out / name).unlink()
    result = call_again()
    assert result.report.is_file() and result.onnx.is_file() and 'epoch 4/4' not in capsys.readouterr().out
    for name in ('report.html', 'distill.py'):  # a student of another run
        (out / name).rename(out / f'{name}.kept')
    with pytest.raises(ConfigError, match='holds a finished student'):
        call_again()
    for name in ('report.html', 'distill.py'):
        (out / f'{name}.kept').rename(out / name)


@pytest.mark.slow
def test_what_was_written_is_what_train_takes(called, monkeypatch, capsys):
    folder, _ = called
    code, _, error = call(
        monkeypatch, capsys, 'train.py', folder / 'work_dirs/mine/distill.py', '--work-dir', folder / 'again',
        '--cfg-options', 'default_hooks.stage_schedule.phases=sskd_kept', 'default_hooks.stage_schedule.transfer.epochs=1',
        'default_hooks.stage_schedule.head.epochs=1',
    )  # fmt: skip
    assert code == 0, error
    assert (folder / 'again/student.pth').is_file()


@pytest.mark.slow
def test_photos_without_labels(folder, tmp_path, capsys, monkeypatch):
    """Interrupted in the second epoch, and called again."""
    weights = save_weights(small(14, 0.5), tmp_path / 'teacher.pth')
    monkeypatch.chdir(folder)
    names, options = ('resnet34.py', 'resnet18.py', 'my_photos/0', str(tmp_path / 'out')), dict(epochs=3, size=16)

    def interrupt(console, runner, *args, **kwargs):
        if runner.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, 'after_train_iter', interrupt)
        patch.setattr(Progress, 'after_train_epoch', interrupt)
        mmsskd.distill(*names, **options, teacher_checkpoint=weights)
    result = mmsskd.distill(*names, **options, teacher_checkpoint=weights)
    assert result.weights.is_file() and result.teacher_config is None
    said = capsys.readouterr().out
    assert 'phase 2/3' in said.rpartition('photos without labels')[2]
    assert 'phase 1/3' not in said.rpartition('photos without labels')[2]
    assert '14 photos without labels' in said and 'features only' in said and 'its head has learned nothing' in said


@pytest.mark.slow
def test_files_of_cifar_and_a_teacher_that_knows_the_classes(folder, tmp_path, capsys, monkeypatch):
    random = np.random.default_rng(0)
    for name, count in (('data_batch_1', 24), ('val_batch', 6)):
        data = random.integers(0, 256, (count, 3 * 64), dtype=np.uint8)
        (tmp_path / name).write_bytes(pickle.dumps(dict(data=data, labels=[i % 3 for i in range(count)])))
    weights = save_weights(small(14, 0.5, num_classes=3), tmp_path / 'teacher.pth')
    monkeypatch.chdir(folder)
    result = mmsskd.distill(
        'resnet34.py', 'resnet18.py', str(tmp_path), str(tmp_path / 'out'), epochs=4, teacher_checkpoint=weights
    )
    assert result.teacher_config is None and 'teacher/accuracy/top1' in result.metrics
    assert f'its weights are {weights}' in capsys.readouterr().out
    assert Config.fromfile(result.config).model.input_shape == (3, 8, 8)


@pytest.mark.slow
def test_boxes_of_coco(photos, tmp_path, capsys):
    data = Config.fromfile(ROOT / 'configs/_base_/datasets/digits_on_photos.py')
    for name, width in (('teacher', 8), ('student', 4)):
        cfg = dict(data.to_dict(), model=dict(detector(width), _scope_='mmdet'), default_scope='mmdet')
        Config(cfg).dump(tmp_path / f'{name}.py')
    result = mmsskd.distill(
        str(tmp_path / 'teacher.py'),
        str(tmp_path / 'student.py'),
        str(photos),
        str(tmp_path / 'out'),
        epochs=2,
        size=64,
    )
    cfg = Config.fromfile(result.config)
    assert cfg.model.stages[-1] == 'neck' and result.weights.is_file() and result.report.is_file()
    assert 'phase 2/2 all epoch 1/1' in capsys.readouterr().out
    mmsskd.distill(
        str(tmp_path / 'teacher.py'),
        str(tmp_path / 'student.py'),
        str(photos),
        str(tmp_path / 'again'),
        epochs=2,
        size=64,
        recipe='recommended',
        teacher_checkpoint=str(tmp_path / 'out/teacher/epoch_2.pth'),
    )
    assert 'phase 2/2 neck epoch 1/1' in capsys.readouterr().out
    assert Config.fromfile(tmp_path / 'again/distill.py').model.mimic_loss.type == 'mmsskd.ForegroundMimicLoss'


def test_a_dry_run_prints_stages_cost_and_time_and_trains_nothing(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    result = mmsskd.distill('resnet34.py', 'resnet18.py', 'my_photos', str(tmp_path), epochs=4, size=16, dry_run=True)
    said = capsys.readouterr().out
    assert 'MACs' in said and 'phase 2  all' in said and 'on this CPU: from one forward of each' in said
    assert sorted(os.listdir(tmp_path)) == ['data', 'distill.py', 'teacher.py'] and result.weights is None


def test_a_call_of_hours_names_the_options_with_which_it_takes_minutes(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr('mmsskd.one_call.measure', lambda run, task: Pace(0.6, 1.2, 0.01, 96))
    mmsskd.distill('resnet34.py', 'resnet18.py', 'my_photos', str(tmp_path), epochs=20, size=96, dry_run=True)
    said = capsys.readouterr().out  # 36 images: an epoch of the teacher takes 130 seconds, one of the whole student 65
    assert re.search(r'time:    about 1:0\d:\d\d on this CPU', said)
    assert re.search(r'\n         --size 64 --epochs 6 takes about 0:09:\d\d\n', said)


def test_features_only_takes_a_teacher_of_other_classes(folder, tmp_path, capsys, monkeypatch):
    weights = save_weights(small(14, 0.5, num_classes=10), tmp_path / 'teacher.pth')
    monkeypatch.chdir(folder)
    result = mmsskd.distill(
        'resnet34.py', 'resnet18.py', 'my_photos', str(tmp_path / 'out'), epochs=4, size=16, teacher_checkpoint=weights,
        features_only=True, dry_run=True,
    )  # fmt: skip
    cfg = Config.fromfile(result.config)
    assert (cfg.model.teacher.head.num_classes, cfg.model.student.head.num_classes) == (10, 3)
    assert 'it gives its features only' in capsys.readouterr().out


def test_a_checkpoint_says_for_what_its_teacher_is(folder, tmp_path, capsys, monkeypatch):
    """And with which images it was trained: by an earlier call, on five classes, which no config has."""
    weights = save_weights(small(14, 0.5, num_classes=5), tmp_path / 'teacher.pth')
    saved = 'data_preprocessor = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)'
    meta = dict(dataset_meta=dict(classes=tuple('abcde')), cfg=saved)
    torch.save(dict(torch.load(weights), meta=meta), weights)
    (tmp_path / 'photos').mkdir()
    for path in sorted((folder / 'my_photos/0').iterdir())[:8]:
        (tmp_path / 'photos' / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(folder)
    result = mmsskd.distill(
        'resnet34.py', 'resnet18.py', str(tmp_path / 'photos'), str(tmp_path / 'out'), epochs=4, size=16,
        teacher_checkpoint=weights, dry_run=True,
    )  # fmt: skip
    cfg = Config.fromfile(result.config)
    assert cfg.model.teacher.head.num_classes == 5 and cfg.data_preprocessor.mean == [1.0, 2.0, 3.0]
    assert 'it gives its features only' in capsys.readouterr().out


@pytest.mark.slow
def test_a_teacher_of_another_library(folder, tmp_path, capsys, monkeypatch):
    """It knows other classes and sees images of its own size: its features are followed by evenly spread stages."""
    torch.manual_seed(0)
    arguments = dict(image_size=24, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=16)
    torch.save(torchvision.models.VisionTransformer(**arguments).state_dict(), tmp_path / 'vit.pth')
    teacher = dict(type='mmsskd.ExternalTeacher', build='torchvision.models.VisionTransformer', arguments=arguments)
    teacher.update(normalize=dict(mean=[0.5], std=[0.5]), image_channels='bgr')
    Config(dict(model=teacher)).dump(tmp_path / 'vit.py')
    monkeypatch.chdir(folder)
    result = mmsskd.distill(
        str(tmp_path / 'vit.py'), 'resnet18.py', 'my_photos', str(tmp_path / 'out'), epochs=4, size=16,
        teacher_checkpoint=str(tmp_path / 'vit.pth'),
    )  # fmt: skip
    assert (
        result.weights.is_file() and 'accuracy/top1' in result.metrics and 'teacher/accuracy/top1' not in result.metrics
    )
    cfg = Config.fromfile(result.config)
    assert cfg.model.teacher.size == 24 and len(cfg.model.stages) == len(cfg.model.teacher_stages)
    assert 'it gives its features only' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(teacher='resnt34'), "teacher: no model 'resnt34' for classification; did you mean 'resnet34'"),
        (dict(epochs=1), 'epochs=1 is too few for 2 phases'),
        (dict(epochs=0), 'epochs must be a whole number of at least 1, found 0'),
        (dict(size=3), 'size must be a whole number of pixels of at least 8, found 3'),
        (dict(batch_size=0), 'batch_size must be a whole number of at least 1, found 0'),
        (dict(teacher_checkpoint='zoo'), "the model zoo has no weights of 'resnet34.py'"),
        (dict(teacher_checkpoint='x.pth'), "teacher_checkpoint: no file 'x.pth'"),
        (dict(features_only=True), 'features_only takes the teacher as it is; name its weights'),
        (dict(data='my_photos/0'), 'the data has no labels to train a teacher on; name its weights'),
        (dict(data='my_photo'), "data: no folder 'my_photo'"),
        (dict(recipe='projecter'), "recipe: there is none 'projecter'; did you mean 'projector'?"),
        (dict(teacher='torchvision:resnet18'), 'a teacher of another library is not trained here'),
        (dict(teacher='torchvision:resnt18', teacher_checkpoint='zoo'), "'torchvision:resnt18' cannot be built"),
        (dict(student='timm:resnet18'), "student: 'timm:resnet18' can be a teacher only"),
        (dict(out='resnet34.py'), "resnet34.py' is a file; name a folder"),
        (dict(out='resnet34.py/mine'), "resnet34.py' is a file; name a folder"),
        (dict(recipe=['default']), "recipe: there is none ['default']"),
    ],
)  # fmt: skip
def test_mistakes(folder, tmp_path, changes, message, monkeypatch):
    names = dict(teacher='resnet34.py', student='resnet18.py', data='my_photos', out=str(tmp_path), size=16, epochs=4)
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError) as caught:
        mmsskd.distill(**{**names, **changes})
    assert message in str(caught.value)
    assert not os.listdir(tmp_path)


def test_a_mistake_on_the_command_line_is_one_message(monkeypatch, capsys, tmp_path):
    names = [
        '--teacher',
        'resnet34',
        '--student',
        'resnet18',
        '--data',
        tmp_path / 'nowhere',
        '--out',
        tmp_path,
        '--resume',
    ]
    code, _, error = call(monkeypatch, capsys, 'distill.py', *names)
    assert code == 1 and error.startswith('error: data: no folder')


def test_the_package_that_is_called_is_still_a_package():
    from mmsskd.distill import StagewiseDistiller

    assert mmsskd.distill.StagewiseDistiller is StagewiseDistiller and callable(mmsskd.distill)
    assert Path(mmsskd.distill.__file__).name == '__init__.py'
