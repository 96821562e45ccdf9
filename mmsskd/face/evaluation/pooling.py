"""Pooling of the features of faces into one feature a template."""

from dataclasses import dataclass

import numpy as np

from ...errors import ConfigError
from .options import DEFAULTS, EvaluationOptions
from .protocol import Faces, Templates
from .protocols.files import clip

BLOCK = 16 * 2**20  # bytes that are worked on at a time: what a processor's cache holds
TOGETHER = 128  # templates that are summed side by side


@dataclass(frozen=True, eq=False)
class FaceFeatures:
    """The features of F faces, checked, with what is known of them before they are pooled.

    Attributes:
        features: (F, D) of any float type.
        mirrored: (F, D), of the mirrored crops, or None. A face's feature is the sum of both.
        usable: (F,) of bool: the feature is finite and not zero. A face that is not is a failure to enrol.
        weights: (F,) of float64, what the feature is multiplied by.
    """

    features: np.ndarray
    mirrored: np.ndarray | None
    usable: np.ndarray
    weights: np.ndarray

    @classmethod
    def check(
        cls,
        faces: Faces,
        features: np.ndarray,
        mirrored: np.ndarray | None = None,
        options: EvaluationOptions = DEFAULTS,
    ) -> 'FaceFeatures':
        """Look at every feature once, and apply the limit of ``options.max_failures``.

        Raises:
            ConfigError: Shapes that do not fit, features that are no floats, detector scores that are asked for and missing, or
                more failures to enrol than allowed.
        """
        mirrored = mirrored if options.flip else None
        for name, array in (('features', features), ('features_flip', mirrored)):
            if array is None:
                continue
            if array.ndim != 2 or len(array) != len(faces) or array.dtype.kind != 'f':
                raise ConfigError(
                    f'{name}: found {array.dtype} of shape {array.shape}; needed: float of shape ({len(faces)}, D), '
                    'a row for each face of the protocol'
                )
        if mirrored is not None and mirrored.shape != features.shape:
            raise ConfigError(f'features_flip: found shape {mirrored.shape}, features have {features.shape}')
        norms = _norms(features, mirrored)
        usable = norms > 0
        failed = np.flatnonzero(~usable)
        if options.max_failures is not None and len(failed) > options.max_failures:
            some = ', '.join(repr(clip(key)) for key in faces.keys[failed[:3]].tolist())
            raise ConfigError(
                f'{len(failed)} of {len(faces)} faces have no usable feature (NaN, infinite or zero), allowed: '
                f'{options.max_failures} (max_failures); the first: {some}. Embed them, or raise max_failures to count them as '
                'failures to enrol'
            )
        weights = np.ones(len(faces))
        if options.normalize_before_pooling:
            np.divide(1, norms, out=weights, where=usable)
        if options.detector_weights:
            unknown = np.flatnonzero(usable & ~np.isfinite(faces.scores))
            if len(unknown):
                raise ConfigError(
                    f'detector_weights: {len(unknown)} of {len(faces)} faces have no detector score, the first: '
                    f'{clip(str(faces.keys[unknown[0]]))!r}. Give scores with the landmarks or as detector_scores in the .npz, or '
                    'switch detector_weights off'
                )
            weights[usable] *= faces.scores[usable]
        return cls(features, mirrored, usable, weights)

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, faces: np.ndarray) -> np.ndarray:
        """(n, D) of float32: the sums of both crops; not weighted. float16 is widened before anything is done with it."""
        rows = self.features[faces].astype(np.float32, copy=False)
        if self.mirrored is not None:
            rows = rows + self.mirrored[faces].astype(np.float32, copy=False)
        return rows


def pool(
    templates: Templates, faces: FaceFeatures, options: EvaluationOptions = DEFAULTS
) -> tuple[np.ndarray, np.ndarray]:
    """Pool features into one of length 1 for each template.

    The mean over a medium's faces, then the mean over media (IJB's protocol, and every evaluator of face.md 2), then scaled to
    length 1. Both means are one weighted sum, a face's weight being 1 / (usable faces of its medium); it is made in float64 and
    rounded once, so that neither the order of rows nor the number of equal faces shows in the result. Faces that are failures to
    enrol are left out of sums and counts. Sorting aside, the work is proportional to the rows.

    Returns:
        features: (T, D) of float32; zeros where there is none.
        valid: (T,) of bool: False where no face is usable, or the weighted faces sum up to nothing.
    """
    keep = faces.usable[templates.rows_face]
    owner, face = templates.rows_template[keep], templates.rows_face[keep]
    media = templates.rows_media[keep] if options.media_pooling else np.zeros(len(owner), np.int64)
    order = np.lexsort((media, owner))
    owner, face, media = owner[order], face[order], media[order]
    weights = faces.weights[face] / _run_lengths((owner, media))
    counts = np.bincount(owner, minlength=len(templates))
    starts = np.cumsum(counts) - counts
    features = np.zeros((len(templates), faces.features.shape[1]), np.float32)
    valid = np.zeros(len(templates), bool)
    # templates with about as many rows side by side: in each round the next row of all that have one is added
    by_size = np.argsort(-counts, kind='stable')[: np.count_nonzero(counts)]
    for begin in range(0, len(by_size), TOGETHER):
        block = by_size[begin : begin + TOGETHER]
        total = np.zeros((len(block), features.shape[1]))
        for number in range(counts[block[0]]):
            rows = starts[block[: np.count_nonzero(counts[block] > number)]] + number
            total[: len(rows)] += faces.rows(face[rows]) * weights[rows, None]
        total, valid[block] = _unit(total)
        features[block] = total
    return features, valid


def count_media(templates: Templates) -> int:
    """Pairs of a template and a medium of it, usable or not."""
    order = np.lexsort((templates.rows_media, templates.rows_template))
    return int(_run_starts((templates.rows_template[order], templates.rows_media[order])).sum())


def _norms(features: np.ndarray, mirrored: np.ndarray | None) -> np.ndarray:
    """(F,) of float64: lengths of the features, 0 where they are zero or not finite."""
    count, width = features.shape
    norms = np.zeros(count)
    step = max(1, BLOCK // (4 * max(width, 1)))
    with np.errstate(over='ignore', invalid='ignore'):
        for begin in range(0, count, step):
            rows = features[begin : begin + step].astype(np.float32, copy=False)
            if mirrored is not None:
                rows = rows + mirrored[begin : begin + step].astype(np.float32, copy=False)
            squares = np.einsum('ij,ij->i', rows, rows).astype(np.float64)
            # squares of float32 leave their range long before the numbers themselves do
            doubtful = np.flatnonzero(~((squares > 1e-20) & (squares < 1e30)))
            wide = rows[doubtful].astype(np.float64)
            squares[doubtful] = np.einsum('ij,ij->i', wide, wide)
            squares[~np.isfinite(squares)] = 0
            norms[begin : begin + step] = np.sqrt(squares)
    return norms


def _unit(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows scaled to length 1, and which of them can be."""
    largest = np.abs(total).max(axis=1, initial=0)
    valid = np.isfinite(largest) & (largest > 0)
    total = np.where(valid[:, None], total, 0) / np.where(valid, largest, 1)[:, None]
    lengths = np.sqrt(np.einsum('ij,ij->i', total, total))
    return total / np.where(valid, lengths, 1)[:, None], valid


def _run_starts(keys: tuple[np.ndarray, ...]) -> np.ndarray:
    """(n,) of bool: where a run of equal keys begins."""
    starts = np.ones(len(keys[0]), bool)
    starts[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return starts


def _run_lengths(keys: tuple[np.ndarray, ...]) -> np.ndarray:
    """(n,) of int: the length of the run that each place is in."""
    run = np.cumsum(_run_starts(keys)) - 1
    return np.bincount(run)[run] if len(run) else run
