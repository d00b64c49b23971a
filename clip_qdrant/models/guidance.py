"""CLIP in the loop: at every step the picture that is going to be is pulled towards a vector.

Classifier guidance (Dhariwal and Nichol, 2021) with CLIP as the classifier (Crowson, 2021), by the clean image that
the denoiser predicts: it is decoded, embedded, and moved along the gradient of its similarity, and the denoiser's
output becomes what means the moved image. No gradient passes through the denoiser, which would cost several times as
much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.clean_image import Noise, noise_at

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from clip_qdrant.models.encoder import ClipEncoder
    from clip_qdrant.types import Encoder

    Decode = Callable[[Tensor], Tensor]
    """Clean latents as the scheduler has them -> pixels (n, 3, height, width) in 0 to 1."""

_LEAST = 1e-3
"""Below this share of noise nothing is left to change; below this share of image, noise says nothing about it."""


class ClipGuide:
    """Pulls what a generator makes towards a vector, and away from others.

    The vectors are those of a prompt, of a picture, or the middle of many that were retrieved.

    Args:
        encoder: what sees the picture; its pixels need gradients (see `ClipEncoder.embed_pixels`).
        toward: float (dim,), any length but 0; normalised here.
        away: vectors (n, dim) to be unlike; their mean similarity counts as much as the target's.
        scale: how far a step moves the clean image, as a share of its own length. 0 pulls nothing and changes not a
            bit of the picture, but the alignment is still told. From about 0.05 on it shows; above 0.3 pictures break.
        start: where it begins, as a share of the steps from noise to picture, 0 to 1; an edit enters at 1 - strength.
        stop: where it ends.

    Raises:
        ConfigError: vectors of another dimension or without direction, a scale or a range that cannot be.
    """

    def __init__(
        self,
        encoder: ClipEncoder,
        toward: NDArray[np.float32],
        *,
        away: Sequence[NDArray[np.float32]] | NDArray[np.float32] = (),
        scale: float = 0.1,
        start: float = 0.0,
        stop: float = 1.0,
    ) -> None:
        if not isfinite(scale) or scale < 0:
            raise ConfigError(f"The scale of a guide is 0 or more, got {scale!r}.")
        if not 0 <= start < stop <= 1:
            raise ConfigError(f"A guide starts and stops at shares of the steps, 0 to 1, got {start!r} to {stop!r}.")
        self.encoder, self.scale = encoder, scale
        self._start, self._stop = start, stop
        self._toward = unit_rows(encoder, "toward", [toward])[0]
        self._away = unit_rows(encoder, "away", away) if len(away) else np.empty((0, encoder.dim), np.float32)

    @contextmanager
    def watching(self, scheduler: Any, decode: Decode) -> Iterator[list[float]]:
        """Have a scheduler's steps pulled while the context lasts; what is yielded fills with the alignment.

        The scheduler is the same object as before and after: pipelines ask for its class and its signatures.

        Args:
            scheduler: one of diffusers'.
            decode: what makes pixels of its clean latents.
        """
        step, alignment = scheduler.step, list[float]()

        @wraps(step)
        def pulled(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
            noise = noise_at(scheduler, timestep)
            scale = self.scale if self._start <= _share(scheduler, timestep) < self._stop else 0.0
            output, cosine = self._pull(noise, scale, decode, model_output, sample)
            alignment.append(cosine)
            return step(output, timestep, sample, *args, **kwargs)

        scheduler.step = pulled
        try:
            yield alignment
        finally:
            del scheduler.step  # the class's own again

    def _pull(self, noise: Noise, scale: float, decode: Decode, output: Tensor, sample: Tensor) -> tuple[Tensor, float]:
        """The output that means the moved image, and the cosine of the image as it was with the target."""
        import torch

        toward = torch.from_numpy(self._toward).to(self.encoder.device)
        clean = noise.clean(sample.float(), output.float())
        if not scale or noise.noise < _LEAST or (noise.kind == "epsilon" and noise.image < _LEAST):
            with torch.no_grad():
                return output, float((self.encoder.embed_pixels(decode(clean)) @ toward).mean())
        with torch.enable_grad():
            leaf = clean.detach().requires_grad_()
            vectors = self.encoder.embed_pixels(decode(leaf))
            cosines = vectors @ toward
            like = cosines.sum()
            if len(self._away):
                like = like - (vectors @ torch.from_numpy(self._away).to(vectors).T).mean(1).sum()
            (gradient,) = torch.autograd.grad(like, leaf)
        across = tuple(range(1, clean.ndim))
        length = torch.linalg.vector_norm(gradient, dim=across, keepdim=True).clamp_min(
            torch.finfo(gradient.dtype).tiny
        )
        moved = clean + scale * torch.linalg.vector_norm(clean, dim=across, keepdim=True) * gradient / length
        return noise.output(sample.float(), moved).to(output), float(cosines.detach().mean())


def _share(scheduler: Any, timestep: Any) -> float:
    """How much of the way from noise to picture is behind."""
    times = [float(one) for one in scheduler.timesteps]
    return times.index(float(timestep)) / len(times)


def unit_rows(encoder: Encoder, name: str, vectors: Any) -> NDArray[np.float32]:
    """Vectors (n, dim) of an encoder at unit length.

    Raises:
        ConfigError: `name` has another shape, or a vector without direction.
    """
    found = np.asarray(vectors, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] != encoder.dim:
        raise ConfigError(
            f"{name} has the shape {found.shape[1:] if name == 'toward' else found.shape}, and "
            f"{encoder.fingerprint.model!r} makes vectors of {encoder.dim}. Give what its embed_texts or embed_images "
            "gave."
        )
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    if not np.isfinite(found).all() or (lengths < 1e-6).any():
        raise ConfigError(f"{name} has a vector without a direction: zero, or not a number.")
    unit: NDArray[np.float32] = (found / lengths).astype(np.float32)
    return unit
