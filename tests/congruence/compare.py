"""The same calls on two clients, and the demand that both give the same answers.

Local mode ("memory") is the oracle. What may differ, and why, is in docs/embedded.md; test_congruence_known.py pins it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from qdrant_client import models

from clip_qdrant.errors import ClipQdrantError
from clip_qdrant.storage.edge.errors import RefusedError

TOLERANCE = 1e-4
TIE = 1e-5
EVERYTHING = 1000


@dataclass
class Call:
    """One call of a client's method, and how its two answers are compared."""

    method: str
    kwargs: dict[str, Any]
    compare: Callable[[Any, Any, Call, Any], None] = field(default=lambda *_: None)
    writes: bool = False
    index: str | None = None
    """The payload field that must be indexed, as the engine (and a server) demands and local mode does not."""

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.kwargs.items())
        return f"client.{self.method}({arguments})"

    def on(self, client: Any) -> Outcome:
        """Make the call; an error is an outcome as well."""
        try:
            return Outcome(getattr(client, self.method)(**self.kwargs))
        except Exception as error:
            return Outcome(error=error)


@dataclass
class Outcome:
    """What a call returned or raised."""

    value: Any = None
    error: Exception | None = None


def run(calls: Iterable[Call], memory: Any, embedded: Any, collections: Iterable[str] = ("c",)) -> None:
    """Make every call on both clients; each answer, each error and all that is stored must be the same."""
    names = list(collections)
    for call in calls:
        expected, got = call.on(memory), call.on(embedded)
        if call.index is not None and isinstance(got.error, RefusedError) and "index" in str(got.error):
            assert not _has_index(embedded, call), f"{call!r}: {got.error}"
            continue
        if "ufunc" in str(expected.error):  # local mode crashes on discovery among no points
            assert got.error is None, f"{call!r}: {got.error}"
            continue
        compare_outcomes(expected, got, call, memory)
        if call.writes:
            for name in names:
                compare_contents(memory, embedded, name, call)


def _has_index(embedded: Any, call: Call) -> bool:
    name = call.kwargs["collection_name"]
    return call.index in embedded.get_collection(name).payload_schema


def compare_outcomes(expected: Outcome, got: Outcome, call: Call, memory: Any) -> None:
    """Both raise, and errors of one family, or neither."""
    said = f"\n{call!r}\nmemory:   {_shown(expected)}\nembedded: {_shown(got)}"
    assert (expected.error is None) == (got.error is None), said
    if expected.error is None:
        call.compare(expected.value, got.value, call, memory)
        return
    ours_or_same = isinstance(got.error, (ClipQdrantError, type(expected.error)))
    assert ours_or_same, f"not an error of ours: {said}"
    for family in (ValueError, KeyError, NotImplementedError):
        if isinstance(expected.error, family):
            assert isinstance(got.error, family), said


def compare_contents(memory: Any, embedded: Any, name: str, call: Call | None = None) -> None:
    """Every point of a collection, with payload and vectors."""
    if not memory.collection_exists(name):
        assert not embedded.collection_exists(name)
        return
    pages = [client.scroll(name, limit=EVERYTHING, with_vectors=True)[0] for client in (memory, embedded)]
    same(plain(pages[0]), plain(pages[1]), f"contents of {name!r} after {call!r}")


def plain(value: Any) -> Any:
    """Models as plain Python, without what an answer need not have in common: versions and operation numbers."""
    if isinstance(value, models.UpdateResult):
        return value.status.value
    if isinstance(value, _Cell):
        return [value.id, value.score]
    if isinstance(value, BaseModel):
        return {
            key: plain(getattr(value, key)) for key in type(value).model_fields if key not in ("version", "shard_key")
        }
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def same(expected: Any, got: Any, where: str) -> None:
    """Equal in type and value, numbers to the tolerance; an index of floats orders by floats."""
    is_number = isinstance(got, (int, float)) and not isinstance(got, bool)
    if is_number and (isinstance(expected, float) or where.endswith(".order_value")):
        assert close(expected, got), f"{where}: memory {expected!r}, embedded {got!r}"
    elif isinstance(expected, dict) and isinstance(got, dict):
        assert sorted(expected, key=repr) == sorted(got, key=repr), f"{where}: memory {expected!r}, embedded {got!r}"
        for key, value in expected.items():
            same(value, got[key], f"{where}.{key}")
    elif isinstance(expected, list) and isinstance(got, list):
        assert len(expected) == len(got), f"{where}: memory {expected!r}, embedded {got!r}"
        for index, (one, other) in enumerate(zip(expected, got, strict=True)):
            same(one, other, f"{where}[{index}]")
    else:
        assert type(expected) is type(got) and expected == got, f"{where}: memory {expected!r}, embedded {got!r}"


def close(one: float, other: float, tolerance: float = TOLERANCE) -> bool:
    """Whether two numbers differ by no more than the tolerance, relative above 1."""
    return one == other or math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)


# Comparisons of answers -----------------------------------------------------------------------------------------------


def exactly(expected: Any, got: Any, call: Call, memory: Any) -> None:
    """The same answer in the same order."""
    same(plain(expected), plain(got), repr(call))


def both_refuse(expected: Any, got: Any, call: Call, memory: Any) -> None:
    """No answer at all."""
    raise AssertionError(f"{call!r} is not refused: {expected!r}, {got!r}")


def ranked(expected: Any, got: Any, call: Call, memory: Any) -> None:
    """The same points by score, in the same order but for ties."""
    limit, offset = call.kwargs.get("limit", 10), call.kwargs.get("offset") or 0
    compare_ranking(expected.points, got.points, limit, offset, call)


def ranked_batches(expected: Any, got: Any, call: Call, memory: Any) -> None:
    """An answer a request."""
    assert len(expected) == len(got)
    for one, other, request in zip(expected, got, call.kwargs["requests"], strict=True):
        compare_ranking(one.points, other.points, request.limit or 10, request.offset or 0, call)


def ordered_page(expected: Any, got: Any, call: Call, memory: Any) -> None:
    """Records in the order of a payload value."""
    assert expected[1] is None and got[1] is None
    compare_ranking(expected[0], got[0], call.kwargs.get("limit", 10), 0, call, key=_order_value)


def ordered_points(expected: Any, got: Any, call: Call, memory: Any) -> None:
    """Points in the order of a payload value."""
    offset = call.kwargs.get("offset") or 0
    compare_ranking(expected.points, got.points, call.kwargs.get("limit", 10), offset, call, key=_order_value)


def sampled(expected: Any, got: Any, call: Call, memory: Any) -> None:
    """As many points, out of the same."""
    assert len(expected.points) == len(got.points), repr(call)
    if len(expected.points) < call.kwargs.get("limit", 10):
        by_id = [{point.id: plain(point) for point in answer.points} for answer in (expected, got)]
        same(by_id[0], by_id[1], repr(call))


def grouped(expected: Any, got: Any, call: Call, memory: Any) -> None:
    """The same groups in the same order but for ties of their best hits; and so their hits."""
    size, limit = call.kwargs.get("group_size", 3), call.kwargs.get("limit", 10)
    one, other = expected.groups, got.groups
    best = [[_Cell(group.id, group.hits[0].score) for group in groups] for groups in (one, other)]
    compare_ranking(best[0], best[1], limit, 0, call)
    theirs = {group.id: group for group in other}
    for group in one:
        if group.id in theirs:
            compare_ranking(group.hits, theirs[group.id].hits, size, 0, call)
            same(plain(group.lookup), plain(theirs[group.id].lookup), f"lookup of {call!r}")


def matrix_pairs(expected: Any, got: Any, call: Call, memory: Any) -> None:
    """The same rows, each a ranking."""
    rows: list[dict[Any, list[Any]]] = [{}, {}]
    for row, answer in zip(rows, (expected, got), strict=True):
        for pair in answer.pairs:
            row.setdefault(pair.a, []).append(_Cell(pair.b, pair.score))
    assert list(rows[0]) == list(rows[1]), f"{call!r}: {rows}"
    for point_id, cells in rows[0].items():
        compare_ranking(cells, rows[1][point_id], call.kwargs["limit"], 0, call)


def matrix_offsets(expected: Any, got: Any, call: Call, memory: Any) -> None:
    """The same ids and rows, each a ranking."""
    assert expected.ids == got.ids, f"{call!r}: {expected.ids} {got.ids}"
    rows: list[dict[int, list[Any]]] = [{}, {}]
    for row, answer in zip(rows, (expected, got), strict=True):
        for offset, column, score in zip(answer.offsets_row, answer.offsets_col, answer.scores, strict=True):
            row.setdefault(offset, []).append(_Cell(column, score))
    assert sorted(rows[0]) == sorted(rows[1]), f"{call!r}: {rows}"
    for offset, cells in rows[0].items():
        compare_ranking(cells, rows[1][offset], call.kwargs["limit"], 0, call)


@dataclass
class _Cell:
    """A cell of a matrix, or a group with its best hit's score, as a point."""

    id: Any
    score: float


def collection_names(expected: Any, got: Any, call: Call, memory: Any) -> None:
    """Names in any order."""
    found = [sorted(description.name for description in answer.collections) for answer in (expected, got)]
    assert found[0] == found[1], repr(call)


def alias_names(expected: Any, got: Any, call: Call, memory: Any) -> None:
    """Aliases in any order."""
    found = [
        sorted((alias.alias_name, alias.collection_name) for alias in answer.aliases) for answer in (expected, got)
    ]
    assert found[0] == found[1], repr(call)


def described(expected: Any, got: Any, call: Call, memory: Any) -> None:
    """The same definition and count; indexes and segments are the engine's own."""
    for part in ("status", "points_count"):
        same(plain(getattr(expected, part)), plain(getattr(got, part)), f"{call!r}.{part}")
    same(plain(expected.config.params), plain(got.config.params), f"{call!r}.config.params")
    same(plain(expected.config.metadata), plain(got.config.metadata), f"{call!r}.config.metadata")


# Rankings -------------------------------------------------------------------------------------------------------------


def compare_ranking(
    expected: list[Any], got: list[Any], limit: int, offset: int, call: Call, key: Callable[[Any], float] | None = None
) -> None:
    """The same scores in the same order; points of tied scores in any order, and any of them where the limit cuts."""
    key = key or (lambda point: point.score)
    said = f"\n{call!r}\nmemory:   {_brief(expected, key)}\nembedded: {_brief(got, key)}"
    assert len(expected) == len(got), said
    for one, other in zip(expected, got, strict=True):
        assert close(key(one), key(other)), said
    groups = list(ties([key(point) for point in expected]))
    cut = len(expected) == limit
    for number, (start, end) in enumerate(groups):
        ids = [sorted(repr(point.id) for point in points[start:end]) for points in (expected, got)]
        may_be_cut = (cut and number == len(groups) - 1) or (offset > 0 and number == 0)
        assert ids[0] == ids[1] or may_be_cut, said
    theirs = {(point.id, _order_value(point)): point for point in got}
    for point in expected:
        twin = theirs.get((point.id, _order_value(point)))
        if twin is not None:
            same(plain(point), plain(twin), f"{call!r}: point {point.id!r}")


def ties(scores: list[float]) -> Iterable[tuple[int, int]]:
    """Ranges of neighbours whose scores are the same, but for rounding."""
    start = 0
    for index in range(1, len(scores) + 1):
        if index == len(scores) or not close(scores[index - 1], scores[index], TIE):
            yield start, index
            start = index


def has_ties(scores: list[float]) -> bool:
    """Whether any two neighbours are tied."""
    return any(end - start > 1 for start, end in ties(scores))


def _order_value(point: Any) -> float:
    return getattr(point, "order_value", None) or 0.0


def _brief(points: list[Any], key: Callable[[Any], float]) -> list[tuple[Any, float]]:
    return [(point.id, key(point)) for point in points]


def _shown(outcome: Outcome) -> str:
    return repr(outcome.value) if outcome.error is None else f"{type(outcome.error).__name__}: {outcome.error}"
