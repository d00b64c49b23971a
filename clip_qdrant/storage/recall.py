"""How much of the truth a collection's vector index finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.schema import dense_vectors, search_params

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_TIE = 1e-6
"""Of scores, relative above 1."""


def measured_recall(client: QdrantClient, name: str, using: str, *, k: int = 10, sample: int = 100) -> float:
    """The mean recall at k of search as it is done here, against exact search, over a sample of the stored vectors.

    An answer as good as the exact k-th is right, whichever of equals it is.

    Args:
        client: of the collection.
        name: of the collection.
        using: the named vector to search with.
        k: answers a search.
        sample: how many searches.

    Returns:
        0.0 to 1.0; 1.0 for a collection without such vectors.
    """
    from qdrant_client import models

    if k < 1 or sample < 1:
        raise ConfigError(f"k and sample must be at least 1, got {k} and {sample}.")
    drawn = client.query_points(
        name,
        query=models.SampleQuery(sample=models.Sample.RANDOM),
        query_filter=models.Filter(must=[models.HasVectorCondition(has_vector=using)]),
        limit=sample,
        with_payload=False,
        with_vectors=[using],
    ).points
    info = client.get_collection(name)
    params = search_params(info) or models.SearchParams()
    distance = dense_vectors(info)[using].distance if drawn else models.Distance.COSINE
    sign = -1 if distance in (models.Distance.EUCLID, models.Distance.MANHATTAN) else 1  # there less is nearer
    found = right = 0
    for point in drawn:
        vector: Any = point.vector[using] if isinstance(point.vector, dict) else point.vector
        exact, approximate = (
            client.query_points(
                name,
                query=vector,
                using=using,
                limit=k,
                with_payload=False,
                search_params=each,
            ).points
            for each in (models.SearchParams(exact=True), params)
        )
        found += len(exact)
        least = sign * exact[-1].score - _TIE * max(1.0, abs(exact[-1].score))
        right += sum(sign * hit.score >= least for hit in approximate)
    return right / found if found else 1.0
