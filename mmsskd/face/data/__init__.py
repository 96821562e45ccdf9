"""Data sets of faces: InsightFace's record files, and what a protocol wants embedded."""

from .face_evaluation import FaceEvaluation
from .face_record_dataset import FaceRecordDataset

__all__ = ['FaceEvaluation', 'FaceRecordDataset']
