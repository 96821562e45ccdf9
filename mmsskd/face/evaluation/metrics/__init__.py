"""What plugs the evaluation of faces into MMEngine."""

from .face_metric import FaceMetric

__all__ = ['FaceMetric']
