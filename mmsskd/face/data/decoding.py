"""Encoded images to pixels, with a bound on the pixels: a few bytes can claim any size, and decoders believe them."""

import io

import cv2
import numpy as np
from PIL import Image

from ...errors import ConfigError

MOST_PIXELS = 178_956_970  # what Pillow decodes; half a gigabyte of pixels
PNG = b'\x89PNG\r\n\x1a\n'
# markers of a JPEG that give its size (SOF0 to SOF15, without the tables DHT, JPG and DAC), and those that have no length
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
BARE = {0x01, *range(0xD0, 0xD9)}


def decode(data: bytes | np.ndarray, where: str) -> np.ndarray | None:
    """The pixels of an encoded image, uint8 (H, W, 3), blue first; None where OpenCV cannot decode it.

    Args:
        data: Of a file: bytes, or uint8 of shape (bytes,).
        where: How a message names it.

    Raises:
        ConfigError: Its header claims more than ``MOST_PIXELS``; nothing was decoded.
    """
    fix = 'it is damaged or made to fill the memory: remove it, or make it smaller'
    try:
        width, height = (_header_size(data) if len(data) else None) or (0, 0)
    except Image.DecompressionBombError as error:
        raise ConfigError(f'{where}: {error} {fix}') from error
    if width * height > MOST_PIXELS:
        raise ConfigError(
            f'{where}: its header says {width} x {height} = {width * height:,} pixels, at most {MOST_PIXELS:,} are decoded; {fix}'
        )
    if not width * height:
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # its own limits, of the width for instance
        return None


def _header_size(data: bytes | np.ndarray) -> tuple[int, int] | None:
    """Width and height as the header says; None where there is no such header.

    JPEG and PNG are looked at here, as it is done for every face of a training run and Pillow takes ten times as long; others by
    Pillow.
    """
    begin = bytes(data[:24])
    if begin.startswith(PNG) and len(begin) == 24:
        return int.from_bytes(begin[16:20], 'big'), int.from_bytes(begin[20:24], 'big')
    found = _jpeg_size(_view(data)) if begin.startswith(b'\xff\xd8\xff') else None
    return found or _size_by_pillow(data)


def _view(data: bytes | np.ndarray) -> memoryview:
    return data.data if isinstance(data, np.ndarray) else memoryview(data)


def _jpeg_size(data: memoryview) -> tuple[int, int] | None:
    """Read the size from the first frame header, by going from segment to segment."""
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in FRAMES:
            return data[place + 7] << 8 | data[place + 8], data[place + 5] << 8 | data[place + 6]
        if marker == 0xFF:  # one that fills
            place += 1
        elif marker in BARE:
            place += 2
        else:
            place += 2 + (data[place + 2] << 8 | data[place + 3])
    return None


def _size_by_pillow(data: bytes | np.ndarray) -> tuple[int, int] | None:
    try:
        with Image.open(io.BytesIO(_view(data))) as image:
            return image.size
    except (OSError, SyntaxError, ValueError):
        return None
