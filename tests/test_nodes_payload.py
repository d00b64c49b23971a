"""LlamaIndex nodes as payloads, and payloads as nodes: ours, the stock class's and anybody's."""

import hashlib
import json
from pathlib import Path

import pytest
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
from PIL import Image
from qdrant_client import models

from clip_qdrant.errors import ConfigError, InvalidPointError
from clip_qdrant.llamaindex.nodes import content_hash_of, image_of, kind_of, node_of, payload_of_node, text_of
from clip_qdrant.storage.points import hit_of
from clip_qdrant.types import Hit
from tests.nodes import BASE64, DATA_URI, HOLDERS, RED, URL

pictures = pytest.mark.parametrize("make", HOLDERS.values(), ids=HOLDERS)


@pytest.fixture
def red(tmp_path):
    path = tmp_path / "a red picture.png"
    path.write_bytes(RED)
    return path


def point(payload, id="6f0c1f0e-6a53-5d0c-9a52-2f5f3f7c1b11", vector=None):
    return hit_of(models.ScoredPoint(id=id, version=0, score=0.5, payload=payload, vector=vector))


@pictures
def test_defect_28_a_payload_has_neither_base64_nor_vectors(make, red):
    node = make(red)
    node.embedding = [0.125] * 8
    written = json.dumps(payload_of_node(node))
    assert BASE64[:40] not in written and "0.125" not in written
    assert len(written) < 2500


def test_defect_28_neither_in_what_a_node_holds_beside_it():
    inner = ImageNode(image=BASE64, text_embedding=[0.125], embedding=[0.125])
    resource = MediaResource(path=Path("a.png"), embeddings={"dense": [0.125]})
    text = MediaResource(text="red", embeddings={"dense": [0.125]})
    document = IndexNode(text="red", index_id="i", obj=Document(text="red", embedding=[0.125]))
    for node in (IndexNode(text="red", index_id="i", obj=inner), inner, document):
        written = json.dumps(payload_of_node(node, "hash"))
        assert BASE64[:40] not in written and "0.125" not in written
    written = json.dumps(payload_of_node(Node(image_resource=resource, text_resource=text), "hash"))
    assert "0.125" not in written and "a.png" in written
    assert (inner.image, resource.embeddings) == (BASE64, {"dense": [0.125]})


@pictures
def test_lists_what_is_ours_beside_what_is_llamaindexs(make, red):
    node = make(red)
    payload = payload_of_node(node)
    assert payload["modality"] == "image"
    assert payload["content_hash"] == hashlib.sha256(RED).hexdigest()
    assert payload.get("text") == ("a red square" if text_of(node) else None)
    assert node_to_metadata_dict(node).keys() <= payload.keys()


def test_names_the_source_by_what_is_known_of_it(red):
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc")}

    def source_of(node):
        return payload_of_node(node, "hash").get("source")

    assert source_of(ImageNode(image_path=str(red), metadata={"file_path": "x"}, relationships=source)) == str(red)
    assert source_of(ImageNode(image_url=URL)) == URL
    assert source_of(TextNode(text="red", metadata={"file_path": "/a.md"}, relationships=source)) == "/a.md"
    assert source_of(ImageNode(image=BASE64, relationships=source)) == "doc"
    assert source_of(ImageNode(image_url=DATA_URI)) is None


def test_the_metadatas_own_keys_stand():
    metadata = {"source": "scanner", "modality": "invoice", "content_hash": "mine", "text": 7}
    payload = payload_of_node(TextNode(text="red", metadata=metadata))
    assert {key: payload[key] for key in metadata} == metadata
    assert node_of(point(payload)).metadata == metadata


def test_a_document_is_its_own_ref_doc():
    payload = payload_of_node(Document(id_="d", text="red"))
    assert payload["ref_doc_id"] == payload["doc_id"] == payload["document_id"] == "d"
    assert payload_of_node(TextNode(text="red"))["ref_doc_id"] == "None"


@pytest.mark.parametrize("value", [object(), Image.new("RGB", (1, 1))], ids=["object", "picture"])
def test_metadata_that_is_no_json_is_refused_by_name(value):
    with pytest.raises(InvalidPointError, match="TextNode 'odd' cannot be written as JSON"):
        payload_of_node(TextNode(id_="odd", text="red", metadata={"value": value}))


def test_half_a_character_is_refused_by_name():
    with pytest.raises(InvalidPointError, match="TextNode 'odd' cannot be written as JSON"):
        payload_of_node(TextNode(id_="odd", text="\ud800"))


def test_the_hash_is_of_what_is_here():
    assert payload_of_node(ImageNode(image=BASE64), "known")["content_hash"] == "known"
    assert "content_hash" not in payload_of_node(ImageNode(image_url=URL))
    assert "content_hash" not in payload_of_node(TextNode())
    assert "content_hash" not in payload_of_node(ImageNode(image_path="nowhere.png"))
    assert "content_hash" not in payload_of_node(ImageNode(image="no base64!"))
    assert payload_of_node(ImageNode(image_path="nowhere.png"), "known")["modality"] == "image"


def test_what_is_no_number_is_null():
    payload = payload_of_node(TextNode(text="red", metadata={"value": float("nan"), "far": float("inf")}))
    assert (payload["value"], payload["far"]) == (None, None)


ROUND_TRIPS = {
    "text": TextNode(text="red", metadata={"a": [1, {"b": None}]}, start_char_idx=3),
    "index": IndexNode(text="red", index_id="i"),
    "image path": ImageNode(id_="1", image_path="a.png", text="red", metadata={"a": 1}),
    "image url": ImageNode(id_="2", image_url=URL),
    "node": Node(
        id_="3", image_resource=MediaResource(path=Path("a.png")), text_resource=MediaResource(text="a red square")
    ),
}


@pytest.mark.parametrize(
    "read", [metadata_dict_to_node, lambda payload: node_of(point(payload))], ids=["stock", "ours"]
)
@pytest.mark.parametrize("node", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_a_node_comes_back_as_it_was(node, read):
    assert read(payload_of_node(node, "hash")) == node


@pytest.mark.parametrize(
    "read", [metadata_dict_to_node, lambda payload: node_of(point(payload))], ids=["stock", "ours"]
)
@pictures
def test_defect_17_what_comes_back_of_a_picture(make, red, read):
    """A picture with a place comes back; of bytes alone the hash is kept, and the node is a picture without one."""
    node = make(red)
    payload = payload_of_node(node)
    back = read(payload)
    assert kind_of(back) == "image"
    assert text_of(back) == text_of(node)
    assert image_of(back) == (image_of(node) if isinstance(image_of(node), Path) else None)
    if image_of(back) is None:
        assert payload["content_hash"] == hashlib.sha256(RED).hexdigest()
        with pytest.raises(ConfigError, match="has no picture"):
            content_hash_of(back)


def stock_write(node):
    """What LlamaIndex's own vector stores write."""
    return node_to_metadata_dict(node, flat_metadata=False)


BOTH_READ = pytest.mark.parametrize(
    "read",
    [
        pytest.param(metadata_dict_to_node, id="stock", marks=pytest.mark.xfail(strict=True)),
        pytest.param(lambda payload: node_of(point(payload)), id="ours"),
    ],
)


@BOTH_READ
@pytest.mark.parametrize("text", ["a red square", ""])
def test_defect_18_reads_an_image_document_that_the_stock_store_wrote(red, read, text):
    document = ImageDocument(image_path=str(red), text=text, metadata={"a": 1}, id_="d")
    back = read(stock_write(document))
    assert isinstance(back, ImageNode)
    assert (back.node_id, back.image_path, back.text, back.metadata) == ("d", str(red), text, {"a": 1})


@pytest.mark.parametrize("text", ["a red square", ""])
def test_defect_18_the_stock_class_reads_an_image_document_that_we_wrote(red, text):
    document = ImageDocument(image_path=str(red), text=text, metadata={"a": 1}, id_="d")
    back = metadata_dict_to_node(payload_of_node(document))
    assert (back.image_path, back.image_mimetype) == (str(red), "image/png")


def test_the_type_of_a_picture_whose_place_does_not_tell_it_is_kept():
    document = Document(image_resource=MediaResource(data=RED))
    assert node_of(point(payload_of_node(document))).image_mimetype == "image/png"


def test_reads_what_the_stock_store_wrote():
    document = Document(text="red", id_="d", metadata={"a": 1})
    assert node_of(point(stock_write(document))) == TextNode(id_="d", text="red", metadata={"a": 1})

    class Photo(ImageNode):
        @classmethod
        def class_name(cls):
            return "Photo"

    assert node_of(point(stock_write(Photo(image_path="a.png")))).image_path == "a.png"


@BOTH_READ
@pytest.mark.parametrize(
    "payload",
    [{}, {"page": 3}, {"text": "red"}, {"_node_content": "{"}, {"_node_content": "[1]"}, {"_node_content": 5}],
    ids=str,
)
def test_defect_24_a_point_without_a_node_is_a_node_of_what_it_has(payload, read):
    node = read(payload)
    assert isinstance(node, TextNode)
    assert node.text == payload.get("text", "")
    assert node.metadata == {key: value for key, value in payload.items() if key == "page"}


def test_a_foreign_point_keeps_its_fields_and_its_id():
    node = node_of(point({"source": "notes.md", "page": 3, "text": "red"}, id=7))
    assert (node.node_id, node.text, node.metadata) == ("7", "red", {"source": "notes.md", "page": 3})
    assert node_of(point({"source": 5, "text": ["a"]})).metadata == {"source": 5, "text": ["a"]}


def test_a_picture_whose_node_cannot_be_read_is_an_image_node():
    payload = {"_node_type": "ImageNode"}
    assert node_of(Hit("1", 0.5, "/a.png", None, {}, payload=payload)).image_path == "/a.png"
    assert node_of(Hit("1", 0.5, URL, "red", {}, payload=payload)).image_url == URL


def test_what_metadata_calls_its_kind_makes_no_picture():
    node = node_of(point({"source": "archive", "modality": "image", "text": "a scan"}))
    assert (type(node), kind_of(node), node.metadata) == (TextNode, "text", {"source": "archive", "modality": "image"})


def test_a_node_has_the_vector_that_was_asked_for():
    payload = payload_of_node(TextNode(text="red"))
    assert node_of(point(payload, vector={"text": [0.5, 0.25]})).embedding == [0.5, 0.25]
    assert node_of(point(payload)).embedding is None
