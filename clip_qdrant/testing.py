"""A fake encoder and a fake generator for tests: no model, milliseconds, and rankings that mean something."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from clip_qdrant.errors import ConfigError
from clip_qdrant.images import open_image
from clip_qdrant.types import Fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clip_qdrant.types import ImageSource, Vectors

PALETTE = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (40, 70, 220),
    "yellow": (240, 220, 40),
    "purple": (130, 40, 160),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
}
"""The words that the fake encoder sees in a picture, and the colours (RGB) it sees them as."""


class FakeEncoder:
    """Sees colours, and nothing else: "red" is near a red picture, two shades of one red are near each other.

    Every colour of `PALETTE` has an axis. An image lies along the colours of its pixels, a text along the colours it
    names. A little noise, seeded by content, tells apart what has the same colours; unknown words are noise alone.
    An `Encoder`, so that whatever takes a `ClipEncoder` takes this.

    Args:
        dim: of the vectors; at least 16.
        name: the model's name in the fingerprint; another name is another space.
        batch_size: how many items an ingesting caller takes at a time.
    """

    def __init__(self, dim: int = 32, *, name: str = "fake", batch_size: int = 8) -> None:
        if dim < 2 * len(PALETTE):
            raise ConfigError(f"dim must be at least {2 * len(PALETTE)}, got {dim!r}")
        self.dim = dim
        self.image_side = 8
        self.batch_size = batch_size
        self.fingerprint = Fingerprint(model=name, weights=_sha256(name), preprocessing=_sha256("fake"), dim=dim)

    def embed_images(self, images: Iterable[ImageSource]) -> Vectors:
        """Unit float32 vectors, shape (n, dim).

        Raises:
            ImageError: an image that cannot be opened.
        """
        return self._stack([self._image(source) for source in images])

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Unit float32 vectors, shape (n, dim).

        Raises:
            ConfigError: a str instead of a list of them.
        """
        if isinstance(texts, str):
            raise ConfigError(f"texts must be a list, got the str {texts!r}. Write [text]")
        return self._stack([self._text(text) for text in texts])

    def _image(self, source: ImageSource) -> NDArray[np.float64]:
        pixels = np.asarray(open_image(source).resize((8, 8))).reshape(-1, 3)
        distances = np.linalg.norm(pixels[:, None] - np.array(list(PALETTE.values()))[None], axis=2)
        shares = np.bincount(distances.argmin(axis=1), minlength=len(PALETTE)) / len(pixels)
        return self._vector(shares, pixels.tobytes(), noise=0.1)

    def _text(self, text: str) -> NDArray[np.float64]:
        words = text.lower().split()
        shares = np.array([words.count(colour) for colour in PALETTE], dtype=np.float64)
        return self._vector(shares, text.encode(), noise=0.1 if shares.any() else 1.0)

    def _vector(self, shares: NDArray[np.float64], content: bytes, *, noise: float) -> NDArray[np.float64]:
        seed = int.from_bytes(hashlib.sha256(self.fingerprint.model.encode() + content).digest()[:8], "big")
        rest = np.random.default_rng(seed).normal(size=self.dim - len(PALETTE))
        vector = np.concatenate([shares, noise * rest / np.linalg.norm(rest)])
        unit: NDArray[np.float64] = vector / np.linalg.norm(vector)
        return unit

    def _stack(self, vectors: list[NDArray[np.float64]]) -> Vectors:
        return np.array(vectors, dtype=np.float32).reshape(-1, self.dim)


@dataclass(frozen=True)
class FakeImage:
    """What a `FakeGenerator` made; a `Generated`."""

    image: Image.Image
    prompt: str
    seed: int
    model: str

    def png(self) -> bytes:
        """The picture as a PNG."""
        file = BytesIO()
        self.image.save(file, "PNG")
        return file.getvalue()


class FakeGenerator:
    """Paints the first colour of `PALETTE` that a prompt names, gray where it names none; a `FakeEncoder` sees it.

    The seed changes the shade a little, so that two seeds are two pictures. An `ImageGenerator`.

    Args:
        model: its name.
        side: of the pictures, in pixels.
    """

    def __init__(self, model: str = "fake", *, side: int = 16) -> None:
        self.model, self.side = model, side
        self.prompts: list[str] = []
        """What it was asked for so far."""

    def generate(
        self, prompt: str, *, negative: str | None = None, count: int = 1, seed: int | None = None
    ) -> list[FakeImage]:
        """Pictures of one colour; a negative prompt makes no difference."""
        self.prompts.append(prompt)
        named = next((word for word in prompt.lower().split() if word in PALETTE), "gray")
        seeds = [(seed or 0) + index for index in range(count)]
        size = (self.side, self.side)
        return [
            FakeImage(Image.new("RGB", size, _shade(PALETTE[named], one)), prompt, one, self.model) for one in seeds
        ]

    def edit(
        self, image: ImageSource, prompt: str, *, strength: float = 0.6, count: int = 1, seed: int | None = None
    ) -> list[FakeImage]:
        """The picture with the prompt's colour over its left part, as wide a part as the strength says."""
        made = self.generate(prompt, count=count, seed=seed)
        for one in made:
            rest = open_image(image).resize(one.image.size)
            left = round(strength * self.side)
            one.image.paste(rest.crop((left, 0, self.side, self.side)), (left, 0))
        return made


def _shade(colour: tuple[int, int, int], seed: int) -> tuple[int, int, int]:
    red, green, blue = (value + (seed % 8 if value < 128 else -(seed % 8)) for value in colour)
    return red, green, blue


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
