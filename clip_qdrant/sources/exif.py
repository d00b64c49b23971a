"""What a picture's file says of it: size, camera, lens, when and where it was taken."""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import IO, Any

from clip_qdrant.errors import ImageError
from clip_qdrant.images import MAX_PIXELS
from clip_qdrant.images.orientation import ORIENTATION_TAG, find_orientation
from clip_qdrant.images.readers import identify, pixel_limit
from clip_qdrant.images.sources import open_encoded
from clip_qdrant.sources.tiff_tags import TagReader, Tags, Value

_MAKE, _MODEL, _EXIF, _GPS = 0x010F, 0x0110, 0x8769, 0x8825
_TAKEN, _OFFSET, _LENS = 0x9003, 0x9011, 0xA434
_NORTH_SOUTH, _LATITUDE, _EAST_WEST, _LONGITUDE, _STATUS = 1, 2, 3, 4, 9
_MOMENT = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)", re.ASCII)
_ZONE = re.compile(r"([+-])([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_LONGEST_TEXT = 200


def read_exif(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What can be known of a picture without decoding it, as flat metadata; what cannot be read is left out.

    `width`, `height`    in pixels, the right way up, as `open_image` gives it
    `camera`             make and model, the make once: "Canon EOS 5D", "Apple iPhone 15"
    `lens`               its model
    `taken`              RFC 3339 with the camera's offset: "2023-07-01T12:30:00+02:00". Where the camera wrote no
                         offset none is made up: "2023-07-01T12:30:00" is what its clock showed, wherever that was.
                         Qdrant, and filters here, compare such a moment as if it were UTC
    `location`           {"lat": 52.5, "lon": 13.4} in degrees, which Qdrant filters as geo; not where the receiver
                         says that it had no fix, or where it says 0, 0, which is how cameras write the same

    Of an icon (.ico) nothing is known, since Pillow opens one by decoding it. Never raises for what is in the file, nor
    for a file that is not there: opening the picture says why it cannot be.
    """
    try:
        with open_encoded(path) as file:
            image = _header(file)
            return {} if image is None else _facts(file, image)
    except (ImageError, OSError):  # gone, or unreadable
        return {}


def _header(file: IO[bytes]) -> Any:
    """The picture with its header read and no pixel decoded; None where that is broken, or cannot be."""
    found = identify(file)
    if isinstance(found, str) or found[0] == "ICO":
        return None
    try:
        with pixel_limit(MAX_PIXELS):
            return found[1](file)
    except MemoryError:  # ours to run out of, whatever the picture
        raise
    except Exception:  # Pillow's readers have no common error, and these bytes are anybody's
        return None


def _facts(file: IO[bytes], image: Any) -> dict[str, Any]:
    is_tiff = image.format == "TIFF"
    reader = TagReader(file if is_tiff else BytesIO(_exif_block(image.info)))
    first = reader.directory(reader.first, (_MAKE, _MODEL, _EXIF, _GPS, ORIENTATION_TAG))
    exif = reader.directory(_number(first.get(_EXIF)), (_TAKEN, _OFFSET, _LENS))
    gps = reader.directory(_number(first.get(_GPS)), (_NORTH_SOUTH, _LATITUDE, _EAST_WEST, _LONGITUDE, _STATUS))
    # Of a TIFF with an orientation Pillow gives the size the right way up, of all others as it is stored.
    is_turned = is_tiff and ORIENTATION_TAG in first
    on_its_side = not is_turned and find_orientation(image.info) >= 5
    width, height = image.size[::-1] if on_its_side else image.size
    known = {
        "width": width,
        "height": height,
        "camera": _camera(_name(first.get(_MAKE)), _name(first.get(_MODEL))),
        "lens": _name(exif.get(_LENS)),
        "taken": _moment(exif.get(_TAKEN), exif.get(_OFFSET)),
        "location": _location(gps),
    }
    return {key: value for key, value in known.items() if value}


def _exif_block(info: dict[Any, Any]) -> bytes:
    block = info.get("exif")
    return block.removeprefix(b"Exif\0\0") if isinstance(block, bytes) else b""


def _number(value: Value | None) -> float:
    return value[0] if isinstance(value, list) else 0


def _name(value: Value | None) -> str:
    return value if isinstance(value, str) and len(value) <= _LONGEST_TEXT else ""


def _camera(make: str, model: str) -> str:
    """Of "NIKON CORPORATION" and "NIKON D70" only the model, which names the maker by itself."""
    if make and model and make.split()[0].casefold() == model.split()[0].casefold():
        return model
    return f"{make} {model}".strip()


def _moment(taken: Value | None, offset: Value | None) -> str | None:
    match = _MOMENT.match(taken) if isinstance(taken, str) else None
    if match is None:
        return None
    try:
        moment = datetime(*(int(part) for part in match.groups()))  # type: ignore[arg-type]
    except ValueError:  # 0000:00:00 is how a camera without a clock writes it
        return None
    return moment.replace(tzinfo=_zone(offset)).isoformat()


def _zone(offset: Value | None) -> timezone | None:
    if offset == "Z":
        return timezone.utc
    match = _ZONE.fullmatch(offset) if isinstance(offset, str) else None
    if match is None:
        return None
    east = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-east if match[1] == "-" else east)


def _location(gps: Tags) -> dict[str, float] | None:
    lat = _degrees(gps.get(_LATITUDE), gps.get(_NORTH_SOUTH), "NS", 90)
    lon = _degrees(gps.get(_LONGITUDE), gps.get(_EAST_WEST), "EW", 180)
    if lat is None or lon is None or (lat, lon) == (0, 0) or gps.get(_STATUS) == "V":
        return None
    return {"lat": lat, "lon": lon}


def _degrees(parts: Value | None, side: Value | None, sides: str, most: float) -> float | None:
    """Degrees, minutes and seconds as degrees; without its side of the globe a place may be on the other."""
    if not isinstance(parts, list) or len(parts) != 3 or not isinstance(side, str) or side not in tuple(sides):
        return None
    degrees = parts[0] + parts[1] / 60 + parts[2] / 3600
    if not (all(part >= 0 for part in parts) and degrees <= most):  # nor when one is NaN
        return None
    return round(-degrees if side == sides[1] else degrees, 7)
