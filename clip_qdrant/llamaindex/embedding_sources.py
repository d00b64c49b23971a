"""What an embedding model is given as an image: all that `open_image` opens, and base64 without the head of a data URI.

A str is what its beginning says (`data:`, `http://`, `https://`, `file://`), else the path of what is there, else
base64. So the name of a file is never taken for base64, and what could be a path only where it is a known image.
"""

from __future__ import annotations

import base64
import os
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeGuard

from clip_qdrant.errors import ImageNotFoundError
from clip_qdrant.images import describe_source
from clip_qdrant.images.readers import identify
from clip_qdrant.images.sources import kind_of

if TYPE_CHECKING:
    from clip_qdrant.types import ImageSource

_LONGEST_PATH = 4_096


def source_of(image: ImageSource) -> ImageSource:
    """An image as `open_image` takes it: base64 decoded, all else as it is.

    Raises:
        ImageNotFoundError: a str that is neither a path that is there nor base64 of an image.
    """
    if not _may_be_base64(image):
        return image
    content = _decoded(image)
    if content is None or not (len(image) > _LONGEST_PATH or _is_image(content)):
        raise ImageNotFoundError(
            name_of(image),
            "no such file, and no base64 of an image. An image is a path, bytes, a BytesIO, base64, a data URI, a PIL "
            "image, an array, or with allow_url=True a URL",
        )
    return content


def name_of(image: Any) -> str:
    """What to call an image in an event or an error: no pixels and no base64."""
    if _may_be_base64(image) and (len(image) > _LONGEST_PATH or _decoded(image) is not None):
        return f"base64 ({len(image):,} characters)"
    return describe_source(image)


def _may_be_base64(image: Any) -> TypeGuard[str]:
    if not isinstance(image, str) or kind_of(image) != "path" or image[:7].lower() == "file://":
        return False
    return len(image) > _LONGEST_PATH or not os.path.lexists(image)


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True) or None
    except ValueError:  # binascii.Error, and for what is not ASCII its parent
        return None


def _is_image(content: bytes) -> bool:
    """Whether content begins as an image does; what is wrong with the rest of it is said when it is opened."""
    return not isinstance(identify(BytesIO(content)), str)
