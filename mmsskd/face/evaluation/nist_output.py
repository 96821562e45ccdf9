"""NIST's text forms of scores: ``.matches`` of 1:1 lists, ``.candidate_lists`` of searches."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...utils.files import replacing
from .options import DEFAULTS, EvaluationOptions
from .pooling import FaceFeatures, pool
from .protocol import Identification, Split, TemplateProtocol, Verification
from .verification import pair_scores, score_blocks

MATCHES = (
    'ENROLL_TEMPLATE_ID',
    'VERIF_TEMPLATE_ID',
    'ENROLL_TEMPLATE_SIZE_BYTES',
    'VERIF_TEMPLATE_SIZE_BYTES',
    'RETCODE',
    'SIMILARITY_SCORE',
)
CANDIDATES = (
    'SEARCH_TEMPLATE_ID',
    'CANDIDATE_RANK',
    'ENROLL_TEMPLATE_ID',
    'ENROLL_TEMPLATE_SIZE_BYTES',
    'SEARCH_TEMPLATE_SIZE_BYTES',
    'RETCODE',
    'SIMILARITY_SCORE',
)
CHUNK = 100_000  # lines at a time


def write_nist_output(
    folder: str | os.PathLike,
    protocol: TemplateProtocol,
    features: np.ndarray,
    features_flip: np.ndarray | None = None,
    options: EvaluationOptions = DEFAULTS,
    candidates: int = 20,
) -> list[Path]:
    """Write ``split<N>.matches`` and ``split<N>.candidate_lists`` of each split, as NIST's IJB-A harness does.

    Fields are separated by blanks, the first line names them. Sizes are those of a float32 feature, 0 for a template without a
    usable face; RETCODE is 1 and the score -inf where either template has none, else 0. Candidates of a search are the best
    ``candidates`` of the gallery, ranks from 0, equal scores in the gallery's order. Searches of several galleries are named,
    for instance ``G1.candidate_lists``; a protocol without splits gives its own name to its files.

    Args:
        folder: Made if missing.
        protocol, features, features_flip, options: As for :func:`~mmsskd.face.evaluation.evaluate.evaluate_templates`.
        candidates: Length of a candidate list.

    Returns:
        The files written.

    Raises:
        ConfigError: As ``evaluate_templates``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    faces = FaceFeatures.check(protocol.faces, features, features_flip, options)
    written = []
    for split in protocol.splits:
        stem = _stem(protocol, split)
        if split.verification is not None:
            path = folder / f'{stem}.matches'
            _write(path, MATCHES, _matches(split.verification, faces, options))
            written.append(path)
        for one in split.identification:
            path = folder / f'{"_".join(filter(None, (stem, one.name)))}.candidate_lists'
            _write(path, CANDIDATES, _candidates(one, faces, options, candidates))
            written.append(path)
    return written


def _stem(protocol: TemplateProtocol, split: Split) -> str:
    if not split.name:
        return re.sub(r'[^\w.-]+', '_', protocol.name) or 'protocol'
    return f'split{split.name}' if split.name.isdigit() else split.name


def _matches(verification: Verification, faces: FaceFeatures, options: EvaluationOptions) -> Iterator[str]:
    ids = verification.templates.ids
    features, valid = pool(verification.templates, faces, options)
    sizes = np.where(valid, features[:1].nbytes, 0)
    scores = pair_scores(features, valid, verification.pairs, options.memory)
    for begin in range(0, len(scores), CHUNK):
        part = slice(begin, begin + CHUNK)
        enrolled, checked = verification.pairs[part].T
        columns = (ids[enrolled], ids[checked], sizes[enrolled], sizes[checked], scores[part])
        for one, other, size, other_size, score in zip(*(column.tolist() for column in columns)):
            yield f'{one} {other} {size} {other_size} {int(score == -np.inf)} {score:.9g}\n'


def _candidates(one: Identification, faces: FaceFeatures, options: EvaluationOptions, most: int) -> Iterator[str]:
    found, found_valid = pool(one.gallery, faces, options)
    asked, asked_valid = pool(one.probes, faces, options)
    found_sizes, asked_sizes = (np.where(v, found[:1].nbytes, 0).tolist() for v in (found_valid, asked_valid))
    names, probes = one.gallery.ids.tolist(), one.probes.ids.tolist()
    for begin, scores in score_blocks(asked, found, options.memory // 4):
        scores[:, ~found_valid] = -np.inf
        scores[~asked_valid[begin : begin + len(scores)]] = -np.inf
        best = np.argsort(-scores, axis=1, kind='stable')[:, :most]
        values = np.take_along_axis(scores, best, axis=1)
        for probe, places, row in zip(range(begin, begin + len(scores)), best.tolist(), values.tolist()):
            for rank, (place, score) in enumerate(zip(places, row)):
                yield (
                    f'{probes[probe]} {rank} {names[place]} {found_sizes[place]} {asked_sizes[probe]} '
                    f'{int(score == -np.inf)} {score:.9g}\n'
                )


def _write(path: Path, head: tuple[str, ...], lines: Iterator[str]) -> None:
    with replacing(path) as part, part.open('w', encoding='utf-8', newline='\n') as file:
        file.write(' '.join(head) + '\n')
        file.writelines(lines)
