"""Images are decoded as their header says, and none that claims too many pixels."""

import struct

import cv2
import numpy as np
import pytest
from record_helpers import claim, jpeg, write_rec

from mmsskd.errors import ConfigError
from mmsskd.face.data import FaceRecordDataset
from mmsskd.face.data.decoding import _header_size, decode
from mmsskd.face.data.recordio import pack


@pytest.mark.parametrize('kind', ['png', 'jpeg', 'bmp'])
def test_an_image_that_claims_any_number_of_pixels_is_not_decoded(tmp_path, said, kind):
    """60000x60000 is beyond what OpenCV decodes, 30000x30000 is not and takes 2.7 GB."""
    png = jpeg(1, suffix='.png')
    content = claim(png, 30_000, 30_000)
    if kind == 'jpeg':
        content = bytearray(jpeg(1))
        frame = content.index(b'\xff\xc0')
        content[frame + 5 : frame + 9] = struct.pack('>HH', 30_000, 30_000)
    elif kind == 'bmp':
        content = bytearray(jpeg(1, suffix='.bmp'))
        content[18:26] = struct.pack('<ii', 30_000, 30_000)
    write_rec(
        tmp_path / 'train.rec',
        {1: pack(0, jpeg(10)), 5: pack(1, bytes(content)), 6: pack(1, claim(png, 60_000, 60_000))},
    )
    dataset = FaceRecordDataset(str(tmp_path))
    with pytest.raises(ConfigError, match=r'key 5 at byte \d+.*900,?000,?000.*178,?956,?970'):
        dataset[1]
    with pytest.raises(ConfigError, match='60000 x 60000 = 3,600,000,000 pixels, at most 178,956,970 are decoded'):
        dataset[2]


@pytest.mark.parametrize('flags', [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)])
def test_the_size_in_the_header_of_a_jpeg_is_read_as_decoders_do(tmp_path, flags):
    """With segments before it, a thumbnail's among them, and bytes that fill."""
    content = cv2.imencode('.jpg', np.zeros((24, 40, 3), np.uint8), flags)[1].tobytes()
    thumbnail = b'\xff\xe1' + struct.pack('>H', 2 + len(jpeg(1))) + jpeg(1)
    for data in (content, content[:2] + thumbnail + b'\xff\xff' + content[2:]):
        assert _header_size(data) == _header_size(np.frombuffer(data, np.uint8)) == (40, 24)
        assert decode(data, '').shape == (24, 40, 3)
    for length in range(0, len(content), 11):
        decode(content[:length], '')  # raises nothing
