"""Nodes -> points of a collection's layout, and points of whatever made them -> nodes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from clip_qdrant.llamaindex.nodes import kind_of, node_of, payload_of_node, text_of
from clip_qdrant.storage.lexical import document_vectors, query_vectors
from clip_qdrant.storage.points import CAPTION, CONTENT_HASH, IMAGE, TEXT, hit_of
from clip_qdrant.storage.vectors_checks import pages
from clip_qdrant.storage.vectors_scan import PAGE

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode
    from qdrant_client import models

    from clip_qdrant.llamaindex.vector_store_layout import Layout
    from clip_qdrant.types import Encoder

SparseEncoder: TypeAlias = Callable[[list[str]], tuple[list[list[int]], list[list[float]]]]
"""Texts -> the indices and the values of their sparse vectors, as the stock store takes it."""

_NAMESPACE = uuid.UUID("0b7a4c1e-3f58-5d6b-8c55-5b1c3f0a9d27")


def point_id_of(node_id: str) -> str:
    """The id of a node's point: a UUID stays, of anything else a UUIDv5. The node in the payload keeps its own."""
    try:
        return str(uuid.UUID(node_id))
    except ValueError:
        return str(uuid.uuid5(_NAMESPACE, node_id))


def selections(node_ids: Sequence[str] | None, wanted: models.Filter | None) -> Iterator[models.Filter | None]:
    """Filters that together find what is among these ids, and among what is wanted; None asks nothing."""
    from qdrant_client import models

    if node_ids is None:
        yield wanted
        return
    for page in pages(list(dict.fromkeys(map(point_id_of, node_ids))), PAGE):
        yield all_of(models.Filter(must=[models.HasIdCondition(has_id=list(page))]), wanted)


def all_of(*filters: models.Filter | None) -> models.Filter | None:
    """One filter for all that are not None."""
    from qdrant_client import models

    given: list[Any] = [each for each in filters if each is not None]
    return models.Filter(must=given) if len(given) > 1 else next(iter(given), None)


def points_of(
    nodes: Sequence[BaseNode], layout: Layout, encoder: Encoder | None, sparse: SparseEncoder | None
) -> list[models.PointStruct]:
    """The points of nodes that have their embeddings.

    Args:
        nodes: one batch.
        layout: of the collection.
        encoder: makes the text vectors of pictures with captions, where the layout has room for them.
        sparse: makes the sparse vectors, where the layout has one.

    Raises:
        InvalidPointError: metadata that JSON cannot hold.
        ImageError: a picture cannot be read for its content hash.
    """
    from qdrant_client import models

    texts = [text_of(node) for node in nodes]
    vectors: list[dict[str, Any]] = [{layout.legs[kind_of(node)]: node.embedding} for node in nodes]
    if encoder is not None and len(layout.names) > 1:
        captions = {at: text for at, text in enumerate(texts) if text and kind_of(nodes[at]) == IMAGE}
        for at, vector in zip(captions, encoder.embed_texts(list(captions.values())).tolist(), strict=True):
            vectors[at][layout.legs[TEXT]] = vector
    if sparse is not None and layout.sparse is not None:
        written = {at: text for at, text in enumerate(texts) if text}
        for at, indices, values in zip(written, *sparse(list(written.values())), strict=True):
            vectors[at][layout.sparse] = models.SparseVector(indices=list(indices), values=list(values))
    return [
        models.PointStruct(
            id=point_id_of(node.node_id),
            vector=own[""] if own.keys() == {""} else own,
            payload=payload_of_node(node, node.metadata.get(CONTENT_HASH)),
        )
        for node, own in zip(nodes, vectors, strict=True)
    ]


def nodes_of(
    points: Iterable[models.ScoredPoint | models.Record], layout: Layout | None, text_key: str
) -> list[BaseNode]:
    """The nodes that points were made of, with embeddings where the points have their vectors."""
    nodes = []
    for point in points:
        hit = replace(hit_of(point), vector=None)
        if text_key != CAPTION:
            hit = replace(hit, text=hit.payload.get(text_key))
        node = node_of(hit)
        if layout is not None and point.vector:
            node.embedding = layout.vector_of(point)
        nodes.append(node)
    return nodes


def bm25_documents(texts: list[str]) -> tuple[list[list[int]], list[list[float]]]:
    """The words of nodes' texts (`storage.lexical`), as a `SparseEncoder`."""
    return _columns(document_vectors(texts))


def bm25_queries(texts: list[str]) -> tuple[list[list[int]], list[list[float]]]:
    """The words of queries (`storage.lexical`), as a `SparseEncoder`."""
    return _columns(query_vectors(texts))


def _columns(vectors: list[models.SparseVector]) -> tuple[list[list[int]], list[list[float]]]:
    return [vector.indices for vector in vectors], [vector.values for vector in vectors]
