"""LlamaIndex nodes <-> pictures, texts and payloads. With `node_shapes`, the only place that knows LlamaIndex's nodes.

    node                                       picture                             kind
    ImageNode, ImageDocument                   image, image_path or image_url      image
    Node, Document with an image_resource      its data, path or url               image
    TextNode, IndexNode, Node, Document        none                                text

A payload has neither base64 nor vectors. Of a picture that is bytes alone (`image`, `data`, a data URI) the
`content_hash` is kept, and its node comes back without a picture: give a path or a URL to what shall be seen again.
A `Document` is stored as the ImageNode or TextNode that it is, for LlamaIndex reads no document back from a payload.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MetadataMode,
    Node,
    TextNode,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from clip_qdrant.errors import ConfigError, ImageDecodeError, ImageError, InvalidPointError
from clip_qdrant.images import content_hash as hash_of_image
from clip_qdrant.images.sources import kind_of as kind_of_source
from clip_qdrant.images.sources import open_encoded
from clip_qdrant.llamaindex.node_shapes import is_data, picture_of, slim, tagged, undocumented, untagged
from clip_qdrant.storage.points import CAPTION, CONTENT_HASH, IMAGE, MODALITY, SOURCE, SYNTHETIC, TAGS, TEXT, text_hash
from clip_qdrant.storage.tags import tag_values

if TYPE_CHECKING:
    from clip_qdrant.storage.points import Leg
    from clip_qdrant.types import Hit, ImageSource

_logger = logging.getLogger(__name__)


def kind_of(node: BaseNode) -> Leg:
    """What a node is, and which vector its `embedding` is: "image", also where the picture is lost, or "text"."""
    is_image = isinstance(node, (ImageNode, ImageDocument)) or getattr(node, "image_resource", None) is not None
    return IMAGE if is_image else TEXT


def image_of(node: BaseNode) -> ImageSource | None:
    """A node's picture: bytes, a Path, the str of a URL (opened only where the caller allows it), or None.

    Raises:
        ImageDecodeError: base64 or a data URI that is none; it names the node.
    """
    encoded, place = picture_of(node)
    if encoded or is_data(place):
        return _decoded(node, encoded or place or "")
    if not place:
        return None
    if place[:8].lower() == "file:///":
        return Path(url2pathname(urlsplit(place).path))
    return place if "://" in place else Path(place)


def text_of(node: BaseNode) -> str | None:
    """What is embedded as a node's text: its text with the metadata meant for it; None where its own text is blank."""
    if not node.get_content(metadata_mode=MetadataMode.NONE).strip():
        return None
    return node.get_content(metadata_mode=MetadataMode.EMBED)


def is_blank(node: BaseNode) -> bool:
    """Whether a node has neither a picture nor a text, and so nothing to embed; its metadata is no text."""
    return not any(picture_of(node)) and text_of(node) is None


def check_content(node: BaseNode) -> None:
    """Whether there is something of its kind to embed; nothing is opened or decoded.

    Raises:
        ConfigError: a picture node without a picture, or a text node without a text; it names the node.
    """
    name = f"{node.class_name()} {node.node_id!r}"
    if kind_of(node) == TEXT:
        if text_of(node) is None:
            raise ConfigError(f"{name} has neither a text nor a picture. Give it one, or leave the node out.")
    elif not any(picture_of(node)):
        raise ConfigError(
            f"{name} has no picture. Give it an image (base64), an image_path or an image_url, or make it a TextNode. "
            "ImageNode(image_resource=...) drops bytes, which Node(image_resource=...) keeps; a stored node has none."
        )


def content_hash_of(node: BaseNode) -> str:
    """SHA-256 (hex) of the bytes of a picture node's picture, or of what is embedded as a text node's text.

    Raises:
        ConfigError: it has no such thing, or a text that is not whole Unicode; it names the node.
        ImageError: the picture cannot be read, or is a URL, whose content is not known before it is opened.
    """
    check_content(node)
    image = image_of(node)
    if image is not None:
        return hash_of_image(image)
    try:
        return text_hash(text_of(node) or "")
    except UnicodeEncodeError as error:  # half a character; a file name that is not UTF-8 has them
        raise ConfigError(f"The text of node {node.node_id!r} is not whole Unicode: {error.reason}.") from error


def payload_of_node(node: BaseNode, content_hash: str | None = None) -> dict[str, Any]:
    """The payload of a node's point: what LlamaIndex writes of a node, without base64 and vectors, and our own keys.

    Our own are `modality`, `synthetic` (false), `content_hash`, `source` (the picture's path or URL, else the
    metadata's `file_path`, else the ref doc) and `text`. Where the node's metadata has such a key, the metadata's value
    stands, for that is what filters ask for; what a node is, is read from LlamaIndex's own keys. A document without a
    source is its own ref doc. NaN and infinity become null, as LlamaIndex writes them.

    Args:
        node: of any kind; it is only read.
        content_hash: where it is known already. None: the picture or the text is hashed; what is not here (the content
            of a URL, a picture that is lost or cannot be read, a blank text) has none.

    Raises:
        InvalidPointError: the metadata or the text is nothing that JSON holds; it names the node.
    """
    tags = tag_values(node.metadata)
    try:
        payload = node_to_metadata_dict(slim(untagged(node, tags)))
        json.dumps(payload, ensure_ascii=False).encode()  # half a character breaks a whole batch on its way to Qdrant
    except (TypeError, ValueError) as error:
        raise InvalidPointError(f"{node.class_name()} {node.node_id!r} cannot be written as JSON: {error}.") from error
    if isinstance(node, Document) and node.ref_doc_id is None:
        payload |= dict.fromkeys(("document_id", "doc_id", "ref_doc_id"), node.node_id)
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    own = {
        MODALITY: kind_of(node),
        SYNTHETIC: False,
        CONTENT_HASH: _hash_of_what_is_here(node) if content_hash is None else content_hash,
        SOURCE: _source(node),
        CAPTION: text if text.strip() else None,
    }
    if tags:  # whether they hold of what the node is now, the next tagging sees
        payload |= {**tags, TAGS: dict.fromkeys(tags[TAGS], "")}
    return {key: value for key, value in own.items() if value is not None} | payload


def node_of(hit: Hit) -> BaseNode:
    """A hit as the node that was stored, by whatever wrote it; a point that holds none as a node of what it has.

    What `tag` has written since is in the metadata, too.
    """
    node = tagged(_stored_node(hit.payload) or _made_node(hit), tag_values(hit.payload))
    if hit.vector is not None:
        node.embedding = hit.vector.tolist()
    return node


def _decoded(node: BaseNode, encoded: str | bytes) -> bytes:
    try:
        if isinstance(encoded, str) and is_data(encoded):
            with open_encoded(encoded) as file:
                return file.read()
        return base64.b64decode("".join(encoded.split()) if isinstance(encoded, str) else encoded, validate=True)
    except ImageDecodeError as error:
        raise ImageDecodeError(f"of node {node.node_id!r}", error.reason) from error
    except ValueError as error:  # binascii.Error, and for a str that is not ASCII its parent
        raise ImageDecodeError(f"of node {node.node_id!r}", "it is not valid base64") from error


def _hash_of_what_is_here(node: BaseNode) -> str | None:
    """The hash of a node's content, or None where that cannot be had without a network."""
    if is_blank(node) or (kind_of(node) == IMAGE and not any(picture_of(node))):
        return None
    try:
        return content_hash_of(node)
    except ImageError as error:
        _logger.debug("Node %r has no content hash: %s", node.node_id, error)
        return None


def _source(node: BaseNode) -> str | None:
    _, place = picture_of(node)
    if place and not is_data(place):
        return place
    return node.metadata.get("file_path") or node.ref_doc_id


def _stored_node(payload: Mapping[str, Any]) -> BaseNode | None:
    """The node that a payload was written of, or None where it holds none that can be read."""
    content = payload.get("_node_content")
    if content is None:
        return None
    try:
        if payload.get("_node_type") in (Node.class_name(), IndexNode.class_name(), ImageNode.class_name()):
            return metadata_dict_to_node(dict(payload))
        # Whatever else it is, LlamaIndex would take it for a TextNode. Its fields tell what it is.
        fields = json.loads(content)
        if "image_resource" in fields:
            return undocumented(Document.from_dict(fields))
        return (ImageNode if "image_path" in fields else TextNode).from_dict(fields)
    except (TypeError, ValueError) as error:
        _logger.warning("The _node_content of a point cannot be read, and is left out: %s", error)
        return None


def _made_node(hit: Hit) -> BaseNode:
    """A node of a point that has none to be read: a picture where LlamaIndex's own key says so, else a text."""
    text = hit.text if isinstance(hit.text, str) else ""
    if isinstance(hit.source, str) and hit.payload.get("_node_type") == ImageNode.class_name():
        place = "image_url" if kind_of_source(hit.source) == "url" else "image_path"
        return ImageNode(id_=hit.id, text=text, metadata=dict(hit.metadata), **{place: hit.source})
    rest = {SOURCE: hit.source, CAPTION: hit.text if hit.text != text else None}
    metadata = {**hit.metadata, **{key: value for key, value in rest.items() if value is not None}}
    return TextNode(id_=hit.id, text=text, metadata=metadata)
