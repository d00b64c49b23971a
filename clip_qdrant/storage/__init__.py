"""Qdrant: where vectors and payloads are kept. Knows nothing of CLIP or LlamaIndex."""
