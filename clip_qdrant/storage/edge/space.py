"""What vectors a collection holds, and the refusal of those it cannot hold.

The engine writes an operation to its log before it finds a mistake in it, and replays the mistake after a crash. So
everything is checked here, before the engine sees anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clip_qdrant.errors import ConfigError, InvalidPointError, UnsupportedError
from clip_qdrant.storage.edge.convert_config import dense_vectors
from clip_qdrant.storage.edge.manifest import validate_name
from clip_qdrant.storage.edge.native import edge

if TYPE_CHECKING:
    from qdrant_client import models

_SHORTEST = 1.1920929e-7
"""Below this length the engine does not normalise; it is the epsilon of float32."""

_LARGEST = 3.4028234e38
_LONGEST = 1.8446743e19
"""The largest float32, and its root: the engine adds up squares to normalise."""

_LARGEST_INDEX = 2**32 - 1
_LARGEST_SIZE = 65536


@dataclass(frozen=True)
class VectorSpace:
    """The vectors of a collection, by name; the unnamed one has the name "".

    Attributes:
        collection: its name, for messages.
        dense: dense vectors, one or many ("multivector") a point.
        sparse: names of the sparse vectors.
    """

    collection: str
    dense: Mapping[str, models.VectorParams]
    sparse: frozenset[str]

    @classmethod
    def from_config(cls, collection: str, config: models.CreateCollection) -> VectorSpace:
        """The vectors of a definition.

        Raises:
            ConfigError: a name or a size that a server would refuse.
            UnsupportedError: no vectors at all.
        """
        dense = dense_vectors(config)
        sparse = frozenset(config.sparse_vectors or ())
        if not dense and not sparse:
            raise UnsupportedError(
                f"Collection {collection!r} would have no vectors, which the embedded engine cannot store. "
                "Give it at least one, or use a Qdrant server."
            )
        both = sorted(dense.keys() & sparse)
        if both:
            raise ConfigError(f"Vector {both[0]!r} of collection {collection!r} is both dense and sparse. Rename one.")
        for name in [*dense, *sparse]:
            if name or name in sparse:
                validate_name(name, "Vector")
        for name, params in dense.items():
            if not 1 <= params.size <= _LARGEST_SIZE:
                raise ConfigError(f"Vector {name!r} has size {params.size}. Use 1 to {_LARGEST_SIZE}.")
        return cls(collection, dense, sparse)

    def is_multi(self, name: str) -> bool:
        """Whether points hold many dense vectors under that name."""
        return name in self.dense and self.dense[name].multivector_config is not None

    def check_name(self, name: str, where: str = "") -> None:
        """Refuse a name that the collection does not have."""
        if name not in self.dense and name not in self.sparse:
            known = ", ".join(repr(known) for known in [*self.dense, *sorted(self.sparse)])
            raise InvalidPointError(
                f"{where}Not existing vector name error: collection {self.collection!r} has no vector {name!r}. "
                f"It has {known} ('' is the unnamed one)."
            )

    def check_batch(self, name: str, vectors: Sequence[Any], where: Sequence[str]) -> None:
        """Refuse a batch of vectors to store if any of it cannot be stored.

        Args:
            name: a dense or sparse vector of the collection.
            vectors: what the points bring for it.
            where: for each, how a message names its point.
        """
        if name in self.sparse:
            for vector, point in zip(vectors, where, strict=True):
                self._check_sparse(name, vector, point)
        elif self.is_multi(name):
            for vector, point in zip(vectors, where, strict=True):
                rows = list(vector) if isinstance(vector, (list, np.ndarray)) else []
                if not rows:
                    self._refuse(point, name, "must be a non-empty list of vectors")
                self._check_dense(name, rows, [point] * len(rows))
        else:
            self._check_dense(name, vectors, where)

    def query_vector(self, name: str, vector: Any) -> Any:
        """A vector to search with, as the engine takes it. Unlike a stored one it may be zero."""
        self.check_name(name)
        query = "The query"
        if name in self.sparse:
            self._check_sparse(name, vector, query)
            return edge.SparseVector(list(vector.indices), list(vector.values))
        rows = [*vector] if self.is_multi(name) and isinstance(vector, (list, np.ndarray)) else [vector]
        if self.is_multi(name) and (not rows or np.isscalar(rows[0])):
            rows = [rows] if rows else self._refuse(query, name, "must be a non-empty list of vectors")
        self._check_dense(name, rows, [query] * len(rows), zero_allowed=True)
        plain = [row.tolist() if isinstance(row, np.ndarray) else row for row in rows]
        return plain if self.is_multi(name) else plain[0]

    def _check_dense(self, name: str, vectors: Sequence[Any], where: Sequence[str], zero_allowed: bool = False) -> None:
        size, is_cosine = self.dense[name].size, self.dense[name].distance.value == "Cosine"
        for vector, point in zip(vectors, where, strict=True):
            if not isinstance(vector, (list, tuple, np.ndarray)):
                self._refuse(point, name, f"is dense, got {type(vector).__name__}")
            if len(vector) != size:
                self._refuse(
                    point,
                    name,
                    f"has {size} dimensions, got {len(vector)} (Vector dimension error: expected dim: {size})",
                )
            length = _length(vector)
            if length is None:
                self._refuse(point, name, "must be a flat list of numbers")
            elif not length <= _LARGEST and not _fits_float32(vector):
                self._refuse(point, name, "holds a NaN, an infinity or a number beyond float32")
            elif is_cosine and (length > _LONGEST or (length <= _SHORTEST and not zero_allowed)):
                self._refuse(point, name, f"has no direction to compare by cosine: its length is {length:g}")

    def _check_sparse(self, name: str, vector: Any, point: str) -> None:
        if not hasattr(vector, "indices") or not hasattr(vector, "values"):
            self._refuse(point, name, f"is sparse, got {type(vector).__name__}. Use models.SparseVector")
        indices, values = vector.indices, vector.values
        if len(indices) != len(values):
            self._refuse(point, name, f"has {len(indices)} indices, but {len(values)} values")
        if len(set(indices)) != len(indices):
            self._refuse(point, name, "must have unique indices")
        if indices and not 0 <= min(indices) <= max(indices) <= _LARGEST_INDEX:
            self._refuse(point, name, f"has an index outside of 0 to {_LARGEST_INDEX}")
        if not np.isfinite(np.asarray(values, dtype=np.float32)).all():
            self._refuse(point, name, "holds a NaN, an infinity or a number beyond float32")

    def _refuse(self, point: str, name: str, why: str) -> Any:
        called = f"vector {name!r}" if name else "the vector"
        raise InvalidPointError(
            f"{point}: {called} of collection {self.collection!r} {why}. Nothing was written; correct it and try again."
        )


def _length(vector: Any) -> float | None:
    """The Euclidean length, NaN or infinite where a number is; None where one is not a number."""
    try:
        # For a list four times faster than numpy, which would have to copy it.
        return float(np.linalg.norm(vector.astype(np.float64))) if _is_row(vector) else math.hypot(*vector)
    except (ValueError, TypeError, OverflowError):
        return None


def _is_row(vector: Any) -> bool:
    return isinstance(vector, np.ndarray) and vector.ndim == 1


def _fits_float32(vector: Any) -> bool:
    with np.errstate(over="ignore"):  # what overflows becomes infinite
        return bool(np.isfinite(np.asarray(vector, dtype=np.float32)).all())
