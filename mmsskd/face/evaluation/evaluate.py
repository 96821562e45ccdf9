"""Make a report from one feature a face: every number of a protocol, and what it was measured on."""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .identification import cmc_curve, dir_curve, identification_numbers, search
from .options import DEFAULTS, EvaluationOptions
from .pairs import fold_accuracy
from .pooling import FaceFeatures, count_media, pool
from .protocol import Faces, Identification, PairProtocol, TemplateProtocol, Templates, Verification
from .roc import curve_fars
from .verification import pair_scores, verification_numbers


def evaluate_templates(
    protocol: TemplateProtocol,
    features: np.ndarray,
    features_flip: np.ndarray | None = None,
    options: EvaluationOptions = DEFAULTS,
) -> dict:
    """The numbers of a template protocol such as IJB-A.

    1:1: TAR at each FAR and AUC; 1:N: rank-k over mated probes and TPIR at each FPIR; for each split, and their mean and standard
    deviation (ddof=0) over splits. Splits share people, so that the deviation is no confidence interval. A mean over splits of
    which one cannot be resolved cannot be either. Failures to enrol stay in every denominator: a template without a usable face
    scores -inf, so it is rejected, never found, and raises no alarm.

    Args:
        protocol: What is compared.
        features: (F, D) of float16, 32 or 64, a row for each of the protocol's faces. Rows that are not finite, or zero, are
            failures to enrol.
        features_flip: (F, D), of the mirrored crops. A face's feature is the sum of both.
        options: How features are pooled, which numbers are asked for.

    Returns:
        A dict for JSON (no NaN, no infinity; numbers that cannot be resolved are None):

        ``kind`` ``'templates'``, ``name``; ``options``: those that numbers depend on, ``flip`` saying whether it was done;
        ``crop_hash``: equal for equal lists of keys, boxes and landmarks; ``faces``: ``count``, ``failed``, ``failed_keys`` (the
        first ten); ``splits``: a list of dicts with ``name``, ``verification`` and ``identification`` (a list of one for each
        gallery); ``summary``: by the name of a number ``mean``, ``std`` (None for a single split), ``over`` (how many splits),
        and for rates the lowest and the highest ``k``, ``n`` (impostors, or probes without mate), ``threshold`` and ``realised``
        rate; ``curves``: ``roc``, ``cmc``, ``dir``, means over splits at equal rates, for plots; ``warnings``.

    Raises:
        ConfigError: Features that do not fit the protocol, missing detector scores, or more failures than allowed.
    """
    faces = FaceFeatures.check(protocol.faces, features, features_flip, options)
    impostors = [int((~s.verification.genuine).sum()) for s in protocol.splits if s.verification is not None]
    fars = curve_fars(min(impostors, default=0))
    splits, rocs, searches = [], [], []
    for split in protocol.splits:
        result: dict = dict(name=split.name)
        if split.verification is not None:
            result['verification'], curve = _verify(split.verification, faces, options, fars)
            rocs.append(curve)
        if split.identification:
            found = list(_identify(split.identification, faces, options))
            result['identification'] = [numbers for numbers, _ in found]
            searches += [lists for _, lists in found]
        splits.append(result)
    report = _head('templates', protocol, faces, options)
    report['splits'] = splits
    report['summary'] = _summary(splits)
    report['curves'] = _curves(fars, rocs, searches, options)
    report['warnings'] = []
    return report


def evaluate_pairs(
    protocol: PairProtocol,
    features: np.ndarray,
    features_flip: np.ndarray | None = None,
    options: EvaluationOptions = DEFAULTS,
) -> dict:
    """The numbers of a list of pairs of faces such as LFW's: accuracy by cross-validation, AUC, TAR at FAR over all pairs.

    Args, Raises: As :func:`evaluate_templates`.

    Returns:
        A dict as that of :func:`evaluate_templates` with ``kind`` ``'pairs'``; in place of ``splits`` there are ``pairs`` (counts
        and operating points) and ``accuracy`` (:func:`~mmsskd.face.evaluation.pairs.fold_accuracy`).
    """
    faces = FaceFeatures.check(protocol.faces, features, features_flip, options)
    each = np.arange(len(protocol.faces))
    unit, valid = pool(Templates(each, each, each, each, each), faces, options)
    scores = pair_scores(unit, valid, protocol.pairs, options.memory)
    fars = curve_fars(int((~protocol.genuine).sum()))
    numbers, curve = verification_numbers(scores, protocol.genuine, options, fars)
    accuracy = fold_accuracy(scores, protocol.genuine, protocol.folds, options.roc_rule)
    report = _head('pairs', protocol, faces, options)
    report['warnings'] = accuracy.pop('warnings')
    report['pairs'] = numbers
    report['accuracy'] = accuracy
    report['summary'] = {'accuracy': dict(mean=accuracy['mean'], std=accuracy['std'], over=len(accuracy['folds']))}
    report['summary'] |= _summary([dict(verification=numbers)])
    report['curves'] = _curves(fars, [curve], [], options)
    return report


def flat_metrics(report: dict) -> dict[str, float]:
    """The report's means under short names for a log: ``tar@far=1e-3``, ``auc``, ``rank-1``, ``tpir@fpir=0.01``, ``accuracy``.

    Shares are from 0 to 1. Numbers that cannot be resolved are left out.
    """
    return {name: value['mean'] for name, value in report['summary'].items() if value['mean'] is not None}


def far_label(far: float) -> str:
    """A rate as papers write it: ``1e-3``, ``2.5e-4``; ``0`` stands for "no false accept"."""
    if far == 0:
        return '0'
    digits, power = f'{far:.6e}'.split('e')
    return f'{digits.rstrip("0").rstrip(".")}e{int(power)}'


def _head(
    kind: str, protocol: TemplateProtocol | PairProtocol, faces: FaceFeatures, options: EvaluationOptions
) -> dict:
    failed = np.flatnonzero(~faces.usable)
    # numbers do not depend on these two
    shown = {key: value for key, value in options.as_dict().items() if key not in ('memory', 'max_failures')}
    return dict(
        kind=kind,
        name=protocol.name,
        options=shown | dict(flip=faces.mirrored is not None),
        crop_hash=crop_hash(protocol.faces),
        faces=dict(
            count=len(faces), failed=len(failed), failed_keys=[str(key) for key in protocol.faces.keys[failed[:10]]]
        ),
    )


def crop_hash(faces: Faces) -> str:
    """16 hexadecimal digits that stand for keys, boxes and landmarks in their order: equal ones mean equal crops."""
    digest = hashlib.sha256('\n'.join(map(str, faces.keys.tolist())).encode())
    for values in (faces.boxes, faces.landmarks):
        values = np.asarray(values, '<f4')
        # one NaN and one zero, of the many that there are
        digest.update(np.where(np.isnan(values), np.float32(np.nan), values + np.float32(0)).tobytes())
    return digest.hexdigest()[:16]


def _counts(templates: Templates, valid: np.ndarray) -> dict:
    return dict(
        templates=len(templates),
        templates_failed=int(np.count_nonzero(~valid)),
        media=count_media(templates),
        rows=len(templates.rows_face),
    )


def _verify(
    verification: Verification, faces: FaceFeatures, options: EvaluationOptions, fars: np.ndarray
) -> tuple[dict, np.ndarray]:
    features, valid = pool(verification.templates, faces, options)
    scores = pair_scores(features, valid, verification.pairs, options.memory)
    numbers, curve = verification_numbers(scores, verification.genuine, options, fars)
    return _counts(verification.templates, valid) | numbers, curve


def _identify(
    identifications: Sequence[Identification], faces: FaceFeatures, options: EvaluationOptions
) -> Iterator[tuple[dict, tuple]]:
    """Compute for each gallery its numbers, and mates' scores, ranks, alarms and the gallery's size for the curves."""
    probes = features = None
    for one in identifications:
        if one.probes is not probes:  # several galleries are asked for the same probes
            probes, features = one.probes, pool(one.probes, faces, options)
        gallery = pool(one.gallery, faces, options)
        lists = search(one.gallery, probes, gallery, features, options.memory)
        counts = dict(gallery=_counts(one.gallery, gallery[1]), probes=_counts(probes, features[1]))
        yield dict(name=one.name) | counts | identification_numbers(*lists, options), (*lists, len(one.gallery))


def _summary(splits: Sequence[dict]) -> dict:
    """Mean and deviation over splits of each number; of a split with several galleries, the mean over these counts."""
    values: dict[str, list] = {}
    points: dict[str, list] = {}
    for split in splits:
        if 'verification' in split:
            for point in split['verification']['points']:
                name = f'tar@far={far_label(point["far"])}'
                values.setdefault(name, []).append(point['tar'])
                points.setdefault(name, []).append((point, point['impostors'], point['realised_far']))
            values.setdefault('auc', []).append(split['verification']['auc'])
        galleries = split.get('identification', [])
        if galleries:
            for k in galleries[0]['ranks']:
                values.setdefault(f'rank-{k}', []).append(_mean([one['ranks'][k] for one in galleries]))
            for same in zip(*(one['points'] for one in galleries)):
                name = f'tpir@fpir={same[0]["fpir"]:g}'
                values.setdefault(name, []).append(_mean([point['tpir'] for point in same]))
                found = [(point, point['non_mated'], point['realised_fpir']) for point in same]
                points.setdefault(name, []).extend(found)
    return {
        name: dict(
            mean=_mean(each),
            std=float(np.std(each)) if len(each) > 1 and None not in each else None,
            over=len(each),
        )
        | (_basis(points[name]) if name in points else {})
        for name, each in values.items()
    }


def _basis(points: Sequence[tuple[dict, int, float | None]]) -> dict:
    """The basis of a rate: lowest and highest of k, N, threshold and realized rate over the lists; None where one has none."""
    columns = dict(
        k=[point['k'] for point, _, _ in points],
        n=[count for _, count, _ in points],
        threshold=[point['threshold'] for point, _, _ in points],
        realised=[realised for _, _, realised in points],
    )
    return {name: None if None in column else [min(column), max(column)] for name, column in columns.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))


def _curves(
    fars: np.ndarray, rocs: Sequence[np.ndarray], searches: Sequence[tuple], options: EvaluationOptions
) -> dict:
    """Means over lists at equal rates or ranks, for plots; a curve that one of the lists does not have is left out."""
    curves = {}

    def add(name: str, over: str, places: np.ndarray, values: Callable[[], list[np.ndarray]]) -> None:
        if len(places) and (lists := values()) and all(map(len, lists)):
            curves[name] = {over: places.tolist(), 'rate': np.mean(lists, axis=0).tolist(), 'over': len(lists)}

    add('roc', 'far', fars, lambda: list(rocs))
    if searches:
        sizes, alarms = min(size for *_, size in searches), min(len(alarm) for _, _, alarm, _ in searches)
        ranks = np.unique(np.round(np.geomspace(1, max(sizes, 1), 200)).astype(np.int64))
        add('cmc', 'rank', ranks, lambda: [cmc_curve(rank, ranks) for _, rank, _, _ in searches])
        fpirs = curve_fars(alarms)
        add(
            'dir',
            'fpir',
            fpirs,
            lambda: [dir_curve(mate, rank, alarm, fpirs, options) for mate, rank, alarm, _ in searches],
        )
    return curves
