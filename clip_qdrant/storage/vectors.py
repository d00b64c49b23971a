"""One collection as vectors in, Hits out. Works over any `QdrantClient`.

vectors_queries.py and vectors_examples.py make Qdrant's queries of what is asked, vectors_checks.py refuses what cannot
be, and vectors_scan.py reads in pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import CollectionNotFoundError, ConfigError
from clip_qdrant.storage.filters import to_filter
from clip_qdrant.storage.points import CONTENT_HASH, IMAGE, hit_of
from clip_qdrant.storage.schema import search_params, stored_fingerprint
from clip_qdrant.storage.vectors_checks import Space, field_name, pages, point_id, point_ids, whole_number
from clip_qdrant.storage.vectors_examples import Examples
from clip_qdrant.storage.vectors_queries import Fusion, QueryBuilder, SearchOptions, Using
from clip_qdrant.storage.vectors_scan import PAGE, scan_by_id, scan_by_value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qdrant_client import QdrantClient, models

    from clip_qdrant.storage.filters import Where
    from clip_qdrant.storage.points import Leg
    from clip_qdrant.storage.schema import CollectionSchema
    from clip_qdrant.storage.vectors_examples import Example, Strategy
    from clip_qdrant.storage.vectors_queries import QueryVector
    from clip_qdrant.types import Fingerprint, Hit

__all__ = ["Fusion", "Group", "Using", "VectorCollection"]

_BATCH = 100


@dataclass(frozen=True, slots=True)
class Group:
    """The best answers that share a value of a field.

    Attributes:
        key: the value.
        hits: best first.
    """

    key: str | int
    hits: tuple[Hit, ...]


class VectorCollection:
    """A collection that holds the named vectors `image` and `text`.

    Args:
        client: a server, a folder or memory; it is not closed here.
        name: of the collection.
        schema: create the collection if it is not there, and check it if it is. None: it must be there.

    Raises:
        CollectionNotFoundError: there is none of that name, and no schema to make it with.
        CollectionMismatchError: the one there holds something else.
    """

    def __init__(self, client: QdrantClient, name: str, schema: CollectionSchema | None = None) -> None:
        if schema is not None:
            schema.ensure(client, name)
        elif not client.collection_exists(name):
            known = sorted(collection.name for collection in client.get_collections().collections)
            raise CollectionNotFoundError(
                f"There is no collection {name!r}; there is {', '.join(map(repr, known)) or 'none at all'}. "
                "Index something into it first, or check the name and the location."
            )
        self.client = client
        self.name = name

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Of the encoder that the vectors come from, or None where it was not stored."""
        return stored_fingerprint(self.client.get_collection(self.name))

    def upsert(self, points: Sequence[models.PointStruct]) -> None:
        """Write points, and return when they are written.

        Raises:
            InvalidPointError: a vector is zero or has a NaN; nothing is written.
            CollectionMismatchError: a vector is of another dimension; nothing is written.
        """
        if points:
            self._space.check_points(points)
            self.client.upsert(self.name, points=list(points), wait=True)

    def search(
        self,
        vector: QueryVector,
        *,
        limit: int = 10,
        offset: int = 0,
        where: Where | None = None,
        using: Using = IMAGE,
        min_score: float | None = None,
        diversity: float | None = None,
        with_vectors: bool = False,
    ) -> list[Hit]:
        """The points nearest to a vector (dim,), best first.

        Args:
            vector: of a query; it need not be of unit length. For a fused search one for each kind, if you like:
                {"image": of a picture, "text": of words}.
            limit: how many at most.
            offset: how many of the best to pass over: the second page of ten has offset=10.
            where: which points to search among.
            using: which vectors to compare with: "image", "text", "both", or a `Fusion` that says how both become
                one. The scores of a fusion are not cosines.
            min_score: leave out what scores lower; a cosine, so not with a fusion.
            diversity: from 0 (only likeness counts) to 1 (only that the answers differ from each other); not with a
                fusion. The scores stay cosines, and are no longer in order.
            with_vectors: return the vectors too.

        Raises:
            InvalidPointError: the vector is zero, or has a NaN.
            CollectionMismatchError: the vector is of another dimension than the collection's.
            ConfigError: a limit below 1, `min_score` or `diversity` with a fusion.
            FilterError: `where` cannot be understood.
        """
        found = self.search_batch(
            [vector], limit=limit, offset=offset, where=where, using=using, min_score=min_score, diversity=diversity,
            with_vectors=with_vectors,
        )  # fmt: skip
        return found[0]

    def search_batch(
        self,
        vectors: Iterable[QueryVector],
        *,
        limit: int = 10,
        offset: int = 0,
        where: Where | None = None,
        using: Using = IMAGE,
        min_score: float | None = None,
        diversity: float | None = None,
        with_vectors: bool = False,
    ) -> list[list[Hit]]:
        """The answers to many vectors (n, dim), in their order, a hundred in one request; else as `search`."""
        options = SearchOptions(
            limit=limit, offset=offset, where=to_filter(where), using=using, min_score=min_score,
            diversity=diversity, with_vectors=with_vectors,
        )  # fmt: skip
        return self._ask([self._queries.nearest(vector, options) for vector in vectors], options)

    def search_groups(
        self,
        vector: QueryVector,
        *,
        by: str = "doc_id",
        limit: int = 10,
        group_size: int = 3,
        where: Where | None = None,
        using: Using = IMAGE,
        min_score: float | None = None,
        with_vectors: bool = False,
    ) -> list[Group]:
        """The best groups of points that share a value, such as the best pages of the best documents.

        Args:
            vector: as in `search`.
            by: the field whose value is shared: text or a whole number. What has no such value is left out.
            limit: how many groups at most.
            group_size: how many points of a group at most.
            where: which points to search among.
            using: which vectors to compare with.
            min_score: leave out points that score lower.
            with_vectors: return the vectors too.

        Raises:
            As `search`.
        """
        whole_number("limit", limit, 1)
        size = whole_number("group_size", group_size, 1)
        options = SearchOptions(
            limit=limit * size, where=where, using=using, min_score=min_score, with_vectors=with_vectors
        )
        request = self._queries.nearest(vector, options)
        found = self.client.query_points_groups(
            self.name, group_by=field_name("by", by), query=request.query, prefetch=request.prefetch,
            using=request.using, query_filter=request.filter, search_params=request.params,
            score_threshold=request.score_threshold, limit=int(limit), group_size=size, with_payload=True,
            with_vectors=with_vectors,
        )  # fmt: skip
        leg = options.leg or IMAGE
        return [Group(group.id, tuple(hit_of(point, leg) for point in group.hits)) for group in found.groups]

    def recommend(
        self,
        positive: Sequence[Example] = (),
        *,
        negative: Sequence[Example] = (),
        strategy: Strategy = "average_vector",
        limit: int = 10,
        offset: int = 0,
        where: Where | None = None,
        using: Leg = IMAGE,
        with_vectors: bool = False,
    ) -> list[Hit]:
        """What is like some examples and unlike others; stored points among these are left out of the answer.

        Args:
            positive: what the answers should be like: ids of stored points, or vectors (dim,).
            negative: what they should be unlike.
            strategy: "average_vector" searches once, with the mean of the positive p and of the negative n as 2p - n;
                "best_score" compares each point with its nearest example, and "sum_scores" with all of them.
            limit: how many at most.
            offset: how many of the best to pass over.
            where: which points to search among.
            using: which vectors to compare, of examples and answers.
            with_vectors: return the vectors too.

        Raises:
            ConfigError: no example, only negative ones for "average_vector", or an id that has no such vector.
            InvalidPointError: an example is no id, or a vector that is zero or has a NaN.
        """
        query = Examples(self.client, self._space, using).recommend(positive, negative, strategy)
        return self._by_examples(query, limit=limit, offset=offset, where=where, using=using, with_vectors=with_vectors)

    def discover(
        self,
        context: Sequence[tuple[Example, Example]],
        *,
        target: Example | None = None,
        limit: int = 10,
        offset: int = 0,
        where: Where | None = None,
        using: Leg = IMAGE,
        with_vectors: bool = False,
    ) -> list[Hit]:
        """What lies on the positive side of pairs of a positive and a negative example.

        Args:
            context: the pairs; each splits the space between its two, given as ids or vectors (dim,).
            target: among what is on the positive side of most pairs, the nearest to this come first. None: what is
                closer to the positive than to the negative of every pair has the score 0, all else less.
            limit: how many at most.
            offset: how many of the best to pass over.
            where: which points to search among.
            using: which vectors to compare, of examples and answers.
            with_vectors: return the vectors too.

        Raises:
            As `recommend`.
        """
        query = Examples(self.client, self._space, using).discover(context, target)
        return self._by_examples(query, limit=limit, offset=offset, where=where, using=using, with_vectors=with_vectors)

    def get(self, ids: Sequence[str], *, with_vectors: bool = False) -> list[Hit]:
        """The points of these ids, in this order; those that are not there are left out."""
        found = {point.id: point for point in self.retrieve(ids, with_vectors=with_vectors)}
        return [hit_of(found[id]) for id in point_ids(ids) if id in found]

    def retrieve(self, ids: Sequence[str], *, with_vectors: bool = False) -> list[models.Record]:
        """Raw points, for those who copy them.

        Raises:
            InvalidPointError: an id that no point can have.
        """
        return [
            point
            for page in pages(point_ids(ids), PAGE)
            for point in self.client.retrieve(self.name, ids=list(page), with_payload=True, with_vectors=with_vectors)
        ]

    def with_content(self, hashes: Iterable[str]) -> dict[str, models.ScoredPoint]:
        """For each content hash that is stored, one point with its vectors."""
        from qdrant_client import models

        wanted = list(hashes)
        # One request, one point for each: of a content that is stored a thousand times a thousand are not fetched.
        requests = [
            models.QueryRequest(filter=to_filter({CONTENT_HASH: hash}), limit=1, with_payload=True, with_vector=True)
            for hash in wanted
        ]
        return {hash: points[0] for hash, points in zip(wanted, self._points(requests), strict=True) if points}

    def scan(
        self, *, where: Where | None = None, order_by: str | None = None, with_vectors: bool = False
    ) -> Iterator[Hit]:
        """Every point, a page at a time.

        Args:
            where: which points.
            order_by: a field of numbers or dates that has an index, "year", or "-year" for the largest first. What has
                no value of it is left out, what has several comes once for each. None: in no particular order.
            with_vectors: return the vectors too.

        Raises:
            ConfigError: `order_by` is not the name of a field.
        """
        wanted = to_filter(where)
        if order_by is None:
            found = scan_by_id(self.client, self.name, wanted, with_vectors=with_vectors)
        else:
            descending = isinstance(order_by, str) and order_by.startswith("-")
            field = field_name("order_by", order_by[1:] if descending else order_by)
            found = scan_by_value(
                self.client, self.name, wanted, field, descending=descending, with_vectors=with_vectors
            )
        return (hit_of(point) for point in found)

    def sample(self, count: int, *, using: Leg = IMAGE, where: Where | None = None) -> NDArray[np.float32]:
        """Stored vectors (n, dim) of one kind, drawn at random without repetition; n is smaller where there are fewer.

        Raises:
            ConfigError: a count below 1.
            CollectionMismatchError: there are no vectors of that name.
        """
        import numpy as np
        from qdrant_client import models

        size, wanted = self._space.size(using), to_filter(where)
        must: list[Any] = [models.HasVectorCondition(has_vector=using), *([wanted] if wanted else [])]
        points = self.client.query_points(
            self.name,
            query=models.SampleQuery(sample=models.Sample.RANDOM),
            query_filter=models.Filter(must=must),
            limit=whole_number("count", count, 1),
            with_vectors=[using],
            with_payload=False,
        ).points
        rows = [point.vector[using] for point in points]  # type: ignore[index,call-overload]
        return np.array(rows, dtype=np.float32).reshape(len(rows), size)

    def count(self, *, where: Where | None = None) -> int:
        """How many points there are."""
        return self.client.count(self.name, count_filter=to_filter(where), exact=True).count

    def facet(self, field: str, *, where: Where | None = None, limit: int = 10) -> dict[str | int | bool, int]:
        """The most frequent values of a field, and how many points have each, the most frequent first.

        Args:
            field: of text, whole numbers, or true and false; it has an index.
            where: which points to count.
            limit: how many values at most.

        Raises:
            ConfigError: a limit below 1, or not the name of a field.
        """
        whole_number("limit", limit, 1)
        key = field_name("facet", field)
        found = self.client.facet(self.name, key=key, facet_filter=to_filter(where), limit=int(limit), exact=True)
        return {hit.value: hit.count for hit in found.hits}

    def delete(self, ids: Sequence[str] | None = None, *, where: Where | None = None) -> int:
        """Delete points by id or by filter, and return how many are gone.

        Raises:
            ConfigError: neither was given, or both: nothing is deleted by accident.
            InvalidPointError: an id that no point can have; nothing is deleted.
        """
        from qdrant_client import models

        wanted = to_filter(where)
        if (ids is None) == (wanted is None):
            raise ConfigError("Give delete either ids or a filter that is not empty.")
        selectors: list[Any] = [models.FilterSelector(filter=wanted)] if wanted is not None else []
        if ids is not None:
            selectors = [list(page) for page in pages(point_ids(ids), PAGE)]
        before = self.count()
        for selector in selectors:
            self.client.delete(self.name, points_selector=selector, wait=True)
        return before - self.count()

    def set_payload(self, id: str, payload: Mapping[str, Any]) -> None:
        """Replace a point's payload; its vectors stay."""
        self.client.overwrite_payload(self.name, payload=dict(payload), points=[point_id(id)], wait=True)

    @cached_property
    def _info(self) -> models.CollectionInfo:
        return self.client.get_collection(self.name)

    @cached_property
    def _space(self) -> Space:
        return Space.of(self.name, self._info)

    @cached_property
    def _queries(self) -> QueryBuilder:
        return QueryBuilder(self._space, search_params(self._info))

    def _by_examples(self, query: Any, **asked: Any) -> list[Hit]:
        options = SearchOptions(**asked)
        return self._ask([self._queries.request(query, options)], options)[0]

    def _ask(self, requests: Sequence[models.QueryRequest], options: SearchOptions) -> list[list[Hit]]:
        return [[hit_of(point, options.leg or IMAGE) for point in points] for points in self._points(requests)]

    def _points(self, requests: Sequence[models.QueryRequest]) -> list[list[models.ScoredPoint]]:
        return [
            answer.points
            for batch in pages(requests, _BATCH)
            for answer in self.client.query_batch_points(self.name, requests=list(batch))
        ]
