"""Face models for others: InsightFace's names, to the bit and back, and ONNX as onnxruntime computes it."""

import runpy
import sys

import pytest
import torch
from _model import image_size, read_recognizer
from arcface_helpers import iresnet_forward, iresnet_table, mobilefacenet_table, random_state
from helpers import ROOT, warm_python
from mmengine.config import Config

from mmsskd.errors import ConfigError
from mmsskd.face.export import arcface_state_dict, export_onnx, normalization
from mmsskd.face.models import FaceRecognizer, IResNet
from mmsskd.utils.portable import TOLERANCE

IRESNET = dict(
    backbone=dict(type='mmsskd.IResNet', depth=18, base_channels=4),
    neck=dict(type='mmsskd.FaceEmbedNeck', in_channels=32, num_features=16),
)
MOBILE = dict(
    backbone=dict(type='mmsskd.MobileFaceNet', scale=1), neck=dict(type='mmsskd.FaceGDCNeck', num_features=16)
)
TABLES = {
    'iresnet': (IRESNET, iresnet_table(18, 4, 16)),
    'mobilefacenet': (MOBILE, mobilefacenet_table(1, features=16)),
}
PREPROCESSOR = dict(type='ClsDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
NETWORK = dict(type='mmsskd.FaceRecognizer', **IRESNET)
HEAD = dict(type='mmsskd.MarginClsHead', num_classes=3, in_channels=16)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with the config of a face model with a head, and a checkpoint as MMEngine leaves it; and its weights."""
    folder = tmp_path_factory.mktemp('face')
    model = dict(NETWORK, head=HEAD)
    Config(dict(default_scope='mmpretrain', model=model, data_preprocessor=PREPROCESSOR)).dump(folder / 'face.py')
    network, flat = FaceRecognizer(**IRESNET, head=HEAD), random_state(iresnet_table(18, 4, 16))
    network.load_state_dict(network.adopt_state_dict(flat), strict=False)
    torch.save(dict(meta=dict(), state_dict=network.state_dict()), folder / 'epoch_1.pth')
    return folder, flat


@pytest.mark.parametrize('kind', TABLES)
def test_names_go_to_insightface_and_back_to_the_bit(kind):
    fields, table = TABLES[kind]
    model, other = FaceRecognizer(**fields, head=HEAD), FaceRecognizer(**fields)
    state = random_state(table)
    model.load_state_dict(model.adopt_state_dict(state), strict=False)
    exported = arcface_state_dict(model)
    assert {name: tuple(value.shape) for name, value in exported.items()} == table
    assert all(torch.equal(exported[name], state[name]) for name in table)
    other.load_state_dict(other.adopt_state_dict(exported))
    images = torch.randn(2, 3, 112, 112)
    assert torch.equal(model.eval()(images), other.eval()(images))


def test_an_exported_state_does_not_share_memory_with_the_model():
    model = FaceRecognizer(**IRESNET)
    exported = arcface_state_dict(model)
    before = exported['fc.weight'].clone()
    with torch.no_grad():
        model.neck.fc.weight.zero_()
    assert torch.equal(exported['fc.weight'], before)


def test_a_network_that_insightface_has_not_is_refused():
    crossed = FaceRecognizer(MOBILE['backbone'], dict(type='mmsskd.FaceEmbedNeck'))
    with pytest.raises(
        ConfigError, match='InsightFace has no MobileFaceNet with FaceEmbedNeck; its names are those of IResNet'
    ):
        arcface_state_dict(crossed)


@pytest.mark.slow
def test_export_backbone_writes_what_arcface_torch_loads(trained, tmp_path):
    folder, flat = trained
    out = tmp_path / 'new' / 'backbone.pth'
    run = warm_python(ROOT / 'tools/face/export_backbone.py', folder / 'face.py', folder / 'epoch_1.pth', out, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert f'wrote {out}: IResNet, images RGB, (x - 127.5) / 127.5' in run.stdout
    written = torch.load(out, weights_only=True)
    assert list(out.parent.iterdir()) == [out] and all(torch.equal(written[name], flat[name]) for name in flat)
    IResNet(18, num_features=16, base_channels=4).load_state_dict(written)


@pytest.mark.slow
def test_the_student_of_a_stage_by_stage_run_is_read(trained, tmp_path):
    folder, flat = trained
    distiller = dict(
        type='mmsskd.StagewiseDistiller',
        teacher=dict(cfg_path=str(folder / 'face.py')),
        student=dict(cfg_path=str(folder / 'face.py')),
    )
    state = torch.load(folder / 'epoch_1.pth', weights_only=True)['state_dict']
    torch.save(dict(state_dict=dict(state, **{'adapters.layer1.weight': torch.zeros(1)})), tmp_path / 'run.pth')
    model = read_recognizer(Config(dict(default_scope='mmpretrain', model=distiller)), str(tmp_path / 'run.pth'))
    assert not model.training and torch.equal(model.neck.fc.weight, flat['fc.weight'])
    assert normalization(model) == 'RGB, (x - 127.5) / 127.5'


def test_a_model_that_embeds_no_faces_is_refused(tmp_path):
    cfg = Config(dict(default_scope='mmpretrain', model=dict(type='ImageClassifier', backbone=dict(type='LeNet5'))))
    with pytest.raises(ConfigError, match='model.type must be mmsskd.FaceRecognizer, found ImageClassifier'):
        read_recognizer(cfg, 'none.pth')


def test_the_normalisation_is_said_as_it_is():
    def said(**preprocessor):
        return normalization(FaceRecognizer(**IRESNET, data_preprocessor=preprocessor))

    assert (
        said(mean=[1.0, 2.0, 3.0], std=[128.0] * 3) == 'BGR (the order of the data set), (x - [1.0, 2.0, 3.0]) / 128.0'
    )
    assert said(to_rgb=True) == 'RGB, 0 to 255'


# -- ONNX ----------------------------------------------------------------------------------------------------------------


def onnx_model(flat) -> FaceRecognizer:
    model = FaceRecognizer(**IRESNET).eval()
    model.load_state_dict(model.adopt_state_dict(flat))
    return model


@pytest.mark.slow
def test_the_tool_exports_the_size_that_its_options_say(tmp_path, monkeypatch, capsys):
    """Both tools take --cfg-options, so that weights without a head, and other sizes than the file's, are no other config."""
    pytest.importorskip('onnxscript')
    onnxruntime = pytest.importorskip('onnxruntime')
    network = dict(NETWORK, head=HEAD, neck=dict(IRESNET['neck'], feature_size=3))
    test = dict(
        test_dataloader=evaluated(dict(size=64)), test_cfg=dict(), test_evaluator=dict(type='mmsskd.FaceMetric')
    )
    cfg = Config(dict(default_scope='mmpretrain', model=network, **test))
    cfg.dump(tmp_path / 'face.py')
    model = FaceRecognizer(**dict(IRESNET, neck=network['neck']))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'face.pth')
    options = [
        'test_dataloader.dataset.size=48',
        'test_dataloader.dataset.pipeline.0.size=48',
        'model.head=None',
    ]
    for tool, out in (('export_backbone', 'back.pth'), ('export_onnx', 'face.onnx')):
        arguments = [tmp_path / 'face.py', tmp_path / 'face.pth', tmp_path / out, '--cfg-options', *options]
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        runpy.run_path(str(ROOT / f'tools/face/{tool}.py'), run_name='__main__')
    assert 'images of 48x48, BGR' in capsys.readouterr().out
    assert torch.equal(torch.load(tmp_path / 'back.pth')['fc.weight'], model.neck.fc.weight)
    session = onnxruntime.InferenceSession(str(tmp_path / 'face.onnx'), providers=['CPUExecutionProvider'])
    assert session.get_inputs()[0].shape[1:] == [3, 48, 48]


@pytest.mark.slow
def test_export_onnx_writes_the_embedding_of_any_batch(trained, tmp_path):
    pytest.importorskip('onnxscript')
    onnxruntime = pytest.importorskip('onnxruntime')
    folder, flat = trained
    backbone, out = tmp_path / 'backbone.pth', tmp_path / 'face.onnx'
    torch.save(flat, backbone)
    options = ['--cfg-options', 'model.head=None']  # weights of InsightFace have no head
    run = warm_python(ROOT / 'tools/face/export_onnx.py', folder / 'face.py', backbone, out, *options, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert 'largest difference from torch ' in run.stdout and 'RGB, (x - 127.5) / 127.5' in run.stdout
    assert sorted(tmp_path.iterdir()) == [backbone, out]
    session = onnxruntime.InferenceSession(str(out), providers=['CPUExecutionProvider'])
    (source,), (target,) = session.get_inputs(), session.get_outputs()
    assert (source.name, source.shape[1:], target.name, target.shape[1:]) == ('input', [3, 112, 112], 'embedding', [16])
    for batch in (1, 5):
        images = torch.randn(batch, 3, 112, 112)
        (found,) = session.run(None, {'input': images.numpy()})
        _, expected = iresnet_forward(flat, 18, images)
        assert (torch.from_numpy(found) - expected).abs().max() < TOLERANCE * expected.abs().max()


def evaluated(size) -> dict:
    pipeline = [dict(type='mmsskd.AlignFace', **size), dict(type='PackInputs')]
    return dict(dataset=dict(type='mmsskd.FaceEvaluation', sets={}, pipeline=pipeline, **size))


AUGMENTED = dict(
    dataset=dict(datasets=[dict(pipeline=[dict(type='mmsskd.AlignFace', size=72), dict(type='RandomCrop')])])
)
RUN = dict(type='mmsskd.StagewiseDistiller', teacher=NETWORK, student=NETWORK)


@pytest.mark.parametrize(
    ('cfg', 'expected'),
    [
        (dict(), (112, 112)),
        (dict(test_dataloader=evaluated(dict(size=64))), (64, 64)),
        (dict(val_dataloader=evaluated(dict(size=(112, 96))), train_dataloader=AUGMENTED), (112, 96)),
        (dict(test_dataloader=evaluated(dict())), (112, 112)),
        (dict(train_dataloader=AUGMENTED), (72, 72)),
        (dict(model=dict(NETWORK, backbone=dict(NETWORK['backbone'], input_size=64))), (64, 64)),
        (dict(model=dict(RUN, input_shape=(3, 64, 48))), (64, 48)),
        (dict(model=dict(RUN, student=dict(NETWORK, backbone=dict(NETWORK['backbone'], input_size=80)))), (80, 80)),
    ],
)
def test_the_size_of_the_images_is_that_of_the_config(cfg, expected):
    assert image_size(Config({**dict(default_scope='mmpretrain', model=NETWORK), **cfg})) == expected


def test_two_sizes_in_a_config_are_named():
    cfg = Config(dict(model=dict(RUN, input_shape=(3, 112, 112)), test_dataloader=evaluated(dict(size=64))))
    message = r'different sizes \(test_dataloader.dataset.size: 64x64, .*pipeline\[0\].size: 64x64, model.input_shape: 112x112\)'
    with pytest.raises(ConfigError, match=f'{message}; say with --size which one'):
        image_size(cfg)


@pytest.mark.slow
def test_an_onnx_file_that_fails_its_check_is_not_written(trained, tmp_path, monkeypatch):
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    out = tmp_path / 'face.onnx'
    out.write_text('the one before')
    model = onnx_model(trained[1])
    embed = model.embed
    monkeypatch.setattr(model, 'embed', lambda images: embed(images) * (1.001 if torch.compiler.is_exporting() else 1))
    with pytest.raises(ConfigError, match=r'torch and onnxruntime differ by 1.0e-03 .* was not written'):
        export_onnx(model, str(out))
    assert [path.name for path in tmp_path.iterdir()] == ['face.onnx'] and out.read_text() == 'the one before'


@pytest.mark.parametrize('missing', ['onnxruntime', 'onnxscript'])
def test_a_missing_package_is_named_with_its_extra(missing, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=rf'ONNX needs .*{missing}.*: pip install mmsskd\[onnx\]'):
        export_onnx(FaceRecognizer(**IRESNET).eval(), str(tmp_path / 'face.onnx'))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(opset=99), 'torch cannot write opset 99, it wrote 18; set opset to that'),
        (dict(size=64), 'made for a map of 32x7x7, the backbone ends in 32x4x4'),
    ],
)
def test_an_opset_or_a_size_that_cannot_be_is_named(fields, message, tmp_path):
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    with pytest.raises(ConfigError, match=message):
        export_onnx(FaceRecognizer(**IRESNET).eval(), str(tmp_path / 'face.onnx'), **fields)
    assert not list(tmp_path.iterdir())
