"""clip-qdrant's tools for agents, where LlamaIndex's integrations live."""

from clip_qdrant.llamaindex.tools import ImageSearchToolSpec

__all__ = ["ImageSearchToolSpec"]
