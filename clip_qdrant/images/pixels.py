"""Every mode of Pillow and every array, as 8-bit RGB.

Transparent pixels are laid over white. Gray of more than 8 bits is scaled, white to white, where Pillow would clip it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_TO_8_BIT = ((np.arange(65536) + 128) // 257).astype(np.uint8)


class UnusablePixels(ValueError):
    """Pixels that have no one meaning as an image; the message says which would."""


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded image as RGB; the image itself where it already is, and never changed."""
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_gray(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode in ("La", "RGBa"):
        return over_white(image.convert(image.mode.upper()))
    # Converting a palette image writes its transparency into the palette in place: let it write into a copy.
    return over_white((image.copy() if image.mode in ("P", "PA") else image).convert("RGBA"))


def over_white(image: Image.Image) -> Image.Image:
    """An RGBA or LA image over a white ground, as RGB."""
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return ground


def _deep_gray(image: Image.Image) -> Image.Image:
    """I;16 in its 16 bits; I as 16 bits (what a 16-bit PGM opens as); F in [0, 1] or else in [0, 255]."""
    values = np.asarray(image)
    top = 65535.0 if image.mode.startswith("I") else 1.0 if values.max() <= 1 else 255.0
    if not (values.min() >= 0 and values.max() <= top):  # NaN fails it too
        raise UnusablePixels(
            f"mode {image.mode} with values {values.min():g} to {values.max():g} has no known black and white. "
            f"Scale it to 0 to {top:g} first"
        )
    gray = _TO_8_BIT[values] if top == 65535 else np.rint(values * (255 / top)).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray = np.where(values == transparent, np.uint8(255), gray)
    return Image.fromarray(gray).convert("RGB")


def check_array(array: NDArray[Any]) -> tuple[int, int]:
    """The size (width, height) of an array that `array_to_rgb` takes.

    Raises:
        UnusablePixels: the shape or the type is none of those that it takes.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise UnusablePixels(f"shape {array.shape} is none of (H, W), (H, W, 1), (H, W, 3), (H, W, 4). Transpose it")
    if 0 in array.shape:
        raise UnusablePixels(f"shape {array.shape} has no pixels")
    if array.dtype.kind not in "bf" and (array.dtype.kind, array.dtype.itemsize) not in (("u", 1), ("u", 2)):
        raise UnusablePixels(
            f"type {array.dtype} is none of uint8, uint16, bool and float in [0, 1]. Convert it with .astype('uint8')"
        )
    return array.shape[1], array.shape[0]


def array_to_rgb(array: NDArray[Any]) -> Image.Image:
    """An array of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) and uint8, uint16, bool or float in [0, 1] as RGB.

    Raises:
        UnusablePixels: anything else.
    """
    check_array(array)
    if array.dtype.kind == "b":
        array = array * np.uint8(255)
    elif array.dtype.kind == "f":
        low, high = array.min(), array.max()
        if not (low >= -1e-4 and high <= 1 + 1e-4):  # NaN fails it too; resizing overshoots by a rounding error
            raise UnusablePixels(
                f"floats must be in [0, 1], got {low:g} to {high:g}. Divide by 255, or undo the normalisation"
            )
        array = np.rint(array.clip(0, 1).astype(np.float32) * 255).astype(np.uint8)
    elif array.dtype.itemsize == 2:
        array = _TO_8_BIT[array]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    image = Image.fromarray(np.ascontiguousarray(array))
    return over_white(image) if image.mode == "RGBA" else image.convert("RGB")
