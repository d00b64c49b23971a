"""Make several pictures, and keep those that CLIP likes best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clip_qdrant.models.picture import Picture
    from clip_qdrant.types import Encoder


def best_of(
    make: Callable[..., list[Picture]],
    prompt: str,
    encoder: Encoder,
    *,
    of: int = 4,
    keep: int = 1,
    toward: NDArray[np.float32] | None = None,
    **options: Any,
) -> list[Picture]:
    """The best of several pictures of one prompt, best first, each with the cosine that it was ranked by.

    Args:
        make: `generator.generate`, or what calls `generator.edit` with a picture.
        prompt: what they show.
        encoder: what ranks them.
        of: how many are made.
        keep: how many of them are given.
        toward: a vector (dim,) to rank them by; that of the prompt if None.
        **options: what `make` takes otherwise: seed, steps, guide, …

    Raises:
        ConfigError: numbers that cannot be.
    """
    if not 1 <= keep <= of:
        raise ConfigError(f"The best {keep} of {of} cannot be: keep is from 1 to the number that is made.")
    made = make(prompt, count=of, **options)
    target = encoder.embed_texts([prompt])[0] if toward is None else toward
    cosines = encoder.embed_images([one.image for one in made]) @ (target / np.linalg.norm(target))
    order = np.argsort(-cosines, kind="stable")[:keep]
    return [replace(made[index], score=float(cosines[index])) for index in order]
