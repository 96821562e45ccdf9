"""MobileNetV1: the network of the field's checkpoints, under their names, cut where the field cuts it."""

import pytest
import torch
from helpers import ROOT
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from mmsskd.distill.build import build_model, resolve_model_cfg
from mmsskd.distill.network.stages import find_stages
from mmsskd.errors import ConfigError
from mmsskd.models import MobileNetV1
from mmsskd.visualization.stage_table import count_macs

# (output channels, stride) of the blocks after the first convolution, table 1 of https://arxiv.org/abs/1704.04861
TABLE = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]


def layer(into, out, kernel, stride, groups=1):
    convolution = nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


class FieldMobileNet(nn.Module):
    """The network as distillation repositories write it: ``model``, one Sequential with the pooling in it, and ``fc``."""

    def __init__(self):
        super().__init__()
        blocks, into = [nn.Sequential(*layer(3, 32, 3, 2))], 32
        for out, stride in TABLE:
            blocks.append(nn.Sequential(*layer(into, into, 3, stride, into), *layer(into, out, 1, 1)))
            into = out
        self.model = nn.Sequential(*blocks, nn.AvgPool2d(7))
        self.fc = nn.Linear(1024, 1000)

    def forward(self, x):
        return self.fc(self.model(x).flatten(1))


@pytest.fixture(scope='module')
def field():
    """One of random weights, BN statistics included."""
    torch.manual_seed(0)
    net = FieldMobileNet().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net


@pytest.fixture(scope='module')
def classifier():
    return build_model(resolve_model_cfg('mmsskd::plain/imagenet_mobilenetv1.py', 'student')).eval()


@pytest.mark.parametrize('wrapped', [False, True], ids=['bare', 'as DataParallel saves it'])
def test_checkpoint_of_the_field_gives_its_logits(field, tmp_path, wrapped):
    """By the ``init_cfg`` of backbone and head, as the docstring says."""
    state = field.state_dict()
    if wrapped:
        state = dict(epoch=100, state_dict={f'module.{name}': value for name, value in state.items()})
    torch.save(state, tmp_path / 'mobilenet.pth')
    cfg = Config.fromfile(ROOT / 'configs/plain/imagenet_mobilenetv1.py').model
    cfg.backbone.init_cfg = cfg.head.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'mobilenet.pth'))
    model = MODELS.build(cfg).eval()
    model.init_weights()
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model.head((model.extract_feat(images)[-1],))
        torch.testing.assert_close(logits, field(images), rtol=1e-4, atol=1e-4)  # the two pool in different orders


def test_backbone_has_the_names_of_the_field(field):
    assert MobileNetV1().state_dict().keys() == {name for name in field.state_dict() if not name.startswith('fc.')}


def test_size_of_the_field(classifier):
    """4.23 M parameters, as the tables of https://arxiv.org/abs/1904.01866 have it, and 569 M MACs (table 8 of the paper)."""
    assert sum(p.numel() for p in classifier.parameters()) / 1e6 == pytest.approx(4.23, abs=0.005)
    macs = count_macs(lambda: classifier.head.fc(classifier.extract_feat(torch.zeros(1, 3, 224, 224))[-1]))
    assert macs / 1e6 == pytest.approx(569, abs=0.5)


def test_stages_are_c2_to_c5(classifier):
    """The taps that the field uses: the end of each of the last four resolutions."""
    stages = find_stages(classifier, None, torch.zeros(1, 3, 64, 64))
    assert [stage.name for stage in stages] == ['model.3', 'model.5', 'model.11', 'model.13']
    assert [stage.shapes for stage in stages] == [((128, 16, 16),), ((256, 8, 8),), ((512, 4, 4),), ((1024, 2, 2),)]
    assert stages[0].parameters[0] == 'backbone.model.0.0.weight'  # the stem is in the first


def test_out_indices_are_the_outputs_of_the_stages():
    net = MobileNetV1(out_indices=(0, 2, 3))
    assert [tuple(out.shape[1:]) for out in net(torch.zeros(2, 3, 64, 64))] == [
        (128, 16, 16),
        (512, 4, 4),
        (1024, 2, 2),
    ]


@pytest.mark.parametrize(('frozen_stages', 'last'), [(-1, -1), (0, 1), (1, 3), (2, 5), (3, 11), (4, 13)])
def test_frozen_stages_do_not_train_and_keep_their_statistics(frozen_stages, last):
    net = MobileNetV1(frozen_stages=frozen_stages).train()
    for i, block in enumerate(net.model):
        trains = i > last
        assert all(parameter.requires_grad == trains for parameter in block.parameters()), i
        assert all(module.training == trains for module in block.modules()), i


def test_norm_eval_keeps_all_statistics():
    net = MobileNetV1(norm_eval=True).train()
    assert not any(module.training for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    assert net.training and net.model[0][0].training


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(out_indices=(4,)), r'MobileNetV1: out_indices must be .* 0 to 3, found \(4,\)'),
        (dict(out_indices=()), r'found \(\)'),
        (dict(frozen_stages=5), r'MobileNetV1: frozen_stages must be .* from -1 to 4, found 5'),
    ],
)
def test_what_does_not_exist_is_named(options, words):
    with pytest.raises(ConfigError, match=words):
        MobileNetV1(**options)
