"""What a model is shown of pictures: no more than the budget, with the caption, and a note where one is gone."""

import asyncio
import base64
from io import BytesIO

import numpy as np
import pytest
from llama_index.core.schema import (
    ImageDocument,
    ImageNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeWithScore,
    TextNode,
)
from PIL import Image

from clip_qdrant.errors import ConfigError, ImageNotFoundError
from clip_qdrant.llamaindex.budget import ImageBudget
from tests.scripted_llm import seen


@pytest.fixture
def photo(tmp_path):
    """A JPEG of many colours, 1,600x900, taken somewhere."""
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    noise = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((1600, 900)).save(path, exif=exif)
    return path


def shown(node, budget=None, score=0.5):
    """What comes back of one node, and its blocks as a model gets them."""
    (result,) = (budget or ImageBudget()).postprocess_nodes([NodeWithScore(node=node, score=score)])
    return result, [seen(block) for block in result.node.get_content_blocks(MetadataMode.LLM)]


@pytest.mark.parametrize(
    "postprocessed",
    [
        pytest.param(
            lambda node: node,
            id="stock",
            marks=pytest.mark.xfail(strict=True, raises=AssertionError, reason="leaves the caption out"),
        ),
        pytest.param(lambda node: shown(node)[0].node, id="ours"),
    ],
)
def test_defect_32_an_image_node_shows_picture_and_caption(swatches, postprocessed):
    node = postprocessed(ImageNode(text="a red swatch", image_path=str(swatches / "red.png")))
    blocks = [seen(block) for block in node.get_content_blocks(MetadataMode.LLM)]
    assert ("image", (16, 16), "PNG") in blocks
    assert "a red swatch" in " ".join(block[1] for block in blocks if block[0] == "text")


@pytest.mark.parametrize(
    "postprocessed",
    [
        pytest.param(
            lambda node: node,
            id="stock",
            marks=pytest.mark.xfail(strict=True, raises=ValueError, reason="raises in ImageBlock"),
        ),
        pytest.param(lambda node: shown(node)[0].node, id="ours"),
    ],
)
def test_defect_32_a_missing_picture_is_a_note(tmp_path, postprocessed):
    node = postprocessed(ImageNode(text="a lost swatch", image_path=str(tmp_path / "lost.png")))
    (block,) = node.get_content_blocks(MetadataMode.LLM)
    assert block.text.endswith("a lost swatch")
    assert "lost.png is missing" in block.text


def test_the_caption_stands_behind_its_picture_with_name_and_metadata(swatches):
    node = ImageNode(text="a red swatch", image_path=str(swatches / "red.png"), metadata={"year": 2024, "secret": 1})
    node.excluded_llm_metadata_keys = ["secret"]
    _, blocks = shown(node)
    assert blocks == [("image", (16, 16), "PNG"), ("text", "[image red.png]\nyear: 2024\n\na red swatch")]


def test_every_shape_of_a_picture_node_is_shown(swatches):
    path = swatches / "blue.png"
    data = base64.b64encode(path.read_bytes())
    nodes = [
        ImageNode(text="blue", image=data.decode()),
        ImageNode(text="blue", image_url="data:image/png;base64," + data.decode()),
        ImageDocument(text="blue", image_path=str(path)),
        Node(text_resource=MediaResource(text="blue"), image_resource=MediaResource(path=path)),
        Node(text_resource=MediaResource(text="blue"), image_resource=MediaResource(data=data)),
    ]
    for node in nodes:
        result, blocks = shown(node)
        name = "blue.png" if result.node.image_path else node.node_id
        assert blocks == [("image", (16, 16), "PNG"), ("text", f"[image {name}]\nblue")]


def test_id_score_path_and_relations_stay_and_the_given_node_is_not_changed(photo):
    node = ImageNode(text="a", image_path=str(photo), metadata={"year": 1}, embedding=[1.0], id_="n1")
    before = node.to_json()
    result, _ = shown(node, score=0.25)
    assert (result.score, result.node.node_id, result.node.image_path) == (0.25, "n1", str(photo))
    assert (result.node.metadata, result.node.embedding, result.node.text) == ({"year": 1}, [1.0], "a")
    result.node.metadata["year"] = 2
    assert node.to_json() == before
    assert isinstance(result.node, ImageNode)
    assert result.node.class_name() == "ImageNode"


def test_a_large_picture_is_scaled_to_the_side(photo):
    _, blocks = shown(ImageNode(image_path=str(photo)), ImageBudget(max_side=400))
    assert blocks == [("image", (400, 225), "JPEG"), ("text", "[image photo.jpg]")]


def test_a_small_picture_is_not_scaled_up(swatches):
    _, blocks = shown(ImageNode(image_path=str(swatches / "red.png")), ImageBudget(max_side=4000))
    assert blocks[0] == ("image", (16, 16), "PNG")


@pytest.mark.parametrize("most", [2048, 10_000, 50_000])
def test_no_picture_is_longer_than_its_bytes(photo, most):
    encoded, mimetype = ImageBudget(max_bytes=most).encode(photo)
    assert len(encoded) <= most
    assert mimetype == "image/jpeg"


def test_bytes_are_saved_by_quality_before_size(photo):
    sizes = [Image.open(BytesIO(ImageBudget(max_bytes=most).encode(photo)[0])).size for most in (10**6, 10**5, 10**4)]
    assert sizes[0] == sizes[1] == (1024, 576)
    assert sizes[2] < sizes[1]


def test_even_the_thinnest_picture_fits():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (1, 9000, 3), dtype=np.uint8))
    encoded, _ = ImageBudget(max_bytes=2048).encode(noise)
    assert len(encoded) <= 2048


def test_where_a_photo_was_taken_is_not_sent(photo):
    with Image.open(photo) as before, Image.open(BytesIO(ImageBudget().encode(photo)[0])) as after:
        assert before.getexif().get_ifd(0x8825)
        assert not after.getexif()


def test_a_drawing_is_sent_without_loss(tmp_path):
    drawing = Image.new("RGB", (100, 100), "white")
    drawing.paste("black", (20, 20, 23, 80))
    encoded, mimetype = ImageBudget().encode(drawing)
    assert mimetype == "image/png"
    assert Image.open(BytesIO(encoded)).convert("RGB").tobytes() == drawing.tobytes()


def test_pictures_over_the_count_are_named_and_not_opened(swatches, tmp_path):
    paths = [tmp_path / "gone.png", *sorted(swatches.iterdir())]
    nodes = [NodeWithScore(node=ImageNode(text=f"about {path.stem}", image_path=str(path))) for path in paths]
    results = ImageBudget(max_images=2).postprocess_nodes([NodeWithScore(node=TextNode(text="a text")), *nodes])
    blocks = [[seen(block)[0] for block in result.node.get_content_blocks()] for result in results]
    assert blocks == [["text"], ["text"], ["image", "text"], ["image", "text"], ["text"], ["text"]]
    assert results[-1].node.text == "[image yellow.png is left out: there is room for 2]\nabout yellow"
    assert results[-1].node.image_path == str(swatches / "yellow.png")


def test_a_broken_picture_is_a_note(tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    result, blocks = shown(ImageNode(text="what was it?", image_path=str(path)))
    assert blocks == [("text", "[image broken.png cannot be shown: the PNG data is broken or cut short]\nwhat was it?")]
    assert result.node.image_path == str(path)


def test_base64_that_is_none_is_a_note():
    _, blocks = shown(ImageNode(image="not base64!", id_="n1"))
    assert blocks == [("text", "[image n1 cannot be shown: it is not valid base64]")]


def test_a_picture_that_no_store_kept_is_a_note():
    """A store keeps no base64: the node that comes out of it has no picture at all."""
    _, blocks = shown(ImageNode(text="a logo", id_="n1"))
    assert blocks == [("text", "[image n1 is missing: only its text was stored]\na logo")]


def test_a_url_is_not_opened_unless_asked():
    url = "https://user:key@example.org/bear.jpg?token=secret"
    _, blocks = shown(ImageNode(image_url=url))
    (note,) = (block[1] for block in blocks)
    assert note.startswith("[image https://example.org/bear.jpg cannot be shown: URLs are not opened")
    assert "secret" not in note


def test_a_private_url_is_not_opened_even_then():
    _, blocks = shown(ImageNode(image_url="http://127.0.0.1:9/bear.jpg"), ImageBudget(allow_url=True))
    assert [block[0] for block in blocks] == ["text"]
    assert "which is not a public address" in blocks[0][1]


def test_texts_are_left_as_they_are():
    nodes = [NodeWithScore(node=TextNode(text="a text"), score=0.1)]
    assert ImageBudget().postprocess_nodes(nodes)[0].node is nodes[0].node
    assert ImageBudget().postprocess_nodes([]) == []


def test_a_second_budget_shows_no_more_than_it_may(photo):
    first, _ = shown(ImageNode(text="a", image_path=str(photo)))
    _, blocks = shown(first.node, ImageBudget(max_side=100))
    assert blocks == [("image", (100, 56), "JPEG"), ("text", "[image photo.jpg]\na")]


def test_async_shows_the_same(swatches):
    nodes = [NodeWithScore(node=ImageNode(text="r", image_path=str(swatches / "red.png")), score=1.0)]
    results = asyncio.run(ImageBudget().apostprocess_nodes(nodes))
    assert results == ImageBudget().postprocess_nodes(nodes)


@pytest.mark.parametrize(
    "limits", [{"max_side": 0}, {"max_side": None}, {"max_bytes": 2047}, {"max_images": 0}, {"max_images": 2.5}]
)
def test_a_budget_for_nothing_is_refused(limits):
    with pytest.raises(ConfigError, match="must be at least"):
        ImageBudget(**limits)


def test_a_given_picture_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(ImageNotFoundError):
        ImageBudget().encode(tmp_path / "lost.png")


def test_the_picture_is_not_printed(photo):
    result, _ = shown(ImageNode(image_path=str(photo)))
    assert len(repr(result)) < 1000


def test_limits_survive_serialisation():
    assert ImageBudget.from_dict(ImageBudget(max_side=64, max_images=2).to_dict()).max_side == 64
