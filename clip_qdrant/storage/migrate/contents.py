"""Whether two points are the same, with the roundings that Qdrant does.

Ids, texts, integers, truths, nulls, and the shape of payloads are compared exactly; they are also what the checksum is
of. What Qdrant rounds is compared number by number, each with the bound of its rounding. A checksum of rounded numbers
would not do: however coarse the rounding, two numbers that are almost the same can lie on both sides of an edge.

- A payload's float may change in its last digit each time that it is stored (the parser that Qdrant reads JSON with).
- A vector is float32, or float16 where its datatype says so.
- A vector for cosine is scaled to unit length each time that it is stored, but local mode, opened again, has the length
  that was given. Such vectors are compared at unit length.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qdrant_client import models

    Numbers: TypeAlias = NDArray[np.float32]

FLOAT_TOLERANCE = 4e-15
"""Of floats in payloads, relative: some units in the last place of a double."""

VECTOR_TOLERANCE = 1e-6
"""Of vectors, relative to their largest number: some units in the last place of float32."""

HALF_TOLERANCE = 1e-3
"""The same for vectors of float16."""

_BYTES_A_NUMBER = 12
"""What a vector's number takes in JSON."""


@dataclass(frozen=True, slots=True)
class VectorRule:
    """How the vectors of one name are compared.

    Attributes:
        tolerance: how far numbers may be apart, relative to the vector's largest.
        at_unit_length: whether the length, which is not kept, is left out of it.
    """

    tolerance: float = VECTOR_TOLERANCE
    at_unit_length: bool = False


def exact_text(record: models.Record) -> tuple[str, list[float]]:
    """The exact part of an id and a payload as one text, and the floats of the payload in the order of that text.

    In the text each float is NaN, which no payload can hold.
    """
    floats: list[float] = []
    return json.dumps([record.id, _without_floats(record.payload or {}, floats)], ensure_ascii=False), floats


def same_payload(one: models.Record, other: models.Record) -> bool:
    """Whether the ids and payloads of two points are the same."""
    (text, floats), (other_text, other_floats) = exact_text(one), exact_text(other)
    return text == other_text and same_floats(floats, other_floats)


def same_floats(floats: list[float], others: list[float]) -> bool:
    """Whether the floats of two payloads are the same."""
    return floats == others or all(
        math.isclose(a, b, rel_tol=FLOAT_TOLERANCE) for a, b in zip(floats, others, strict=True)
    )


def same_vectors(one: models.Record, other: models.Record, rules: Mapping[str, VectorRule]) -> bool:
    """Whether two points have the same vectors, each by the rule of its name; sparse ones have none."""
    vectors, others = named_vectors(one.vector), named_vectors(other.vector)
    return vectors.keys() == others.keys() and all(
        _is_same(vectors[name], others[name], rules.get(name, VectorRule())) for name in vectors
    )


def named_vectors(vector: Any) -> dict[str, Any]:
    """A point's vectors by name; the unnamed one has the name ""."""
    if vector is None:
        return {}
    return vector if isinstance(vector, dict) else {"": vector}


def weight(record: models.Record) -> int:
    """About how many bytes a point is as JSON."""
    numbers = sum(_numbers(vector) for vector in named_vectors(record.vector).values())
    return numbers * _BYTES_A_NUMBER + len(json.dumps(record.payload or {}, default=str))


def _without_floats(value: Any, floats: list[float]) -> Any:
    kind = type(value)
    if kind is float:
        floats.append(value)
        return math.nan
    if kind is dict:
        return {key: _without_floats(value[key], floats) for key in sorted(value)}
    if kind is list:
        return [_without_floats(item, floats) for item in value]
    return value


def _is_same(vector: Any, other: Any, rule: VectorRule) -> bool:
    if hasattr(vector, "indices") and hasattr(other, "indices"):
        (indices, values), (other_indices, others) = _in_order(vector), _in_order(other)
        return np.array_equal(indices, other_indices) and _is_close(values, others, rule.tolerance)
    if vector == other:  # which lists know much sooner than arrays
        return True
    values, others = np.asarray(vector, dtype=np.float32), np.asarray(other, dtype=np.float32)
    if rule.at_unit_length:
        values, others = _at_unit_length(values), _at_unit_length(others)
    return _is_close(values, others, rule.tolerance)


def _in_order(sparse: Any) -> tuple[NDArray[np.int64], Numbers]:
    indices = np.asarray(sparse.indices, dtype=np.int64)
    order = np.argsort(indices)
    return indices[order], np.asarray(sparse.values, dtype=np.float32)[order]


def _at_unit_length(values: Numbers) -> Numbers:
    """Each row of one or many, but zeros as they are."""
    lengths = np.linalg.norm(values, axis=-1, keepdims=True)
    unit: Numbers = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
    return unit


def _is_close(values: Numbers, others: Numbers, tolerance: float) -> bool:
    if values.shape != others.shape:
        return False
    bound = tolerance * np.abs(values).max(initial=0)
    return bool(np.abs(values - others).max(initial=0) <= bound)


def _numbers(vector: Any) -> int:
    if hasattr(vector, "indices"):
        return 2 * len(vector.indices)
    return sum(len(row) if isinstance(row, list) else 1 for row in vector[:1]) * len(vector)
