#!/usr/bin/env python
"""Time how fast faces are read and aligned, as a markdown table; everything is made up on the spot in a temporary folder.

  open    the index of a large .rec, in a process of its own: seconds, and by how much the process grows at its peak. The .rec is
          a file with holes, of which only the last record is there;
  read    RecordReader with cv2.imdecode, and items of FaceRecordDataset without a pipeline, in order and at random, against
          cv2.imdecode of the same JPEGs held in memory. They take turns; the file is in the system's cache;
  align   similarity() on a batch and face by face against scikit-image's SimilarityTransform, if that is installed.

Single-threaded; the medians of the rounds."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from operator import truediv
from pathlib import Path

import cv2
import numpy as np

from mmsskd.cli import plain_errors
from mmsskd.face.data import FaceRecordDataset
from mmsskd.face.data.alignment import ARC112, similarity
from mmsskd.face.data.record_index import write_idx
from mmsskd.face.data.recordio import RecordReader, RecordWriter, pack
from mmsskd.utils.arguments import ToolParser

RECORD = 4_700  # bytes of a record on average, about those of MS1MV2
BLOCK = 100  # images a turn
OPEN = """
import json, re, sys, time
from mmsskd.face.data.recordio import RecordReader
def megabytes(field):
    return int(re.search(field + r':\\s+(\\d+) kB', open('/proc/self/status').read())[1]) / 1024
open('/proc/self/clear_refs', 'w').write('5')  # the peak begins anew, without that of the imports
before, start = megabytes('VmRSS'), time.perf_counter()
reader = RecordReader(sys.argv[1])
print(json.dumps([time.perf_counter() - start, megabytes('VmHWM') - before]))
"""


def open_index(folder: Path, records: int, rounds: int) -> list[tuple]:
    payload = pack((7, 1), b'\0' * (RECORD - 40))
    with RecordWriter(folder / 'large.rec') as writer:
        writer.write(0, payload)
    content = (folder / 'large.rec').read_bytes()
    offsets = np.arange(records) * len(content)
    with open(folder / 'large.rec', 'r+b') as file:
        file.seek(offsets[-1])
        file.write(content)
    write_idx(folder / 'large.idx', np.arange(records), offsets)
    measured = []
    for _ in range(rounds):
        command = [sys.executable, '-c', OPEN, str(folder / 'large.rec')]
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        measured.append(json.loads(output.splitlines()[-1]))  # others print when they are imported
    seconds, megabytes = (statistics.median(numbers) for numbers in zip(*measured))
    name = f'open an index of {records:,} records'
    return [(name, f'{seconds:.2f} s', '<= 3 s'), (f'{name}, growth', f'{megabytes:.0f} MB', '<= 150 MB')]


def read_images(folder: Path, count: int, rounds: int) -> list[tuple]:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(count):  # as smooth as a face, so that a JPEG has 5 KB
        image = cv2.resize(rng.integers(0, 256, (12, 12, 3), np.uint8), (112, 112), interpolation=cv2.INTER_CUBIC)
        noise = rng.normal(0, 1, image.shape)
        images.append(cv2.imencode('.jpg', np.clip(image + noise, 0, 255).astype(np.uint8))[1].tobytes())
    with RecordWriter(folder / 'train.rec') as writer:
        for key, image in enumerate(images, 1):
            writer.write(key, pack((key % 100, 1), image, key))
    dataset = FaceRecordDataset(str(folder))
    reader = RecordReader(folder / 'train.rec')  # images are its first records, so both have the same places
    ways = dict(
        bare=lambda place: cv2.imdecode(np.frombuffer(images[place], np.uint8), cv2.IMREAD_COLOR),
        reader=lambda place: cv2.imdecode(reader.read_image(place), cv2.IMREAD_COLOR),
        item=dataset.__getitem__,
    )
    rows = [
        ('JPEGs of 112x112', f'{count:,}, {np.mean([len(image) for image in images]) / 1024:.1f} KB on average', '')
    ]
    for name, order in (('in order', np.arange(count)), ('at random', rng.permutation(count))):
        rates = {way: [] for way in ways}
        for turn in range(rounds + 1):
            seconds = dict.fromkeys(ways, 0.0)
            for start in range(0, count, BLOCK):
                places = order[start : start + BLOCK].tolist()
                for way in ways if start // BLOCK % 2 else reversed(ways):
                    function, begin = ways[way], time.perf_counter()
                    for place in places:
                        function(place)
                    seconds[way] += time.perf_counter() - begin
            for way in ways if turn else ():  # the first round warms up
                rates[way].append(count / seconds[way])
        middle = {way: statistics.median(values) for way, values in rates.items()}
        share = {way: statistics.median(map(truediv, rates[way], rates['bare'])) for way in ways}
        rows += [
            (f'bare cv2.imdecode {name}', f'{middle["bare"]:,.0f} images/s', ''),
            (f'read and decode {name}', f'{middle["reader"]:,.0f} images/s', ''),
            (f'read and decode {name}, of the bare rate', f'{share["reader"]:.3f}', '>= 0.9'),
            (f'item of FaceRecordDataset {name}, of the bare rate', f'{share["item"]:.3f}', ''),
        ]
    return rows


def align(count: int, rounds: int) -> list[tuple]:
    try:
        from skimage.transform import SimilarityTransform
    except ImportError:
        return [('alignment', 'scikit-image is not installed', '')]
    rng = np.random.default_rng(0)
    faces = ARC112 * rng.uniform(0.3, 6, (count, 1, 1)) + rng.uniform(0, 900, (count, 1, 2))
    faces += rng.normal(0, 3, faces.shape)

    def reference():
        return np.stack([SimilarityTransform.from_estimate(face, ARC112).params[:2] for face in faces])

    ways = dict(
        reference=reference,
        singly=lambda: np.stack([similarity(face, ARC112) for face in faces]),
        batch=lambda: similarity(faces, ARC112),
    )
    found = {name: way() for name, way in ways.items()}
    seconds = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begin)
    each = {name: statistics.median(times) / count * 1e6 for name, times in seconds.items()}
    difference = max(np.abs(found[name] - found['reference']).max() for name in ('singly', 'batch'))
    return [
        ("alignment: scikit-image's", f'{each["reference"]:.1f} us/face', ''),
        ('alignment: similarity(), a batch', f'{each["batch"]:.2f} us/face', ''),
        ('alignment: similarity(), face by face', f'{each["singly"]:.1f} us/face', ''),
        ('alignment: times scikit-image, a batch', f'{each["reference"] / each["batch"]:.1f}', '>= 3'),
        ('alignment: times scikit-image, face by face', f'{each["reference"] / each["singly"]:.1f}', '>= 3'),
        ('alignment: largest difference', f'{difference:.1e}', '<= 1e-6'),
    ]


def main():
    parser = ToolParser(__doc__, 'python tools/face/benchmark_data.py --rounds 3')
    parser.number('--records', 'records in the large index', 5_822_653)
    parser.number('--images', 'images to read', 20_000)
    parser.number('--faces', 'faces to align', 2_000)
    parser.number('--rounds', 'times that each is measured', 5)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = open_index(Path(folder), args.records, args.rounds)
        rows += read_images(Path(folder), args.images, args.rounds)
    rows += align(args.faces, args.rounds)
    print(
        f'{os.cpu_count()} cores, Python {sys.version.split()[0]}, numpy {np.__version__}, OpenCV {cv2.__version__}\n'
    )
    print('| what | measured | goal |\n|---|---|---|')
    for row in rows:
        print(f'| {" | ".join(row)} |')


if __name__ == '__main__':
    with plain_errors():
        main()
