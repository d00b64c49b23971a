"""What a collection holds: its named vectors, its payload indexes, and the encoder that its vectors come from."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from clip_qdrant.errors import CollectionMismatchError
from clip_qdrant.storage.points import CONTENT_HASH, IMAGE, KIND, SOURCE, TEXT
from clip_qdrant.types import Fingerprint

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

IndexKind = Literal["keyword", "integer", "float", "bool", "datetime", "geo", "text"]

OWN_INDEXES: dict[str, IndexKind] = {CONTENT_HASH: "keyword", SOURCE: "keyword", KIND: "keyword", "doc_id": "keyword"}
"""The payload indexes that every collection has."""

_METADATA_KEY = "clip_qdrant"


class CollectionSchema(BaseModel):
    """The shape of a collection: cosine vectors `image` and `text` of one dimension, and payload indexes.

    Attributes:
        dim: of the vectors.
        fingerprint: of the encoder they come from; stored with the collection, and checked ever after.
        indexes: payload field -> kind of index, beside `OWN_INDEXES`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(ge=1, le=65_536)
    fingerprint: Fingerprint | None = None
    indexes: dict[str, IndexKind] = Field(default_factory=dict)

    def ensure(self, client: QdrantClient, name: str) -> None:
        """Create the collection, or check that the one there fits; either way the indexes are there afterwards.

        Raises:
            CollectionMismatchError: one of that name exists and holds something else.
        """
        from qdrant_client import models

        if not client.collection_exists(name):
            vector = models.VectorParams(size=self.dim, distance=models.Distance.COSINE)
            known = {} if self.fingerprint is None else {"fingerprint": self.fingerprint.to_dict()}
            client.create_collection(
                name, vectors_config={IMAGE: vector, TEXT: vector}, metadata={_METADATA_KEY: {"format": 1, **known}}
            )
        self.check(client, name)
        present = client.get_collection(name).payload_schema
        with warnings.catch_warnings():
            # Local mode has no payload indexes and says so each time; a filter works without.
            warnings.filterwarnings("ignore", "Payload indexes have no effect", UserWarning)
            for field, kind in {**OWN_INDEXES, **self.indexes}.items():
                if field not in present:
                    client.create_payload_index(name, field, field_schema=models.PayloadSchemaType(kind))

    def check(self, client: QdrantClient, name: str) -> None:
        """Hold an existing collection against this schema.

        Raises:
            CollectionMismatchError: its vectors or its encoder are others; the message says which.
        """
        info = client.get_collection(name)
        sizes = _vector_sizes(info.config.params.vectors)
        for leg in (IMAGE, TEXT):
            if leg not in sizes:
                raise CollectionMismatchError(
                    f"Collection {name!r} has no vector named {leg!r} but {sorted(sizes) or 'one without a name'}: "
                    "something else made it. Use another collection."
                )
        theirs = stored_fingerprint(info)
        ours = self.fingerprint
        if sizes[IMAGE] != self.dim or (ours and theirs and ours.digest != theirs.digest):
            maker = f" of {theirs.model!r}" if theirs else ""
            space = f"{self.dim}-d" if sizes[IMAGE] != self.dim else f"{self.dim}-d of another space"
            mine = f"{ours.model!r} makes {space}" if ours else f"{space} was asked for"
            raise CollectionMismatchError(
                f"Collection {name!r} holds {sizes[IMAGE]}-d vectors{maker}, but {mine}. "
                "Use another collection, or the model that this one was made with."
            )


def stored_fingerprint(info: models.CollectionInfo) -> Fingerprint | None:
    """The fingerprint stored with a collection, or None where none is."""
    own: dict[str, Any] = (info.config.metadata or {}).get(_METADATA_KEY, {})
    return Fingerprint.from_dict(own["fingerprint"]) if "fingerprint" in own else None


def _vector_sizes(vectors: Any) -> dict[str, int]:
    return {name: params.size for name, params in vectors.items()} if isinstance(vectors, dict) else {}
