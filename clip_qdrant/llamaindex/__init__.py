"""LlamaIndex components over a collection, one a file.

in       reader.py, embedding.py, vector_store.py, index.py
out      retrievers.py, postprocessors.py, budget.py, answers.py, selector.py, router.py, modality.py, tools.py,
         generation.py
between  nodes.py and queries.py know LlamaIndex's nodes and queries, metadata_filters.py its filters
"""

from clip_qdrant.llamaindex.answers import VisualQueryEngine, multimodal_query_engine
from clip_qdrant.llamaindex.budget import ImageBudget
from clip_qdrant.llamaindex.embedding import ClipEmbedding
from clip_qdrant.llamaindex.generation import (
    GenerationQueryEngine,
    ImageGenerationToolSpec,
    RetrieveOrGenerateRetriever,
)
from clip_qdrant.llamaindex.index import ClipIndex
from clip_qdrant.llamaindex.metadata_filters import MetadataFilter
from clip_qdrant.llamaindex.modality import ModalitySelector
from clip_qdrant.llamaindex.postprocessors import ClipReranker, NearDuplicateFilter
from clip_qdrant.llamaindex.queries import ImageQueryBundle
from clip_qdrant.llamaindex.reader import ClipReader
from clip_qdrant.llamaindex.retrievers import ClipRetriever
from clip_qdrant.llamaindex.router import ZeroShotRouter
from clip_qdrant.llamaindex.selector import ZeroShotSelector
from clip_qdrant.llamaindex.tools import ImageSearchToolSpec
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore

__all__ = [
    "ClipEmbedding",
    "ClipIndex",
    "ClipQdrantVectorStore",
    "ClipReader",
    "ClipReranker",
    "ClipRetriever",
    "GenerationQueryEngine",
    "ImageBudget",
    "ImageGenerationToolSpec",
    "ImageQueryBundle",
    "ImageSearchToolSpec",
    "MetadataFilter",
    "ModalitySelector",
    "NearDuplicateFilter",
    "RetrieveOrGenerateRetriever",
    "VisualQueryEngine",
    "ZeroShotRouter",
    "ZeroShotSelector",
    "multimodal_query_engine",
]
