"""The pairs of tools/pairs.py: stock configs of mmpretrain and mmdet, and foreign teachers."""

from dataclasses import dataclass, field

THAW = dict(backbone=dict(frozen_stages=-1, norm_eval=False))  # mmdet keeps the stem, a stage and BN of its students


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A teacher and a student.

    Attributes:
        group: Its heading in the table.
        teacher: Path of a config in its package; or the config of a model that needs no checkpoint, a foreign teacher.
        student: Path of a config in its package, or a dict with that as ``cfg_path`` and what is to be changed.
        size: Of the images, height and width.
        options: Of the model besides: ``stages`` and the like.
        line_options: What to add where the pair is refused as it stands, as ``--cfg-options`` would; its text is ``line``.
    """

    group: str
    teacher: str | dict
    student: str | dict
    size: int = 64
    options: dict = field(default_factory=dict)
    line_options: dict = field(default_factory=dict)

    @property
    def package(self) -> str:
        return self._path(self.student).partition('::')[0]

    @property
    def teacher_name(self) -> str:
        return self.teacher['build'] if isinstance(self.teacher, dict) else _stem(self.teacher)

    @property
    def student_name(self) -> str:
        return _stem(self._path(self.student))

    @property
    def name(self) -> str:
        where = '_'.join(str(self.options.get('stages', '')).translate(str.maketrans(',.', '--', "[]' ")).split())
        name = f'{self.teacher_name}__{self.student_name}{f"__{where}" if where else ""}'
        return name.replace(':', '-').replace('/', '-')

    @property
    def line(self) -> str:
        return ', '.join(f'{key}={value!r}' for key, value in self.line_options.items())

    @property
    def shown(self) -> str:
        """The options of the model besides the two paths, as text."""
        own = dict(self.student) if isinstance(self.student, dict) else {}
        own.pop('cfg_path', None)
        options = {**self.options, **({'student': own} if own else {})}
        return ', '.join(f'{key}={value!r}' for key, value in options.items())

    @staticmethod
    def _path(model: str | dict) -> str:
        return model['cfg_path'] if isinstance(model, dict) else model


def _stem(path: str) -> str:
    return path.rpartition('/')[2].removesuffix('.py')


def _classifiers(group: str, *rows: tuple) -> list[Pair]:
    """Rows of teacher, student, and the fields of a pair besides."""
    return [
        Pair(
            group=group,
            teacher=_in1k(teacher) if isinstance(teacher, str) else teacher,
            student=_in1k(student),
            **(rest[0] if rest else {}),
        )
        for teacher, student, *rest in rows
    ]


def _in1k(path: str) -> str:
    return f'mmpretrain::{path}{"" if "_in1k" in path else "_in1k"}.py'


def _detectors(group: str, *rows: tuple) -> list[Pair]:
    """The same; without other options the neck is the stage."""
    return [
        Pair(
            group=group,
            teacher=f'mmdet::{teacher}_coco.py' if isinstance(teacher, str) else teacher,
            student=dict(cfg_path=f'mmdet::{student}_coco.py', **options.pop('student', {})),
            **{'size': 128, 'options': dict(stages=['neck']), **options},
        )
        for teacher, student, options in ((*row[:2], dict(row[2]) if len(row) > 2 else {}) for row in rows)
    ]


LEVELS = dict(options=dict(stages=['neck.1', 'neck.2']))
LATER = dict(options=dict(stages=['layer2', 'layer3', 'layer4']))
STAGES = dict(student=THAW, options=dict(stages=['layer1', 'layer2', 'layer3', 'layer4', 'neck']))
BIG = dict(size=224)
UNDISTILLED = BIG | dict(line_options={'model.student.head.distillation': False})  # mmpretrain cannot train it
LAST_NORM = BIG | dict(line_options={'model.teacher_stages': ['norm'] * 4})  # its blocks change their input in place


def _foreign(build: str, package: str, student: str, image: int = 64, **teacher) -> Pair:
    """A teacher of another library, as it builds it."""
    cfg = dict(dict(type='mmsskd.ExternalTeacher', build=build, pretrained=False), **teacher)
    path = dict(mmpretrain=_in1k(student), mmdet=f'mmdet::{student}_coco.py')[package]
    changes = dict(cfg_path=path, **THAW) if package == 'mmdet' else path
    return Pair(group='Foreign teachers', teacher=cfg, student=changes, size=image)


HALF = dict(mean=[0.5] * 3, std=[0.5] * 3)
DINOV2 = dict(build='timm:vit_small_patch14_dinov2', arguments=dict(dynamic_img_size=True), size=0.875)
REGISTERS = dict(build='transformers:dinov2_with_registers', normalize=HALF, size=0.875,
                 arguments=dict(hidden_size=192, num_hidden_layers=4, num_attention_heads=3, image_size=56))  # fmt: skip

PAIRS = [
    *_classifiers(
        'Classifiers, one family',
        ('resnet/resnet101_8xb32', 'resnet/resnet50_8xb32'),
        ('resnet/resnet34_8xb32', 'resnet/resnet18_8xb32'),
        ('vgg/vgg16bn_8xb32', 'vgg/vgg11bn_8xb32', BIG),
        ('densenet/densenet169_4xb256', 'densenet/densenet121_4xb256'),
        ('efficientnet/efficientnet-b2_8xb32', 'efficientnet/efficientnet-b0_8xb32'),
        ('efficientnet_v2/efficientnetv2-b1_8xb32', 'efficientnet_v2/efficientnetv2-b0_8xb32'),
        ('regnet/regnetx-1.6gf_8xb128', 'regnet/regnetx-400mf_8xb128'),
        ('repvgg/repvgg-A1_8xb32', 'repvgg/repvgg-A0_8xb32'),
        ('mobileone/mobileone-s1_8xb32', 'mobileone/mobileone-s0_8xb32'),
        ('mobilenet_v3/mobilenet-v3-large_8xb128', 'mobilenet_v3/mobilenet-v3-small_8xb128'),
        ('van/van-small_8xb128', 'van/van-tiny_8xb128'),
        ('convnext/convnext-small_32xb128', 'convnext/convnext-tiny_32xb128'),
        ('convnext_v2/convnext-v2-femto_32xb32', 'convnext_v2/convnext-v2-atto_32xb32'),
        ('hrnet/hrnet-w30_4xb32', 'hrnet/hrnet-w18_4xb32'),
        ('poolformer/poolformer-s24_32xb128', 'poolformer/poolformer-s12_32xb128'),
        ('edgenext/edgenext-small_8xb256', 'edgenext/edgenext-xsmall_8xb256', BIG),
        ('mobilevit/mobilevit-small_8xb128', 'mobilevit/mobilevit-xsmall_8xb128'),
        ('efficientformer/efficientformer-l3_8xb128', 'efficientformer/efficientformer-l1_8xb128', UNDISTILLED),
        ('hornet/hornet-small_8xb64', 'hornet/hornet-tiny_8xb128'),
        ('swin_transformer/swin-small_16xb64', 'swin_transformer/swin-tiny_16xb64', BIG),
        (
            'swin_transformer_v2/swinv2-small-w8_16xb64_in1k-256px',
            'swin_transformer_v2/swinv2-tiny-w8_16xb64_in1k-256px',
            dict(size=256),
        ),
        ('davit/davit-small_4xb256', 'davit/davit-tiny_4xb256', BIG),
        ('twins/twins-pcpvt-base_8xb128', 'twins/twins-pcpvt-small_8xb128', BIG),
        ('twins/twins-svt-base_8xb128', 'twins/twins-svt-small_8xb128', BIG),
        ('mvit/mvitv2-small_8xb256', 'mvit/mvitv2-tiny_8xb256', BIG),
        ('deit/deit-small_4xb256', 'deit/deit-tiny_4xb256', BIG),
        ('deit/deit-small-distilled_4xb256', 'deit/deit-tiny-distilled_4xb256', BIG),
        ('deit3/deit3-medium-p16_64xb64', 'deit3/deit3-small-p16_64xb64', BIG),
        ('t2t_vit/t2t-vit-t-19_8xb64', 't2t_vit/t2t-vit-t-14_8xb64', BIG),
        ('xcit/xcit-small-12-p16_8xb128', 'xcit/xcit-nano-12-p16_8xb128', BIG),
        ('levit/levit-192_8xb256', 'levit/levit-128_8xb256', UNDISTILLED),
        ('tinyvit/tinyvit-11m_8xb256', 'tinyvit/tinyvit-5m_8xb256', BIG),
        ('cspnet/cspresnext50_8xb32', 'cspnet/cspresnet50_8xb32'),
        ('conformer/conformer-small-p16_8xb128', 'conformer/conformer-tiny-p16_8xb128', BIG),
    ),
    *_classifiers(
        'Classifiers, two families',
        ('resnet/resnet50_8xb32', 'mobilenet_v2/mobilenet-v2_8xb32'),
        ('resnet/resnet50_8xb32', 'mobilenet_v3/mobilenet-v3-small_8xb128'),
        ('resnet/resnet50_8xb32', 'shufflenet_v1/shufflenet-v1-1x_16xb64'),
        ('resnet/resnet50_8xb32', 'shufflenet_v2/shufflenet-v2-1x_16xb64'),
        ('resnext/resnext50-32x4d_8xb32', 'resnet/resnet18_8xb32'),
        ('seresnet/seresnet50_8xb32', 'resnet/resnet50_8xb32'),
        ('resnest/resnest50_32xb64', 'resnet/resnet50_8xb32'),
        ('res2net/res2net50-w14-s8_8xb32', 'resnet/resnet18_8xb32'),
        ('wrn/wide-resnet50_8xb32', 'resnet/resnet18_8xb32'),
        ('densenet/densenet121_4xb256', 'resnet/resnet18_8xb32'),
        ('regnet/regnetx-1.6gf_8xb128', 'shufflenet_v2/shufflenet-v2-1x_16xb64'),
        ('convnext/convnext-tiny_32xb128', 'resnet/resnet50_8xb32'),
        ('efficientnet/efficientnet-b0_8xb32', 'mobilenet_v2/mobilenet-v2_8xb32'),
        ('hrnet/hrnet-w18_4xb32', 'resnet/resnet18_8xb32'),
        ('swin_transformer/swin-tiny_16xb64', 'resnet/resnet50_8xb32', BIG),
        ('swin_transformer/swin-tiny_16xb64', 'convnext_v2/convnext-v2-atto_32xb32', BIG),
        ('resnet/resnet50_8xb32', 'swin_transformer/swin-tiny_16xb64', BIG),
        ('twins/twins-pcpvt-small_8xb128', 'resnet/resnet18_8xb32', BIG),
        ('vision_transformer/vit-base-p16_64xb64', 'deit/deit-tiny_4xb256', BIG),
        ('tnt/tnt-s-p16_16xb64', 'deit/deit-tiny_4xb256', LAST_NORM),
        ('mlp_mixer/mlp-mixer-base-p16_64xb64', 'deit/deit-tiny_4xb256', BIG),
        ('deit/deit-small_4xb256', 'resnet/resnet18_8xb32', BIG),
        ('inception_v3/inception-v3_8xb32', 'resnet/resnet18_8xb32', dict(size=96)),
    ),
    *_detectors(
        'Detectors, one family',
        ('faster_rcnn/faster-rcnn_r101_fpn_1x', 'faster_rcnn/faster-rcnn_r50_fpn_1x', STAGES),
        ('retinanet/retinanet_r101_fpn_1x', 'retinanet/retinanet_r18_fpn_1x', STAGES),
        ('gfl/gfl_r101_fpn_ms-2x', 'gfl/gfl_r50_fpn_1x', dict(options=dict(stages=['neck', 'bbox_head.gfl_cls']))),
        ('gfl/gfl_r101_fpn_ms-2x', 'gfl/gfl_r50_fpn_1x', dict(options=dict(stages=['neck', 'bbox_head.cls_convs.3']))),
        ('faster_rcnn/faster-rcnn_r101_fpn_1x', 'faster_rcnn/faster-rcnn_r50_fpn_1x'),
        ('faster_rcnn/faster-rcnn_r101_fpn_1x', 'faster_rcnn/faster-rcnn_r50_fpn_1x', LEVELS),
        ('mask_rcnn/mask-rcnn_r101_fpn_1x', 'mask_rcnn/mask-rcnn_r50_fpn_1x'),
        ('cascade_rcnn/cascade-rcnn_r101_fpn_1x', 'cascade_rcnn/cascade-rcnn_r50_fpn_1x'),
        ('retinanet/retinanet_r101_fpn_1x', 'retinanet/retinanet_r50_fpn_1x'),
        ('fcos/fcos_r101-caffe_fpn_gn-head-1x', 'fcos/fcos_r50-caffe_fpn_gn-head_1x'),
        ('atss/atss_r101_fpn_1x', 'atss/atss_r50_fpn_1x'),
        ('vfnet/vfnet_r101_fpn_1x', 'vfnet/vfnet_r50_fpn_1x'),
        ('paa/paa_r101_fpn_1x', 'paa/paa_r50_fpn_1x'),
        ('tood/tood_r101_fpn_ms-2x', 'tood/tood_r50_fpn_1x'),
        ('reppoints/reppoints-moment_r101_fpn-gn_head-gn_2x', 'reppoints/reppoints-moment_r50_fpn-gn_head-gn_1x'),
        ('fsaf/fsaf_r101_fpn_1x', 'fsaf/fsaf_r50_fpn_1x'),
        ('foveabox/fovea_r101_fpn_4xb4-1x', 'foveabox/fovea_r50_fpn_4xb4-1x'),
        ('free_anchor/freeanchor_r101_fpn_1x', 'free_anchor/freeanchor_r50_fpn_1x'),
        ('libra_rcnn/libra-faster-rcnn_r101_fpn_1x', 'libra_rcnn/libra-faster-rcnn_r50_fpn_1x'),
        ('sabl/sabl-faster-rcnn_r101_fpn_1x', 'sabl/sabl-faster-rcnn_r50_fpn_1x'),
        ('sparse_rcnn/sparse-rcnn_r101_fpn_ms-480-800-3x', 'sparse_rcnn/sparse-rcnn_r50_fpn_1x'),
        ('queryinst/queryinst_r101_fpn_ms-480-800-3x', 'queryinst/queryinst_r50_fpn_1x'),
        ('solov2/solov2_r101_fpn_ms-3x', 'solov2/solov2_r50_fpn_1x'),
        ('yolact/yolact_r101_1xb8-55e', 'yolact/yolact_r50_1xb8-55e'),
        ('yolox/yolox_s_8xb8-300e', 'yolox/yolox_tiny_8xb8-300e'),
        ('rtmdet/rtmdet_s_8xb32-300e', 'rtmdet/rtmdet_tiny_8xb32-300e'),
        ('hrnet/faster-rcnn_hrnetv2p-w32-1x', 'hrnet/faster-rcnn_hrnetv2p-w18-1x'),
        ('pvt/retinanet_pvt-s_fpn_1x', 'pvt/retinanet_pvt-t_fpn_1x'),
        ('detr/detr_r101_8xb2-500e', 'detr/detr_r50_8xb2-150e', LATER),
        ('yolo/yolov3_d53_8xb8-320-273e', 'yolo/yolov3_mobilenetv2_8xb24-320-300e'),
    ),
    *_detectors(
        'Detectors of different kinds',
        ('faster_rcnn/faster-rcnn_r101_fpn_1x', 'retinanet/retinanet_r50_fpn_1x'),
        ('retinanet/retinanet_r101_fpn_1x', 'faster_rcnn/faster-rcnn_r50_fpn_1x'),
        ('cascade_rcnn/cascade-rcnn_r101_fpn_1x', 'faster_rcnn/faster-rcnn_r50_fpn_1x'),
        ('swin/mask-rcnn_swin-t-p4-w7_fpn_1x', 'retinanet/retinanet_r50_fpn_1x'),
        ('swin/retinanet_swin-t-p4-w7_fpn_1x', 'retinanet/retinanet_r18_fpn_1x'),
        ('regnet/faster-rcnn_regnetx-3.2GF_fpn_1x', 'faster_rcnn/faster-rcnn_r50_fpn_1x'),
        ('pafpn/faster-rcnn_r50_pafpn_1x', 'retinanet/retinanet_r18_fpn_1x'),
        ('dyhead/atss_r50_fpn_dyhead_1x', 'atss/atss_r50_fpn_1x'),
        ('atss/atss_r101_fpn_1x', 'ddod/ddod_r50_fpn_1x', dict(size=512)),
        ('gfl/gfl_r101_fpn_ms-2x', 'retinanet/retinanet_r50_fpn_1x'),
        ('vfnet/vfnet_r101_fpn_1x', 'fsaf/fsaf_r50_fpn_1x'),
        ('detr/detr_r101_8xb2-500e', 'conditional_detr/conditional-detr_r50_8xb2-50e'),
        ('faster_rcnn/faster-rcnn_r50_fpn_1x', 'centernet/centernet_r18_8xb16-crop512-140e'),
        ('fcos/fcos_r101-caffe_fpn_gn-head-1x', 'retinanet/retinanet_r50_fpn_1x'),
    ),
    _foreign('torchvision:resnet50', 'mmpretrain', 'resnet/resnet18_8xb32'),
    _foreign('torchvision:swin_t', 'mmpretrain', 'resnet/resnet18_8xb32'),
    _foreign('torchvision:convnext_tiny', 'mmpretrain', 'mobilenet_v2/mobilenet-v2_8xb32'),
    _foreign('torchvision:vit_b_32', 'mmpretrain', 'deit/deit-tiny_4xb256', 224),
    _foreign('torchvision:efficientnet_b0', 'mmpretrain', 'mobilenet_v3/mobilenet-v3-small_8xb128'),
    _foreign('torchvision:regnet_y_400mf', 'mmdet', 'faster_rcnn/faster-rcnn_r50_fpn_1x', 128),
    _foreign('torchvision:resnet50', 'mmdet', 'retinanet/retinanet_r18_fpn_1x', 128),
    _foreign(package='mmpretrain', student='resnet/resnet18_8xb32', **DINOV2),
    _foreign(package='mmpretrain', student='deit/deit-tiny_4xb256', image=224, **DINOV2),
    _foreign(package='mmdet', student='retinanet/retinanet_r18_fpn_1x', image=128, **DINOV2),
    _foreign(package='mmdet', student='faster_rcnn/faster-rcnn_r50_fpn_1x', image=128, **DINOV2),
    _foreign('timm:convnextv2_atto', 'mmpretrain', 'mobilenet_v2/mobilenet-v2_8xb32'),
    _foreign('timm:resnet18', 'mmpretrain', 'mobilenet_v3/mobilenet-v3-small_8xb128'),
    _foreign('timm:swin_tiny_patch4_window7_224', 'mmpretrain', 'resnet/resnet18_8xb32', 224),
    _foreign('timm:mixer_s32_224', 'mmpretrain', 'resnet/resnet18_8xb32', 224),
    _foreign(package='mmpretrain', student='resnet/resnet18_8xb32', **REGISTERS),
    _foreign('transformers:convnextv2', 'mmpretrain', 'resnet/resnet18_8xb32', normalize=HALF),
]
