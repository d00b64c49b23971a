"""One function opens everything."""

from __future__ import annotations

import hashlib
import os
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from clip_qdrant.errors import (
    ConfigError,
    ImageDecodeError,
    ImageFetchError,
    ImageReadError,
    ImageTooLargeError,
)
from clip_qdrant.images.fetch import URL_MAX_BYTES, URL_TIMEOUT, fetch
from clip_qdrant.images.orientation import ORIENTATION_TAG, find_orientation, upright
from clip_qdrant.images.pixels import UnusablePixels, array_to_rgb, check_array, to_rgb
from clip_qdrant.images.readers import TooManyPixels, check_pixels, identify, pixel_limit
from clip_qdrant.images.sources import describe_source, kind_of, open_encoded

if TYPE_CHECKING:
    from clip_qdrant.types import ImageSource

MAX_PIXELS = 178_956_970
"""Half a GiB of RGB, and where Pillow itself stops: well over any camera's picture, well under a bomb."""

_DRAFT_MARGIN = 2
"""JPEGs are decoded at no less than this many times min_side.

Scaled decoding averages blocks where resizing would filter them. At exactly min_side=224 that shows: the 111 sample
photos, resized to 224, differ from those decoded in full by 1.2 of 255 levels on average and 8.0 at worst. At twice
the side they do not differ at all, being small; 12 megapixels of them in one picture differ by 0.4, against 1.3, and
take 10% longer (29 ms against 27 ms, and 84 ms in full).
"""


def open_image(
    source: ImageSource,
    *,
    min_side: int | None = None,
    max_pixels: int = MAX_PIXELS,
    allow_url: bool = False,
    url_timeout: float = URL_TIMEOUT,
    url_max_bytes: int = URL_MAX_BYTES,
) -> Image.Image:
    """Open anything that is an image as a new, loaded RGB image, the right way up.

    A str is a data URI when it begins with "data:", a URL when it begins with "http://" or "https://", and a path
    otherwise ("file://" too); a Path is always a path. JPEG (and MPO), PNG, GIF, WebP, AVIF, TIFF, BMP, ICO and PPM are
    told apart by content. Of an animation the first frame is taken, of a PIL image the frame it stands at. The EXIF
    orientation is applied, transparent pixels are laid over white, and 16-bit gray is scaled to 8 bits.

    Args:
        source: path, bytes, BytesIO, data URI, PIL image, URL, or array of shape (H, W), (H, W, 1), (H, W, 3) or
            (H, W, 4) and uint8, uint16, bool or float in [0, 1]. It is never changed, moved or closed.
        min_side: the model's input side in pixels; a JPEG larger than that is decoded at a half, a quarter or an eighth
            of its size, which is two to three times faster, with neither side below twice `min_side`. None: in full.
        max_pixels: refuse an image with more pixels, before decoding it.
        allow_url: open http(s) URLs, on public addresses only.
        url_timeout: seconds until a URL must have answered in full, redirects included.
        url_max_bytes: refuse longer answers.

    Returns:
        An image of mode RGB, owned by the caller, with nothing in its `info`.

    Raises:
        ImageNotFoundError: no such file.
        ImageReadError: the file is there, but cannot be read.
        ImageDecodeError: not a whole image of a known format, or an array of another shape or type.
        ImageTooLargeError: more than `max_pixels`, or `url_max_bytes`.
        ImageFetchError: a URL that may not or could not be opened.
        ConfigError: a limit that is not positive.
    """
    limits = {"max_pixels": max_pixels, "url_timeout": url_timeout, "url_max_bytes": url_max_bytes}
    if min_side is not None:
        limits["min_side"] = min_side
    for name, value in limits.items():
        if value <= 0:
            raise ConfigError(f"{name} must be positive, got {value!r}.")
    if isinstance(source, str) and kind_of(source) == "url":
        if not allow_url:
            raise ImageFetchError(describe_source(source), "URLs are not opened unless asked. Pass allow_url=True")
        encoded = BytesIO(fetch(source, timeout=url_timeout, max_bytes=url_max_bytes))
        return _decode(encoded, describe_source(source), min_side, max_pixels)
    if isinstance(source, (Image.Image, np.ndarray)):
        return _convert(source, max_pixels)
    if isinstance(source, (str, os.PathLike, bytes, BytesIO)):
        with open_encoded(source) as file:
            return _decode(file, describe_source(source), min_side, max_pixels)
    raise ImageDecodeError(
        describe_source(source), "give a path, bytes, a BytesIO, a data URI, a PIL image or a numpy array"
    )


def content_hash(source: ImageSource) -> str:
    """SHA-256 (hex) of what a source holds: the same for the same file under another name.

    Of a path, bytes, BytesIO and data URI it is the hash of the encoded bytes, whether or not they are an image. Of a
    PIL image and an array it is the hash of the pixels as RGB and their size, so that equal pictures have equal hashes.

    Raises:
        ImageNotFoundError, ImageReadError: the bytes cannot be read.
        ImageDecodeError: a malformed data URI, an array that is no image.
        ImageFetchError: a URL; what it holds is not known before it is opened.
    """
    if isinstance(source, str) and kind_of(source) == "url":
        raise ImageFetchError(describe_source(source), "a URL has no content to hash. Open it first")
    if isinstance(source, (str, os.PathLike, bytes, BytesIO)):
        digest = hashlib.sha256()
        with open_encoded(source) as file:
            try:
                while block := file.read(1 << 20):
                    digest.update(block)
            except OSError as error:
                raise _failed_reading(describe_source(source), error) from error
        return digest.hexdigest()
    image = open_image(source)
    return hashlib.sha256(f"RGB {image.width}x{image.height} ".encode() + image.tobytes()).hexdigest()


def _decode(file: IO[bytes], name: str, min_side: int | None, max_pixels: int) -> Image.Image:
    """Decode a file; whatever a decoder makes of hostile bytes becomes one of our errors, with its cause chained."""
    try:
        found = identify(file)
    except OSError as error:
        raise _failed_reading(name, error) from error
    if isinstance(found, str):
        raise ImageDecodeError(name, found)
    form, reader = found
    try:
        with pixel_limit(max_pixels):
            return _read(reader(file), min_side)
    except TooManyPixels as error:
        raise _too_large(name, error.size, max_pixels) from error
    except UnusablePixels as error:
        raise ImageDecodeError(name, str(error)) from error
    except MemoryError:  # ours to run out of, whatever the image
        raise
    except Exception as error:  # Pillow's readers have no common error, and these bytes are anybody's
        if isinstance(error, OSError) and error.errno is not None:  # from the system, not from a reader
            raise _failed_reading(name, error) from error
        raise ImageDecodeError(name, f"the {form} data is broken or cut short") from error


def _read(image: Any, min_side: int | None) -> Image.Image:
    check_pixels(image.size)
    if min_side is not None:
        image.draft(None, (_DRAFT_MARGIN * min_side, _DRAFT_MARGIN * min_side))
    # A TIFF forgets its orientation when it is loaded, and a PNG may only then come to its own.
    orientation = image.tag_v2.get(ORIENTATION_TAG) if hasattr(image, "tag_v2") else None
    image.load()
    return _owned(image, orientation or find_orientation(image.info))


def _convert(source: Image.Image | np.ndarray[Any, Any], max_pixels: int) -> Image.Image:
    name = describe_source(source)
    try:
        size = source.size if isinstance(source, Image.Image) else check_array(source)
        with pixel_limit(max_pixels):
            check_pixels(size)
        if not isinstance(source, Image.Image):
            return array_to_rgb(source)
        if 0 in size:
            raise UnusablePixels("it has no pixels")
        try:
            source.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise ImageDecodeError(name, f"its data is broken, cut short or closed: {error}") from error
        return _owned(source, find_orientation(source.info))
    except TooManyPixels as error:
        raise _too_large(name, error.size, max_pixels) from error
    except UnusablePixels as error:
        raise ImageDecodeError(name, str(error)) from error


def _owned(image: Image.Image, orientation: int) -> Image.Image:
    """RGB, upright, and neither the source itself nor tied to its file."""
    result = upright(to_rgb(image), orientation)
    if result is image:
        result = image.copy()
    result.info = {}  # an orientation left in it would be applied a second time
    return result


def _failed_reading(name: str, error: OSError) -> ImageReadError:
    return ImageReadError(name, f"reading it failed: {error.strerror}")


def _too_large(name: str, size: tuple[int, int], max_pixels: int) -> ImageTooLargeError:
    return ImageTooLargeError(
        name, f"{size[0]:,}x{size[1]:,} pixels are more than the limit of {max_pixels:,}. Raise max_pixels to open it"
    )
