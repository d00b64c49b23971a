"""Training of an `EmbeddingPainter`: its pictures shall have the vectors that they were painted of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.painter import EmbeddingPainter
from clip_qdrant.models.painter_network import within
from clip_qdrant.models.training import Progress, TrainingReport
from clip_qdrant.models.training_loop import learn
from clip_qdrant.models.training_options import TrainingOptions
from clip_qdrant.types import Fingerprint


@dataclass(frozen=True, slots=True)
class Painting:
    """What one step learns from.

    Attributes:
        vectors: float32 (n, dim), what to paint.
        pictures: float32 (m, 3, side, side), RGB in 0 to 1: what the first m vectors look like, or None.
        seen_as: float32 (n, dim), what the encoder shall make of the pictures; None: the vectors again. For the vectors
            of texts these are the vectors of their pictures: CLIP's texts and pictures lie apart (Liang et al., 2022),
            and no picture has the vector of a text.
    """

    vectors: Tensor
    pictures: Tensor | None = None
    seen_as: Tensor | None = None


Paintings: TypeAlias = Callable[[int], Painting]
"""What a step learns from; for the same step always the same."""


class PixelEncoder(Protocol):
    """An encoder through which gradients pass; a `ClipEncoder` is one."""

    @property
    def fingerprint(self) -> Fingerprint:
        """As `Encoder.fingerprint`."""
        ...

    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """As `ClipEncoder.embed_pixels`."""
        ...


def train_painter(
    painter: EmbeddingPainter,
    paintings: Paintings,
    encoder: PixelEncoder,
    out: Path,
    options: TrainingOptions,
    *,
    likeness: float = 1.0,
    looked_at: float = 1.0,
    resume: bool = False,
    look: Callable[[int], object] | None = None,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainingReport:
    """Train a painter in place, on the device where it is; it ends with its averaged weights.

    The loss is 1 - cosine between what the encoder sees in the pictures and what it shall see, and, where there are
    pictures, by how much the painted ones differ from them in colours and in edges.

    Args:
        painter: `EmbeddingPainter.untrained`, or one to train on.
        paintings: what to learn from.
        encoder: the one whose vectors are painted; it stays as it is.
        out: a folder for the state of the run; the painter itself is written by its `save`.
        options: of them those about the budget, the learning rate, decay, average, precision, seed and state count.
        likeness: how much the difference from pictures counts beside 1 - cosine.
        looked_at: the share of each batch, its last ones, that the encoder looks at; it may cost more than the painter.
        resume: go on from the state in `out`, to the same weights as without the break.
        look: called with the averaged weights in place, every `judge_every` steps and at the end.
        progress: called after every step.
        stop: asked after every step; when it says so, the state is written and training ends.

    Raises:
        ConfigError: the painter is for another encoder; a batch of shapes that do not fit; a `likeness` below 0
            or a `looked_at` outside of 0 to 1; or the state in `out`: see `training_loop.learn`.
        TrainingError: the loss or its gradient is not a number; the state in `out`, if there is one yet, is of before.
    """
    painter.check(encoder.fingerprint)
    if not likeness >= 0:
        raise ConfigError(f"likeness must be at least 0, got {likeness!r}.")
    if not 0 < looked_at <= 1:
        raise ConfigError(f"looked_at is a share above 0 and at most 1, got {looked_at!r}.")
    dtype = getattr(torch, options.precision)

    def loss_of(step: int) -> Tensor:
        batch = paintings(step)
        _check(batch, painter)
        vectors = batch.vectors.to(painter.device)
        target = vectors if batch.seen_as is None else batch.seen_as.to(painter.device)
        with torch.autocast(painter.device.type, dtype, enabled=dtype != torch.float32):
            painted = painter.network(vectors)
        painted = painted.float()
        last = max(1, round(looked_at * len(painted)))
        seen = encoder.embed_pixels(within(painted[-last:])).to(painter.device)
        loss = (1 - cosine_similarity(seen, target[-last:])).mean()
        if batch.pictures is not None and len(batch.pictures):
            pictures = batch.pictures.to(painter.device)
            loss = loss + likeness * difference(painted[: len(pictures)], pictures)
        return loss

    return learn(painter.network, loss_of, out, options, resume=resume, look=look, progress=progress, stop=stop)


def difference(painted: Tensor, pictures: Tensor) -> Tensor:
    """By how much pictures (n, 3, h, w) differ, in colours and from neighbour to neighbour, which keeps edges sharp."""
    edges = sum((painted.diff(dim=axis) - pictures.diff(dim=axis)).abs().mean() for axis in (2, 3))
    off = painted - pictures
    return off.abs().mean() + off.square().mean() + edges


def _check(batch: Painting, painter: EmbeddingPainter) -> None:
    if batch.vectors.ndim != 2 or batch.vectors.shape[1] != painter.dim or not len(batch.vectors):
        raise ConfigError(f"A step's vectors must be (n, {painter.dim}), got {tuple(batch.vectors.shape)}.")
    if batch.seen_as is not None and batch.seen_as.shape != batch.vectors.shape:
        raise ConfigError(f"seen_as must be {tuple(batch.vectors.shape)}, got {tuple(batch.seen_as.shape)}.")
    if batch.pictures is None:
        return
    shape = tuple(batch.pictures.shape)
    if shape[1:] != (3, painter.side, painter.side) or len(batch.pictures) > len(batch.vectors):
        raise ConfigError(
            f"A step's pictures must be (m, 3, {painter.side}, {painter.side}), no more than its "
            f"{len(batch.vectors)} vectors, got {shape}."
        )
