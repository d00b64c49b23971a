"""What can be asked -> one unit vector."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from clip_qdrant.types import Encoder

    Part: TypeAlias = str | Path | bytes | BytesIO | Image.Image | NDArray[np.generic]
    """A str is a text, always; a Path, bytes, a BytesIO, a PIL image or an array is an image."""

    Query: TypeAlias = Part | Sequence[Part | tuple[Part, float]]
    """One part, or several with weights: [("a dog", 1.0), (Path("beach.jpg"), 0.5)]."""
else:
    Query = object


def query_vector(encoder: Encoder, query: Query, negative: Query | None = None) -> NDArray[np.float32]:
    """The unit vector (dim,) of a query: p, or 2p - n with a negative n, as Qdrant's own recommend has it.

    Raises:
        ConfigError: an empty query, weights that are no numbers, or a query that cancels itself out.
        ImageError: an image of the query cannot be opened.
    """
    vector = _centre(encoder, query)
    if negative is not None:
        vector = 2 * vector - _centre(encoder, negative)
    length = np.linalg.norm(vector)
    if length < 1e-6:
        raise ConfigError("The query cancels itself out: nothing is left of it. Change the weights or the negative.")
    return np.asarray(vector / length, dtype=np.float32)


def _centre(encoder: Encoder, query: Query) -> NDArray[np.float64]:
    """The weighted mean of a query's unit vectors (dim,)."""
    parts = [(part, 1.0) if not isinstance(part, tuple) else part for part in _as_list(query)]
    if not parts:
        raise ConfigError("The query is empty. Give it a text or an image.")
    texts = [part for part, _ in parts if isinstance(part, str)]
    images = [part for part, _ in parts if not isinstance(part, str)]
    of_texts = iter(encoder.embed_texts(texts)) if texts else iter(())
    of_images = iter(encoder.embed_images(images)) if images else iter(())
    vectors = np.array([next(of_texts) if isinstance(part, str) else next(of_images) for part, _ in parts], np.float64)
    weights = np.array([weight for _, weight in parts], np.float64)
    if not np.isfinite(weights).all() or not weights.any():
        raise ConfigError(f"The weights of a query are numbers, not all of them zero, got {weights.tolist()}.")
    centre: NDArray[np.float64] = weights @ vectors / np.abs(weights).sum()
    return centre


def _as_list(query: Query) -> Sequence[Part | tuple[Part, float]]:
    return query if isinstance(query, Sequence) and not isinstance(query, (str, bytes)) else [query]
