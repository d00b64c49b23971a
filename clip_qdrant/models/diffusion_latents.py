"""Latents as a pipeline's scheduler has them -> pixels, with gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ModelFormatError
from clip_qdrant.models.diffusion_inputs import native_side

if TYPE_CHECKING:
    from torch import Tensor

    from clip_qdrant.models.guidance import Decode


def decoder(pipeline: Any, size: tuple[int | None, int | None]) -> Decode:
    """What makes pixels (n, 3, height, width) in 0 to 1 of a pipeline's clean latents.

    Args:
        pipeline: one of diffusers', with an autoencoder.
        size: the width and the height of the picture in pixels; the model's own where None.

    Raises:
        ModelFormatError: a pipeline whose latents are not known here.
    """
    vae = getattr(pipeline, "vae", None)
    if vae is None or not hasattr(vae.config, "scaling_factor"):
        raise ModelFormatError(
            f"The latents of {type(pipeline).__name__} cannot be decoded here, so nothing is pulled."
        )
    packed = getattr(pipeline, "_unpack_latents", None)
    width, height = (side or native_side(pipeline) for side in size)

    def decode(latents: Tensor) -> Tensor:
        if packed is not None:
            latents = packed(latents, height, width, pipeline.vae_scale_factor)
        latents = latents / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        with _wide_enough(vae):
            pixels: Tensor = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        return (pixels.float() / 2 + 0.5).clamp(0, 1)

    return decode


@contextmanager
def _wide_enough(vae: Any) -> Iterator[None]:
    """SDXL's autoencoder overflows in float16; for the time being it is float32, of which the way back is exact."""
    import torch

    if vae.dtype != torch.float16 or not getattr(vae.config, "force_upcast", False):
        yield
        return
    vae.to(torch.float32)
    try:
        yield
    finally:
        vae.to(torch.float16)
