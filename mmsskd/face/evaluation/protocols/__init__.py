"""Readers of evaluation protocols: each turns what the authors publish into the values of ``mmsskd.face.evaluation.protocol``."""

from .ijba import read_ijba
from .ijbc import read_ijbc
from .images import describe_faults, file_faults
from .insightface import read_insightface
from .lfw import read_lfw_pairs
from .template_csv import read_templates

__all__ = [
    'describe_faults',
    'file_faults',
    'read_ijba',
    'read_ijbc',
    'read_insightface',
    'read_lfw_pairs',
    'read_templates',
]
