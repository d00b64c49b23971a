"""The small frozen dataclasses and protocols that travel between rooms."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    Vectors: TypeAlias = NDArray[np.float32]
    """Unit vectors, float32, shape (n, dim)."""

    ImageSource: TypeAlias = str | PathLike[str] | bytes | BytesIO | Image.Image | NDArray[np.generic]
    """Whatever `clip_qdrant.images.open_image` opens; a str is a path, a data URI, or (only when asked) a URL."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing to index: an image, a text, or an image with its caption.

    Attributes:
        source: where it comes from: an absolute path or a URI. Part of its identity, and shown to people.
        image: what to decode and embed as the image, or None for a text alone.
        text: what to embed as the text (a caption, a passage), or None for an image alone.
        metadata: flat, JSON-compatible payload to filter on.
        fragment: which part of the source, for sources with many (page 3 of a PDF).
        scope: keeps the same source apart for two owners (a tenant).
        id: an id that the record already has elsewhere (a LlamaIndex node id); kept as it is.
    """

    source: str
    image: ImageSource | None = None
    text: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    fragment: str = ""
    scope: str = ""
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search.

    Attributes:
        id: the point's id.
        score: cosine similarity in [-1, 1]; for a fused search the fused score, comparable only within one answer.
        source: where it came from (`Record.source`), or None for a point that something else wrote.
        text: its caption or passage, or None.
        metadata: what there is to filter on.
        vector: the image vector (dim,), or the text vector of a text; only when it was asked for.
        payload: all that is stored with the point, for those who read it in a format of their own.
    """

    id: str
    score: float
    source: str | None
    text: str | None
    metadata: Mapping[str, Any]
    vector: NDArray[np.float32] | None = None
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What must be the same for two vectors to be comparable.

    Attributes:
        model: the name a person knows the model by; shown, never compared.
        weights: SHA-256 of the weights (hex).
        preprocessing: SHA-256 of the image processor's settings and the text's padding, length and prefix (hex).
        dim: the vectors' dimension.
        normalized: whether vectors have unit length.
    """

    model: str
    weights: str
    preprocessing: str
    dim: int
    normalized: bool = True

    @property
    def digest(self) -> str:
        """Sixteen hex digits over everything but the model's name."""
        compared = [self.weights, self.preprocessing, self.dim, self.normalized]
        return hashlib.sha256(json.dumps(compared).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types, to be stored with a collection."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fingerprint:
        """The inverse of `to_dict`."""
        return cls(**data)


@runtime_checkable
class Encoder(Protocol):
    """An image and text encoder of one space. `ClipEncoder` is the real one, `testing.FakeEncoder` the fast one."""

    @property
    def dim(self) -> int:
        """The vectors' dimension."""
        ...

    @property
    def image_side(self) -> int:
        """The side, in pixels, below which decoding must not scale an image down."""
        ...

    @property
    def batch_size(self) -> int:
        """How many items one forward pass takes."""
        ...

    @property
    def fingerprint(self) -> Fingerprint:
        """What must be the same for two vectors to be comparable."""
        ...

    def embed_images(self, images: Iterable[ImageSource]) -> Vectors:
        """Unit float32 vectors, shape (n, dim), in the order given."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Unit float32 vectors, shape (n, dim), in the order given."""
        ...


@runtime_checkable
class Generated(Protocol):
    """A picture that a generator made."""

    @property
    def image(self) -> Image.Image:
        """The picture, RGB."""
        ...

    @property
    def prompt(self) -> str:
        """What was asked for."""
        ...

    @property
    def seed(self) -> int:
        """That makes it again, with the same model and settings."""
        ...

    @property
    def model(self) -> str:
        """The name of the model that made it."""
        ...

    def png(self) -> bytes:
        """The picture as a PNG that says how it was made."""
        ...


@runtime_checkable
class ImageGenerator(Protocol):
    """Makes pictures: whatever you have that does. `testing.FakeGenerator` is one for tests."""

    def generate(
        self, prompt: str, *, negative: str | None = None, count: int = 1, seed: int | None = None
    ) -> Sequence[Generated]:
        """Pictures of a prompt."""
        ...

    def edit(
        self, image: ImageSource, prompt: str, *, strength: float = 0.6, count: int = 1, seed: int | None = None
    ) -> Sequence[Generated]:
        """Pictures that start from another, and are like it the more, the lower the strength (0 to 1)."""
        ...
