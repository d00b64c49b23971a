"""What a collection is asked with, checked before Qdrant sees it: the same errors over every backend."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from clip_qdrant.errors import CollectionMismatchError, ConfigError, InvalidPointError
from clip_qdrant.storage.point_ids import read_point_id
from clip_qdrant.storage.schema import dense_vectors, stored_fingerprint

if TYPE_CHECKING:
    from qdrant_client import models

_Item = TypeVar("_Item")

_MOST = 2**32 - 1

_KEY = r"""(?:[\w-]+|"[^"]*")(?:\[\d*\])*"""
_FIELD = re.compile(rf"{_KEY}(?:\.{_KEY})*")


@dataclass(frozen=True, slots=True)
class Space:
    """The dense vectors of a collection.

    Attributes:
        collection: its name, for messages.
        sizes: dimension by name.
        sparse: names of the sparse vectors.
        model: whose vectors they are, where that was stored.
    """

    collection: str
    sizes: Mapping[str, int]
    sparse: frozenset[str]
    model: str | None

    @classmethod
    def of(cls, collection: str, info: models.CollectionInfo) -> Space:
        """The vectors of an existing collection; the one without a name has the name ""."""
        fingerprint = stored_fingerprint(info)
        sizes = {name: params.size for name, params in dense_vectors(info).items()}
        sparse = frozenset(info.config.params.sparse_vectors or ())
        return cls(collection, sizes, sparse, fingerprint.model if fingerprint else None)

    def query(self, leg: str, vector: Any) -> list[float]:
        """A vector (dim,) to search with, as Qdrant takes it.

        Raises:
            InvalidPointError: it is not one vector, is zero, or has a NaN.
            CollectionMismatchError: the collection's vectors are of another dimension, or have other names.
        """
        given = _as_floats(vector)
        if given is None or given.ndim != 1:
            shape = f"of shape {given.shape}" if given is not None else f"{vector!r}"
            raise InvalidPointError(f"A query is one vector of numbers, shape (dim,), got one {shape}.")
        if not np.isfinite(given).all() or not given.any():
            raise InvalidPointError("The query's vector is zero or has a NaN; it is near to nothing.")
        self._check_size(leg, given.shape[0], "the query")
        plain: list[float] = given.tolist()
        return plain

    def check_points(self, points: Iterable[models.PointStruct]) -> None:
        """Refuse points with a dense vector that cannot be searched; what is in sparse vectors is left to Qdrant.

        Raises:
            InvalidPointError: a vector is zero, has a NaN, or is not one vector; or something is not a point.
            CollectionMismatchError: a vector is of another dimension, or of a name that there is not.
        """
        from qdrant_client import models

        for point in points:
            if not isinstance(point, models.PointStruct):
                raise InvalidPointError(f"Nothing was written: a point is a models.PointStruct, got {point!r}.")
            vectors = point.vector if isinstance(point.vector, dict) else {"": point.vector}
            for leg in vectors.keys() - self.sizes.keys() - self.sparse:
                self.size(leg)
            for leg in self.sizes.keys() & vectors.keys():
                given, stored = _as_floats(vectors[leg]), f"the vector {leg!r} of point {point.id!r}"
                if given is None or given.ndim != 1 or not np.isfinite(given).all() or not given.any():
                    raise InvalidPointError(f"Nothing was written: {stored} is zero, has a NaN, or is not one vector.")
                self._check_size(leg, given.shape[0], stored)

    def size(self, leg: str) -> int:
        """The dimension of the vectors of one name.

        Raises:
            CollectionMismatchError: there are none of that name.
        """
        if leg not in self.sizes:
            raise CollectionMismatchError(
                f"Collection {self.collection!r} has no vectors {leg!r} but {sorted(self.sizes)}. "
                "Use one of these, or another collection."
            )
        return self.sizes[leg]

    def _check_size(self, leg: str, size: int, whose: str) -> None:
        if size != self.size(leg):
            maker = f" of {self.model!r}" if self.model else ""
            raise CollectionMismatchError(
                f"Collection {self.collection!r} holds {self.sizes[leg]}-d vectors{maker} as {leg!r}, "
                f"but {whose} is {size}-d. Use the model that the collection was made with, or another collection."
            )


def whole_number(name: str, value: int, least: int) -> int:
    """A limit or an offset as a plain int.

    Raises:
        ConfigError: it is not a whole number, or out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= _MOST:
        raise ConfigError(f"{name} must be at least {least}, at most {_MOST}, and a whole number, got {value!r}.")
    return int(value)


def is_finite(value: Any) -> bool:
    """Whether it is a number, and neither infinite nor NaN."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and bool(np.isfinite(value))


def field_name(of: str, value: str) -> str:
    """The name of a payload field, as Qdrant spells it.

    Raises:
        ConfigError: it is not one.
    """
    if not isinstance(value, str) or not _FIELD.fullmatch(value):
        raise ConfigError(
            f'{of} takes the name of a field, such as year, a.b, tags[] or "two words" in quotes; got {value!r}.'
        )
    return value


def point_id(id: str | int) -> str | int:
    """A point's id as Qdrant takes it: an integer, or a UUID in its one spelling. `Hit.id` has integers as digits.

    Raises:
        InvalidPointError: neither.
    """
    read = read_point_id(id)
    if read is None:
        raise InvalidPointError(f"The id {id!r} is neither a UUID nor an unsigned 64-bit integer. Give a `Hit.id`.")
    return read


def point_ids(ids: Sequence[str | int]) -> list[str | int]:
    """Several ids, each as `point_id` has it.

    Raises:
        InvalidPointError: one of them is no id, or one text was given for a list.
    """
    if isinstance(ids, (str, bytes)):
        raise InvalidPointError(f"Ids are a list, got {ids!r}. Put it in brackets.")
    return [point_id(id) for id in ids]


def pages(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """The items in runs of at most `size`: what is asked of a server in one request is kept in bounds."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _as_floats(vector: Any) -> np.ndarray[Any, np.dtype[np.float32]] | None:
    """As float32, or None for what is not numbers."""
    try:
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and refused as that
            return np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError):
        return None
