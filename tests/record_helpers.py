"""Small RecordIO files and faces on disk."""

import struct
import zlib

import cv2
import numpy as np

from mmsskd.face.data.recordio import MAGIC, RecordWriter, pack

LABELS = [0, 0, 1, 2, 2, 2]
EXPECTED = [(10 * key, label) for key, label in enumerate(LABELS, 1)]  # of ``insightface(LABELS)``, as of ``contents``


def jpeg(value: int, size=(16, 16), suffix='.jpg') -> bytes:
    """A grey image whose value tells which one it is."""
    channels = () if suffix == '.pgm' else (3,)
    return cv2.imencode(suffix, np.full((*size, *channels), value, np.uint8))[1].tobytes()


def claim(image: bytes, width: int, height: int) -> bytes:
    """A PNG whose header says that it is of another size."""
    head = image[12:16] + struct.pack('>II', width, height) + image[24:29]
    return image[:12] + head + struct.pack('>I', zlib.crc32(head)) + image[33:]


def write_rec(path, payloads: dict[int, bytes]):
    with RecordWriter(path) as writer:
        for key, payload in payloads.items():
            writer.write(key, payload)
    return path


def insightface(labels, count=None) -> dict[int, bytes]:
    """What face2rec2 writes: images from key 1, the header that counts them, and a record without image for each person."""
    images = {key: pack((label, 1), jpeg(10 * key % 250), key) for key, label in enumerate(labels, 1)}
    end, people = len(labels) + 1, sorted(set(labels))
    header = {0: pack((end, end + len(people)) if count is None else count)}
    persons = {
        key: pack((1 + labels.index(label), 1 + labels.index(label) + labels.count(label)), key=key)
        for key, label in enumerate(people, end)
    }
    return {**images, **header, **persons}


def raw_record(payload: bytes, kind=0) -> bytes:
    """A record's bytes, spelt out."""
    return struct.pack('<II', MAGIC, kind << 29 | len(payload)) + payload + b'\0' * (-len(payload) % 4)


def put_records(reader, places, queue):
    """What a child process does; here, because a spawned one imports the module again."""
    queue.put([reader.read(place) for place in places])


def grey(item) -> int:
    return int(item['img'].mean().round())


def contents(dataset) -> list[tuple[int, int]]:
    return [(grey(item), item['gt_label']) for item in dataset]


def read_all(reader):
    return [reader.read(place) for place in range(len(reader))]
