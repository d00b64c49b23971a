"""Which way up: the EXIF orientation of an image, read without Pillow's EXIF parser.

Pillow's parser warns about what it cannot read, and `warnings.catch_warnings` is not safe in threads. One number out
of the first directory needs none of that parser.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image

ORIENTATION_TAG = 0x0112
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def exif_orientation(exif: bytes) -> int | None:
    """The orientation (1 to 8) in an EXIF block, or None where it has none that can be read."""
    tiff = exif.removeprefix(b"Exif\0\0")
    if tiff[:4] not in (b"II*\0", b"MM\0*"):
        return None
    endian = "<" if tiff[:1] == b"I" else ">"
    try:
        (directory,) = struct.unpack_from(endian + "L", tiff, 4)
        (count,) = struct.unpack_from(endian + "H", tiff, directory)
        for entry in range(count):
            tag, _, _, value = struct.unpack_from(endian + "HHLH", tiff, directory + 2 + 12 * entry)
            if tag == ORIENTATION_TAG:
                return value if 1 <= value <= 8 else None
    except struct.error:  # cut short: the picture is good without it
        return None
    return None


def find_orientation(info: Mapping[str | tuple[int, int], Any]) -> int:
    """The orientation that `Image.info` holds as EXIF, else as XMP, else 1."""
    exif, xmp = info.get("exif"), info.get("xmp") or info.get("XML:com.adobe.xmp")
    if isinstance(exif, bytes) and (orientation := exif_orientation(exif)):
        return orientation
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if isinstance(xmp, bytes) and (match := _XMP_ORIENTATION.search(xmp)):
        return int(match[1])
    return 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned the way it was taken; the same object for orientation 1."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
