"""Metrics that plug the evaluation of faces into MMEngine."""

from .face_metric import FaceMetric

__all__ = ['FaceMetric']
