"""Make several pictures, and keep those that CLIP likes best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.guidance import unit_rows

if TYPE_CHECKING:
    import numpy as np
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

    What the model's safety checker flagged, which is black, comes after all others.

    Args:
        make: `generator.generate`, or what calls `generator.edit` with a picture.
        prompt: what they show.
        encoder: what ranks them.
        of: how many are made.
        keep: how many of them are given.
        toward: a vector (dim,) to rank them by; that of the prompt if None.
        **options: what `make` takes otherwise: seed, steps, guide, …

    Raises:
        ConfigError: numbers that cannot be, a vector of another dimension or without direction.
    """
    if not 1 <= keep <= of:
        raise ConfigError(f"The best {keep} of {of} cannot be: keep is from 1 to the number that is made.")
    target = unit_rows(encoder, "toward", encoder.embed_texts([prompt]) if toward is None else [toward])[0]
    made = make(prompt, count=of, **options)
    cosines = encoder.embed_images([one.image for one in made]) @ target
    order = sorted(range(of), key=lambda index: (bool(made[index].flagged), -cosines[index]))[:keep]
    return [replace(made[index], score=float(cosines[index])) for index in order]
