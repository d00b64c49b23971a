"""What an image processor of transformers does to an image before the model sees it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

_SETTINGS = (
    "crop_size",
    "do_center_crop",
    "do_convert_rgb",
    "do_normalize",
    "do_pad",
    "do_rescale",
    "do_resize",
    "image_mean",
    "image_std",
    "max_num_patches",
    "patch_size",
    "resample",
    "rescale_factor",
    "size",
)
_LONGEST = 20
"""Longer sides than this many shorter ones are cut before resizing, which would make gigabytes of a thin strip."""


def image_settings(processor: Any) -> dict[str, Any]:
    """What decides which pixels the model sees; without what releases of transformers call and note differently."""
    settings = processor.to_dict()
    return {name: settings[name] for name in _SETTINGS if settings.get(name) is not None}


def input_side(processor: Any) -> int | None:
    """The longest side, in pixels, that a square image has when the model sees it; None where nothing says."""
    settings = image_settings(processor)
    if "max_num_patches" in settings:  # SigLIP 2 with a size of its own for each image
        return int(settings["patch_size"] * math.ceil(math.sqrt(settings["max_num_patches"])))
    sizes = [dict(settings.get(name, {})) for name in ("size", "crop_size")]
    return max((side for size in sizes for side in size.values() if isinstance(side, int)), default=None)


def shorten(image: Image.Image, processor: Any) -> Image.Image:
    """The middle of an image much longer than wide, where the processor resizes the shorter side and crops the middle.

    A strip of 20,000 by 1 pixels would be resized to 4,480,000 by 224 for its middle 224 by 224.
    """
    settings = image_settings(processor)
    if not settings.get("do_center_crop") or "shortest_edge" not in dict(settings.get("size", {})):
        return image
    longest = _LONGEST * min(image.size)
    if max(image.size) <= longest:
        return image
    # As much off one end as off the other, so that the middle stays the middle.
    left, top = (max(0, side - longest) // 2 for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top))
