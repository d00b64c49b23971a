"""What a model cannot do with a set of labels, seen before anybody relies on it.

Four questions: which labels it can hardly tell apart, which labels draw everything, how much hangs on the wording of
the prompt, and whether groups of pictures are labelled differently. Without pictures the labels are compared with each
other, with pictures by what they do to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clip_qdrant.types import Encoder, Vectors

_CLOSE = 0.01
"""Two labels whose cosines with a picture differ by less are not told apart."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two labels.

    Attributes:
        one: a label.
        other: another.
        cosine: between their prototypes.
        shared: the share of the pictures of either whose best two labels they are, less than 0.01 apart; None without
            pictures.
    """

    one: str
    other: str
    cosine: float
    shared: float | None


@dataclass(frozen=True, slots=True)
class LabelAudit:
    """One label.

    Attributes:
        label: its name.
        drawn: the share of the pictures that it is the best label of; without pictures, the share of the other labels
            that it is nearest to.
        pull: `drawn` by what it would be if all labels drew alike; far above 1 it draws what is not its own.
        flips: the share of prompt templates under which another label takes its place: for its pictures, or, without
            any, for the label itself.
    """

    label: str
    drawn: float
    pull: float
    flips: float


@dataclass(frozen=True, slots=True)
class Skew:
    """A label in a group of pictures.

    Attributes:
        group: the group's value.
        label: the label.
        share: of the group's pictures that have it as their best label.
        expected: of all pictures.
        deviation: by how many standard deviations of chance the two differ; beyond 3 it is hardly chance.
        pictures: how many the group has.
    """

    group: str
    label: str
    share: float
    expected: float
    deviation: float
    pictures: int


@dataclass(frozen=True, slots=True)
class Audit:
    """The answers.

    Attributes:
        confusions: the pairs of labels that are hardest to tell apart, worst first.
        labels: every label, the one that pulls most first.
        skews: labels that are given to a group more or less often than to all, furthest from chance first.
        flipped: the share of pictures whose best label hangs on the template; without pictures, the mean of `flips`.
        pictures: how many there were.
        likeness: cosines between the labels' prototypes (n, n), in the order they were given.
        names: that order.
    """

    confusions: list[Confusion]
    labels: list[LabelAudit]
    skews: list[Skew]
    flipped: float
    pictures: int
    likeness: NDArray[np.float32]
    names: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types, without the matrix."""
        told = asdict(self)
        del told["likeness"]
        return told


def audit(
    encoder: Encoder,
    labels: Sequence[str],
    templates: Sequence[str],
    *,
    pictures: Vectors | None = None,
    groups: Sequence[str | None] | None = None,
    most: int = 20,
) -> Audit:
    """Look at a set of labels as a model sees it.

    Args:
        encoder: the model.
        labels: at least two, all different.
        templates: prompts with a {} for the label.
        pictures: unit vectors (n, dim) of pictures such as will be labelled.
        groups: for each picture what group it is of (a camera, a country, a gender), or None for none.
        most: how many confusions and skews to tell at most.

    Raises:
        ConfigError: labels or templates that cannot be used, or groups without pictures.
    """
    names = [label.strip() for label in labels]
    if len(names) < 2 or len(set(names)) < len(names) or not all(names):
        raise ConfigError(f"An audit takes at least two labels, all different and none blank, got {list(labels)[:8]}.")
    if not templates or not all("{}" in template for template in templates):
        raise ConfigError(f"Every template has a {{}} for the label, and there is at least one, got {list(templates)}.")
    if groups is not None and (pictures is None or len(groups) != len(pictures)):
        raise ConfigError("Groups are given for each picture, so there must be as many of one as of the other.")
    if most < 1:
        raise ConfigError(f"most is at least 1, got {most!r}.")
    worded = np.stack([encoder.embed_texts([template.replace("{}", name) for name in names]) for template in templates])
    prototypes = _unit(worded.mean(axis=0))
    seen = prototypes if pictures is None or not len(pictures) else pictures
    alone = seen is prototypes
    scores = seen @ prototypes.T
    best = np.arange(len(names)) if alone else scores.argmax(axis=1)
    flips = np.stack([(seen @ one.T).argmax(axis=1) != best for one in worded])
    return Audit(
        confusions=_confusions(names, prototypes, None if alone else scores, most),
        labels=_pulls(names, scores, best, flips, alone),
        skews=[] if groups is None else _skews(names, best, groups, most),
        flipped=float(flips.mean() if alone else flips.any(axis=0).mean()),
        pictures=0 if alone else len(seen),
        likeness=prototypes @ prototypes.T,
        names=names,
    )


def _confusions(
    names: list[str], prototypes: Vectors, scores: NDArray[np.float32] | None, most: int
) -> list[Confusion]:
    likeness = prototypes @ prototypes.T
    ones, others = np.triu_indices(len(names), k=1)
    shared = np.zeros((len(names), len(names)))
    if scores is not None:
        order = np.argsort(-scores, axis=1)[:, :2]
        rows = np.arange(len(scores))
        close = scores[rows, order[:, 0]] - scores[rows, order[:, 1]] < _CLOSE
        np.add.at(shared, (order[close].min(axis=1), order[close].max(axis=1)), 1)
        owned = np.bincount(order[:, 0], minlength=len(names))
        shared /= np.maximum(1, owned[:, None] + owned[None, :])
    ranked = np.lexsort((-likeness[ones, others], -shared[ones, others]))[:most]
    return [
        Confusion(
            names[ones[at]],
            names[others[at]],
            float(likeness[ones[at], others[at]]),
            None if scores is None else float(shared[ones[at], others[at]]),
        )
        for at in ranked
    ]


def _pulls(
    names: list[str], scores: NDArray[np.float32], best: NDArray[Any], flips: NDArray[np.bool_], alone: bool
) -> list[LabelAudit]:
    if alone:  # whose nearest other label is it?
        others = np.where(np.eye(len(names), dtype=bool), -np.inf, scores)
        drawn = np.bincount(others.argmax(axis=1), minlength=len(names)) / len(names)
    else:
        drawn = np.bincount(best, minlength=len(names)) / len(best)
    flipped = [float(flips[:, best == index].mean()) if (best == index).any() else 0.0 for index in range(len(names))]
    told = [
        LabelAudit(name, float(share), float(share * len(names)), flip)
        for name, share, flip in zip(names, drawn, flipped, strict=True)
    ]
    return sorted(told, key=lambda one: -one.pull)


def _skews(names: list[str], best: NDArray[Any], groups: Sequence[str | None], most: int) -> list[Skew]:
    known = np.array([group is not None for group in groups])
    everything = best[known]
    if not len(everything):
        return []
    expected = np.bincount(everything, minlength=len(names)) / len(everything)
    told = []
    for group in sorted({group for group in groups if group is not None}):
        mine = best[np.array([one == group for one in groups])]
        shares = np.bincount(mine, minlength=len(names)) / len(mine)
        # What a sample of this size drawn from all pictures, without repetition, would vary by.
        rest = (len(everything) - len(mine)) / max(1, len(everything) - 1)
        chance = np.sqrt(expected * (1 - expected) / len(mine) * rest)
        told += [
            Skew(group, names[index], float(shares[index]), float(expected[index]), float(deviation), len(mine))
            for index in np.flatnonzero(chance > 0)
            if (deviation := (shares[index] - expected[index]) / chance[index])
        ]
    return sorted(told, key=lambda one: -abs(one.deviation))[:most]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return unit
