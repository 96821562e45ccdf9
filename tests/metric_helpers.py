"""Random protocols with ties and failures, and the numbers of an evaluation by loops that say what the words say."""

import numpy as np

from mmsskd.face.evaluation.protocol import (
    Faces,
    Identification,
    PairProtocol,
    Split,
    TemplateProtocol,
    Templates,
    Verification,
)


def make_faces(count, scores=None):
    keys = np.array([f'img/{number}.jpg' for number in range(count)])
    boxes = np.tile(np.float32([1, 2, 30, 40]), (count, 1))
    scores = np.ones(count, np.float32) if scores is None else np.asarray(scores, np.float32)
    return Faces(keys, keys, boxes, np.full((count, 5, 2), np.nan, np.float32), scores)


def make_templates(subjects, rows_template, rows_face, rows_media=None, ids=None):
    """Templates named from 100; every row a medium of its own unless media are given."""
    subjects = np.asarray(subjects)
    media = np.arange(len(rows_face)) if rows_media is None else np.asarray(rows_media)
    ids = np.arange(100, 100 + len(subjects)) if ids is None else np.asarray(ids)
    return Templates(ids, subjects, np.asarray(rows_template), np.asarray(rows_face), media)


def singles(subjects, first=0):
    """One template for each subject given, of one face each, the faces numbered from ``first``."""
    count = len(subjects)
    return make_templates(subjects, np.arange(count), first + np.arange(count), ids=1000 + first + np.arange(count))


def tied_scores(rng, count, failures=0.1):
    """Scores that often meet, some of them failures to enrol."""
    scores = rng.integers(-20, 20, count) / 16
    scores = scores.astype(rng.choice([np.float32, np.float64]))
    scores[rng.random(count) < failures * rng.integers(0, 2)] = -np.inf
    return scores


def identity_protocol(people=12, each=5, dim=16, splits=2, rng=None):
    """A protocol whose people are axes: features of one person are equal, those of two are orthogonal.

    Verification of all pairs of an enrolled template and a probe; a gallery without the last three people.
    """
    rng = rng or np.random.default_rng(0)
    who = np.repeat(np.arange(people), each)
    features = np.eye(people, dim, dtype=np.float32)[who] * rng.uniform(0.5, 3, (len(who), 1)).astype(np.float32)
    made = []
    for number in range(splits):
        enrolled = np.flatnonzero(np.arange(len(who)) % each == number)
        probes = np.flatnonzero(np.arange(len(who)) % each != number)
        subjects = np.concatenate((np.arange(people), who[probes]))
        templates = make_templates(subjects, np.arange(len(subjects)), np.concatenate((enrolled, probes)))
        pairs = np.stack(np.meshgrid(np.arange(people), np.arange(people, len(subjects)), indexing='ij'), -1)
        pairs = pairs.reshape(-1, 2).astype(np.int32)
        genuine = subjects[pairs[:, 0]] == subjects[pairs[:, 1]]
        gallery = make_templates(np.arange(people - 3), np.arange(people - 3), enrolled[:-3])
        search = Identification('', gallery, make_templates(who[probes], np.arange(len(probes)), probes))
        made.append(Split(str(number + 1), Verification(templates, pairs, genuine), (search,)))
    return TemplateProtocol('identity', make_faces(len(who)), tuple(made)), features


def random_pairs(rng, faces=40, count=300, folds=10):
    pairs = rng.integers(0, faces, (count, 2)).astype(np.int32)
    return PairProtocol('random', make_faces(faces), pairs, rng.random(count) < 0.5, np.arange(count) * folds // count)


def slow_tar(genuine, impostor, far):
    """TAR and threshold by trying every threshold: the lowest that lets at most k impostors through."""
    k = int(np.floor(far * len(impostor) + 1e-9))
    best = None
    for threshold in sorted(set(impostor.tolist()), reverse=True):
        false = sum(score > threshold for score in impostor.tolist())
        if false <= k:
            best = threshold
    return sum(score > best for score in genuine.tolist()) / len(genuine), best


def slow_ranks(scores, gallery_subjects, probe_subjects):
    """For each probe (mate score or None, rank or None, best score of all) by loops."""
    found = []
    for row, subject in zip(scores.tolist(), probe_subjects):
        mates = [score for score, owner in zip(row, gallery_subjects) if owner == subject]
        if not mates:
            found.append((None, None, max(row)))
            continue
        mate = max(mates)
        others = [score for score, owner in zip(row, gallery_subjects) if owner != subject]
        rank = 1 + sum(score >= mate for score in others) if mate > -np.inf else None
        found.append((mate, rank, None))
    return found


def slow_pool(templates, features, mirrored=None, scores=None, normalize=False, media=True):
    """Mean of means, with loops over templates and media; None where there is nothing."""
    pooled = []
    for number in range(len(templates)):
        means = {}
        for owner, face, medium in zip(templates.rows_template, templates.rows_face, templates.rows_media):
            if owner != number:
                continue
            feature = features[face].astype(np.float64)
            if mirrored is not None:
                feature = feature + mirrored[face]
            if not np.isfinite(feature).all() or not feature.any():
                continue
            if normalize:
                feature = feature / np.linalg.norm(feature)
            if scores is not None:
                feature = feature * scores[face]
            means.setdefault(medium if media else 0, []).append(feature)
        total = np.sum([np.mean(medium, axis=0) for medium in means.values()], axis=0) if means else 0
        pooled.append(total / np.linalg.norm(total) if np.any(total) else None)
    return pooled


def random_templates(rng, count, faces, people):
    rows = count + rng.integers(0, 3 * count)
    owner = np.concatenate((np.arange(count), rng.integers(0, count, rows - count)))
    return make_templates(
        rng.integers(0, people, count), owner, rng.integers(0, faces, rows), rng.integers(0, 20, rows)
    )


def random_protocol(seed, splits=2, faces=50, people=8):
    """Splits with 1:1 and 1:N, and features of which some are failures."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((faces, 8)).astype(np.float32)
    features[rng.random(faces) < 0.3] = rng.choice([np.nan, 0])
    made = []
    for number in range(splits):
        templates = random_templates(rng, 20, faces, people)
        pairs = rng.integers(0, 20, (150, 2)).astype(np.int32)
        genuine = templates.subjects[pairs[:, 0]] == templates.subjects[pairs[:, 1]]
        search = Identification('', random_templates(rng, 6, faces, people), random_templates(rng, 40, faces, people))
        made.append(Split(str(number + 1), Verification(templates, pairs, genuine), (search,)))
    return TemplateProtocol('random', make_faces(faces), tuple(made)), features


def cosine(left, right):
    return -np.inf if left is None or right is None else float(left @ right)
