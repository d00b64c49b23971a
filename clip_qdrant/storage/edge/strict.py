"""Strict mode, honoured as a server does, and one warning where a filter without an index will be slow."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from clip_qdrant.errors import ConfigError, FilterError, UnsupportedError

if TYPE_CHECKING:
    from qdrant_client import models

logger = logging.getLogger(__name__)

WARN_FROM_POINTS = 1_000
"""In a smaller collection a filter without an index costs nothing that one would notice."""

_ANY_INDEX: frozenset[str] = frozenset()
_MATCHED = frozenset({"bool", "integer", "keyword", "uuid"})
_NUMBERS, _DATES, _PLACES = frozenset({"integer", "float"}), frozenset({"datetime"}), frozenset({"geo"})
_NOT_HERE = (
    "max_timeout",
    "max_collection_vector_size_bytes",
    "max_collection_payload_size_bytes",
    "max_resident_memory_percent",
    "read_rate_limit",
    "write_rate_limit",
)


def check_strict_mode(config: models.StrictModeConfig | None) -> None:
    """Refuse the limits that only a server can keep.

    Raises:
        UnsupportedError: one of them is set.
    """
    wrong = [key for key in _NOT_HERE if config is not None and getattr(config, key) is not None]
    if wrong:
        raise UnsupportedError(
            f"strict_mode_config: the embedded engine cannot keep {', '.join(wrong)}. Leave it out, or run a server."
        )


class Rules:
    """What one collection allows.

    Args:
        collection: its name.
        config: its strict mode; None allows all.
        indexes: payload field to its index, as the manifest has it.
        warned: fields that a warning was given of; grows.
    """

    def __init__(
        self, collection: str, config: models.StrictModeConfig | None, indexes: Mapping[str, Any], warned: set[str]
    ) -> None:
        self._collection = collection
        self._limits = config if config is not None and config.enabled else None
        self._indexes = {_plain(field): _kinds(schema) for field, schema in indexes.items()}
        self.warned = warned

    def check_filter(self, given: models.Filter | None, points: Callable[[], int], updating: bool = False) -> None:
        """Refuse a filter, or warn of it, for a field that has no index.

        Args:
            given: the filter.
            points: counts the collection's points.
            updating: whether it selects what to change, rather than what to read.

        Raises:
            FilterError: strict mode forbids it; names the field and the index to make.
        """
        if given is None:
            return
        conditions = list(_conditions(given))
        self._at_most("filter_max_conditions", len(conditions), "conditions in a filter")
        for _, condition in conditions:
            self._at_most("condition_max_size", _size(condition), "values in a condition")
        allowed = "unindexed_filtering_update" if updating else "unindexed_filtering_retrieve"
        refused = self._limits is not None and getattr(self._limits, allowed) is False
        for field, kinds in _fields_of(conditions):
            if not self._has_index(field, kinds):
                self._report(field, kinds, points, refused)

    def check_formula(self, formula: Any) -> None:
        """Refuse a formula that reads a field without an index, where a filter on it would be refused.

        Raises:
            FilterError: names the field and the index to make.
        """
        if self._limits is None or self._limits.unindexed_filtering_retrieve is not False:
            return
        for field, kinds in _formula_fields(formula):
            if not self._has_index(field, kinds):
                raise self._refusal(field, kinds, "no formula that reads")

    def check_search(self, limit: int, params: models.SearchParams | None) -> None:
        """Refuse a limit or search parameters beyond what strict mode allows."""
        if self._limits is None:
            return
        self._at_most("max_query_limit", limit, "points in an answer")
        if params is None:
            return
        if params.exact and self._limits.search_allow_exact is False:
            raise ConfigError(f"{self._strict} allows no exact search. Leave `exact` out.")
        self._at_most("search_max_hnsw_ef", params.hnsw_ef or 0, "hnsw_ef")
        if params.quantization is not None:
            self._at_most("search_max_oversampling", params.quantization.oversampling or 0, "oversampling")

    def check_grouping(self, field: str) -> None:
        """Refuse to group by a field without an index, where a filter on it would be refused."""
        refused = self._limits is not None and self._limits.unindexed_filtering_retrieve is False
        if refused and not self._has_index(field, _MATCHED):
            raise ConfigError(f"{self._strict} allows no groups by {field!r} without an index. {self._cure(field)}")

    def check_batch(self, searches: int) -> None:
        """Refuse too many searches in one request."""
        self._at_most("search_max_batchsize", searches, "searches in a batch")

    def check_upsert(self, vectors: Sequence[Any], points: Callable[[], int]) -> None:
        """Refuse too many points, or too large sparse vectors and multivectors."""
        if self._limits is None:
            return
        self._at_most("upsert_max_batchsize", len(vectors), "points in an upsert")
        if self._limits.max_points_count is not None and vectors:
            self._at_most("max_points_count", points() + 1, "points in the collection")
        for name, limit in (self._limits.sparse_config or {}).items():
            longest = max((len(getattr(vector, "indices", ())) for vector in _named(vectors, name)), default=0)
            self._refuse_above(limit.max_length, longest, f"values in the sparse vector {name!r}")
        for name, most in (self._limits.multivector_config or {}).items():
            longest = max((len(vector) for vector in _named(vectors, name)), default=0)
            self._refuse_above(most.max_vectors, longest, f"vectors in the multivector {name!r}")

    @property
    def most_in_upsert(self) -> int:
        """How many points one upsert may bring."""
        most = None if self._limits is None else self._limits.upsert_max_batchsize
        return sys.maxsize if most is None else most

    def check_new_index(self, field: str) -> None:
        """Refuse one payload index too many."""
        self._at_most("max_payload_index_count", len({*self._indexes, _plain(field)}), "payload indexes")

    @property
    def _strict(self) -> str:
        return f"The strict mode of collection {self._collection!r}"

    def _at_most(self, limit: str, value: float, what: str) -> None:
        if self._limits is not None:
            self._refuse_above(getattr(self._limits, limit), value, what)

    def _refuse_above(self, most: float | None, value: float, what: str) -> None:
        if most is not None and value > most:
            raise ConfigError(f"{self._strict} allows {most} {what}, got {value}. Ask for less, or raise the limit.")

    def _has_index(self, field: str, kinds: frozenset[str]) -> bool:
        index = self._indexes.get(_plain(field))
        return index is not None and (not kinds or bool(kinds & index))

    def _report(self, field: str, kinds: frozenset[str], points: Callable[[], int], refused: bool) -> None:
        if refused:
            raise self._refusal(field, kinds, "no filter on")
        if field not in self.warned and points() >= WARN_FROM_POINTS:
            self.warned.add(field)
            logger.warning(
                "A filter on %r of collection %r reads every point: there is no index (%s). %s This is said once.",
                field,
                self._collection,
                _named_kinds(kinds),
                self._cure(field, min(kinds, default="keyword")),
            )

    def _refusal(self, field: str, kinds: frozenset[str], what: str) -> FilterError:
        cure = self._cure(field, min(kinds, default="keyword"))
        return FilterError(f"{self._strict} allows {what} {field!r} without an index ({_named_kinds(kinds)}). {cure}")

    def _cure(self, field: str, kind: str = "keyword") -> str:
        made = f"client.create_payload_index({self._collection!r}, {_plain(field)!r}, field_schema={kind!r})"
        return f"Add one: {made}."


def _conditions(given: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every condition of a filter at every depth, with the path of the array it is nested in."""
    clauses = [given.must, given.should, given.must_not, given.min_should and given.min_should.conditions]
    for clause in clauses:
        for condition in clause if isinstance(clause, list) else [clause] if clause is not None else []:
            yield from _conditions_in(condition, prefix)


def _conditions_in(condition: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    kind = type(condition).__name__
    if kind == "Filter":
        yield from _conditions(condition, prefix)
    elif kind == "NestedCondition":
        yield from _conditions(condition.nested.filter, f"{prefix}{_plain(condition.nested.key)}[].")
    else:
        yield prefix, condition


def _formula_fields(given: Any) -> Iterator[tuple[str, frozenset[str]]]:
    """Every payload field that an expression reads, with the kinds of index that serve it."""
    name = type(given).__name__
    if isinstance(given, str):
        if not given.startswith("$"):  # $score
            yield given, _NUMBERS
    elif name == "DatetimeKeyExpression":
        yield given.datetime_key, _DATES
    elif name == "GeoDistance":
        yield given.geo_distance.to, _PLACES
    elif name in ("Filter", "NestedCondition", "FieldCondition", "IsEmptyCondition", "IsNullCondition"):
        yield from _fields_of(_conditions_in(given, ""))
    elif name not in ("DatetimeExpression", "HasIdCondition", "HasVectorCondition", "SliceCondition"):
        parts = [part for _, part in given] if isinstance(given, BaseModel) else given
        for part in parts if isinstance(parts, list) else []:
            yield from _formula_fields(part)


def _fields_of(conditions: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, frozenset[str]]]:
    """Every payload field that conditions read, with the kinds of index that serve it."""
    for prefix, condition in conditions:
        field, kinds = _field(condition), _wanted(condition)
        if field is not None and kinds is not None:
            yield prefix + field, kinds


def _field(condition: Any) -> str | None:
    """The payload field that a condition reads, if it reads one."""
    name = type(condition).__name__
    if name in ("IsEmptyCondition", "IsNullCondition"):
        return str((condition.is_empty if name == "IsEmptyCondition" else condition.is_null).key)
    return condition.key if name == "FieldCondition" else None


def _wanted(condition: Any) -> frozenset[str] | None:
    """The kinds of index that serve a condition: one of these, any where it is empty, no matter for None."""
    if type(condition).__name__ != "FieldCondition":
        return _ANY_INDEX
    if condition.match is not None:
        return _wanted_by_match(condition.match)
    if condition.range is not None:
        is_datetime = type(condition.range).__name__ == "DatetimeRange"
        return _DATES if is_datetime else _NUMBERS
    if condition.geo_radius or condition.geo_bounding_box or condition.geo_polygon:
        return _PLACES
    return _ANY_INDEX


def _wanted_by_match(match: Any) -> frozenset[str] | None:
    if type(match).__name__ in ("MatchText", "MatchTextAny", "MatchPhrase"):
        return frozenset({"text"})
    (name,) = type(match).model_fields
    value = getattr(match, name)
    first = next(iter(value), None) if isinstance(value, (list, tuple, set)) else value
    if first is None:
        return None
    if isinstance(first, bool):
        return frozenset({"bool"})
    return frozenset({"integer"}) if isinstance(first, int) else frozenset({"keyword", "uuid"})


def _named(vectors: Sequence[Any], name: str) -> list[Any]:
    """What the points bring for one vector name; their lengths are checked where they have one."""
    found = [vector.get(name) if isinstance(vector, dict) else None if name else vector for vector in vectors]
    return [vector for vector in found if hasattr(vector, "indices") or hasattr(vector, "__len__")]


def _size(condition: Any) -> int:
    match = getattr(condition, "match", None)
    values = getattr(match, "any", None) or getattr(match, "except_", None) or getattr(condition, "has_id", None)
    return len(values) if values is not None else 1


def _named_kinds(kinds: frozenset[str]) -> str:
    return " or ".join(sorted(kinds)) or "any"


def _plain(field: str) -> str:
    return field.replace("[]", "")


def _kinds(schema: Any) -> frozenset[str]:
    """What an index serves, by the name of its kind."""
    return frozenset({schema if isinstance(schema, str) else str(schema["type"])})
