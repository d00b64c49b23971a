"""clip-qdrant's tools for agents, where LlamaIndex's integrations live."""

from clip_qdrant.llamaindex.generation import ImageGenerationToolSpec
from clip_qdrant.llamaindex.tools import ImageSearchToolSpec

__all__ = ["ImageGenerationToolSpec", "ImageSearchToolSpec"]
