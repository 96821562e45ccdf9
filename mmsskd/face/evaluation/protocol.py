"""Values that an evaluation of faces compares: faces, templates, pairs, galleries and probes. numpy only, no torch, no files.

Readers (``mmsskd.face.evaluation.protocols``) make these from what a protocol's authors publish; ``evaluate_templates`` and
``evaluate_pairs`` turn them and one embedding a face into numbers. Faces are embedded once, whatever number of splits and
templates they are in.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Faces:
    """F distinct faces, each to be embedded once.

    Attributes:
        keys: (F,) of str, unique: how files of embeddings name a face.
        files: (F,) of str, paths below the protocol's image root.
        boxes: (F, 4) of float32, x, y, width, height in pixels of the image; NaN where none is known.
        landmarks: (F, 5, 2) of float32, x and y in pixels of the image: image-left eye, image-right eye, tip of the nose,
            image-left and image-right corner of the mouth; NaN where none are known.
        scores: (F,) of float32, how sure a detector was, 0 to 1; NaN where unknown.
    """

    keys: np.ndarray
    files: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, eq=False)
class Templates:
    """T templates: sets of faces of one person each, given as R rows.

    Attributes:
        ids: (T,) unique, numbers or str, as the protocol names them.
        subjects: (T,), who it is.
        rows_template: (R,) of int64, index into ``ids``.
        rows_face: (R,) of int64, index into the protocol's faces.
        rows_media: (R,) of int64; rows of one template with equal numbers are of one medium (a photo, or frames of one video).
    """

    ids: np.ndarray
    subjects: np.ndarray
    rows_template: np.ndarray
    rows_face: np.ndarray
    rows_media: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Verification:
    """1:1: P pairs of templates.

    Attributes:
        templates: Those that the pairs name.
        pairs: (P, 2) of int32, indices of templates, in the order of the protocol's list.
        genuine: (P,) of bool: the same person.
    """

    templates: Templates
    pairs: np.ndarray
    genuine: np.ndarray


@dataclass(frozen=True, eq=False)
class Identification:
    """1:N, open set: probes are searched in a gallery that some of their people are not in.

    Attributes:
        name: ``''``, or which of several galleries, for instance ``'G1'``.
        gallery, probes: Templates; a probe is mated where its subject has a template in the gallery.
    """

    name: str
    gallery: Templates
    probes: Templates


@dataclass(frozen=True, eq=False)
class Split:
    """One of the splits of a protocol; one that has none is a single split named ``''``."""

    name: str
    verification: Verification | None = None
    identification: tuple[Identification, ...] = ()


@dataclass(frozen=True, eq=False)
class TemplateProtocol:
    """A template protocol such as IJB-A: ten splits over one set of faces.

    Attributes:
        root: The folder that the faces' ``files`` are below; ``''`` where there are no files.
    """

    name: str
    faces: Faces
    splits: tuple[Split, ...]
    root: str = ''


@dataclass(frozen=True, eq=False)
class PairProtocol:
    """A list of pairs of single faces such as LFW's.

    Attributes:
        name: For instance ``'lfw'``.
        faces: The distinct faces.
        pairs: (P, 2) of int32, indices of faces.
        genuine: (P,) of bool: the same person.
        folds: (P,) of int32, from 0: the fold of each pair.
        root: The folder that the faces' ``files`` are below; ``''`` where there are no files.
    """

    name: str
    faces: Faces
    pairs: np.ndarray
    genuine: np.ndarray
    folds: np.ndarray
    root: str = ''
