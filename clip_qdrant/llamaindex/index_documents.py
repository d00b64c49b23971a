"""What a collection knows of documents: which nodes are theirs, and whether they are stored as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import BaseNode, Document, NodeRelationship

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.points import CONTENT_HASH

if TYPE_CHECKING:
    from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore

_CHUNKS = "chunks_of_the_document"


def node_list(given: Any) -> list[Any]:
    """Documents or nodes as a list.

    Raises:
        ConfigError: one instead of a list, or something else among them.
    """
    expected = "Documents and nodes are given as a list of them, got"
    if isinstance(given, (str, BaseNode)) or not isinstance(given, Iterable):
        raise ConfigError(f"{expected} {type(given).__name__}. Put it in brackets.")
    nodes = list(given)
    for node in nodes:
        if not isinstance(node, BaseNode):
            raise ConfigError(f"{expected} {type(node).__name__} in it.")
    return nodes


def counted(chunks: Sequence[BaseNode]) -> list[BaseNode]:
    """Chunks that know how many their document has, so that one which was half written is known as such."""
    counts = Counter(chunk.ref_doc_id for chunk in chunks)
    for chunk in chunks:
        if chunk.source_node is not None:
            own = {**chunk.source_node.metadata, _CHUNKS: counts[chunk.ref_doc_id]}
            source = chunk.source_node.model_copy(update={"metadata": own})
            chunk.relationships = {**chunk.relationships, NodeRelationship.SOURCE: source}
    return list(chunks)


def stored_nodes(store: ClipQdrantVectorStore, documents: Sequence[Document]) -> dict[str, list[BaseNode]]:
    """What the collection holds of documents, by their ids."""
    ids = [document.id_ for document in documents]
    if not store.client.collection_exists(store.collection_name):
        return {}
    stored: dict[str, list[BaseNode]] = {}
    for node in store.get_nodes(filters={"doc_id": {"in": ids}}):
        stored.setdefault(node.ref_doc_id or "", []).append(node)
    return stored


def is_unchanged(document: Document, stored: Sequence[BaseNode]) -> bool:
    """Whether a document is stored as it is; what other parts of this package wrote is known by content and caption."""
    sources = [node.source_node for node in stored]
    if any(source is not None and source.hash is not None for source in sources):
        return all(
            source is not None
            and source.hash == document.hash
            and source.metadata.get(_CHUNKS, len(stored)) == len(stored)
            for source in sources
        )
    known = document.metadata.get(CONTENT_HASH)
    return known is not None and [(node.metadata.get(CONTENT_HASH), node.get_content()) for node in stored] == [
        (known, document.get_content())
    ]
