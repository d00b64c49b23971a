"""Record <-> Qdrant point. The only place that knows payload keys.

A point of the record `/photos/bear.jpg` with the caption "a brown bear":

    id       UUIDv5 of (scope, source and its fragment): indexing again changes nothing, two tenants never share a point
    vectors  image: unit vector of the picture      text: unit vector of the caption
    payload  source, modality ("image" or "text"), content_hash, and where there is any: fragment, scope, text
             synthetic: whether a model made it; false unless the metadata say otherwise
             whatever metadata the record has, flat, beside them
             _node_content, _node_type, document_id, doc_id, ref_doc_id: what LlamaIndex reads
             _tags and its fields, see tags.py, where the point was tagged

LlamaIndex's part is written literally, so that this room needs no LlamaIndex; a test holds it against the real one.
It holds neither the picture nor a vector.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from clip_qdrant.errors import InvalidPointError
from clip_qdrant.types import Hit, Record

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qdrant_client import models

Leg = Literal["image", "text"]
"""The named vectors of a collection."""
IMAGE: Final = "image"
TEXT: Final = "text"

SOURCE, MODALITY, CONTENT_HASH, CAPTION = "source", "modality", "content_hash", "text"
SYNTHETIC: Final = "synthetic"
SCOPE: Final = "scope"
_FRAGMENT: Final = "fragment"
_LLAMAINDEX_KEYS = ("_node_content", "_node_type", "document_id", "doc_id", "ref_doc_id")
TAGS: Final = "_tags"
_OWN_KEYS = frozenset({SOURCE, MODALITY, CONTENT_HASH, CAPTION, _FRAGMENT, SCOPE, TAGS, *_LLAMAINDEX_KEYS})
RESERVED_KEYS = _OWN_KEYS | {SYNTHETIC}
"""What no tag may be written to; a record's metadata may say `synthetic`, and nothing else of it."""
_NOT_SHOWN = frozenset({SOURCE, CAPTION, TAGS, *_LLAMAINDEX_KEYS})
_NAMESPACE = uuid.UUID("6f0c1f0e-6a53-5d0c-9a52-2f5f3f7c1b11")


def point_id(record: Record) -> str:
    """The id of a record's point: its own where it has one, else a UUIDv5 of (scope, source, fragment).

    Without a fragment it is `document_id`: the source has one point, which LlamaIndex knows by its document's id.

    Raises:
        InvalidPointError: the record brings an id that Qdrant does not take.
    """
    if record.id is None:
        return _uuid(record.scope, record.source, record.fragment) if record.fragment else document_id(record)
    try:
        return str(uuid.UUID(record.id))
    except ValueError as error:
        raise InvalidPointError(
            f"The record {record.source!r} has the id {record.id!r}, which is not a UUID. Leave it out, or give a UUID."
        ) from error


def document_id(record: Record) -> str:
    """The id that all fragments of one source share, a UUIDv5 of (scope, source): LlamaIndex's ref_doc_id."""
    return _uuid(record.scope, record.source)


def payload_of(record: Record, content_hash: str) -> dict[str, Any]:
    """The payload of a record's point.

    Raises:
        InvalidPointError: the record's metadata uses a key that is ours, or holds what JSON cannot.
    """
    clash = sorted(_OWN_KEYS & record.metadata.keys())
    if clash:
        raise InvalidPointError(f"The metadata of {record.source!r} uses reserved keys: {clash}. Rename them.")
    modality = TEXT if record.image is None else IMAGE
    own = {SOURCE: record.source, MODALITY: modality, CONTENT_HASH: content_hash}
    optional = {CAPTION: record.text, _FRAGMENT: record.fragment, SCOPE: record.scope}
    shown = {**record.metadata, **own, **{key: value for key, value in optional.items() if value and key != CAPTION}}
    document = document_id(record)
    try:
        node = json.dumps(_node(record, shown, document), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidPointError(f"The metadata of {record.source!r} is not JSON: {error}.") from error
    return {
        SYNTHETIC: False,
        **shown,
        **({CAPTION: record.text} if record.text is not None else {}),
        "_node_content": node,
        "_node_type": "ImageNode" if modality == IMAGE else "TextNode",
        "document_id": document,
        "doc_id": document,
        "ref_doc_id": document,
    }


def point_of(
    record: Record, content_hash: str, vectors: Mapping[str, NDArray[np.float32] | list[float]]
) -> models.PointStruct:
    """The point of a record whose vectors are known, by leg."""
    from qdrant_client import models

    return models.PointStruct(
        id=point_id(record),
        vector={leg: np.asarray(vector, dtype=np.float32).tolist() for leg, vector in vectors.items()},
        payload=payload_of(record, content_hash),
    )


def hit_of(point: models.ScoredPoint | models.Record, leg: Leg = IMAGE) -> Hit:
    """A point as a `Hit`; its score is 0.0 when it was not searched for. Reads points that others wrote, too."""
    payload = point.payload or {}
    vectors = point.vector if isinstance(point.vector, dict) else {}
    vector = vectors.get(leg, vectors.get(TEXT))
    return Hit(
        id=str(point.id),
        score=float(getattr(point, "score", 0.0)),
        source=payload.get(SOURCE),
        text=payload.get(CAPTION),
        metadata={key: value for key, value in payload.items() if key not in _NOT_SHOWN},
        vector=None if vector is None else np.asarray(vector, dtype=np.float32),
        payload=payload,
    )


def text_hash(text: str) -> str:
    """SHA-256 (hex) of a text: the content hash of a record without an image."""
    return hashlib.sha256(text.encode()).hexdigest()


def _uuid(*parts: str) -> str:
    # Joined as JSON: no separator that a file name could contain makes two identities one.
    return str(uuid.uuid5(_NAMESPACE, json.dumps(parts, ensure_ascii=False)))


def _node(record: Record, metadata: Mapping[str, Any], document: str) -> dict[str, Any]:
    """What LlamaIndex's ImageNode and TextNode write of themselves."""
    node: dict[str, Any] = {
        "id_": point_id(record),
        "embedding": None,
        "metadata": dict(metadata),
        "excluded_embed_metadata_keys": list(metadata),  # the caption alone is embedded
        "excluded_llm_metadata_keys": [CONTENT_HASH],
        "relationships": {"1": {"node_id": document, "node_type": "4", "metadata": {}, "hash": None}},
        "text": record.text or "",
        "class_name": "TextNode",
    }
    if record.image is None:
        return node
    path = os.fspath(record.image) if isinstance(record.image, (str, os.PathLike)) else None
    is_path = path is not None and not path.startswith(("data:", "http://", "https://")) and _is_text(path)
    return {**node, "image": None, "image_path": path if is_path else None, "class_name": "ImageNode"}


def _is_text(path: str) -> bool:
    """Whether a file's name is UTF-8, which is all that a payload can hold."""
    return not any("\ud800" <= character <= "\udfff" for character in path)
