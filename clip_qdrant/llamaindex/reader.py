"""A LlamaIndex reader of pictures: what `sources` finds, as documents."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import Field
from llama_index.core.readers.base import BasePydanticReader
from llama_index.core.schema import (
    Document,
    ImageDocument,
    MediaResource,
    NodeRelationship,
    ObjectType,
    RelatedNodeInfo,
)

from clip_qdrant.errors import ConfigError, ImageError, ImageReadError
from clip_qdrant.images import content_hash, describe_source
from clip_qdrant.images.sources import kind_of
from clip_qdrant.sources import OnProblem, Problem, log_problem, records_from, records_in
from clip_qdrant.sources.metadata import is_text
from clip_qdrant.sources.rows import FORMATS
from clip_qdrant.storage.points import CONTENT_HASH, IMAGE, MODALITY, SOURCE, document_id, point_id

if TYPE_CHECKING:
    from clip_qdrant.types import Record

_SCOPE, _FRAGMENT = "scope", "fragment"
_NOT_FOR_LLMS = (CONTENT_HASH, MODALITY, _SCOPE, _FRAGMENT)


class ClipReader(BasePydanticReader):
    """Reads a folder of pictures, one picture, or a manifest of them as documents.

    A document has the picture's path, never its bytes; its caption as the text; and as metadata what the file, the
    files beside it and the manifest say (see `records_in` and `records_from`), with the `content_hash` of the picture,
    so that LlamaIndex's caches and docstores see when a picture has changed. Its id is that of its source, the same
    whenever it is read. Of the metadata nothing is embedded: captions alone are.

    It reads pictures for a `SimpleDirectoryReader`, too:

        reader = ClipReader()
        SimpleDirectoryReader("album", file_extractor={".jpg": reader, ".png": reader})

    Args:
        recursive: look into folders within a folder.
        scope: keeps the same pictures apart for two owners.
        exif: open each file for what it says of itself.
        sidecars: read captions beside the pictures of a folder.
    """

    recursive: bool = Field(default=True, description="Look into folders within a folder.")
    scope: str = Field(default="", description="Keeps the same pictures apart for two owners.")
    exif: bool = Field(default=True, description="Read size, camera, date and place out of the files.")
    sidecars: bool = Field(default=True, description="Read captions beside the pictures of a folder.")

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex serialises this component by."""
        return "ClipReader"

    def lazy_load_data(
        self,
        place: str | os.PathLike[str],
        extra_info: Mapping[str, Any] | None = None,
        *,
        fs: Any = None,
        on_problem: OnProblem = log_problem,
        **manifest: Any,
    ) -> Iterator[Document]:
        """The documents of a folder, a picture or a manifest, each read when it is its turn.

        Args:
            place: a folder, a picture, or a manifest (.json, .jsonl, .ndjson, .csv, .tsv).
            extra_info: more metadata of each document; it counts before what was found.
            fs: what a `SimpleDirectoryReader` on another file system passes; refused.
            on_problem: called with each picture that cannot be read, which is left out, and each sidecar or row that
                cannot be used; logs a warning if not given.
            **manifest: of `records_from`: images, image_column, caption_column, typed, allow_outside.

        Raises:
            ConfigError: there is nothing at that path, a manifest that is none, or a file system that is not local.
        """
        if fs is not None:
            raise ConfigError(
                f"ClipReader reads local files, not those of a {type(fs).__name__}. Copy them here first."
            )
        path = Path(place)
        options: dict[str, Any] = {"scope": self.scope, "exif": self.exif, "on_problem": on_problem}
        if path.suffix.lower() in FORMATS and not path.is_dir():
            records = records_from(path, **options, **manifest)
        elif manifest:
            raise ConfigError(f"{sorted(manifest)} are for manifests ({', '.join(FORMATS)}), not for {str(place)!r}.")
        else:
            records = records_in(path, recursive=self.recursive, sidecars=self.sidecars, **options)
        return _documents(records, extra_info or {}, on_problem)

    async def alazy_load_data(self, *args: Any, **load_kwargs: Any) -> list[Document]:
        """As `aload_data`, in a thread to the end: a lazy answer would read files on the event loop."""
        return await self.aload_data(*args, **load_kwargs)


def document_of(record: Record, extra_info: Mapping[str, Any] | None = None) -> Document:
    """A record as a document: an ImageDocument with the picture's path, or a Document of text alone.

    Its id is `document_id`, which LlamaIndex calls ref_doc_id in whatever is made of it; that of a part of a source is
    its `point_id`, and `document_id` its ref doc.

    Raises:
        ConfigError: the record's picture is not a file on this machine.
        ImageError: the picture cannot be read, or its name is no text.
    """
    path = _path_of(record)
    own = {SOURCE: record.source, _FRAGMENT: record.fragment, _SCOPE: record.scope}
    own = {key: value for key, value in own.items() if value}
    if path is not None:
        own |= {MODALITY: IMAGE, CONTENT_HASH: content_hash(path)}
    metadata = {**record.metadata, **(extra_info or {}), **own}
    fields: dict[str, Any] = {
        "id_": document_id(record),
        "metadata": metadata,
        "excluded_embed_metadata_keys": list(metadata),
        "excluded_llm_metadata_keys": [key for key in _NOT_FOR_LLMS if key in metadata],
        # Also where there is none: of a document without a text LlamaIndex's cache does not see the metadata.
        "text_resource": MediaResource(text=record.text or ""),
    }
    if record.fragment or record.id:
        whole = RelatedNodeInfo(node_id=document_id(record), node_type=ObjectType.DOCUMENT)
        fields |= {"id_": point_id(record), "relationships": {NodeRelationship.SOURCE: whole}}
    if path is None:
        return Document(**fields)
    # As a resource: ImageDocument(image_path=...) opens the picture, and refuses a broken one by a bare ValueError.
    return ImageDocument(**fields, image_resource=MediaResource(path=path))


def _documents(records: Iterator[Record], extra_info: Mapping[str, Any], on_problem: OnProblem) -> Iterator[Document]:
    for record in records:
        try:
            yield document_of(record, extra_info)
        except ImageError as error:
            on_problem(Problem(record.source, f"{error.reason}. The picture is left out."))


def _path_of(record: Record) -> Path | None:
    if record.image is None:
        return None
    name = os.fspath(record.image) if isinstance(record.image, (str, os.PathLike)) else ""
    if not name or kind_of(name) != "path":
        raise ConfigError(
            f"The picture of {record.source!r} is {describe_source(record.image)}, and a document holds the path of a "
            "file. Save the picture, and give its path."
        )
    if not is_text(name):
        raise ImageReadError(describe_source(name), "its name is not UTF-8, which no document can hold. Rename it")
    return Path(name)
