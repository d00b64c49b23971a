"""The network of `EmbeddingPainter`: a vector grows into a picture, and is told to it again at every size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize, pixel_shuffle, silu

_FIRST = 4  # the side at which a vector becomes a map


class PainterNetwork(nn.Module):
    """Vectors (n, dim) to pictures (n, 3, side, side), RGB in 0 to 1.

    Args:
        dim: of the vectors.
        side: of the pictures: 8 times a power of two, where `widths` has the power plus one.
        hidden: the width of the layer that the vector enters by.
        widths: of the maps, at sides of 4, 8, 16, … and half of `side`; each a multiple of 8.
    """

    def __init__(self, dim: int, side: int, hidden: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.enter = nn.Linear(dim, hidden)
        self.first = nn.Linear(hidden, widths[0] * _FIRST**2)
        self.blocks = nn.ModuleList([_Block(before, after, hidden) for before, after in pairwise(widths)])
        self.last = nn.Conv2d(widths[-1], 3 * 4, 3, 1, 1)
        self._scale = dim**0.5

    def forward(self, vectors: Tensor) -> Tensor:
        """The pictures of vectors of any length but zero."""
        # Numbers of a unit vector are small; the network wants them around 1.
        hidden = silu(self.enter(normalize(vectors, dim=-1) * self._scale))
        pictures = self.first(hidden).unflatten(1, (-1, _FIRST, _FIRST))
        for block in self.blocks:
            pictures = block(pictures, hidden)
        return pixel_shuffle(self.last(silu(pictures)), 2).sigmoid()


class _Block(nn.Module):
    """Doubles the side: two convolutions and a way around them, the vector scaling and shifting what lies between."""

    def __init__(self, before: int, after: int, hidden: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(8, before), nn.GroupNorm(8, after)])
        self.convolutions = nn.ModuleList([nn.Conv2d(width, after, 3, 1, 1) for width in (before, after)])
        self.around = nn.Conv2d(before, after, 1)
        self.told = nn.Linear(hidden, 2 * after)  # Perez et al., "FiLM", 2018

    def forward(self, pictures: Tensor, hidden: Tensor) -> Tensor:
        pictures = interpolate(pictures, scale_factor=2.0, mode="nearest")
        gain, shift = self.told(hidden)[:, :, None, None].chunk(2, dim=1)
        inner = self.norms[1](self.convolutions[0](silu(self.norms[0](pictures))))
        grown: Tensor = self.around(pictures) + self.convolutions[1](silu(inner * (1 + gain) + shift))
        return grown
