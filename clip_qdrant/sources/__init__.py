"""Where records come from."""

from clip_qdrant.sources.folders import IMAGE_SUFFIXES, records_in

__all__ = ["IMAGE_SUFFIXES", "records_in"]
