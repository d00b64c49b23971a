"""CLIP image and text search for LlamaIndex, stored in Qdrant.

The public names are loaded when they are first used: importing the package loads no torch, no LlamaIndex, no Qdrant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from clip_qdrant.collection.clip import ClipCollection as ClipCollection
    from clip_qdrant.collection.ingest import IngestReport as IngestReport
    from clip_qdrant.collection.labels import LabelCollection as LabelCollection
    from clip_qdrant.collection.tagging import tag as tag
    from clip_qdrant.errors import ClipQdrantError as ClipQdrantError
    from clip_qdrant.images import open_image as open_image
    from clip_qdrant.llamaindex.embedding import ClipEmbedding as ClipEmbedding
    from clip_qdrant.llamaindex.index import ClipIndex as ClipIndex
    from clip_qdrant.llamaindex.reader import ClipReader as ClipReader
    from clip_qdrant.llamaindex.retrievers import ClipRetriever as ClipRetriever
    from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore as ClipQdrantVectorStore
    from clip_qdrant.models.diffusion import DiffusionGenerator as DiffusionGenerator
    from clip_qdrant.models.encoder import ClipEncoder as ClipEncoder
    from clip_qdrant.models.painter import EmbeddingPainter as EmbeddingPainter
    from clip_qdrant.models.zero_shot import ZeroShotClassifier as ZeroShotClassifier
    from clip_qdrant.models.zero_shot_labels import Label as Label
    from clip_qdrant.sources.folders import records_in as records_in
    from clip_qdrant.sources.manifests import records_from as records_from
    from clip_qdrant.storage.connect import connect as connect
    from clip_qdrant.storage.connect import connect_async as connect_async
    from clip_qdrant.storage.schema import CollectionSchema as CollectionSchema
    from clip_qdrant.types import Hit as Hit
    from clip_qdrant.types import Record as Record

_HOMES = {
    "ClipCollection": "collection.clip",
    "ClipEmbedding": "llamaindex.embedding",
    "ClipEncoder": "models.encoder",
    "ClipIndex": "llamaindex.index",
    "ClipQdrantError": "errors",
    "ClipQdrantVectorStore": "llamaindex.vector_store",
    "ClipReader": "llamaindex.reader",
    "ClipRetriever": "llamaindex.retrievers",
    "CollectionSchema": "storage.schema",
    "DiffusionGenerator": "models.diffusion",
    "EmbeddingPainter": "models.painter",
    "Hit": "types",
    "IngestReport": "collection.ingest",
    "Label": "models.zero_shot_labels",
    "LabelCollection": "collection.labels",
    "Record": "types",
    "ZeroShotClassifier": "models.zero_shot",
    "connect": "storage.connect",
    "connect_async": "storage.connect",
    "open_image": "images",
    "records_from": "sources.manifests",
    "records_in": "sources.folders",
    "tag": "collection.tagging",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
