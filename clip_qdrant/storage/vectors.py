"""One collection as vectors in, Hits out. Works over any `QdrantClient`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clip_qdrant.errors import CollectionNotFoundError, ConfigError, InvalidPointError
from clip_qdrant.storage.filters import to_filter
from clip_qdrant.storage.points import CONTENT_HASH, IMAGE, TEXT, hit_of
from clip_qdrant.storage.schema import stored_fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qdrant_client import QdrantClient, models

    from clip_qdrant.storage.filters import Where
    from clip_qdrant.storage.schema import CollectionSchema
    from clip_qdrant.types import Fingerprint, Hit

Using = Literal["image", "text", "both"]
"""Which vectors a search compares with: of the pictures, of the texts, or both, fused by reciprocal rank."""

_PAGE = 1_000
_PREFETCH_FACTOR = 4


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
        """Write points, and return when they are written."""
        if points:
            self.client.upsert(self.name, points=list(points), wait=True)

    def search(
        self,
        vector: NDArray[np.float32],
        *,
        limit: int = 10,
        where: Where | None = None,
        using: Using = "image",
        min_score: float | None = None,
        with_vectors: bool = False,
    ) -> list[Hit]:
        """The points nearest to a vector (dim,), best first.

        Args:
            vector: of a query; it need not be of unit length.
            limit: how many at most.
            where: which points to search among.
            using: which vectors to compare with. The scores of "both" are reciprocal ranks, not cosines.
            min_score: leave out what scores lower; a cosine, so not with "both".
            with_vectors: return the vectors too.

        Raises:
            InvalidPointError: the vector is zero, or has a NaN.
            ConfigError: a limit below 1, or `min_score` with "both".
            FilterError: `where` cannot be understood.
        """
        from qdrant_client import models

        if limit < 1:
            raise ConfigError(f"limit must be at least 1, got {limit!r}.")
        if using not in ("image", "text", "both"):
            raise ConfigError(f"using must be 'image', 'text' or 'both', got {using!r}.")
        if not np.isfinite(vector).all() or not np.any(vector):
            raise InvalidPointError("The query's vector is zero or has a NaN; it is near to nothing.")
        query, wanted = np.asarray(vector, dtype=np.float32).tolist(), to_filter(where)
        if using != "both":
            found = self.client.query_points(
                self.name, query=query, using=using, query_filter=wanted, limit=limit, score_threshold=min_score,
                with_payload=True, with_vectors=with_vectors,
            )  # fmt: skip
            return [hit_of(point, using) for point in found.points]
        if min_score is not None:
            raise ConfigError("min_score compares cosines, which a search with using='both' does not have.")
        legs = [
            models.Prefetch(query=query, using=leg, filter=wanted, limit=_PREFETCH_FACTOR * limit)
            for leg in (IMAGE, TEXT)
        ]
        fused = self.client.query_points(
            self.name, prefetch=legs, query=models.FusionQuery(fusion=models.Fusion.RRF), limit=limit,
            with_payload=True, with_vectors=with_vectors,
        )  # fmt: skip
        return [hit_of(point) for point in fused.points]

    def get(self, ids: Sequence[str], *, with_vectors: bool = False) -> list[Hit]:
        """The points of these ids, in this order; those that are not there are left out."""
        found = {point.id: point for point in self.retrieve(ids, with_vectors=with_vectors)}
        return [hit_of(found[id]) for id in ids if id in found]

    def retrieve(self, ids: Sequence[str], *, with_vectors: bool = False) -> list[models.Record]:
        """Raw points, for those who copy them."""
        return self.client.retrieve(self.name, ids=list(ids), with_payload=True, with_vectors=with_vectors)

    def with_content(self, hashes: Iterable[str]) -> dict[str, models.ScoredPoint]:
        """For each content hash that is stored, one point with its vectors."""
        from qdrant_client import models

        wanted = list(hashes)
        if not wanted:
            return {}
        # One request, one point for each: of a content that is stored a thousand times a thousand are not fetched.
        requests = [
            models.QueryRequest(filter=to_filter({CONTENT_HASH: hash}), limit=1, with_payload=True, with_vector=True)
            for hash in wanted
        ]
        answers = self.client.query_batch_points(self.name, requests=requests)
        return {hash: answer.points[0] for hash, answer in zip(wanted, answers, strict=True) if answer.points}

    def scan(self, *, where: Where | None = None, with_vectors: bool = False) -> Iterator[Hit]:
        """Every point, a page at a time, in no particular order."""
        return (hit_of(point) for point in self._scroll(to_filter(where), with_vectors=with_vectors))

    def count(self, *, where: Where | None = None) -> int:
        """How many points there are."""
        return self.client.count(self.name, count_filter=to_filter(where), exact=True).count

    def delete(self, ids: Sequence[str] | None = None, *, where: Where | None = None) -> int:
        """Delete points by id or by filter, and return how many are gone.

        Raises:
            ConfigError: neither was given, or both: nothing is deleted by accident.
        """
        from qdrant_client import models

        wanted = to_filter(where)
        if (ids is None) == (wanted is None):
            raise ConfigError("Give delete either ids or a filter that is not empty.")
        before = self.count()
        selector: Any = list(ids) if ids is not None else models.FilterSelector(filter=wanted or models.Filter())
        if ids is None or ids:
            self.client.delete(self.name, points_selector=selector, wait=True)
        return before - self.count()

    def set_payload(self, id: str, payload: Mapping[str, Any]) -> None:
        """Replace a point's payload; its vectors stay."""
        self.client.overwrite_payload(self.name, payload=dict(payload), points=[id], wait=True)

    def _scroll(self, where: models.Filter | None, *, with_vectors: bool) -> Iterator[models.Record]:
        offset: Any = None
        while True:
            points, offset = self.client.scroll(
                self.name, scroll_filter=where, limit=_PAGE, offset=offset, with_payload=True, with_vectors=with_vectors
            )
            yield from points
            if offset is None:
                return
