#!/usr/bin/env python
"""Seconds and peak memory of the face evaluation on random data of real sizes, each case in a process of its own:

  IJB-C        469,375 x 512 features, 23,124 templates, 15,658,489 pairs: pooling, all scores, TAR at six FARs;
  IJB-A        ten splits, 25,791 x 512 features: 1:1 lists of the real sizes, and 1:N with a gallery of 112 templates;
  IJB-A lists  reading the CSV files of such ten splits, 1:1 and 1:N, a third of the boxes in other digits from split to split.

Peak memory is that of the whole process, features and pairs included. What makes the random data is not timed.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # _run beside this file, however it was started

from _run import run

from mmsskd.utils.arguments import ToolParser
from mmsskd.utils.files import write_text

FACES_C, TEMPLATES_C, GALLERY_C = 469_375, 23_124, 3_531
GENUINE_C, IMPOSTORS_C = 19_557, 15_638_932
FARS_C = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
FACES_A, MEDIA_A = 25_791, 7_439
# rows, templates, subjects, genuine and impostor pairs of each 1:1 split of IJB-A, counted in NIST's files
SPLITS_A = (
    (17997, 1970, 167, 1803, 9984), (18715, 1952, 167, 1779, 10000), (17462, 1895, 167, 1722, 9979),
    (18721, 1963, 166, 1797, 9982), (17749, 1920, 166, 1754, 9990), (16604, 1814, 166, 1648, 10000),
    (16268, 1819, 167, 1652, 10000), (19097, 2040, 166, 1874, 9995), (17245, 1953, 167, 1780, 9992),
    (18395, 1919, 167, 1752, 10000),
)  # fmt: skip
# rows of the galleries and of the probes of 1:N, known for nine splits; the tenth is taken to be as the ninth
SEARCHES_A = tuple(
    zip(
        (3000, 3261, 2661, 2894, 2920, 2451, 2912, 3106, 2594, 2594),
        (13737, 13983, 13467, 14323, 13566, 12789, 12131, 14601, 13323, 13323),
    )
)
GALLERY_A, PROBES_A, REMOVED_A, PEOPLE_A = 112, 1763, 55, 500
HEADER_A = (
    'TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,SIGHTING_ID,FRAME,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT,RIGHT_EYE_X,RIGHT_EYE_Y,'
    'LEFT_EYE_X,LEFT_EYE_Y,NOSE_BASE_X,NOSE_BASE_Y,FACE_YAW,FOREHEAD_VISIBLE,EYES_VISIBLE,NOSE_MOUTH_VISIBLE,INDOOR,GENDER,'
    'SKIN_TONE,AGE,FACIAL_HAIR'
)
TAIL_A = ',101.5,88.25,,,112,103,-12.75,1,1,0,1,0,3,2,1'


def make_faces(rng, count: int, width: int = 512):
    """Faces without images, and their random features of length 1."""
    import numpy as np

    from mmsskd.face.evaluation.protocol import Faces

    features = rng.standard_normal((count, width), dtype=np.float32)
    for begin in range(0, count, 10_000):
        block = features[begin : begin + 10_000]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    keys = np.char.add(np.arange(1, count + 1).astype(str), '.jpg')
    boxes, points = np.full((count, 4), np.nan, np.float32), np.zeros((count, 5, 2), np.float32)
    return Faces(keys, keys, boxes, points, np.ones(count, np.float32)), features


def make_templates(rng, rows: int, subjects, faces: int, media: int):
    """Templates of which each has a row, and the rest fall to as many as chance has it."""
    import numpy as np

    from mmsskd.face.evaluation.protocol import Templates

    count = len(subjects)
    owner = np.concatenate((np.arange(count), rng.integers(0, count, rows - count)))
    face = np.arange(rows) if rows == faces else rng.integers(0, faces, rows)
    return Templates(np.arange(count), subjects, owner, face, rng.integers(0, media, rows))


def evaluating(protocol, features, **options) -> Callable[[], tuple]:
    """Make the function that is timed for a case: from features to numbers."""
    from mmsskd.face.evaluation.evaluate import evaluate_templates, flat_metrics
    from mmsskd.face.evaluation.options import EvaluationOptions

    return lambda: (
        protocol,
        flat_metrics(evaluate_templates(protocol, features, options=EvaluationOptions(**options))),
    )


def ijbc_size() -> Callable[[], tuple]:
    import numpy as np

    from mmsskd.face.evaluation.protocol import Split, TemplateProtocol, Verification

    rng = np.random.default_rng(0)
    faces, features = make_faces(rng, FACES_C)
    subjects = np.concatenate((np.arange(GALLERY_C), rng.integers(0, GALLERY_C, TEMPLATES_C - GALLERY_C)))
    templates = make_templates(rng, FACES_C, subjects, FACES_C, 5 * TEMPLATES_C)
    pairs = np.empty((GENUINE_C + IMPOSTORS_C, 2), np.int32)
    pairs[:, 0] = rng.integers(0, GALLERY_C, len(pairs), dtype=np.int32)
    pairs[:, 1] = rng.integers(GALLERY_C, TEMPLATES_C, len(pairs), dtype=np.int32)
    pairs[:GENUINE_C, 0] = subjects[pairs[:GENUINE_C, 1]]
    genuine = np.arange(len(pairs)) < GENUINE_C
    protocol = TemplateProtocol('IJB-C size', faces, (Split('', Verification(templates, pairs, genuine)),))
    return evaluating(protocol, features, fars=FARS_C)


def ijba_size() -> Callable[[], tuple]:
    import numpy as np

    from mmsskd.face.evaluation.protocol import Identification, Split, TemplateProtocol, Verification

    rng = np.random.default_rng(0)
    faces, features = make_faces(rng, FACES_A)
    splits = []
    for number, (sizes, searches) in enumerate(zip(SPLITS_A, SEARCHES_A), 1):
        rows, count, people, genuine, impostors = sizes
        subjects = np.concatenate((np.arange(people), rng.integers(0, people, count - people)))
        templates = make_templates(rng, rows, subjects, FACES_A, MEDIA_A)
        pairs = rng.integers(people, count, (genuine + impostors, 2), dtype=np.int32)
        pairs[:, 0] = rng.integers(0, people, len(pairs))
        pairs[:genuine, 0] = subjects[pairs[:genuine, 1]]
        same = np.arange(len(pairs)) < genuine
        gallery = make_templates(rng, searches[0], np.arange(GALLERY_A), FACES_A, MEDIA_A)
        who = rng.integers(0, GALLERY_A + REMOVED_A, PROBES_A)
        search = Identification('', gallery, make_templates(rng, searches[1], who, FACES_A, MEDIA_A))
        splits.append(Split(str(number), Verification(templates, pairs, same), (search,)))
    return evaluating(TemplateProtocol('IJB-A size', faces, tuple(splits)), features)


def ijba_lists() -> Callable[[], tuple]:
    import numpy as np

    from mmsskd.face.evaluation.protocols import read_ijba

    rng = np.random.default_rng(0)
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    (root / 'images').mkdir()
    own = np.array_split(rng.permutation(FACES_A), PEOPLE_A)  # the faces of each subject
    media, boxes = rng.integers(0, MEDIA_A, FACES_A), rng.integers(1, 3500, (FACES_A, 4)) / 7
    for number, (sizes, searches) in enumerate(zip(SPLITS_A, SEARCHES_A), 1):
        rows, count, people, genuine, impostors = sizes
        decimals = (8, 13)[number % 2]
        texts = []
        for face, (medium, box) in enumerate(zip(media, boxes)):
            x, y, width, height = (f'{side:.{decimals}f}' if face % 3 == 0 else f'{side:.0f}' for side in box)
            texts.append(f'frame/{medium}_{face:05}.png,{medium},{face},{face % 99},{x},{y},{width},{height}{TAIL_A}')

        def write(path: Path, rows: int, subjects, texts=texts, first: int = 1) -> None:
            owner = np.concatenate((np.arange(len(subjects)), rng.integers(0, len(subjects), rows - len(subjects))))
            body = (
                f'{first + template},{subjects[template]},{texts[rng.choice(own[subjects[template]])]}\n'
                for template in np.sort(owner).tolist()
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(HEADER_A + '\r\n' + ''.join(body), newline='')

        test = rng.permutation(PEOPLE_A)[:people].tolist()
        subjects = np.array(test + rng.choice(test, count - people).tolist())
        one, many = (root / f'IJB-A_{task}_sets/split{number}' for task in ('11', '1N'))
        write(one / f'verify_metadata_{number}.csv', rows, subjects.tolist())
        probes = rng.integers(people, count, genuine + impostors)
        lines = (f'{1 + rng.integers(people)},{1 + probe}\r\n' for probe in probes.tolist())
        (one / f'verify_comparisons_{number}.csv').write_text(''.join(lines), newline='')
        write(many / f'search_gallery_{number}.csv', searches[0], test[:GALLERY_A])
        write(many / f'search_probe_{number}.csv', searches[1], rng.choice(test, PROBES_A).tolist(), first=1000)

    def read():
        with folder:
            return read_ijba(root), {}

    return read


CASES = {'IJB-C': ijbc_size, 'IJB-A': ijba_size, 'IJB-A lists': ijba_lists}


def measure(case: str) -> dict:
    """Make the data, evaluate or read it, and tell what it took."""
    run = CASES[case]()
    before = peak_megabytes()
    start, cpu = time.perf_counter(), time.process_time()
    protocol, metrics = run()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    counts = dict(faces=len(protocol.faces), pairs=sum(len(split.verification.pairs) for split in protocol.splits))
    return dict(
        case=case,
        seconds=round(seconds, 2),
        cpu_seconds=round(cpu, 2),
        peak_mb=peak_megabytes(),
        inputs_mb=before,
        **counts,
        metrics=metrics,
    )


def peak_megabytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == 'darwin' else 2**10))


def main() -> None:
    parser = ToolParser(__doc__, 'python tools/face/benchmark_evaluation.py --cases IJB-A')
    parser.add_argument(
        '--cases', nargs='+', choices=list(CASES), default=list(CASES), help='what to measure; default: all'
    )
    parser.add_argument('--json', metavar='FILE', help='also write the numbers to this file')
    parser.add_argument('--here', action='store_true', help=argparse.SUPPRESS)  # in the process of a case
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measure(args.cases[0])))
        return
    print(f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n')
    print('| case | faces | pairs | seconds | CPU seconds | peak MB | of these features and lists |')
    print('| --- ' + '| ---: ' * 6 + '|')
    results = []
    for case in args.cases:
        command = [sys.executable, os.path.abspath(__file__), '--here', '--cases', case]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        results.append(json.loads(output))
        shown = ('case', 'faces', 'pairs', 'seconds', 'cpu_seconds', 'peak_mb', 'inputs_mb')
        print('| ' + ' | '.join(str(results[-1][key]) for key in shown) + ' |', flush=True)
    if args.json:
        write_text(args.json, json.dumps(results, indent=1))


if __name__ == '__main__':
    run(main)
