"""Anything that is an image, as an RGB `PIL.Image`: one function opens everything, and one error says why it cannot."""

from clip_qdrant.images.ahead import decode_ahead
from clip_qdrant.images.decode import MAX_PIXELS, content_hash, open_image
from clip_qdrant.images.sources import describe_source

__all__ = ["MAX_PIXELS", "content_hash", "decode_ahead", "describe_source", "open_image"]
