"""What an image processor of transformers does to an image, done to a tensor, so that gradients pass through it.

The encoder's own way is Pillow's, which rounds; this one is for generators that are to be pulled towards a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ModelFormatError

if TYPE_CHECKING:
    from torch import Tensor

_MODES = {0: "nearest", 2: "bilinear"}
"""Pillow's number of a way to resample -> torch's name of it; bicubic for those that torch does not have."""


def prepare(pixels: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """Pixels as the image tower takes them.

    Args:
        pixels: float (n, 3, height, width), RGB in 0 to 1.
        settings: of the image processor, as `image_input.image_settings` gives them.

    Raises:
        ModelFormatError: the model takes each image at a size of its own.
    """
    import torch
    from torch.nn.functional import interpolate

    if "max_num_patches" in settings:
        raise ModelFormatError(
            "The model takes each image at a size of its own, which has no gradients here. Use a model of one size."
        )
    size = resized(pixels.shape[-2], pixels.shape[-1], settings)
    if size != tuple(pixels.shape[-2:]):
        mode = _MODES.get(settings.get("resample", 3), "bicubic")
        smooth = {} if mode == "nearest" else {"antialias": True, "align_corners": False}
        pixels = interpolate(pixels, size=size, mode=mode, **smooth).clamp(0, 1)
    if settings.get("do_center_crop"):
        pixels = _middle(pixels, settings["crop_size"]["height"], settings["crop_size"]["width"])
    if settings.get("do_normalize", True):
        mean, deviation = (
            torch.tensor(settings[name], dtype=pixels.dtype, device=pixels.device).view(1, 3, 1, 1)
            for name in ("image_mean", "image_std")
        )
        pixels = (pixels - mean) / deviation
    return pixels


def resized(height: int, width: int, settings: Mapping[str, Any]) -> tuple[int, int]:
    """The height and width that an image processor resizes to, before it crops."""
    if not settings.get("do_resize", True):
        return height, width
    size = settings["size"]
    if "shortest_edge" not in size:
        return int(size["height"]), int(size["width"])
    short = int(size["shortest_edge"])
    if height <= width:
        return short, int(short * width / height)
    return int(short * height / width), short


def _middle(pixels: Tensor, height: int, width: int) -> Tensor:
    """The middle of pictures; what is not there is black, as with transformers."""
    from torch.nn.functional import pad

    down, right = max(0, height - pixels.shape[-2]), max(0, width - pixels.shape[-1])
    if down or right:
        pixels = pad(pixels, (right // 2, right - right // 2, down // 2, down - down // 2))
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    return pixels[..., top : top + height, left : left + width]
