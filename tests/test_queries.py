"""A bundle's picture as a str: whatever it is, it is never embedded as a text."""

import base64

import pytest
from llama_index.core.schema import QueryBundle

from clip_qdrant import ClipCollection, ClipRetriever, connect, records_in
from clip_qdrant.errors import ImageDecodeError, ImageFetchError, ImageNotFoundError
from clip_qdrant.llamaindex.queries import ImageQueryBundle
from clip_qdrant.testing import FakeEncoder

BUNDLES = {
    "image": lambda picture: ImageQueryBundle("", image=picture),
    "image_path": lambda picture: QueryBundle("", image_path=picture),
}


@pytest.fixture
def retriever(swatches):
    with connect(":memory:") as client:
        collection = ClipCollection(client, "swatches", FakeEncoder())
        collection.add(records_in(swatches))
        yield ClipRetriever(collection, similarity_top_k=1)


def best(found):
    """The name of the file, and whether it is to the eye what was asked for."""
    return found[0].node.metadata["file_name"], found[0].score > 0.99


def forms(path):
    encoded = base64.b64encode(path.read_bytes()).decode()
    return {
        "path": str(path),
        "file URL": path.as_uri(),
        "data URI": f"data:image/png;base64,{encoded}",
        "base64": encoded,
    }


@pytest.mark.parametrize("form", ["path", "file URL", "data URI", "base64"])
@pytest.mark.parametrize("slot", BUNDLES)
def test_a_str_in_the_place_of_a_picture_is_that_picture(retriever, swatches, slot, form):
    bundle = BUNDLES[slot](forms(swatches / "blue.png")[form])
    assert best(retriever.retrieve(bundle)) == ("blue.png", True)
    assert best(retriever.image_to_image_retrieve(bundle)) == ("blue.png", True)


@pytest.mark.parametrize("form", ["path", "file URL", "data URI", "base64"])
def test_the_methods_by_picture_take_the_same(retriever, swatches, form):
    assert best(retriever.image_to_image_retrieve(forms(swatches / "blue.png")[form])) == ("blue.png", True)


@pytest.mark.parametrize("slot", BUNDLES)
@pytest.mark.parametrize(
    "picture, error, reason",
    [
        ("nowhere/blue.png", ImageNotFoundError, "no such file"),
        ("blue", ImageNotFoundError, "no such file"),
        ("https://host.invalid/blue.png?key=1", ImageFetchError, r"host.invalid/blue.png: a query opens no URLs"),
        ("data:image/png;base64,?", ImageDecodeError, "not valid base64"),
    ],
)
def test_what_is_no_picture_is_an_error_and_never_a_text(retriever, slot, picture, error, reason):
    with pytest.raises(error, match=reason):
        retriever.retrieve(BUNDLES[slot](picture))
