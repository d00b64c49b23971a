"""How to train: the options, what they say of the learning rate, and the optimiser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.device import DTYPES

Tower = Literal["image", "text"]
_SEEDS = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How to train.

    Attributes:
        steps: the budget; either this or `minutes`.
        minutes: the budget in minutes of training, over all resumed parts. How many steps that makes, and so the
            result, depends on the machine.
        learning_rate: at its highest; it rises from nothing over the share `warmup` of the budget, stays until the
            share `plateau`, and falls to nothing along a cosine.
        warmup: see `learning_rate`.
        plateau: see `learning_rate`.
        weight_decay: AdamW's, for matrices only.
        loss: "info_nce" (CLIP's) or "sigmoid" (SigLIP's).
        chunk: how many items go through a tower at once; the gradients are still those of the whole batch. None: all.
        precision: what the towers compute in: "float32", "bfloat16" or "float16". Weights and losses stay float32.
        freeze: the towers that stay as they are; ("image",) is LiT (Zhai et al., 2022).
        average: the decay of an exponential average of the weights, which then is what training gives; 0 for none.
        image_weight: of a further InfoNCE between images of one concept; 0 for none.
        image_scale: the inverse temperature of that.
        clip_norm: gradients longer than this are shortened to it.
        max_scale: the highest inverse temperature that can be learnt; of a model that starts higher, as SigLIP's do,
            the one it starts with.
        checkpoint_minutes: how often the state is written.
        judge_every: after how many steps the judge is asked.
        patience: stop after so many judgements without a better one; None: never.
        keep_best: give the weights that the judge found best instead of the last.
        seed: of dropout, from 0 to 2**32 - 1; what is in the batches is up to them.
        device: "auto" or a name of torch's.
    """

    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 1e-4
    warmup: float = 0.05
    plateau: float = 0.4
    weight_decay: float = 0.1
    loss: Literal["info_nce", "sigmoid"] = "info_nce"
    chunk: int | None = None
    precision: str = "float32"
    freeze: tuple[Tower, ...] = ()
    average: float = 0.0
    image_weight: float = 0.0
    image_scale: float = 10.0
    clip_norm: float = 1.0
    max_scale: float = 100.0
    checkpoint_minutes: float = 3.0
    judge_every: int = 100
    patience: int | None = None
    keep_best: bool = True
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError(f"Give steps or minutes, not both: got {self.steps!r} and {self.minutes!r}.")
        _check("steps or minutes", self.steps or self.minutes or 0, above=0)
        for name in ("learning_rate", "clip_norm", "max_scale", "image_scale", "checkpoint_minutes", "judge_every"):
            _check(name, getattr(self, name), above=0)
        for name in ("chunk", "patience"):
            _check(name, 1 if getattr(self, name) is None else getattr(self, name), above=0)
        if not 0 <= self.warmup <= self.plateau <= 1:
            raise ConfigError(f"0 <= warmup <= plateau <= 1 must hold, got {self.warmup!r} and {self.plateau!r}.")
        if not 0 <= self.average < 1:
            raise ConfigError(f"average must be at least 0 and below 1, got {self.average!r}.")
        if self.loss not in ("info_nce", "sigmoid"):
            raise ConfigError(f"loss must be 'info_nce' or 'sigmoid', got {self.loss!r}.")
        if self.precision not in DTYPES:
            raise ConfigError(f"precision must be one of {', '.join(map(repr, DTYPES))}, got {self.precision!r}.")
        if not 0 <= self.seed < _SEEDS:
            raise ConfigError(f"seed must be at least 0 and below {_SEEDS:,}, got {self.seed!r}.")
        if not set(self.freeze) < {"image", "text"}:
            raise ConfigError(f"freeze may name 'image' or 'text', not both, got {self.freeze!r}.")

    def share(self, step: int, seconds: float) -> float:
        """How much of the budget is used after so many steps, and seconds of training."""
        if self.steps is not None:
            return step / self.steps
        assert self.minutes is not None
        return seconds / (60.0 * self.minutes)

    def rate(self, share: float) -> float:
        """The learning rate where that share of the budget is used."""
        rising = min(1.0, (share + 1e-3) / self.warmup) if self.warmup else 1.0
        falling = max(0.0, share - self.plateau) / max(1e-9, 1 - self.plateau)
        return self.learning_rate * min(rising, 0.5 * (1 + math.cos(math.pi * min(1.0, falling))))


def adamw(trained: Sequence[Tensor], options: TrainingOptions) -> torch.optim.AdamW:
    """AdamW over weights, whose matrices alone decay."""
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    others = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98))


def _check(name: str, value: float, *, above: float) -> None:
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value > above):
        raise ConfigError(f"{name} must be a number above {above}, got {value!r}.")
