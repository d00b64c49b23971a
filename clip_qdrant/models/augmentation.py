"""Pictures a little different each time they are learnt from: part of it, other colours, less sharp."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageEnhance, ImageFilter

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Augment: TypeAlias = Callable[[Image.Image, random.Random], Image.Image]
    """An RGB image and where random choices come from -> an RGB image."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random crops and colours for photos and drawings. All choices come from the generator that is given.

    Attributes:
        crop: the smallest share of the area that is cut out; 1.0 for no cropping.
        stretch: how much wider or higher the cut may be than the image, 1.0 for not at all.
        colour: how far brightness, contrast and saturation may change, 0.2 for by a fifth; 0.0 for not at all.
        grey: the share of images that lose their colours.
        blur: the share that is blurred.
        mirror: the share that is mirrored; 0.0, since captions speak of left and right, and pictures have writing.

    Raises:
        ConfigError: a share outside of 0 to 1, a crop of nothing, or a stretch below 1.
    """

    crop: float = 0.6
    stretch: float = 1.15
    colour: float = 0.2
    grey: float = 0.05
    blur: float = 0.1
    mirror: float = 0.0

    def __post_init__(self) -> None:
        for name in ("crop", "colour", "grey", "blur", "mirror"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is a share from 0 to 1, got {getattr(self, name)!r}.")
        if self.crop == 0.0 or not self.stretch >= 1.0:
            raise ConfigError(f"crop must be above 0 and stretch at least 1, got {self.crop!r} and {self.stretch!r}.")

    def __call__(self, image: Image.Image, rng: random.Random) -> Image.Image:
        """Another RGB image of the same picture; the one given stays as it is."""
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
