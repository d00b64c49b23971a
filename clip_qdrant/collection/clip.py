"""The spine: an encoder and a collection, and the eight verbs that everything else adapts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from clip_qdrant.collection.ingest import IngestReport, ingest
from clip_qdrant.collection.query import query_vector
from clip_qdrant.errors import ConfigError, UnsupportedError
from clip_qdrant.storage.schema import CollectionSchema
from clip_qdrant.storage.vectors import VectorCollection

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qdrant_client import QdrantClient
    from typing_extensions import Self

    from clip_qdrant.collection.query import Query
    from clip_qdrant.storage.filters import Where
    from clip_qdrant.storage.vectors import Using
    from clip_qdrant.types import Encoder, Hit, Record


class ClipCollection:
    """Images and texts in one CLIP space, in one Qdrant collection.

    Example:
        >>> from clip_qdrant.storage.connect import connect
        >>> from clip_qdrant.testing import FakeEncoder
        >>> from clip_qdrant.types import Record
        >>> from PIL import Image
        >>> with connect(":memory:") as client:
        ...     collection = ClipCollection(client, "swatches", FakeEncoder())
        ...     report = collection.add(Record(name, Image.new("RGB", (8, 8), name)) for name in ("red", "blue"))
        ...     [hit.source for hit in collection.search("a red thing", limit=1)]
        ['red']

    Args:
        client: from `connect`, or any `QdrantClient`. `close` closes it.
        name: of the collection; made if it is not there.
        encoder: a `ClipEncoder`, or anything else that is an `Encoder`.
        schema: what else the collection shall be: payload indexes, quantisation, strict mode, shards, … Its dimension
            and fingerprint are the encoder's.

    Raises:
        CollectionMismatchError: the collection holds vectors of another encoder, or is another than the schema says.
    """

    def __init__(
        self, client: QdrantClient, name: str, encoder: Encoder, *, schema: CollectionSchema | None = None
    ) -> None:
        own = {"dim": encoder.dim, "fingerprint": encoder.fingerprint}
        self.vectors = VectorCollection(client, name, (schema or CollectionSchema()).model_copy(update=own))
        self.encoder = encoder

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.vectors.name

    def add(
        self, records: Iterable[Record], *, on_progress: Callable[[IngestReport], object] | None = None
    ) -> IngestReport:
        """Index records: decode, encode, write. What is there already, unchanged, is not encoded again.

        A record that cannot be opened is named in the report, and the others go in. Every batch is written before the
        next is read, so that after an interruption the same call goes on where it stopped.

        Args:
            records: read lazily; each replaces the point of the same scope, source and fragment.
            on_progress: called after every batch with the report so far.
        """
        return ingest(self.vectors, self.encoder, records, on_progress)

    def search(
        self,
        query: Query,
        *,
        limit: int = 10,
        where: Where | None = None,
        negative: Query | None = None,
        using: Using = "image",
        min_score: float | None = None,
        with_vectors: bool = False,
    ) -> list[Hit]:
        """What is most like the query, best first.

        Args:
            query: a text (str), an image (Path, bytes, PIL, …), or a list of them, each with a weight if you like.
            limit: how many at most.
            where: which points to search among: {"year": {"gte": 2023}}, "year >= 2023", or a Qdrant Filter.
            negative: what the answers should be unlike.
            using: compare with the stored "image" vectors, the "text" vectors, or "both", fused by reciprocal rank.
            min_score: leave out what scores lower (a cosine; what is high depends on the model and the query).
            with_vectors: return the vectors too.

        Raises:
            ConfigError: an empty query, or one that cancels itself out.
            ImageError: an image of the query cannot be opened.
            FilterError: `where` cannot be understood.
        """
        return self.vectors.search(
            self.query_vector(query, negative), limit=limit, where=where, using=using, min_score=min_score,
            with_vectors=with_vectors,
        )  # fmt: skip

    def query_vector(self, query: Query, negative: Query | None = None) -> NDArray[np.float32]:
        """The unit vector (dim,) of a query: p, or 2p - n with a negative n, as Qdrant's own recommend has it."""
        return query_vector(self.encoder, query, negative)

    def recommend(
        self,
        positive: Sequence[str],
        *,
        negative: Sequence[str] = (),
        limit: int = 10,
        where: Where | None = None,
    ) -> list[Hit]:
        """What is most like stored points, given by id, and unlike others; the points themselves are left out.

        Raises:
            ConfigError: no positive id, or one that is not in the collection or has no image vector.
        """
        from qdrant_client import models

        from clip_qdrant.storage.filters import to_filter

        if not positive:
            raise ConfigError("recommend needs at least one positive id.")
        vector = self._mean_of(positive)
        if negative:
            vector = 2 * vector - self._mean_of(negative)
        others = to_filter({"$id": {"not_in": [*positive, *negative]}})
        wanted = [part for part in (others, to_filter(where)) if part is not None]
        return self.vectors.search(vector, limit=limit, where=models.Filter(must=list(wanted)))

    def get(self, ids: Sequence[str], *, with_vectors: bool = False) -> list[Hit]:
        """The points of these ids, in this order; those that are not there are left out."""
        return self.vectors.get(ids, with_vectors=with_vectors)

    def delete(self, ids: Sequence[str] | None = None, *, where: Where | None = None) -> int:
        """Delete points by id or by filter, one of the two, and return how many are gone."""
        return self.vectors.delete(ids, where=where)

    def count(self, *, where: Where | None = None) -> int:
        """How many points there are."""
        return self.vectors.count(where=where)

    def optimize(self) -> bool:
        """Build the embedded engine's vector indexes now; a server does so by itself.

        Returns:
            Whether there was anything to do.

        Raises:
            UnsupportedError: the client is not an embedded one.
        """
        optimize = getattr(self.vectors.client, "optimize", None)
        if optimize is None:
            raise UnsupportedError(
                "Only a folder is optimized by hand; a server does it by itself, and memory needs none."
            )
        return bool(optimize(self.name))

    def close(self) -> None:
        """Close the client."""
        self.vectors.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _mean_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        hits = {hit.id: hit for hit in self.get(ids, with_vectors=True)}
        for id in ids:
            if id not in hits:
                raise ConfigError(f"There is no point {id!r} in {self.name!r} to recommend by.")
        vectors = [hit.vector for hit in hits.values() if hit.vector is not None]
        if len(vectors) != len(hits):
            raise ConfigError("A point to recommend by has no vector.")
        return np.asarray(np.mean(vectors, axis=0), dtype=np.float32)
