"""Open-set identification: probes searched in a gallery that some of their people are not in."""

from collections.abc import Sequence

import numpy as np

from .options import EvaluationOptions
from .protocol import Templates
from .roc import OperatingPoint, ascending, roc_curve, tar_at_far
from .verification import score_blocks

# what the fields of an operating point mean here
NAMES = dict(far='fpir', tar='tpir', impostors='non_mated', genuine='mated', realised_far='realised_fpir')
MISSED = np.iinfo(np.int32).max  # the rank of a mate that a failure to enrol keeps from being found


def search(
    gallery: Templates,
    probes: Templates,
    gallery_features: tuple[np.ndarray, np.ndarray],
    probe_features: tuple[np.ndarray, np.ndarray],
    memory: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Search every probe in the gallery.

    A probe is mated where its subject has a template in the gallery; of several the best counts. Its rank is 1 plus the number of
    templates of other people that score as high or higher: ties count against it.

    Args:
        gallery, probes: The templates; subjects tell who is whose mate.
        gallery_features, probe_features: What :func:`~mmsskd.face.evaluation.pooling.pool` returns for each.
        memory: Bytes that temporary arrays may take.

    Returns:
        mate: (n,) of float32, the mate's score of each of the n mated probes in their order; -inf where either failed to enrol.
        rank: (n,) of int32, from 1; ``MISSED`` where the mate's score is -inf.
        alarm: (m,) of float32, the best score of each of the m probes that have no mate; -inf for failures to enrol.
    """
    (found, found_valid), (asked, asked_valid) = gallery_features, probe_features
    owners, whose = _codes(gallery.subjects, probes.subjects)
    mated = np.isin(whose, owners)
    best = np.full(len(probes), -np.inf, np.float32)
    rank = np.full(len(probes), MISSED, np.int32)
    if len(gallery):
        # an element of scores takes 4 bytes, and about as many in masks and copies
        for begin, scores in score_blocks(asked, found, memory // 3):
            part = slice(begin, begin + len(scores))
            scores[:, ~found_valid] = -np.inf
            scores[~asked_valid[part]] = -np.inf
            own = owners[None] == whose[part, None]
            mate = scores.max(axis=1, initial=-np.inf, where=own)
            rank[part] = 1 + np.count_nonzero((scores >= mate[:, None]) & ~own, axis=1)
            best[part] = np.where(mated[part], mate, scores.max(axis=1))
    rank[np.isneginf(best)] = MISSED
    return best[mated], rank[mated], best[~mated]


def tpir_at_fpir(
    mate: np.ndarray, rank: np.ndarray, alarm: np.ndarray, fpir: float, options: EvaluationOptions
) -> OperatingPoint:
    """True positive identification rate at a false positive identification rate.

    A probe without mate raises a false alarm where its best score is above the threshold; the threshold is set by the rule for
    TAR at FAR, N being the number of those probes. A mated probe is identified where its mate scores above the threshold, at rank
    ``options.tpir_rank`` or better.

    Under ``roc_rule='insightface'`` the threshold is the max(floor(fpir * N), 1)-th largest of those scores itself, one probe
    stricter, as in ``evaluation_1N`` of ``ijb_evals.py`` (https://github.com/deepinsight/insightface, after its pull request
    1739).

    Args:
        mate, rank, alarm: From :func:`search`.
        fpir: 0 to below 1.
        options: For ``tpir_rank`` and ``roc_rule``.
    """
    if not len(mate) or not len(alarm):
        reason = f'no {"mated" if len(alarm) else "non-mated"} probes'
        return OperatingPoint(fpir, None, None, 0, len(alarm), len(mate), None, reason)
    hits = _within_rank(mate, rank, options)
    if options.roc_rule == 'exact':
        return tar_at_far(hits, alarm, fpir)
    alarm = ascending(alarm, 'alarm')
    threshold = alarm[len(alarm) - max(int(len(alarm) * fpir), 1)]
    false = int(np.count_nonzero(alarm > threshold))
    tpir = float(np.count_nonzero(hits > threshold) / len(hits))
    return OperatingPoint(fpir, tpir, float(threshold), false, len(alarm), len(hits), false / len(alarm))


def identification_numbers(mate: np.ndarray, rank: np.ndarray, alarm: np.ndarray, options: EvaluationOptions) -> dict:
    """The numbers of one search for JSON: counts, rank-k over mated probes (None without any), TPIR at each FPIR."""
    points = [tpir_at_fpir(mate, rank, alarm, fpir, options).as_dict() for fpir in options.fpirs]
    return dict(
        mated=len(mate),
        non_mated=len(alarm),
        mated_failed=int(np.isneginf(mate).sum()),
        non_mated_failed=int(np.isneginf(alarm).sum()),
        ranks={str(k): float(np.mean(rank <= k)) if len(rank) else None for k in options.ranks},
        points=[{NAMES.get(key, key): value for key, value in point.items()} for point in points],
    )


def cmc_curve(rank: np.ndarray, ranks: Sequence[int] | np.ndarray) -> np.ndarray:
    """(K,) shares of mated probes whose mate is at each of K ranks or better; empty without mated probes."""
    if not len(rank):
        return np.zeros(0)
    return np.searchsorted(np.sort(rank), ranks, 'right') / len(rank)


def dir_curve(
    mate: np.ndarray,
    rank: np.ndarray,
    alarm: np.ndarray,
    fpirs: Sequence[float] | np.ndarray,
    options: EvaluationOptions,
) -> np.ndarray:
    """(K,) TPIR under the exact rule at K rates of false alarms; empty where there are no probes of one kind."""
    if not len(mate) or not len(alarm):
        return np.zeros(0)
    return roc_curve(_within_rank(mate, rank, options), alarm, fpirs)


def _within_rank(mate: np.ndarray, rank: np.ndarray, options: EvaluationOptions) -> np.ndarray:
    """The mates' scores, -inf where the rank is too low to count."""
    return mate if options.tpir_rank is None else np.where(rank <= options.tpir_rank, mate, np.float32(-np.inf))


def _codes(gallery: np.ndarray, probes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Subjects as whole numbers, equal where the names are."""
    codes = np.unique(np.concatenate((gallery, probes)), return_inverse=True)[1].reshape(-1)
    return codes[: len(gallery)], codes[len(gallery) :]
