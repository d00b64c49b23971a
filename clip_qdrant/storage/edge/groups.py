"""Groups of scored points by a payload value, which the engine leaves to its caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qdrant_client import models
from qdrant_client.conversions import common_types as types
from qdrant_client.local.payload_value_extractor import value_by_key

from clip_qdrant.errors import ConfigError, InvalidPointError
from clip_qdrant.storage.edge.convert_queries import to_search_params
from clip_qdrant.storage.edge.errors import engine_errors
from clip_qdrant.storage.edge.native import edge
from clip_qdrant.storage.edge.reads import ReadsMixin, check_limit

_FIRST_READ = 4
_GROWTH = 8


class GroupsMixin(ReadsMixin):
    """`QdrantBase.query_points_groups`."""

    def query_points_groups(
        self,
        collection_name: str,
        group_by: str,
        query: Any = None,
        using: str | None = None,
        prefetch: types.Prefetch | list[types.Prefetch] | None = None,
        query_filter: types.Filter | None = None,
        search_params: types.SearchParams | None = None,
        limit: int = 10,
        group_size: int = 3,
        with_payload: types.WithPayloadInterface = True,
        with_vectors: types.WithVector = False,
        score_threshold: float | None = None,
        with_lookup: types.WithLookupInterface | None = None,
        lookup_from: types.LookupLocation | None = None,
        **kwargs: Any,
    ) -> types.GroupsResult:
        """The best points of each of the best groups.

        The best points are read, ever more of them, until the groups are full or there are no more points.
        """
        check_limit(limit)
        check_limit(group_size, "group_size")
        collection = self._open(collection_name)
        collection.rules.check_search(limit * group_size, to_search_params(search_params))
        collection.filter_to_read(query_filter)
        collection.rules.check_grouping(group_by)
        with engine_errors(f"group_by {group_by!r} is refused", ConfigError):
            edge.PayloadSelector.Include([group_by])  # which is to be a path
        everything = max(1, collection.shard.count())
        read = min(everything, _FIRST_READ * limit * group_size) if _is_prefix_stable(query) else everything
        while True:
            request = models.QueryRequest.model_construct(
                query=query,
                using=using,
                prefetch=with_larger_prefetches(prefetch, everything),
                filter=query_filter,
                params=search_params,
                limit=read,
                with_payload=[group_by],
                score_threshold=score_threshold,
                lookup_from=lookup_from,
            )
            found = self._query(collection_name, [request], is_ours=True)[0]
            groups = group_points(found.points, group_by, limit, group_size)
            full = len(groups) == limit and all(len(group.hits) == group_size for group in groups)
            if full or len(found.points) < read or read == everything:
                break
            read = min(everything, _GROWTH * read)
        self._fill(collection_name, groups, with_payload, with_vectors)
        groups = [group for group in groups if group.hits]
        if with_lookup is not None:
            self._look_up(groups, with_lookup)
        return models.GroupsResult(groups=groups)

    def _fill(self, name: str, groups: Sequence[models.PointGroup], with_payload: Any, with_vectors: Any) -> None:
        hits = [hit.id for group in groups for hit in group.hits]
        records = {record.id: record for record in self.retrieve(name, hits, with_payload, with_vectors)}
        for group in groups:
            group.hits = [
                hit.model_copy(update={"payload": records[hit.id].payload, "vector": records[hit.id].vector})
                for hit in group.hits
                if hit.id in records  # another thread may have deleted it since
            ]

    def _look_up(self, groups: Sequence[models.PointGroup], given: types.WithLookupInterface) -> None:
        lookup = models.WithLookup(collection=given) if isinstance(given, str) else given
        payload = True if lookup.with_payload is None else lookup.with_payload
        vectors = False if lookup.with_vectors is None else lookup.with_vectors
        for group in groups:
            try:
                records = self.retrieve(lookup.collection, [group.id], payload, vectors)
            except InvalidPointError:  # a group's value need not be an id
                records = []
            group.lookup = next(iter(records), None)


def group_points(
    points: Sequence[models.ScoredPoint], group_by: str, limit: int, group_size: int
) -> list[models.PointGroup]:
    """The first `limit` groups in the points' order, each with its first `group_size` points.

    A point with several values is in several groups; one with a value that is neither text nor integer is in none.
    """
    groups: dict[Any, models.PointGroup] = {}
    for point in points:
        for value in _group_values(point.payload or {}, group_by):
            group = groups.setdefault(value, models.PointGroup(id=value, hits=[]))
            if len(group.hits) < group_size:
                group.hits.append(point)
    return list(groups.values())[:limit]


def with_larger_prefetches(prefetch: Any, limit: int) -> Any:
    """The prefetches with a limit that leaves no group out."""
    if prefetch is None:
        return None
    if isinstance(prefetch, list):
        return [with_larger_prefetches(item, limit) for item in prefetch]
    return prefetch.model_copy(update={"limit": limit, "prefetch": with_larger_prefetches(prefetch.prefetch, limit)})


def _is_prefix_stable(query: Any) -> bool:
    """Whether a larger limit only adds answers at the end; not so where the limit, or chance, chooses them."""
    return not (isinstance(query, models.SampleQuery) or getattr(query, "mmr", None) is not None)


def _group_values(payload: dict[str, Any], group_by: str) -> list[Any]:
    values = value_by_key(payload, group_by) or []
    return list(dict.fromkeys(values)) if all(type(value) in (str, int) for value in values) else []
