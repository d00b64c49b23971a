"""Points, ids and payloads: qdrant-client's models to the engine's, checked, and records back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from clip_qdrant.errors import ConfigError, InvalidPointError
from clip_qdrant.storage.edge.errors import engine_errors
from clip_qdrant.storage.edge.native import edge
from clip_qdrant.storage.edge.space import VectorSpace

if TYPE_CHECKING:
    from qdrant_client import models

DEEPEST_PAYLOAD = 100
"""The engine stores deeper payloads, but cannot read them again (its JSON reader stops at 127)."""

_LARGEST_ID = 2**64 - 1
_LARGEST_INTEGER = 2**63 - 1
_HYPHENATED = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_UUID = re.compile(rf"[0-9a-fA-F]{{32}}|{_HYPHENATED}|\{{{_HYPHENATED}\}}|urn:uuid:{_HYPHENATED}")


def to_edge_id(point_id: Any) -> int | str:
    """An id in its one spelling: an unsigned 64-bit integer, or a lower-case UUID with hyphens.

    Raises:
        InvalidPointError: neither.
    """
    if isinstance(point_id, UUID):
        return str(point_id)
    if isinstance(point_id, str) and _UUID.fullmatch(point_id):
        return str(UUID(point_id))
    if isinstance(point_id, (int, np.integer)) and not isinstance(point_id, bool) and 0 <= point_id <= _LARGEST_ID:
        return int(point_id)
    raise InvalidPointError(
        f"Point id {point_id!r} is not a valid UUID or unsigned 64-bit integer. "
        "Make one with uuid.uuid5 from your own id."
    )


def from_edge_id(point_id: int | UUID) -> int | str:
    """An id as qdrant-client returns it."""
    return point_id if isinstance(point_id, int) else str(point_id)


def to_edge_payload(payload: Any, where: str, above: int = 0) -> dict[str, Any]:
    """A payload in plain JSON types; dates become RFC 3339 texts.

    Args:
        payload: what to store.
        where: how a message names it.
        above: under how many levels of the stored payload it will be.

    Raises:
        InvalidPointError: not JSON: NaN, an unknown type, nested too deep, a lone surrogate.
    """
    if not payload:
        return {}
    if above < DEEPEST_PAYLOAD and _is_plain(payload):
        return dict(payload)
    try:
        text = json.dumps(payload, allow_nan=False, ensure_ascii=False, default=_to_json)
        text.encode()
        if _depth(text, above) > DEEPEST_PAYLOAD:
            raise ValueError(f"it is nested deeper than {DEEPEST_PAYLOAD} levels")
        plain = json.loads(text)
        if not isinstance(plain, dict):
            raise TypeError(f"it must be a mapping, got {type(payload).__name__}")
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidPointError(
            f"{where}: the payload cannot be stored: {error}. Nothing was written; use JSON types, dates and UUIDs."
        ) from error
    return plain


def to_edge_points(space: VectorSpace, points: Sequence[Any]) -> list[Any]:
    """The engine's points for `models.PointStruct`s, all of them checked first.

    Raises:
        InvalidPointError: one of them cannot be stored; says which and why.
    """
    ids = [_id_of(index, point) for index, point in enumerate(points)]
    where = [f"Point {index} (id {point_id!r})" for index, point_id in enumerate(ids)]
    vectors = _to_edge_vectors(space, [point.vector for point in points], where)
    payloads = [to_edge_payload(point.payload, at) for point, at in zip(points, where, strict=True)]
    return [edge.Point(*parts) for parts in zip(ids, vectors, payloads, strict=True)]


def to_edge_point_vectors(space: VectorSpace, points: Sequence[Any]) -> dict[int | str, Any]:
    """The engine's `PointVectors` by id for `models.PointVectors`, all of them checked first."""
    ids = [_id_of(index, point) for index, point in enumerate(points)]
    where = [f"Point {index} (id {point_id!r})" for index, point_id in enumerate(ids)]
    merged: dict[int | str, Any] = {}
    for point_id, vector in zip(ids, _to_edge_vectors(space, [point.vector for point in points], where), strict=True):
        earlier = merged.get(point_id)
        merged[point_id] = {**earlier, **vector} if isinstance(earlier, dict) else vector
    return {point_id: edge.PointVectors(point_id, vector) for point_id, vector in merged.items()}


def materialize(points: Sequence[models.PointStruct] | models.Batch) -> list[models.PointStruct]:
    """Both shapes of an upsert as a list of points.

    Raises:
        ConfigError: neither shape, something else among the points, or columns of different lengths.
    """
    from qdrant_client import models

    if isinstance(points, (list, tuple)):
        for index, point in enumerate(points):
            if not isinstance(point, models.PointStruct):
                raise ConfigError(f"Point {index} must be a models.PointStruct, got {type(point).__name__}.")
        return list(points)
    if not isinstance(points, models.Batch):
        raise ConfigError(f"Points must be a list or a models.Batch, got {type(points).__name__}.")
    named = points.vectors if isinstance(points.vectors, dict) else {"": points.vectors}
    payloads = points.payloads if points.payloads is not None else [None] * len(points.ids)
    if any(len(column) != len(points.ids) for column in [payloads, *named.values()]):
        raise ConfigError(f"A batch of {len(points.ids)} ids needs as many vectors and payloads.")
    rows = [{name: column[row] for name, column in named.items()} for row in range(len(points.ids))]
    return [
        models.PointStruct.model_construct(id=point_id, vector=vector, payload=payload)
        for point_id, vector, payload in zip(points.ids, rows, payloads, strict=True)
    ]


def from_edge_vector(vector: Any) -> Any:
    """A stored vector, or a dict of them, as qdrant-client returns it."""
    if isinstance(vector, dict):
        return {name: from_edge_vector(value) for name, value in vector.items()}
    if isinstance(vector, edge.SparseVector):
        from qdrant_client import models

        return models.SparseVector.model_construct(indices=list(vector.indices), values=list(vector.values))
    return vector


def from_edge_record(record: Any) -> models.Record:
    """A record as qdrant-client returns it."""
    from qdrant_client import models

    result = models.Record(id=from_edge_id(record.id), payload=record.payload, order_value=record.order_value)
    result.vector = from_edge_vector(record.vector)  # set, not given: hundreds of numbers would be validated
    return result


def from_edge_scored(point: Any, with_vectors: Any) -> models.ScoredPoint:
    """A scored point as qdrant-client returns it; MMR brings vectors that nobody asked for."""
    from qdrant_client import models

    result = models.ScoredPoint(
        id=from_edge_id(point.id),
        version=point.version,
        score=point.score,
        payload=point.payload,
        order_value=point.order_value,
    )
    result.vector = _selected(from_edge_vector(point.vector), with_vectors)
    return result


def _selected(vector: Any, selector: Any) -> Any:
    """Of a vector or a dict of them what was asked for; an empty list of names gives an empty dict, as on a server."""
    if not selector:
        return {} if isinstance(selector, list) else None
    if selector is True or not isinstance(vector, dict):
        return vector
    return {name: vector[name] for name in selector if name in vector}


def to_edge_with_payload(selector: Any) -> Any:
    """`with_payload` as the engine takes it."""
    from qdrant_client import models

    if selector is None or isinstance(selector, bool):
        return bool(selector)
    if isinstance(selector, str):
        raise ConfigError(f"with_payload must be a bool, a list of keys or a PayloadSelector, got {selector!r}.")
    with engine_errors(f"with_payload {selector!r} is refused", ConfigError):
        if isinstance(selector, models.PayloadSelectorExclude):
            return edge.PayloadSelector.Exclude(selector.exclude)
        keys = selector.include if isinstance(selector, models.PayloadSelectorInclude) else selector
        return edge.PayloadSelector.Include(list(keys))


def to_edge_with_vectors(selector: Any, space: VectorSpace) -> Any:
    """`with_vectors` as the engine takes it."""
    if selector is None or isinstance(selector, bool):
        return bool(selector)
    if isinstance(selector, str):
        raise ConfigError(f"with_vectors must be a bool or a list of vector names, got {selector!r}.")
    return [name for name in selector if name in space.dense or name in space.sparse]


def _to_edge_vectors(space: VectorSpace, vectors: Sequence[Any], where: Sequence[str]) -> list[Any]:
    named = [_by_name(vector, at) for vector, at in zip(vectors, where, strict=True)]
    columns: dict[str, list[int]] = {}
    for row, by_name in enumerate(named):
        for name in by_name:
            columns.setdefault(name, []).append(row)
    for name, rows in columns.items():
        space.check_name(name, f"{where[rows[0]]}: ")
        space.check_batch(name, [named[row][name] for row in rows], [where[row] for row in rows])
    if list(columns) == [""] and len(columns[""]) == len(named):
        return [_to_edge_vector(by_name[""]) for by_name in named]
    return [{name: _to_edge_vector(value) for name, value in by_name.items()} for by_name in named]


def _by_name(vector: Any, where: str) -> dict[str, Any]:
    if isinstance(vector, dict):
        return vector
    if isinstance(vector, (list, tuple, np.ndarray)):
        return {"": vector}
    raise InvalidPointError(
        f"{where}: the vector is a {type(vector).__name__}. Use a list of numbers, or a dict of vectors by name."
    )


def _to_edge_vector(vector: Any) -> Any:
    if isinstance(vector, (list, np.ndarray)):
        return vector
    if isinstance(vector, tuple):
        return list(vector)
    ordered = sorted(zip(vector.indices, vector.values, strict=True))
    return edge.SparseVector([index for index, _ in ordered], [value for _, value in ordered])


def _id_of(index: int, point: Any) -> int | str:
    try:
        return to_edge_id(point.id)
    except InvalidPointError as error:
        raise InvalidPointError(f"Point {index}: {error} Nothing was written.") from None


def _to_json(value: Any) -> Any:
    """Everything that plain JSON lacks, as qdrant-client writes it; numpy's numbers too."""
    from pydantic_core import to_jsonable_python

    return value.item() if isinstance(value, np.generic) else to_jsonable_python(value)


def _is_plain(payload: Any) -> bool:
    """Whether a payload is what most are, and can be stored as it is: one level of texts, numbers and truths."""
    return type(payload) is dict and all(
        type(key) is str and key.isascii() and _is_plain_value(value) for key, value in payload.items()
    )


def _is_plain_value(value: Any) -> bool:
    if isinstance(value, str):
        return type(value) is str and value.isascii()  # others may hold half of a surrogate pair
    if type(value) is int:
        return abs(value) <= _LARGEST_INTEGER
    return value is None or isinstance(value, bool) or (type(value) is float and isfinite(value))


def _depth(text: str, above: int) -> int:
    """How deep a JSON text is nested; a bound where that is enough, as counting brackets is much faster."""
    bound = above + text.count("{") + text.count("[")
    return bound if bound <= DEEPEST_PAYLOAD else above + _nesting(json.loads(text))


def _nesting(value: Any) -> int:
    level, depth = [value], 0
    while level:
        depth += 1
        level = [child for parent in level for child in _children(parent)]
    return depth - 1


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
