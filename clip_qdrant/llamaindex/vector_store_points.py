"""Nodes -> points of a collection's layout, and points of whatever made them -> nodes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from clip_qdrant.errors import ConfigError
from clip_qdrant.llamaindex.metadata_filters import holds_always
from clip_qdrant.llamaindex.nodes import kind_of, node_of, payload_of_node, text_of
from clip_qdrant.llamaindex.vector_store_captions import vectors_of_captioned
from clip_qdrant.storage.lexical import document_vectors, query_vectors
from clip_qdrant.storage.points import CAPTION, CONTENT_HASH, hit_of
from clip_qdrant.storage.vectors_checks import pages
from clip_qdrant.storage.vectors_scan import PAGE

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode
    from qdrant_client import QdrantClient, models

    from clip_qdrant.llamaindex.vector_store_layout import Layout
    from clip_qdrant.types import Encoder

SparseEncoder: TypeAlias = Callable[[list[str]], tuple[list[list[int]], list[list[float]]]]
"""Texts -> the indices and the values of their sparse vectors, as the stock store takes it."""

_NAMESPACE = uuid.UUID("0b7a4c1e-3f58-5d6b-8c55-5b1c3f0a9d27")
_DIGITS = re.compile(r"0|[1-9][0-9]{0,19}")
_LARGEST_ID = 2**64 - 1


def point_id_of(node_id: str) -> str:
    """The id of a node's point: a UUID stays, of anything else a UUIDv5. The node in the payload keeps its own."""
    try:
        return str(uuid.UUID(node_id))
    except ValueError:
        return str(uuid.uuid5(_NAMESPACE, node_id))


def point_ids_of(node_ids: Sequence[str | int]) -> list[str | int]:
    """The ids of all points that nodes of these ids may have: of digits also the integer, which others may have used.

    Raises:
        ConfigError: one id instead of a list, or one that is neither text nor an integer.
    """
    named = [str(node_id) for node_id in id_list("node_ids", node_ids)]
    integers = [int(name) for name in named if _DIGITS.fullmatch(name) and int(name) <= _LARGEST_ID]
    return list(dict.fromkeys([*map(point_id_of, named), *integers]))


def id_list(name: str, ids: Any) -> list[str | int]:
    """Ids of nodes or documents as a list.

    Raises:
        ConfigError: one id instead of a list, whose letters would be ids; or one that is neither text nor an integer.
    """
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise ConfigError(f"{name} is a list of ids, got {ids!r}. Put it in brackets.")
    given = list(ids)
    for each in given:
        if isinstance(each, bool) or not isinstance(each, (str, int)):
            raise ConfigError(f"{name} is a list of ids, which are str, got {each!r} in it.")
    return given


def selections(node_ids: Sequence[str] | None, wanted: models.Filter | None) -> Iterator[models.Filter | None]:
    """Filters that together find what is among these ids, and among what is wanted; None asks nothing."""
    from qdrant_client import models

    if node_ids is None:
        yield wanted
        return
    for page in pages(point_ids_of(node_ids), PAGE):
        yield all_of(models.Filter(must=[models.HasIdCondition(has_id=list(page))]), wanted)


def deletions(node_ids: Sequence[str] | None, wanted: models.Filter | None) -> Iterator[models.Filter]:
    """As `selections`, where something is asked.

    Raises:
        ConfigError: nothing is asked, or what holds for every node, such as "is none of []".
    """
    if node_ids is None and holds_always(wanted):
        raise ConfigError(
            "delete_nodes needs node_ids or filters that are not empty, and that do not hold for every node. "
            "To delete all, use clear()."
        )
    return filter(None, selections(node_ids, wanted))


def of_document(ref_doc_id: Any) -> models.Filter:
    """What finds the nodes of a document.

    Raises:
        ConfigError: no id of one.
    """
    from qdrant_client import models

    if not isinstance(ref_doc_id, str) or ref_doc_id in ("", "None"):
        raise ConfigError(
            f"delete needs the id of a document, got {ref_doc_id!r}; LlamaIndex writes 'None' of all nodes that have "
            "no document. To delete nodes by their own ids, use delete_nodes."
        )
    return models.Filter(must=[models.FieldCondition(key="doc_id", match=models.MatchValue(value=ref_doc_id))])


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
    """
    from qdrant_client import models

    texts = [text_of(node) for node in nodes]
    vectors: list[dict[str, Any]] = [{layout.legs[kind_of(node)]: node.embedding} for node in nodes]
    if encoder is not None and len(layout.names) > 1:
        for at, captioned in vectors_of_captioned(nodes, encoder).items():
            vectors[at] = {layout.legs[kind]: vector for kind, vector in captioned.items()}
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


def upload(
    client: QdrantClient,
    collection: str,
    batches: Iterable[list[models.PointStruct]],
    batch_size: int,
    parallel: int,
    max_retries: int,
) -> None:
    """Write batches of points, each when it is made.

    To a server they go by `upload_points`, which tries again and knows of processes. That of a folder gathers some
    thousands before it writes, which an interruption would cost; there a write is a call in this process anyway.
    """
    from qdrant_client.qdrant_remote import QdrantRemote

    if isinstance(client._client, QdrantRemote):
        client.upload_points(
            collection, chain.from_iterable(batches),
            batch_size=batch_size, parallel=parallel, max_retries=max_retries, wait=True,
        )  # fmt: skip
        return
    for batch in batches:
        client.upsert(collection, batch, wait=True)


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
            node.embedding = layout.vector_of(point, kind_of(node))
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
