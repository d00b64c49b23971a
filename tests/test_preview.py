"""What points of a collection look like to its encoder."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clip_qdrant import ClipCollection, ClipEncoder, Record, connect
from clip_qdrant.collection.preview import preview
from clip_qdrant.errors import ConfigError, InvalidPointError
from clip_qdrant.models.painter import EmbeddingPainter
from clip_qdrant.testing import FakeEncoder


@pytest.fixture(scope="module")
def encoder():
    return ClipEncoder("pocket", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def painter():
    return EmbeddingPainter("pocket", device="cpu")


def test_points_of_a_collection_are_painted_in_the_order_asked(painter, encoder, swatches):
    with connect(":memory:") as client:
        collection = ClipCollection(client, "swatches", encoder)
        collection.add([Record("picture", Image.open(swatches / "red.png")), Record("words", text="a blue whale")])
        ids = {hit.source: hit.id for hit in collection.search("red", using="both")}
        asked = [ids["words"], ids["picture"].upper(), ids["words"]]
        pictures = preview(collection, asked, painter)
        expected = painter.paint([
            encoder.embed_texts(["a blue whale"])[0], encoder.embed_images([swatches / "red.png"])[0]
        ])  # fmt: skip
        for one, other in zip(pictures, [expected[0], expected[1], expected[0]], strict=True):
            assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 2
        assert preview(collection, [], painter) == []


def test_a_preview_refuses_what_it_cannot_paint(painter, encoder):
    unknown = "00000000-0000-0000-0000-000000000001"
    with connect(":memory:") as client:
        with pytest.raises(ConfigError, match="of 'fake'"):
            preview(ClipCollection(client, "fake", FakeEncoder()), [], painter)
        collection = ClipCollection(client, "pictures", encoder)
        with pytest.raises(ConfigError, match=f"'{unknown}' of 'pictures' is not there"):
            preview(collection, [unknown], painter)
        with pytest.raises(InvalidPointError, match="a list"):
            preview(collection, unknown, painter)
