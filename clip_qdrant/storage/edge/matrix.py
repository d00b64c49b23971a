"""The distances among a sample of points, which the engine leaves to its caller."""

from __future__ import annotations

from typing import Any

from qdrant_client import models
from qdrant_client.conversions import common_types as types

from clip_qdrant.storage.edge.reads import ReadsMixin, check_limit


class MatrixMixin(ReadsMixin):
    """`QdrantBase`'s search matrices."""

    def search_matrix_pairs(
        self,
        collection_name: str,
        query_filter: types.Filter | None = None,
        limit: int = 3,
        sample: int = 10,
        using: str | None = None,
        **kwargs: Any,
    ) -> types.SearchMatrixPairsResponse:
        """For each of a random sample of points its nearest others in the sample, as pairs of ids with scores."""
        rows = self._matrix(collection_name, query_filter, limit, sample, using or "")
        pairs = [models.SearchMatrixPair(a=a, b=hit.id, score=hit.score) for a, hits in rows for hit in hits]
        return models.SearchMatrixPairsResponse(pairs=pairs)

    def search_matrix_offsets(
        self,
        collection_name: str,
        query_filter: types.Filter | None = None,
        limit: int = 3,
        sample: int = 10,
        using: str | None = None,
        **kwargs: Any,
    ) -> types.SearchMatrixOffsetsResponse:
        """The same as `search_matrix_pairs`, as the coordinates and values of a sparse matrix."""
        rows = self._matrix(collection_name, query_filter, limit, sample, using or "")
        offset_of = {point_id: offset for offset, (point_id, _) in enumerate(rows)}
        cells = [(row, offset_of[hit.id], hit.score) for row, (_, hits) in enumerate(rows) for hit in hits]
        return models.SearchMatrixOffsetsResponse(
            offsets_row=[row for row, _, _ in cells],
            offsets_col=[column for _, column, _ in cells],
            scores=[score for _, _, score in cells],
            ids=list(offset_of),
        )

    def _matrix(
        self, collection_name: str, given: types.Filter | None, limit: int, sample: int, using: str
    ) -> list[tuple[types.PointId, list[models.ScoredPoint]]]:
        """Each sampled point with its nearest others, in the order of the ids; none of fewer than two."""
        check_limit(limit)
        check_limit(sample, "sample", least=2)
        collection = self._open(collection_name)
        collection.space.check_name(using)
        collection.rules.check_search(limit * sample, None)
        collection.filter_to_read(given)
        must: list[Any] = [models.HasVectorCondition(has_vector=using)]
        drawn = models.QueryRequest(
            query=models.SampleQuery(sample=models.Sample.RANDOM),
            filter=models.Filter(must=must if given is None else [*must, given]),
            limit=sample,
            with_payload=False,
            with_vector=[using] if using else True,
        )
        sampled = self._query(collection_name, [drawn], is_ours=True)[0].points
        if len(sampled) < 2:
            return []
        sampled.sort(key=lambda point: (isinstance(point.id, str), point.id))
        others = models.HasIdCondition(has_id=[point.id for point in sampled])
        requests = [
            models.QueryRequest(
                query=point.vector[using] if isinstance(point.vector, dict) else point.vector,
                using=using or None,
                filter=models.Filter(must=[others], must_not=[models.HasIdCondition(has_id=[point.id])]),
                limit=limit,
            )
            for point in sampled
        ]
        answers = self._query(collection_name, requests, is_ours=True)
        return [(point.id, answer.points) for point, answer in zip(sampled, answers, strict=True)]
