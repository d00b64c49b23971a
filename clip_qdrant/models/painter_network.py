"""The network of `EmbeddingPainter`: a rough picture of few, large places, and what is added to make it fine."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, normalize, pixel_shuffle, silu


class PainterNetwork(nn.Module):
    """Vectors (n, dim) to pictures (n, 3, side, side), RGB around 0 to 1: what lies outside is for `within` to cut off.

    Nearly all weights are in matrices that see a vector once, not a picture at each of its places, so that it learns by
    heart in minutes what a stack of convolutions of that size needs hours for.

    Args:
        dim: of the vectors.
        hidden: the width of the layers that a vector goes through.
        grid: the side of the rough picture.
        channels: what a place of the rough picture has: its colour, and what else the convolutions are told.
        width: of the convolutions; a multiple of 8.
        patch: the side of the piece of the picture that a place becomes.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, dim: int, hidden: int, grid: int, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("spread", torch.eye(dim) * dim**0.5)
        self.enter, self.inner = nn.Linear(dim, hidden), nn.Linear(hidden, hidden)
        self.rough = nn.Linear(hidden, channels * grid**2)
        self.told = nn.Linear(hidden, 2 * width)
        self.first, self.second = nn.Conv2d(channels, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)
        self.norm = nn.GroupNorm(8, width)
        self.last = nn.Conv2d(width, 3 * patch**2, 3, 1, 1)
        self._grid, self._patch = grid, patch

    @torch.no_grad()
    def fit(self, vectors: Tensor, pictures: Tensor | None = None) -> None:
        """Start from a sample: of vectors (n, dim), and, where there are any, of their pictures (n, 3, side, side).

        Vectors like these then enter uncorrelated and of a size (an encoder's crowd in narrow cones), and the rough
        picture is what least squares make of the hidden layer as it is.
        """
        unit = normalize(vectors.double(), dim=-1)
        values, directions = torch.linalg.eigh(torch.cov(unit.T))
        sizes = (values.clamp(min=0) + 0.1 * values.mean()).rsqrt()
        self.mean.copy_(unit.mean(0))
        self.spread.copy_(directions * sizes @ directions.T)
        if pictures is None:
            return
        hidden = self._hidden(vectors)
        known = torch.cat([hidden, torch.ones_like(hidden[:, :1])], dim=1).double()
        wanted = avg_pool2d(pictures - 0.5, self._patch).flatten(1).double()
        squares = known.T @ known
        squares.diagonal().add_(0.01 * squares.diagonal().mean())
        found = torch.linalg.solve(squares, known.T @ wanted).to(hidden)
        self.rough.weight[: found.shape[1]] = found[:-1].T
        self.rough.bias[: found.shape[1]] = found[-1]
        for weight in self.last.parameters():
            weight.zero_()

    def forward(self, vectors: Tensor) -> Tensor:
        """The pictures of vectors of any length but zero."""
        hidden = self._hidden(vectors)
        rough = self.rough(hidden).unflatten(1, (-1, self._grid, self._grid))
        gain, shift = self.told(hidden)[:, :, None, None].chunk(2, dim=1)  # Perez et al., "FiLM", 2018
        places = silu(self.norm(self.first(rough)) * (1 + gain) + shift)
        places = places + silu(self.second(places))
        large = interpolate(rough[:, :3], scale_factor=float(self._patch), mode="bilinear", align_corners=False)
        return 0.5 + large + pixel_shuffle(self.last(places), self._patch)

    def _hidden(self, vectors: Tensor) -> Tensor:
        hidden = silu(self.enter((normalize(vectors, dim=-1) - self.mean) @ self.spread))
        return hidden + silu(self.inner(hidden))


def within(pictures: Tensor) -> Tensor:
    """Pictures cut off at 0 and 1, through which gradients pass as if they were not: no pixel gets stuck out there."""
    return pictures + (pictures.clamp(0, 1) - pictures).detach()
