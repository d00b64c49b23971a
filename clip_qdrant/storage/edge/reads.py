"""Reading, searching, counting and grouping points."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from qdrant_client import models
from qdrant_client.conversions import common_types as types

from clip_qdrant.errors import ConfigError, InvalidPointError
from clip_qdrant.storage.edge.base import EngineBase
from clip_qdrant.storage.edge.convert_points import (
    from_edge_id,
    from_edge_record,
    from_edge_scored,
    from_edge_vector,
    to_edge_id,
    to_edge_with_payload,
    to_edge_with_vectors,
)
from clip_qdrant.storage.edge.convert_queries import QueryConverter, to_edge_order_by
from clip_qdrant.storage.edge.errors import engine_errors
from clip_qdrant.storage.edge.native import edge


class ReadsMixin(EngineBase):
    """`QdrantBase`'s reads."""

    def retrieve(
        self,
        collection_name: str,
        ids: Sequence[types.PointId],
        with_payload: types.WithPayloadInterface = True,
        with_vectors: types.WithVector = False,
        **kwargs: Any,
    ) -> list[types.Record]:
        """Points by id, in the order asked for; those that do not exist are left out."""
        collection = self._open(collection_name)
        wanted = [to_edge_id(point_id) for point_id in ids]
        payload, vectors = to_edge_with_payload(with_payload), to_edge_with_vectors(with_vectors, collection.space)
        records = collection.shard.retrieve(list(dict.fromkeys(wanted)), payload, vectors)
        by_id = {from_edge_id(record.id): record for record in records}
        return [from_edge_record(by_id[point_id]) for point_id in wanted if point_id in by_id]

    def scroll(
        self,
        collection_name: str,
        scroll_filter: types.Filter | None = None,
        limit: int = 10,
        order_by: types.OrderBy | None = None,
        offset: types.PointId | None = None,
        with_payload: types.WithPayloadInterface = True,
        with_vectors: types.WithVector = False,
        **kwargs: Any,
    ) -> tuple[list[types.Record], types.PointId | None]:
        """A page of points, by id or by a payload value (which needs an index), and where the next one starts."""
        collection = self._open(collection_name)
        check_limit(limit)
        collection.rules.check_search(limit, None)
        if order_by is not None and offset is not None:
            raise ConfigError("Offset is not supported in conjunction with order_by. Use order_by.start_from.")
        with engine_errors(f"The scroll over collection {collection.name!r} is refused", ConfigError):
            request = edge.ScrollRequest(
                offset=None if offset is None else to_edge_id(offset),
                limit=limit,
                filter=collection.filter_to_read(scroll_filter),
                with_payload=to_edge_with_payload(with_payload),
                with_vector=to_edge_with_vectors(with_vectors, collection.space),
                order_by=None if order_by is None else to_edge_order_by(order_by),
            )
        records, following = collection.shard.scroll(request)
        page_end = None if following is None or order_by is not None else from_edge_id(following)
        return [from_edge_record(record) for record in records], page_end

    def count(
        self, collection_name: str, count_filter: types.Filter | None = None, exact: bool = True, **kwargs: Any
    ) -> types.CountResult:
        """How many points match."""
        collection = self._open(collection_name)
        return models.CountResult(count=collection.shard.count(collection.filter_to_read(count_filter), exact))

    def facet(
        self,
        collection_name: str,
        key: str,
        facet_filter: types.Filter | None = None,
        limit: int = 10,
        exact: bool = False,
        **kwargs: Any,
    ) -> types.FacetResponse:
        """The most frequent values of a payload field (which needs an index), and how many points have each."""
        collection = self._open(collection_name)
        check_limit(limit)
        collection.rules.check_search(limit, None)
        given = collection.filter_to_read(facet_filter)
        with engine_errors(f"The facet of {key!r} is refused", ConfigError):
            request = edge.FacetRequest(key, limit, exact, given)
        hits = collection.shard.facet(request)
        return models.FacetResponse(hits=[models.FacetValueHit(value=hit.value, count=hit.count) for hit in hits])

    def query_points(
        self,
        collection_name: str,
        query: Any = None,
        using: str | None = None,
        prefetch: types.Prefetch | list[types.Prefetch] | None = None,
        query_filter: types.Filter | None = None,
        search_params: types.SearchParams | None = None,
        limit: int = 10,
        offset: int | None = None,
        with_payload: types.WithPayloadInterface = True,
        with_vectors: types.WithVector = False,
        score_threshold: float | None = None,
        lookup_from: types.LookupLocation | None = None,
        **kwargs: Any,
    ) -> types.QueryResponse:
        """Search, recommend, fuse, order or sample; see `QdrantClient.query_points`."""
        request = models.QueryRequest.model_construct(
            query=query,
            using=using,
            prefetch=prefetch,
            filter=query_filter,
            params=search_params,
            limit=limit,
            offset=offset,
            with_payload=with_payload,
            with_vector=with_vectors,
            score_threshold=score_threshold,
            lookup_from=lookup_from,
        )
        return self._query(collection_name, [request])[0]

    def query_batch_points(
        self, collection_name: str, requests: Sequence[types.QueryRequest], **kwargs: Any
    ) -> list[types.QueryResponse]:
        """One answer a request, in their order."""
        self._open(collection_name).rules.check_batch(len(requests))
        return self._query(collection_name, requests)

    def _query(
        self, collection_name: str, requests: Sequence[models.QueryRequest], *, is_ours: bool = False
    ) -> list[types.QueryResponse]:
        """The answers; `is_ours` as for `QueryConverter`."""
        collection = self._open(collection_name)

        def lookup(elsewhere: str | None, name: str, point_id: int | str) -> Any:
            return self._stored_vector(collection_name if elsewhere is None else elsewhere, name, point_id)

        # Converted before the shard is locked: a look-up may lock another one.
        converter = QueryConverter(collection, lookup, is_ours=is_ours)
        with engine_errors(f"The query on collection {collection.name!r} is refused", ConfigError):
            converted = [converter.request(request) for request in requests]
        found = collection.shard.query(converted)
        return [
            types.QueryResponse(points=[from_edge_scored(point, request.with_vector) for point in points])
            for request, points in zip(requests, found, strict=True)
        ]

    def _stored_vector(self, collection_name: str, name: str, point_id: int | str) -> Any:
        collection = self._open(collection_name)
        collection.space.check_name(name)
        records = collection.shard.retrieve([point_id], False, [name])
        if not records:
            raise InvalidPointError(f"Point {point_id!r} is not found in collection {collection_name!r}.")
        vector = from_edge_vector(records[0].vector)
        found = vector.get(name) if isinstance(vector, dict) else vector
        if found is None:
            raise InvalidPointError(
                f"Point {point_id!r} of collection {collection_name!r}: vector with name {name!r} not found. "
                "Name another point, or another vector."
            )
        return found


def check_limit(limit: int, name: str = "limit", least: int = 1) -> None:
    """Refuse to ask for nothing, or for no whole number."""
    if not isinstance(limit, (int, np.integer)) or not least <= limit <= sys.maxsize:
        raise ConfigError(f"{name} must be at least {least}, and a whole number of 64 bits, got {limit!r}.")
