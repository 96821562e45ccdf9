"""Models by the names that people use."""

import pytest
from helpers import ROOT

from mmsskd.errors import ConfigError
from mmsskd.one_call.models import find_model


@pytest.mark.parametrize(
    ('name', 'task', 'small', 'path'),
    [
        ('resnet34', 'classification', False, 'mmpretrain::resnet/resnet34_8xb32_in1k.py'),
        ('ResNet34', 'classification', True, 'mmpretrain::resnet/resnet34_8xb16_cifar10.py'),
        ('mobilenet_v2', 'classification', False, 'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py'),
        ('cifar100_r20', 'classification', True, 'mmsskd::plain/cifar100_r20.py'),
        ('faster-rcnn_r50', 'detection', False, 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'),
        ('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', 'detection', False, None),
        (str(ROOT / 'configs/plain/digits_r8.py'), 'classification', True, None),
    ],
)  # fmt: skip
def test_a_name_finds_the_plainest_config(name, task, small, path):
    model = find_model(name, task, 'teacher', small)
    assert model.path == (path or name) and model.cfg.model


def test_the_zoo_has_weights_of_some():
    assert find_model('resnet34', 'classification', 'teacher').zoo.endswith('.pth')
    assert find_model('cifar100_r20', 'classification', 'teacher').zoo is None


@pytest.mark.parametrize(
    ('name', 'task', 'message'),
    [
        ('resnt34', 'classification', "teacher: no model 'resnt34' for classification; did you mean 'resnet34'"),
        ('fastr-rcnn_r50', 'detection', "did you mean 'faster-rcnn_r50'"),
        ('mine/teacher.py', 'classification', "teacher.cfg_path: no config file 'mine/teacher.py'"),
        ('mmpretrain::resnet/resnet3.py', 'classification', 'did you mean'),
        ('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', 'classification', 'a model of mmdet, but the data is for class'),
        ('mmsskd::sskd/digits_r14x2_r8.py', 'classification', 'is the config of a stage-by-stage run; name a plain one'),
        (34, 'classification', 'teacher must be the name of a model or the path of a config, found 34'),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_with_near_names(name, task, message):
    with pytest.raises(ConfigError) as caught:
        find_model(name, task, 'teacher')
    assert message in str(caught.value)
