"""EXIF blocks written byte by byte, so that they can say what no camera would."""

import struct

from PIL import Image

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SIGNED, UTF8 = 1, 2, 3, 4, 5, 7, 10, 129
MAKE, MODEL, ORIENTATION, EXIF, GPS = 0x010F, 0x0110, 0x0112, 0x8769, 0x8825
TAKEN, OFFSET, LENS = 0x9003, 0x9011, 0xA434
BERLIN = {"N": (52, 30, 0), "E": (13, 24, 0)}


def ascii_tag(tag, text):
    data = text if isinstance(text, bytes) else text.encode() + b"\0"
    return (tag, ASCII, len(data), data)


def rationals(tag, *pairs, kind=RATIONAL):
    form = "<II" if kind == RATIONAL else "<ii"
    return (tag, kind, len(pairs), b"".join(struct.pack(form, *pair) for pair in pairs))


def whole(tag, *numbers):
    return rationals(tag, *((number, 1) for number in numbers))


def position(north_south="N", lat=(52, 30, 0), east_west="E", lon=(13, 24, 0), *more):
    return [ascii_tag(1, north_south), whole(2, *lat), ascii_tag(3, east_west), whole(4, *lon), *more]


def block(first=(), exif=(), gps=()):
    """A little-endian EXIF block of these (tag, type, count, bytes) entries, without its "Exif" prefix."""
    entries = list(first)
    offset = 8 + _size([*entries, *([0] * (bool(exif) + bool(gps)))]) + _extra(entries)
    for tag, directory in ((EXIF, exif), (GPS, gps)):
        if directory:
            entries.append((tag, LONG, 1, struct.pack("<I", offset)))
            offset += _size(directory) + _extra(directory)
    data = struct.pack("<2sHI", b"II", 42, 8) + _directory(entries, 8)
    for directory in (exif, gps):
        if directory:
            data += _directory(directory, len(data))
    return data


def save(path, exif=b"", size=(8, 6), colour="red"):
    Image.new("RGB", size, colour).save(path, exif=b"Exif\0\0" + exif if exif else b"")
    return path


def _size(entries):
    return 2 + 12 * len(entries) + 4


def _extra(entries):
    return sum(len(data) for *_, data in entries if len(data) > 4)


def _directory(entries, start):
    place = start + _size(entries)
    head, extra = struct.pack("<H", len(entries)), b""
    for tag, kind, count, data in entries:
        if len(data) > 4:
            value, extra = struct.pack("<I", place + len(extra)), extra + data
        else:
            value = data.ljust(4, b"\0")
        head += struct.pack("<HHI", tag, kind, count) + value
    return head + struct.pack("<I", 0) + extra
