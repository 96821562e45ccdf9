"""InsightFace's networks, the recognizer around them, and margin heads."""

from .face_embed_neck import FaceEmbedNeck
from .face_gdc_neck import FaceGDCNeck
from .face_recognizer import FaceRecognizer
from .iresnet import IResNet
from .margin_cls_head import MarginClsHead
from .mobilefacenet import MobileFaceNet

__all__ = ['FaceEmbedNeck', 'FaceGDCNeck', 'FaceRecognizer', 'IResNet', 'MarginClsHead', 'MobileFaceNet']
