"""Pictures a little different each time they are learnt from: part of it, other colours, less sharp, other grounds."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageStat

from clip_qdrant.errors import ConfigError
from clip_qdrant.images.decode import MAX_PIXELS
from clip_qdrant.images.orientation import find_orientation, upright
from clip_qdrant.images.readers import identify, pixel_limit
from clip_qdrant.images.sources import open_encoded

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from clip_qdrant.types import ImageSource

    Augment: TypeAlias = Callable[[Image.Image, random.Random], Image.Image]
    """An image, RGBA where it can be seen through and else RGB, and where random choices come from -> an RGB image."""


_SEE_THROUGH = {"PNG", "WebP", "GIF", "AVIF", "ICO"}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random crops, colours and grounds for photos and drawings. All choices come from the generator that is given.

    Attributes:
        crop: the smallest share of the area that is cut out; 1.0 for no cropping.
        stretch: how much wider or higher the cut may be than the image, 1.0 for not at all.
        colour: how far brightness, contrast and saturation may change, 0.2 for by a fifth; 0.0 for not at all.
        grey: the share of images that lose their colours.
        blur: the share that is blurred.
        background: the share of the images with an alpha channel that stand on a random colour instead of on white.
        mirror: the share that is mirrored; 0.0, since captions speak of left and right, and pictures have writing.

    Raises:
        ConfigError: a share outside of 0 to 1, a crop of nothing, or a stretch below 1.
    """

    crop: float = 0.6
    stretch: float = 1.15
    colour: float = 0.2
    grey: float = 0.05
    blur: float = 0.1
    background: float = 0.5
    mirror: float = 0.0

    def __post_init__(self) -> None:
        for name in ("crop", "colour", "grey", "blur", "background", "mirror"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is a share from 0 to 1, got {getattr(self, name)!r}.")
        if self.crop == 0.0 or not self.stretch >= 1.0:
            raise ConfigError(f"crop must be above 0 and stretch at least 1, got {self.crop!r} and {self.stretch!r}.")

    def __call__(self, image: Image.Image, rng: random.Random) -> Image.Image:
        """Another RGB image of the same picture; the one given stays as it is."""
        if image.mode == "RGBA":
            image = _on_ground(image, _ground_for(image, rng) if rng.random() < self.background else (255, 255, 255))
        image = self._cropped(image, rng)
        if rng.random() < self.mirror:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhance(image).enhance(rng.uniform(1 - self.colour, 1 + self.colour))
        if rng.random() < self.grey:
            image = image.convert("L").convert("RGB")
        if rng.random() < self.blur:
            image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.0) * max(image.size) / 100))
        return image

    def _cropped(self, image: Image.Image, rng: random.Random) -> Image.Image:
        share, ratio = rng.uniform(self.crop, 1.0), math.exp(rng.uniform(-1, 1) * math.log(self.stretch))
        width = max(1, min(image.width, round(image.width * math.sqrt(share * ratio))))
        height = max(1, min(image.height, round(image.height * math.sqrt(share / ratio))))
        left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
        return image.crop((left, top, left + width, top + height))


def open_see_through(source: ImageSource) -> Image.Image | None:
    """An image that `open_image` opens, as RGBA, the same way up, if it can be seen through; None if it cannot.

    A TIFF that can be seen through gives None, too: it stays on white.
    """
    if isinstance(source, np.ndarray):
        see_through = source.ndim == 3 and source.shape[2] == 4 and source.dtype == np.uint8
        return Image.fromarray(source) if see_through else None
    if isinstance(source, Image.Image):
        return _rgba(source.copy()) if source.has_transparency_data else None
    with open_encoded(source) as file:
        found = identify(file)
        if isinstance(found, str) or found[0] not in _SEE_THROUGH:
            return None
        with pixel_limit(MAX_PIXELS):
            image = found[1](file)
            if not image.has_transparency_data:
                return None
            image.load()
            return _rgba(image)


def _rgba(image: Image.Image) -> Image.Image | None:
    if image.mode.startswith("I"):  # 16 bits of grey; Pillow would cut them off, not scale them
        return None
    return upright(image.convert(image.mode.upper()).convert("RGBA"), find_orientation(image.info))


def _on_ground(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    ground = Image.new("RGB", image.size, colour)
    ground.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return ground


def _ground_for(image: Image.Image, rng: random.Random) -> tuple[int, int, int]:
    """A random colour, dark behind light pictures and light behind dark ones: black on black is no picture."""
    alpha = image.getchannel("A")
    light = alpha.getbbox() is not None and ImageStat.Stat(image.convert("L"), mask=alpha).mean[0] > 160
    red, green, blue = (rng.randint(*((0, 110) if light else (145, 255))) for _ in range(3))
    return red, green, blue
