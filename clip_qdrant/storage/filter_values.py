"""What filters compare with: text, numbers, dates, ids and places, checked before Qdrant sees them."""

from __future__ import annotations

import re
import reprlib
import sys
from collections.abc import Mapping
from datetime import date, datetime, time, timezone
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import FilterError
from clip_qdrant.storage.point_ids import read_point_id

if TYPE_CHECKING:
    from qdrant_client import models

_RFC3339 = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<minute>\d{2}:\d{2})(?P<second>:\d{2})?(?:\.(?P<fraction>\d+))?(?P<zone>Z|[+-]\d{2}:?\d{2})?)?",
    re.ASCII,
)
_SIDES = {"north": 90, "west": 180, "south": 90, "east": 180}

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 200


def shown(value: Any) -> str:
    """What was given, for a message: whole where it is small, and never a list of a million or without end."""
    return _short.repr(value)


def read_moment(text: str) -> date | datetime | None:
    """RFC 3339 text as a date, or as a datetime where it has a time; None for anything else."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    try:
        if match["minute"] is None:
            return date.fromisoformat(match["day"])
        zone = (match["zone"] or "").replace("Z", "+00:00")
        zone = zone if ":" in zone else zone[:3] + ":" * bool(zone) + zone[3:]
        fraction = (match["fraction"] or "").ljust(6, "0")[:6]
        return datetime.fromisoformat(f"{match['day']}T{match['minute']}{match['second'] or ':00'}.{fraction}{zone}")
    except ValueError:  # a 31st of April
        return None


def to_moment(value: Any) -> datetime | None:
    """A date, a datetime or RFC 3339 text as a moment, in UTC where it names no zone; None for what is none of them."""
    if isinstance(value, str):
        value = read_moment(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time.min)
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float can hold; True and False are not."""
    limit = sys.float_info.max
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -limit <= value <= limit


def is_integer(value: Any) -> bool:
    """Whether Qdrant can store it as an integer."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def to_point_id(value: Any) -> int | str:
    """An id as Qdrant has it.

    Raises:
        FilterError: neither an unsigned 64-bit integer nor a UUID.
    """
    read = read_point_id(value)
    if read is None:
        raise FilterError(
            f"$id is compared with {shown(value)}. A point's id is an integer from 0 to 2**64 - 1, or a UUID."
        )
    return read


def to_circle(field: str, value: Any) -> models.GeoRadius:
    """{"lat": …, "lon": …, "km": …}, or "m" for metres.

    Raises:
        FilterError: a key that is missing or unknown, or a number out of its range.
    """
    from qdrant_client import models

    keys = set(value) if isinstance(value, Mapping) else set()
    if keys not in ({"lat", "lon", "km"}, {"lat", "lon", "m"}):
        raise FilterError(
            f'Field {field!r}: near takes {{"lat": 52.5, "lon": 13.4, "km": 5}}, or "m" for metres in place of "km", '
            f"got {shown(value)}."
        )
    unit = "km" if "km" in keys else "m"
    radius = value[unit]
    if not is_number(radius) or radius <= 0:
        raise FilterError(f"Field {field!r}: near has the {unit} {shown(radius)}. It may be a number above 0.")
    lat, lon = (_degrees(field, "near", name, value[name], limit) for name, limit in (("lat", 90), ("lon", 180)))
    return models.GeoRadius(center=models.GeoPoint(lat=lat, lon=lon), radius=radius * 1000 if unit == "km" else radius)


def to_box(field: str, value: Any) -> models.GeoBoundingBox:
    """{"north": …, "west": …, "south": …, "east": …}; a west above the east goes through 180 degrees.

    Raises:
        FilterError: a side that is missing or unknown, or out of its range.
    """
    from qdrant_client import models

    if not isinstance(value, Mapping) or set(value) != set(_SIDES):
        raise FilterError(
            f'Field {field!r}: box takes {{"north": 53, "west": 13, "south": 52, "east": 14}}, got {shown(value)}.'
        )
    north, west, south, east = (_degrees(field, "box", side, value[side], limit) for side, limit in _SIDES.items())
    if north <= south:
        raise FilterError(f"Field {field!r}: box has the north {north}, which must be above its south {south}.")
    return models.GeoBoundingBox(
        top_left=models.GeoPoint(lat=north, lon=west), bottom_right=models.GeoPoint(lat=south, lon=east)
    )


def _degrees(field: str, operator: str, name: str, value: Any, limit: int) -> float:
    if not is_number(value) or abs(value) > limit:
        raise FilterError(
            f"Field {field!r}: {operator} has the {name} {shown(value)}. It may be a number of degrees "
            f"from -{limit} to {limit}."
        )
    return float(value)
