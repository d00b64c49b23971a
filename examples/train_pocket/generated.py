"""What the generators learn from: one concept of each base, in four styles, with the style in the prompt."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from art import load_art, over_white
from concepts import Concept, load_concepts
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

SIDE = 64
STYLES = {"noto": "noto", "twemoji": "twemoji", "fluent-emoji-flat": "flat", "fluent-emoji": "fluent"}
"""Icon set -> what a prompt calls its style."""
TEMPLATES = ("{}, {} style", "a {}, {} style", "a picture of a {}, {} style")
WITHHELD_SHARE = 0.10
_SALT = "pocket-diffusion-1"
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)  # what flags are written with


@dataclass(frozen=True)
class Drawn:
    """Pictures by concept and style.

    Attributes:
        concepts: what they show.
        pictures: uint8 (concepts, styles, SIDE, SIDE, 3), over white, styles in the order of `STYLES`.
        withheld: bool (concepts, styles); pairs that no generator learns from. Each concept keeps two styles or more.
    """

    concepts: list[Concept]
    pictures: NDArray[np.uint8]
    withheld: NDArray[np.bool_]

    @property
    def trained(self) -> NDArray[np.int64]:
        """The pairs to learn from: (n, 2), of concept and style."""
        return np.argwhere(~self.withheld)


def load_drawn(data: Path, cache: Path) -> Drawn:
    """Draw, or read from `cache`, what there is to learn: of each trained base concept the first that all sets draw.

    Flags are left out: they are 258 of 1,400, and a generator would mostly learn flags.
    """
    known = load_concepts(data)
    art = {style: load_art(data, cache, style, known) for style in STYLES}
    common = [one for one in known if not one.held_out and all(one.key in drawn for drawn in art.values())]
    first: dict[str, Concept] = {}
    for one in common:
        if int(one.key.split("-")[0], 16) not in _FLAG_LETTERS:
            first.setdefault(one.base, one)
    concepts = list(first.values())
    pictures = np.stack([np.stack([small(art[style][one.key]) for style in STYLES]) for one in concepts])
    return Drawn(concepts, pictures, np.array([_withheld(one) for one in concepts]))


def small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An RGBA array over white, (SIDE, SIDE, 3)."""
    return np.asarray(over_white(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def prompt(concept: Concept, style: int, template: str = TEMPLATES[1]) -> str:
    """What is asked for: "a red apple, noto style"."""
    return template.format(concept.label, tuple(STYLES.values())[style])


def a_prompt(concept: Concept, style: int, rng: random.Random) -> str:
    """A prompt to learn by: the label in one of the templates."""
    return prompt(concept, style, rng.choice(TEMPLATES))


def _withheld(concept: Concept) -> list[bool]:
    """Of each style whether it is withheld, by a hash; of two the second is kept."""
    drawn = [_share(f"{concept.key}:{style}") < WITHHELD_SHARE for style in STYLES]
    most = 2
    return [out and sum(drawn[:index]) < most for index, out in enumerate(drawn)]


def _share(name: str) -> float:
    digest = hashlib.sha256(f"{_SALT}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def moved(pictures: Tensor, rng: torch.Generator, reach: float = 0.06) -> Tensor:
    """Pictures (n, 3, side, side) in -1 to 1, each shifted and scaled a little; what comes in from outside is white."""
    n = len(pictures)
    theta = torch.zeros(n, 2, 3)
    scale = 1 + (torch.rand(n, generator=rng) * 2 - 1) * reach
    theta[:, 0, 0], theta[:, 1, 1] = scale, scale
    theta[:, :, 2] = (torch.rand(n, 2, generator=rng) * 2 - 1) * reach
    grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
    # Sampled as ink on nothing, so that the padding of zeros is paper.
    return 1 - functional.grid_sample(1 - pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def as_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, side, side, 3) as float32 (n, 3, side, side) in -1 to 1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def as_pictures(tensor: Tensor) -> NDArray[np.uint8]:
    """The reverse of `as_tensor`, rounded and cut off."""
    found: NDArray[np.uint8] = (tensor.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1)).numpy()
    return found


def sheet(rows: NDArray[np.uint8]) -> Image.Image:
    """Pictures (rows, columns, side, side, 3) as one."""
    return Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0))
