"""Pictures to training input: random place and background for all, another drawing style for some."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

MEAN = STD = 0.5
SIDE = 96


def augment(pictures: Tensor, rng: torch.Generator, restyled: float = 0.6) -> Tensor:
    """Augment a batch of drawn icons.

    Args:
        pictures: uint8 RGBA, shape (n, side, side, 4).
        rng: every random choice is drawn from it.
        restyled: the share that is redrawn in another style (colours, flat areas, outlines, line art).

    Returns:
        float32, shape (n, 3, SIDE, SIDE), normalised as the saved image processor does.
    """
    rgba = pictures.permute(0, 3, 1, 2).float().div(255.0)
    rgba = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)
    rgba = _move(rgba, rng)
    alpha = rgba[:, 3:].clamp(0, 1)
    colour = (rgba[:, :3] / alpha.clamp(min=1e-3)).clamp(0, 1)
    colour = _ink(colour, rng)
    some = torch.rand(len(rgba), generator=rng) < restyled
    if some.any():
        restyled_colour, restyled_alpha = _restyle(colour[some], alpha[some], rng)
        colour[some], alpha[some] = restyled_colour, restyled_alpha
    image = colour * alpha + _background(len(rgba), rng) * (1 - alpha)
    image = _blur(image, _chosen(len(image), 0.1, rng))
    noise = torch.randn(image.shape, generator=rng) * 0.04
    image = image + noise * _chosen(len(image), 0.15, rng)
    return (image.clamp(0, 1) - MEAN) / STD


def _uniform(n: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    return torch.rand(n, generator=rng) * (high - low) + low


def _chosen(n: int, share: float, rng: torch.Generator) -> Tensor:
    """One 0 or 1 for each picture, shape (n, 1, 1, 1)."""
    return (torch.rand(n, 1, 1, 1, generator=rng) < share).float()


def _move(rgba: Tensor, rng: torch.Generator) -> Tensor:
    """Scale, stretch, turn and shift a little, and resample to SIDE pixels. Never mirrors: left is not right."""
    n = len(rgba)
    angle = torch.randn(n, generator=rng).clamp(-2, 2) * math.radians(6)
    scale = _uniform(n, 0.85, 1.3, rng)
    stretch = _uniform(n, 0.93, 1.07, rng)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = angle.cos() * scale * stretch
    theta[:, 0, 1] = -angle.sin() * scale
    theta[:, 1, 0] = angle.sin() * scale
    theta[:, 1, 1] = angle.cos() * scale / stretch
    theta[:, :, 2] = (torch.rand(n, 2, generator=rng) - 0.5) * 0.24
    grid = functional.affine_grid(theta, [n, 4, SIDE, SIDE], align_corners=False)
    return functional.grid_sample(rgba, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _background(n: int, rng: torch.Generator) -> Tensor:
    """White for most, a pale or any colour for the others; shape (n, 3, 1, 1)."""
    tint = torch.rand(n, 3, 1, 1, generator=rng)
    pale = 1 - 0.25 * tint
    kind = torch.rand(n, 1, 1, 1, generator=rng)
    return torch.where(kind < 0.65, torch.ones_like(tint), torch.where(kind < 0.85, pale, tint))


def _ink(colour: Tensor, rng: torch.Generator) -> Tensor:
    """Another ink for half of the pictures that are all black."""
    n = len(colour)
    black = (colour.flatten(1).amax(1) < 0.02).float().view(n, 1, 1, 1)
    ink = torch.rand(n, 3, 1, 1, generator=rng).expand_as(colour)
    return torch.lerp(colour, ink, black * _chosen(n, 0.5, rng))


def _blur(image: Tensor, mask: Tensor) -> Tensor:
    return torch.lerp(image, functional.avg_pool2d(image, 3, 1, 1, count_include_pad=False), mask)


def _edges(values: Tensor, size: int) -> Tensor:
    """The morphological gradient: where values within `size` pixels differ."""
    highest = functional.max_pool2d(values, size, 1, size // 2)
    lowest = -functional.max_pool2d(-values, size, 1, size // 2)
    return highest - lowest


def _restyle(colour: Tensor, alpha: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    n = len(colour)
    flat = _chosen(n, 0.4, rng)
    levels = _uniform(n, 2, 6, rng).round().view(n, 1, 1, 1)
    smooth = functional.avg_pool2d(colour, 3, 1, 1, count_include_pad=False)
    colour = torch.lerp(colour, (smooth * levels).round() / levels, flat)

    # Edges come from the colours before they are changed, so that outlines stay when everything turns white.
    thin = _edges(colour * alpha + (1 - alpha), 3).amax(1, keepdim=True)
    inner = ((thin - 0.25) * 4).clamp(0, 1)
    reach = functional.max_pool2d(alpha, 3, 1, 1)
    rim = _edges(alpha, 3) * reach

    mix = torch.eye(3) + torch.randn(n, 3, 3, generator=rng) * 0.12
    mixed = torch.einsum("nij,njhw->nihw", mix, colour)
    gain, shift = _uniform(n, 0.7, 1.3, rng).view(n, 1, 1, 1), _uniform(n, -0.15, 0.2, rng).view(n, 1, 1, 1)
    colour = torch.lerp(colour, (mixed - 0.5) * gain + 0.5 + shift, _chosen(n, 0.6, rng)).clamp(0, 1)
    grey = colour.mean(1, keepdim=True).expand_as(colour)
    colour = torch.lerp(colour, grey, _chosen(n, 0.1, rng))

    # A drawing with outlines, and at its far end line art: the areas fade to white and only the lines stay.
    outlined = _chosen(n, 0.6, rng)
    faded = outlined * _chosen(n, 0.3, rng) * _uniform(n, 0.4, 1.0, rng).view(n, 1, 1, 1)
    colour = torch.lerp(colour, torch.ones_like(colour), faded)
    inner_share = torch.maximum(_uniform(n, 0.0, 1.0, rng).view(n, 1, 1, 1), faded)
    ink = torch.maximum(inner * inner_share, rim.clamp(0, 1)) * outlined
    ink_colour = torch.rand(n, 3, 1, 1, generator=rng) * _uniform(n, 0.0, 0.25, rng).view(n, 1, 1, 1)
    colour = torch.lerp(colour, ink_colour.expand_as(colour), ink)
    return colour, torch.maximum(alpha, reach * outlined)
