"""What people wrote about a picture (JSON, CSV), as captions and flat metadata that every later part takes."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

RESERVED: Final = frozenset(
    "source modality content_hash text fragment scope _tags "
    "_node_content _node_type document_id doc_id ref_doc_id".split()
)
"""A point's own payload keys: `storage.points` refuses metadata of such names. A test holds the two together."""

CAPTION_KEYS: Final = ("caption", "captions", "text", "description")
"""Where a caption is looked for: under the first of these that holds anything."""


def to_metadata(values: Mapping[str, Any]) -> dict[str, Any]:
    """Flat metadata of a JSON object.

    Text, true and false, finite numbers of 64 bits, lists of these, and a {"lat", "lon"} on the globe are taken. What
    is null, blank or nested is left out, and so is what no point can hold (half a surrogate pair, 1e999). A reserved
    key gets an underscore at its end: `source` is `source_`.
    """
    return {
        f"{key}_" if key in RESERVED else key: value
        for key, value in values.items()
        if key and is_text(key) and (_is_scalar(value) or _is_list(value) or _is_place(value))
    }


def split_captions(values: Mapping[str, Any], keys: Sequence[str] = CAPTION_KEYS) -> tuple[list[str], dict[str, Any]]:
    """The captions under the first of the keys that holds any, a text or a list of texts, and all the other values.

    Raises:
        ValueError: what is there is no text; the message says where, and reads on after the name of the file.
    """
    for key in keys:
        value = values.get(key)
        captions = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(caption, str) and is_text(caption) for caption in captions):
            raise ValueError(f"its {key!r} is {reprlib.repr(value)}, neither a text nor a list of texts")
        captions = [caption.strip() for caption in captions if caption.strip()]
        if captions:
            return captions, {name: values[name] for name in values if name != key}
    return [], dict(values)


def with_captions(metadata: dict[str, Any], captions: Sequence[str]) -> tuple[str | None, dict[str, Any]]:
    """Text and metadata of a record: the first caption is the text; where there are more, `captions` has them all."""
    if len(captions) > 1:
        metadata = metadata | {"captions": list(captions)}
    return (captions[0] if captions else None), metadata


def is_text(text: str) -> bool:
    """Whether it can be UTF-8: JSON can spell half a surrogate pair, which cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip()) and is_text(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and -(2**63) <= value < 2**63


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_scalar(item) for item in value)


def _is_place(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"lat", "lon"}:
        return False
    if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in value.values()):
        return False
    return bool(-90 <= value["lat"] <= 90 and -180 <= value["lon"] <= 180)
