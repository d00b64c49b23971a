"""A small painter, an encoder in milliseconds, and what one learns from the other."""

from __future__ import annotations

import torch
from torch.nn.functional import adaptive_avg_pool2d, normalize

from clip_qdrant.models.painter import EmbeddingPainter
from clip_qdrant.models.painter_training import Painting
from clip_qdrant.models.training_options import TrainingOptions
from clip_qdrant.types import Fingerprint


class Colours:
    """An encoder that sees the mean colours of four quarters, and through which gradients pass."""

    fingerprint = Fingerprint("colours", "w", "p", 12)

    def embed_pixels(self, pixels):
        return normalize(adaptive_avg_pool2d(pixels, 2).flatten(1) - 0.5, dim=-1)


def quarters(step, count=16):
    """Pictures of 16 pixels in four random colours each."""
    colours = torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(step))
    return torch.nn.functional.interpolate(colours, scale_factor=8.0)


def small(seed=0):
    return EmbeddingPainter.untrained(
        Colours.fingerprint, hidden=32, grid=8, width=16, patch=2, seed=seed, device="cpu"
    )


def paired(step):
    pictures = quarters(step)
    return Painting(Colours().embed_pixels(pictures), pictures)


def unpaired(step):
    return Painting(Colours().embed_pixels(quarters(step)))


def options(**changes):
    given = {"steps": 60, "learning_rate": 1e-2, "average": 0.9, "weight_decay": 0.0, "device": "cpu"}
    return TrainingOptions(**{**given, **changes})
