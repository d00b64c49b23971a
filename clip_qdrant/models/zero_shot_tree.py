"""A tree of labels laid out in a row, and how probabilities go down it: a flat list is a tree of one level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clip_qdrant.models.zero_shot_labels import Label

Coarse = Literal["below", "words"]
"""What a label with children goes by: all that is below it, or what is said of itself."""


class LabelTree:
    """The labels of a tree, level by level, siblings side by side.

    Attributes:
        nodes: all labels, coarse and fine.
        paths: of each its name and the names above it, coarse first.
        parents: of each the index of the one above it, -1 at the top.
        leaves: the indices of those with none below.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self.nodes: list[Label] = []
        self.paths: list[tuple[str, ...]] = []
        parents: list[int] = []
        starts: list[int] = []
        self._levels: list[slice] = []
        families: list[tuple[int, Sequence[Label]]] = [(-1, labels)]
        while families:
            first, below = len(self.nodes), []
            for parent, siblings in families:
                starts.append(len(self.nodes))
                for label in siblings:
                    self.paths.append((*(self.paths[parent] if parent >= 0 else ()), label.name))
                    if label.children:
                        below.append((len(self.nodes), label.children))
                    self.nodes.append(label)
                    parents.append(parent)
            self._levels.append(slice(first, len(self.nodes)))
            families = below
        self.parents: NDArray[np.int64] = np.array(parents, np.int64)
        self.leaves: NDArray[np.int64] = np.setdiff1d(np.arange(len(parents)), self.parents)
        self._starts = np.array(starts)
        self._family = np.searchsorted(self._starts, np.arange(len(parents)), side="right") - 1
        self._columns = self._columns_by_answer()

    @property
    def is_flat(self) -> bool:
        """Whether there is but one level."""
        return len(self._levels) == 1

    def log_probabilities(self, logits: NDArray[np.float64], *, sigmoid: bool, coarse: Coarse) -> NDArray[np.float64]:
        """Logarithms of probabilities (n, nodes): each node's among its siblings, times its parent's.

        Args:
            logits: (n, nodes).
            sigmoid: each node for itself; else a softmax among siblings.
            coarse: what a node with children goes by.
        """
        judged = self._gathered(logits) if coarse == "below" else logits
        found: NDArray[np.float64]
        found = -np.logaddexp(0.0, -judged) if sigmoid else judged - self._log_sums(judged, 0)[:, self._family]
        for level in self._levels[1:]:
            found[:, level] += found[:, self.parents[level]]
        return found

    def column_of(self, answer: str | Sequence[str]) -> int:
        """Where among `leaves` a leaf is, by its name or, where two have one name, its path.

        Raises:
            ConfigError: no such leaf, or more than one.
        """
        key = answer if isinstance(answer, str) else tuple(answer)
        columns = self._columns.get(key, [])
        if not columns:
            raise ConfigError(f"There is no label {answer!r} at the end of a branch. Give one of the classifier's own.")
        if len(columns) > 1:
            paths = " and ".join(repr(self.paths[self.leaves[column]]) for column in columns[:2])
            raise ConfigError(f"{answer!r} is the name of {paths}. Give the whole path.")
        return columns[0]

    def _columns_by_answer(self) -> dict[str | tuple[str, ...], list[int]]:
        found: dict[str | tuple[str, ...], list[int]] = {}
        for column, node in enumerate(self.leaves):
            for key in (self.paths[node], self.paths[node][-1]):
                found.setdefault(key, []).append(column)
        return found

    def _gathered(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits in which every node with children has the logarithm of their sum, from the bottom up."""
        found: NDArray[np.float64] = logits.copy()
        for level in reversed(self._levels[1:]):
            families = slice(self._family[level.start], self._family[level.stop - 1] + 1)
            parents = self.parents[self._starts[families]]
            found[:, parents] = self._log_sums(found[:, level], families.start)
        return found

    def _log_sums(self, logits: NDArray[np.float64], first: int) -> NDArray[np.float64]:
        """For every family of some that lie side by side, from the `first` on, the logarithm of its sum."""
        begin = self._starts[first]
        within = (self._starts >= begin) & (self._starts < begin + logits.shape[1])
        starts, family = self._starts[within] - begin, self._family[begin : begin + logits.shape[1]] - first
        peaks = np.maximum.reduceat(logits, starts, axis=1)
        sums: NDArray[np.float64] = peaks + np.log(np.add.reduceat(np.exp(logits - peaks[:, family]), starts, axis=1))
        return sums
