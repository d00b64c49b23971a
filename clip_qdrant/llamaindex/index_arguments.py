"""What a `ClipIndex` takes: LlamaIndex hands all arguments to everyone, who drop the rest, and a wrong one is lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any

from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.constants import DEFAULT_SIMILARITY_TOP_K
from llama_index.core.indices.base import BaseIndex
from llama_index.core.indices.vector_store.base import VectorStoreIndex
from llama_index.core.indices.vector_store.retrievers import VectorIndexRetriever
from llama_index.core.query_engine import RetrieverQueryEngine

from clip_qdrant.errors import ConfigError
from clip_qdrant.llamaindex.metadata_filters import to_qdrant_filter
from clip_qdrant.llamaindex.retrievers import ClipRetriever
from clip_qdrant.llamaindex.store_retriever import StoreRetriever
from clip_qdrant.llamaindex.vector_store_points import all_of, id_list, point_ids_of
from clip_qdrant.storage.filters import to_filter

if TYPE_CHECKING:
    from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore

_OF_QUERY_MODES = ("vector_store_query_mode", "alpha", "sparse_top_k", "hybrid_top_k", "vector_store_kwargs")
_NUMBERS = ("similarity_top_k", "image_similarity_top_k", "text_similarity_top_k")
_ENGINES = (
    RetrieverQueryEngine.from_args,
    ContextChatEngine.from_defaults,
    CondensePlusContextChatEngine.from_defaults,
    CondenseQuestionChatEngine.from_defaults,
    SimpleChatEngine.from_defaults,
)
_INSTEAD = {
    "similarity_cutoff": "SimilarityPostprocessor(similarity_cutoff=…) among the node_postprocessors of the engine",
    "fusion": "vector_store_query_mode='hybrid' with alpha",
    "image_similarity_top_k": "similarity_top_k, and using='image'",
    "text_similarity_top_k": "similarity_top_k, and using='text'",
}


def check_index_arguments(given: Collection[str]) -> None:
    """Refuse what no index takes.

    Raises:
        ConfigError: with the name that may have been meant.
    """
    known = _names(VectorStoreIndex, BaseIndex)
    for name in sorted(set(given) - known):
        raise ConfigError(f"ClipIndex takes no argument {name!r}. {_meant(name, known)}")


def check_retriever_arguments(given: Collection[str]) -> None:
    """Refuse what neither a retriever takes, nor an engine around it, which hands all its arguments on.

    Raises:
        ConfigError: with the name that may have been meant.
    """
    known = _names(ClipRetriever, StoreRetriever, VectorIndexRetriever)
    engines = _names(*_ENGINES)
    for name in sorted(set(given) - known - engines):
        raise ConfigError(f"Neither a retriever nor an engine takes an argument {name!r}. {_meant(name, known)}")


def store_arguments(given: Mapping[str, Any], *, is_by_kind: bool) -> dict[str, Any] | None:
    """The arguments of a `StoreRetriever`, or None where a `ClipRetriever` can do what is asked.

    Raises:
        ConfigError: an argument of a `ClipRetriever` where the other is needed.
    """
    modes = [name for name in _OF_QUERY_MODES if given.get(name) is not None]
    if is_by_kind and not modes:
        return None
    why = f"together with {modes[0]}" if modes else "of a collection with one vector for pictures and texts alike"
    for name, instead in _INSTEAD.items():
        if given.get(name) is not None:
            raise ConfigError(f"{name}={given[name]!r} cannot be had {why}. Use {instead}.")
    known = _names(StoreRetriever, VectorIndexRetriever)
    return {name: value for name, value in given.items() if name in known and value is not None}


def clip_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a `ClipRetriever`; ids of documents and nodes narrow its filters, and None is as left out.

    Raises:
        ConfigError: ids that are none.
        FilterError: filters that cannot be understood.
    """
    scope: dict[str, Any] = {}
    if given.get("doc_ids"):
        scope["doc_id"] = {"in": id_list("doc_ids", given["doc_ids"])}
    if given.get("node_ids"):
        scope["$id"] = {"in": point_ids_of(given["node_ids"])}
    arguments = {name: value for name, value in given.items() if name in _names(ClipRetriever) and value is not None}
    if not arguments.keys() & set(_NUMBERS):
        arguments |= dict.fromkeys(_NUMBERS, DEFAULT_SIMILARITY_TOP_K)
    if scope:
        arguments["filters"] = all_of(to_filter(scope), to_qdrant_filter(given.get("filters")))
    return arguments


def check_image_store(images: Any, store: ClipQdrantVectorStore) -> None:
    """Refuse a second store that holds something: it would never be searched."""
    name, client = getattr(images, "collection_name", None), getattr(images, "client", None)
    if name is None or client is None or images is store or not client.collection_exists(name):
        return
    if client.count(name).count:
        raise ConfigError(
            f"The image store {name!r} holds points, which ClipIndex would not search: it keeps pictures and texts in "
            "one collection. Index the pictures into that, and leave image_store out."
        )


@cache
def _names(*makers: Any) -> frozenset[str]:
    """The names of the arguments of what is called."""
    return frozenset(name for maker in makers for name in signature(maker).parameters) - {"kwargs"}


def _meant(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"There is {', '.join(sorted(known))}."
