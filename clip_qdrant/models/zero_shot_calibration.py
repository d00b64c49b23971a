"""Calibration: a probability of 0.8 should be right eight times in ten, and "none of these" should have a limit.

A model's own logit scale is what made its training loss small, over large batches of captions. On other pictures it is
mostly too sure. One number, the temperature, found on a few labelled inputs, mends much of that without changing which
label is best (Guo et al., "On Calibration of Modern Neural Networks", 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FEWEST = 10
"""Labelled inputs for a calibration; a hundred make a better one."""

_STEPS = np.linspace(np.log(1 / 50), np.log(50), 81)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a calibration did to the inputs it was made on.

    Attributes:
        count: how many inputs had an answer among the labels.
        error_before: expected calibration error with the model's own scale.
        error_after: and with the temperature found.
        loss_before: negative log likelihood of the answers' being right, per input; with `multi_label` of all labels.
        loss_after: and with the temperature found.
    """

    count: int
    error_before: float
    error_after: float
    loss_before: float
    loss_after: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What makes probabilities of cosines beside the model's own scale, and when there is no answer.

    Attributes:
        temperature: logits are divided by it; above 1 is less sure.
        shift: added to logits of which each is judged for itself (sigmoid), after the division.
        threshold: the least probability of an answer; None for no such limit. For many labels None is 0.5.
        least_cosine: the least cosine of an answer, or None.
        least_margin: how far the best probability must be ahead of the next, or None.
        measured: what it did where it was found, or None for one that was given.

    Raises:
        ConfigError: a number out of its range, or NaN.
    """

    temperature: float = 1.0
    shift: float = 0.0
    threshold: float | None = None
    least_cosine: float | None = None
    least_margin: float | None = None
    measured: Measured | None = None

    def __post_init__(self) -> None:
        ranges = {"temperature": (1e-6, 1e6), "shift": (-1e6, 1e6)}
        limits = {"threshold": (0.0, 1.0), "least_cosine": (-1.0, 1.0), "least_margin": (0.0, 1.0)}
        for name, (low, high) in (ranges | limits).items():
            value = getattr(self, name)
            if value is None and name in limits:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not low <= value <= high:
                raise ConfigError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}.")

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_dict`."""
        measured = data.get("measured")
        return cls(**{**data, "measured": None if measured is None else Measured(**measured)})


def expected_calibration_error(probability: ArrayLike, right: ArrayLike, bins: int = 15) -> float:
    """The mean difference between how sure and how right answers are, over bins of equal width.

    Args:
        probability: of each answer, shape (n,), in [0, 1].
        right: whether it is right, shape (n,).
        bins: how many.

    Returns:
        From 0, well calibrated, to 1.

    Raises:
        ConfigError: nothing given, shapes differ, or a probability that is none.
    """
    sure = np.asarray(probability, dtype=np.float64)
    correct = np.asarray(right, dtype=bool)
    if sure.ndim != 1 or sure.shape != correct.shape or not len(sure):
        raise ConfigError(f"probability and right must be two rows of one length, got {sure.shape} and {correct.shape}")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise ConfigError("probability has a value that is not in [0, 1]")
    if bins < 1:
        raise ConfigError(f"bins must be at least 1, got {bins!r}")
    index = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = np.bincount(index, weights=sure - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(sure))


def fit_temperature(loss: Callable[[float], float], count: int) -> float:
    """The temperature with the least loss, by search over its logarithm from 1/50 to 50.

    Where all answers are right, the likelihood is best at a temperature of 0, which no few inputs can justify. So there
    is a prior, a normal distribution of the logarithm about the model's own scale, that weighs as much as one input.

    Args:
        loss: the negative log likelihood per input at a temperature.
        count: how many inputs.
    """

    def posterior(step: float) -> float:
        return loss(float(np.exp(step))) + step * step / (2 * count)

    best = int(np.argmin([posterior(step) for step in _STEPS]))
    low, high = _STEPS[max(0, best - 1)], _STEPS[min(len(_STEPS) - 1, best + 1)]
    golden = (np.sqrt(5) - 1) / 2
    while high - low > 1e-4:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if posterior(left) < posterior(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def fit_line(logits: NDArray[np.float64], answers: NDArray[np.bool_]) -> tuple[float, float]:
    """Temperature and shift of logits that are each judged for itself (Platt, 1999), by Newton's method.

    The targets are Platt's: short of 0 and 1 by what so many inputs can tell, so that the slope stays finite.

    Raises:
        ConfigError: the logits say nothing about the answers, or the wrong way round.
    """
    x, yes = logits.ravel(), answers.ravel()
    positive, negative = int(yes.sum()), int((~yes).sum())
    target = np.where(yes, (positive + 1) / (positive + 2), 1 / (negative + 2))
    centre, spread = x.mean(), max(float(x.std()), 1e-12)
    design = np.stack([(x - centre) / spread, np.ones_like(x)])
    line = np.array([0.0, np.log((positive + 1) / (negative + 1))])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(line @ design, -500, 500)))
        curvature = (design * (p * (1 - p))) @ design.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, design @ (p - target))
        step *= min(1.0, 2 / float(np.abs(step).max() + 1e-12))  # far from the best, a whole step would leap over it
        line -= step
        if np.abs(step).max() < 1e-8:
            break
    slope, height = line[0] / spread, line[1] - line[0] * centre / spread
    if slope <= 1e-6:
        raise ConfigError("The labels are no more like their own inputs than like others: nothing to calibrate.")
    return float(1 / slope), float(height)


def separation(score: NDArray[np.float64], good: NDArray[np.bool_]) -> float:
    """The chance that a good one scores above a bad one (AUROC); ties count half."""
    order, counts = np.unique(score, return_inverse=True)[1], np.unique(score, return_counts=True)[1]
    rank = (np.cumsum(counts) - (counts - 1) / 2)[order]
    positive, negative = int(good.sum()), int((~good).sum())
    return float((rank[good].sum() - positive * (positive + 1) / 2) / (positive * negative))


def fit_limit(score: NDArray[np.float64], good: NDArray[np.bool_], precision: float | None) -> float:
    """The least score of an answer: good ones reach it, bad ones do not.

    Args:
        score: of each answer.
        good: whether it should be given; of both kinds there is at least one.
        precision: the lowest limit above which this share is good; None for what tells the two kinds apart best
            (Youden's index).

    Raises:
        ConfigError: no limit has that precision.
    """
    order = np.argsort(-score, kind="stable")
    ranked, right = score[order], good[order]
    last = np.append(ranked[1:] < ranked[:-1], True)  # a limit takes all of one score, or none
    kept, hits = np.arange(1, len(ranked) + 1), np.cumsum(right)
    if precision is None:
        quality = hits / right.sum() - (kept - hits) / (~right).sum()
        best = int(np.argmax(np.where(last, quality, -np.inf)))
    else:
        enough = last & (hits / kept >= precision)
        if not enough.any():
            raise ConfigError(f"No limit makes {precision:.0%} of the answers right. Ask for less, or better labels.")
        best = int(np.flatnonzero(enough)[-1])
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best]
    middle = (ranked[best] + below) / 2
    return float(middle if middle > below else ranked[best])
