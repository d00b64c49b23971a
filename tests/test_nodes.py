"""LlamaIndex nodes of every shape: their pictures, their texts and their hashes."""

import hashlib

import pytest
from llama_index.core.schema import Document, ImageNode, IndexNode, MediaResource, Node, TextNode

from clip_qdrant.errors import ConfigError, ImageDecodeError, ImageFetchError, ImageNotFoundError
from clip_qdrant.images import open_image
from clip_qdrant.llamaindex.nodes import content_hash_of, image_of, kind_of, text_of
from tests.nodes import BASE64, HOLDERS, RED, URL

pictures = pytest.mark.parametrize("make", HOLDERS.values(), ids=HOLDERS)


@pytest.fixture
def red(tmp_path):
    path = tmp_path / "a red picture.png"
    path.write_bytes(RED)
    return path


@pictures
def test_finds_the_picture_in_every_shape_of_node(make, red):
    node = make(red)
    assert kind_of(node) == "image"
    assert open_image(image_of(node)).getpixel((0, 0)) == (255, 0, 0)
    assert content_hash_of(node) == hashlib.sha256(RED).hexdigest()


def test_a_path_comes_back_as_a_path_and_a_url_as_text(red):
    assert image_of(ImageNode(image_path=str(red))) == red
    assert image_of(ImageNode(image_url=red.as_uri())) == red
    assert image_of(ImageNode(image_url=URL)) == URL
    assert image_of(Node(image_resource=MediaResource(url=URL))) == URL


@pytest.mark.parametrize(
    "node",
    [
        TextNode(text="red"),
        Document(text="red"),
        Node(text_resource=MediaResource(text="red")),
        IndexNode(text="red", index_id="i"),
    ],
    ids=lambda node: node.class_name(),
)
def test_a_node_without_a_picture_is_a_text(node):
    assert (kind_of(node), image_of(node), text_of(node)) == ("text", None, "red")
    assert content_hash_of(node) == hashlib.sha256(b"red").hexdigest()


@pytest.mark.parametrize("garbage", ["not base64!", "abcd!efgh", "data:image/png;base64,???", "bäse64"])
def test_base64_garbage_names_the_node(garbage):
    with pytest.raises(ImageDecodeError, match=r"of node 'broken': .*not valid base64"):
        image_of(ImageNode(id_="broken", image=garbage))


def test_a_missing_file_is_named(tmp_path):
    node = ImageNode(image_path=str(tmp_path / "nowhere.png"))
    assert image_of(node) == tmp_path / "nowhere.png"
    with pytest.raises(ImageNotFoundError, match=r"nowhere\.png"):
        content_hash_of(node)


def test_a_url_has_no_hash_before_it_is_opened():
    with pytest.raises(ImageFetchError):
        content_hash_of(ImageNode(image_url=URL))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (TextNode(id_="empty"), "TextNode 'empty' has neither a text nor a picture"),
        (TextNode(id_="empty", text=" \n", metadata={"a": 1}), "TextNode 'empty' has neither a text nor a picture"),
        (Node(id_="empty"), "Node 'empty' has neither a text nor a picture"),
        (ImageNode(id_="empty", text="a caption"), "ImageNode 'empty' has no picture"),
        (ImageNode(id_="empty", image=""), "ImageNode 'empty' has no picture"),
        (Node(id_="empty", image_resource=MediaResource(text="a caption")), "Node 'empty' has no picture"),
    ],
    ids=lambda value: value.class_name() if isinstance(value, Node | TextNode) else "",
)
def test_a_node_without_content_is_refused_by_name(node, message):
    with pytest.raises(ConfigError, match=message):
        content_hash_of(node)


def test_half_a_character_is_refused():
    with pytest.raises(ConfigError, match="'odd' is not whole Unicode"):
        content_hash_of(TextNode(id_="odd", text="\ud800"))


def test_defect_16_an_image_node_that_lost_its_bytes_is_an_error_and_never_a_text():
    node = ImageNode(id_="lost", image_resource=MediaResource(data=RED), text="a red square")
    with pytest.raises(ConfigError, match=r"'lost' has no picture.*Node\(image_resource=\.\.\.\) keeps"):
        content_hash_of(node)


def test_the_text_is_what_is_meant_for_the_embedding():
    node = TextNode(
        text="a bear", metadata={"camera": "X1", "by": "Ann"}, excluded_embed_metadata_keys=["camera", "by"]
    )
    assert text_of(node) == "a bear"
    node.excluded_embed_metadata_keys = ["by"]
    assert text_of(node) == "camera: X1\n\na bear"
    assert text_of(ImageNode(image=BASE64, text="  ", metadata={"camera": "X1"})) is None
