"""A classifier's calibration, found on labelled inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.zero_shot_calibration import (
    FEWEST,
    Calibration,
    Measured,
    expected_calibration_error,
    fit_limit,
    fit_line,
    fit_temperature,
    separation,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clip_qdrant.models.zero_shot_answers import Judge
    from clip_qdrant.models.zero_shot_tree import LabelTree
    from clip_qdrant.types import Vectors

Answer: TypeAlias = "str | Sequence[str] | Sequence[str | Sequence[str]] | None"
"""A label's name, its path in a tree, with `multi_label` a list of labels; None for none of them."""


def calibrate(judge: Judge, vectors: Vectors, answers: Sequence[Answer], precision: float | None) -> Calibration:
    """Temperature (and shift, for sigmoids) with the least loss, then the limit for "none of these".

    Args:
        judge: without a calibration.
        vectors: of the labelled inputs, (n, dim).
        answers: of each.
        precision: see `fit_limit`.

    Raises:
        ConfigError: inputs that cannot tell.
    """
    if isinstance(answers, str) or len(answers) != len(vectors):
        raise ConfigError(f"There must be one answer for each input, got {len(answers)} for {len(vectors)}.")
    if precision is not None and not 0 < precision <= 1:
        raise ConfigError(f"precision must be above 0 and at most 1, got {precision!r}.")
    wanted = _wanted(judge.tree, answers, judge.multi_label)
    known = wanted.any(axis=1)
    held = int(wanted.any(axis=0).sum())
    if known.sum() < FEWEST or held < 2:
        raise ConfigError(
            f"A calibration takes at least {FEWEST} inputs of at least 2 labels, got {known.sum()} of {held}. "
            "Label a few more."
        )
    cosines, logits = judge.logits(vectors)
    if judge.multi_label:
        return _many(judge, logits, wanted, precision)
    return _single(judge, cosines, logits, wanted, precision)


def _single(
    judge: Judge,
    cosines: NDArray[np.float32],
    logits: NDArray[np.float64],
    wanted: NDArray[np.bool_],
    precision: float | None,
) -> Calibration:
    leaves, known = judge.tree.leaves, wanted.any(axis=1)

    def logs(temperature: float, shift: float) -> NDArray[np.float64]:
        return judge.calibrated(logits, temperature, shift)[:, leaves]

    if judge.sigmoid:
        temperature, shift = _line(judge, logits, wanted)
    else:
        temperature, shift = fit_temperature(lambda t: _answer_loss(logs(t, 0.0), wanted), int(known.sum())), 0.0
    before, after = logs(1.0, 0.0), logs(temperature, shift)
    best, rows = after.argmax(axis=1), np.arange(len(after))
    right = wanted[rows, best]
    measured = Measured(
        int(known.sum()),
        expected_calibration_error(np.exp(before.max(axis=1))[known], wanted[rows, before.argmax(axis=1)][known]),
        expected_calibration_error(np.exp(after.max(axis=1))[known], right[known]),
        _answer_loss(before, wanted),
        _answer_loss(after, wanted),
    )
    if right.all() or not right.any():
        return Calibration(temperature, shift, measured=measured)
    sure, near = np.exp(after[rows, best]), cosines[rows, leaves[best]].astype(np.float64)
    if separation(sure, right) >= separation(near, right):
        return Calibration(temperature, shift, threshold=fit_limit(sure, right, precision), measured=measured)
    return Calibration(temperature, shift, least_cosine=fit_limit(near, right, precision), measured=measured)


def _many(judge: Judge, logits: NDArray[np.float64], wanted: NDArray[np.bool_], precision: float | None) -> Calibration:
    leaves = judge.tree.leaves
    temperature, shift = _line(judge, logits, wanted)
    before, after = (judge.calibrated(logits, t, s)[:, leaves] for t, s in ((1.0, 0.0), (temperature, shift)))
    sure = np.exp(after).ravel()
    measured = Measured(
        int(wanted.any(axis=1).sum()),
        *(expected_calibration_error(np.exp(found).ravel(), wanted.ravel()) for found in (before, after)),
        *(_binary_loss(found, wanted) for found in (before, after)),
    )
    threshold = fit_limit(sure, wanted.ravel(), precision) if precision is not None else _best_f1(sure, wanted.ravel())
    return Calibration(temperature, shift, threshold=threshold, measured=measured)


def _line(judge: Judge, logits: NDArray[np.float64], wanted: NDArray[np.bool_]) -> tuple[float, float]:
    if not judge.tree.is_flat:
        raise ConfigError(
            "Sigmoids down a tree cannot be calibrated. Use activation='softmax', or labels without children."
        )
    return fit_line(logits, wanted)


def _best_f1(sure: NDArray[np.float64], good: NDArray[np.bool_]) -> float:
    """The limit with the best F1; negatives are so many more that Youden's index would let hundreds of them through."""
    order = np.argsort(-sure, kind="stable")
    hits, kept = np.cumsum(good[order]), np.arange(1, len(order) + 1)
    return float(sure[order][np.argmax(2 * hits / (kept + good.sum()))])


def _answer_loss(logs: NDArray[np.float64], wanted: NDArray[np.bool_]) -> float:
    """Negative log likelihood of the best labels' being right or wrong, per input that has an answer.

    Not that of the right labels: it is the answer whose probability people read, and how a probability is shared out
    among a thousand labels that are not the answer says little of that.
    """
    known = wanted.any(axis=1)
    logs, wanted = logs[known], wanted[known]
    best = logs.argmax(axis=1)[:, None]
    right, sure = np.take_along_axis(wanted, best, 1), np.take_along_axis(logs, best, 1)
    return -float(np.where(right, sure, np.log(np.maximum(-np.expm1(sure), 1e-300))).mean())


def _binary_loss(logs: NDArray[np.float64], wanted: NDArray[np.bool_]) -> float:
    """Negative log likelihood of all yes and no, per input."""
    nos = np.log(np.maximum(-np.expm1(logs), 1e-300))
    return -float(np.where(wanted, logs, nos).sum(axis=1).mean())


def _wanted(tree: LabelTree, answers: Sequence[Answer], multi_label: bool) -> NDArray[np.bool_]:
    """Which leaves are right, boolean (n, leaves)."""
    wanted = np.zeros((len(answers), len(tree.leaves)), bool)
    for row, answer in zip(wanted, answers, strict=True):
        if answer is None:
            continue
        if multi_label and isinstance(answer, str):
            raise ConfigError(f"With multi_label an answer is a list of labels, got {answer!r}. Write [{answer!r}].")
        for label in answer if multi_label else [answer]:
            row[tree.column_of(label)] = True  # type: ignore[arg-type]
    return wanted
