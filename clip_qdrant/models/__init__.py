"""Neural nets. Know nothing of Qdrant or LlamaIndex."""
