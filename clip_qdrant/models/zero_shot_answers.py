"""From vectors to answers: cosines, logits, probabilities, and what is said when none of them is enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.zero_shot_calibration import Calibration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clip_qdrant.models.zero_shot_tree import Coarse, LabelTree
    from clip_qdrant.types import Vectors

Kind = Literal["image", "text"]


@dataclass(frozen=True, slots=True)
class Score:
    """How well one label fits.

    Attributes:
        label: its name.
        probability: from 0 to 1; in a tree the product from the top down.
        cosine: between the input and the label's prototype.
        path: the names from the coarsest down to its own.
    """

    label: str
    probability: float
    cosine: float
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer for one input.

    Attributes:
        index: which of the inputs it is for, from 0.
        scores: the best labels, best first; in a tree its leaves.
        margin: by how much the best probability is ahead of the next; the probability itself where there is one label.
        labels: what holds: one label, or with `multi_label` any number of those in `scores`; none when abstained.
        abstained: whether none holds ("none of these").
    """

    index: int
    scores: tuple[Score, ...]
    margin: float
    labels: tuple[Score, ...]
    abstained: bool

    @property
    def label(self) -> str | None:
        """The name of the best label that holds, or None."""
        return self.labels[0].label if self.labels else None


@dataclass(frozen=True, slots=True)
class Judge:
    """All that decides, beside the input.

    Attributes:
        tree: the labels.
        prototypes: unit float32 (nodes + 1, dim), the background last.
        scale: what cosines are multiplied by.
        bias: what is added to them, 0.0 for none.
        sigmoid: each label for itself, rather than a softmax.
        coarse: what a label with children goes by.
        multi_label: any number of labels may hold.
        calibration: temperature and limits.
        top_k: how many labels an answer has, or None for all.
    """

    tree: LabelTree
    prototypes: Vectors
    scale: float
    bias: float
    sigmoid: bool
    coarse: Coarse
    multi_label: bool
    calibration: Calibration
    top_k: int | None

    def logits(self, vectors: Vectors) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Cosines and logits (n, nodes), by the model's own scale."""
        cosines = vectors @ self.prototypes.T
        logits = self.scale * cosines[:, :-1].astype(np.float64)
        if self.sigmoid:
            logits += self.bias if self.bias else -self.scale * cosines[:, -1:]
        return cosines[:, :-1], logits

    def log_probabilities(self, vectors: Vectors) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Cosines and logarithms of probabilities (n, nodes)."""
        cosines, logits = self.logits(vectors)
        return cosines, self.calibrated(logits, self.calibration.temperature, self.calibration.shift)

    def calibrated(self, logits: NDArray[np.float64], temperature: float, shift: float) -> NDArray[np.float64]:
        """Logarithms of probabilities (n, nodes) at a temperature."""
        judged = logits / temperature + (shift if self.sigmoid else 0.0)
        return self.tree.log_probabilities(judged, sigmoid=self.sigmoid, coarse=self.coarse)

    def judge_all(self, batches: Iterable[tuple[Sequence[int], Vectors]]) -> Iterator[Classification]:
        """An answer for each row of each batch, with its index."""
        for indices, vectors in batches:
            yield from self._judge(indices, vectors)

    def _judge(self, indices: Sequence[int], vectors: Vectors) -> Iterator[Classification]:
        cosines, logs = self.log_probabilities(vectors)
        probabilities, leaves = np.exp(logs), self.tree.leaves
        of_leaves = probabilities[:, leaves]
        ranked = leaves[_best(of_leaves, max(2, self.top_k or len(leaves)))]
        for index, best, p, cosine in zip(indices, ranked.tolist(), probabilities, cosines, strict=True):
            margin = float(p[best[0]] - (p[best[1]] if len(best) > 1 else 0.0))
            scores = tuple(self._score(node, p, cosine) for node in best[: self.top_k])
            if self.multi_label:
                held = tuple(score for score in scores if self._holds(score, 0.5))
            else:
                held = self._chosen(best, margin, p, cosine)
            yield Classification(index, scores, margin, held, not held)

    def _chosen(
        self, best: list[int], margin: float, p: NDArray[np.float64], cosine: NDArray[np.float32]
    ) -> tuple[Score, ...]:
        """The best leaf, or the finest label above it that reaches the limits, if any does."""
        limit = self.calibration.least_margin
        unsure = set(self._upwards(best[1])) if limit is not None and len(best) > 1 and margin < limit else None
        for node in self._upwards(best[0]):
            score = self._score(node, p, cosine)
            # Where the best two are too near each other, only what they have in common can hold.
            if self._holds(score, 0.0) and (unsure is None or node in unsure):
                return (score,)
        return ()

    def _upwards(self, node: int) -> Iterator[int]:
        while node >= 0:
            yield node
            node = int(self.tree.parents[node])

    def _holds(self, score: Score, default: float) -> bool:
        threshold, cosine = self.calibration.threshold, self.calibration.least_cosine
        if score.probability < (default if threshold is None else threshold):
            return False
        return cosine is None or score.cosine >= cosine

    def _score(self, node: int, p: NDArray[np.float64], cosine: NDArray[np.float32]) -> Score:
        path = self.tree.paths[node]
        return Score(path[-1], float(p[node]), float(cosine[node]), path)


def checked_kind(kind: str) -> None:
    """Refuse what is no kind of input.

    Raises:
        ConfigError: it is not.
    """
    if kind not in get_args(Kind):
        raise ConfigError(f"kind must be 'image' or 'text', got {kind!r}.")


def calibrations_by_kind(given: Calibration | Mapping[Kind, Calibration] | None) -> dict[Kind, Calibration]:
    """The calibration of each kind of input, from one for both, or some for some.

    Raises:
        ConfigError: an unknown kind, or what is no calibration.
    """
    if given is None or isinstance(given, Calibration):
        both = given or Calibration()
        return {"image": both, "text": both}
    for kind, calibration in given.items():
        checked_kind(kind)
        if not isinstance(calibration, Calibration):
            raise ConfigError(f"calibration must be a Calibration for each kind, got {calibration!r:.80}.")
    return {"image": Calibration(), "text": Calibration(), **given}


def _best(scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """The columns of the k highest of each row, highest first."""
    if k >= scores.shape[1]:
        return np.argsort(-scores, axis=1, kind="stable")
    found = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)  # by column, so that ties keep their order
    order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)
