"""The verbs of a collection, over every backend, with an encoder that sees colours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from qdrant_client import models

from clip_qdrant import ClipCollection, Record, connect
from clip_qdrant.errors import ConfigError, ImageNotFoundError, InvalidPointError, UnsupportedError
from clip_qdrant.testing import FakeEncoder


def square(colour):
    return Image.new("RGB", (8, 8), colour)


@pytest.fixture
def collection(client, name):
    """Pictures named after their colours, captioned ones among them, and a text."""
    collection = ClipCollection(client, name, FakeEncoder())
    collection.add(
        [
            *(
                Record(c, square(c), metadata={"warm": c in ("red", "yellow")})
                for c in ("red", "green", "blue", "yellow")
            ),
            Record("captioned", square("purple"), text="a red caption", metadata={"warm": False}),
            Record("note", text="a green note"),
        ]
    )
    return collection


def found(hits):
    return [hit.source for hit in hits]


def test_words_find_pictures(collection):
    hits = collection.search("something blue", limit=2)
    assert found(hits)[0] == "blue"
    assert hits[0].score > 0.9 > hits[1].score
    assert hits[0].metadata["warm"] is False


def test_pictures_find_pictures(collection, tmp_path):
    square("green").save(tmp_path / "g.png")
    for query in (square("green"), tmp_path / "g.png", (tmp_path / "g.png").read_bytes(), np.asarray(square("green"))):
        assert found(collection.search(query, limit=1)) == ["green"]


def test_a_str_is_words_even_where_it_is_a_path(collection, tmp_path):
    square("green").save(tmp_path / "g.png")
    assert collection.search(str(tmp_path / "g.png"), limit=1)[0].score < 0.9


def test_several_parts_are_weighed(collection):
    assert set(found(collection.search(["red", square("blue")], limit=2))) == {"red", "blue"}
    assert found(collection.search([("red", 0.3), (square("blue"), 1.0)], limit=2)) == ["blue", "red"]
    assert found(collection.search([("red", 1.0), ("blue", -1.0)], limit=5))[-1] == "blue"


def test_negatives_push_away(collection):
    both = collection.search(["red", "blue"], limit=5)
    without = collection.search(["red", "blue"], negative="blue", limit=5)
    score = {hit.source: hit.score for hit in both}, {hit.source: hit.score for hit in without}
    assert found(without)[0] == "red"
    assert score[1]["blue"] < score[0]["blue"]


def test_the_query_vector_is_as_qdrant_recommends(collection):
    red, blue = collection.encoder.embed_texts(["red", "blue"]).astype(np.float64)
    expected = (2 * red - blue) / np.linalg.norm(2 * red - blue)
    np.testing.assert_allclose(collection.query_vector("red", "blue"), expected, atol=1e-6)


def test_where_narrows_in_every_way_of_writing(collection):
    native = models.Filter(must=[models.FieldCondition(key="warm", match=models.MatchValue(value=True))])
    for where in ({"warm": True}, "warm == true", native):
        assert set(found(collection.search("blue", where=where))) == {"red", "yellow"}


def test_using_says_which_vectors(collection):
    assert set(found(collection.search("green", using="text"))) == {"captioned", "note"}
    assert "note" not in found(collection.search("green", using="image", limit=20))
    fused = collection.search("red", using="both", limit=20)
    assert set(found(fused)) == {"red", "green", "blue", "yellow", "captioned", "note"}
    assert set(found(fused)[:2]) == {"red", "captioned"}


def test_where_holds_for_both_legs(collection):
    many = [Record(f"{i}", square("red"), text="red", metadata={"warm": True}) for i in range(20)]
    collection.add(many)
    fused = collection.search("red", using="both", where={"warm": False}, limit=2)
    assert found(fused)[0] == "captioned"
    assert len(fused) == 2


def test_min_score_cuts_off(collection):
    assert found(collection.search("red", min_score=0.9)) == ["red"]
    with pytest.raises(ConfigError, match="min_score compares cosines"):
        collection.search("red", min_score=0.1, using="both")


def test_vectors_come_when_asked_for(collection):
    assert collection.search("red", limit=1)[0].vector is None
    (hit,) = collection.search("red", limit=1, with_vectors=True)
    np.testing.assert_allclose(hit.vector, collection.encoder.embed_images([square("red")])[0], atol=1e-6)
    (text,) = collection.search("green note", limit=1, using="text", with_vectors=True)
    np.testing.assert_allclose(text.vector, collection.encoder.embed_texts(["a green note"])[0], atol=1e-6)


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        ([], {}, "The query is empty"),
        ("red", {"limit": 0}, "limit must be at least 1"),
        ("red", {"using": "sound"}, "using must be 'image', 'text' or 'both'"),
        ([("red", 1.0), ("red", -1.0)], {}, "cancels itself out"),
        ([("red", 0.0)], {}, "not all of them zero"),
        ([("red", float("nan"))], {}, "weights of a query are numbers"),
    ],
)
def test_bad_queries_are_refused(collection, query, options, message):
    with pytest.raises(ConfigError, match=message):
        collection.search(query, **options)


def test_a_query_image_that_is_not_there_is_named(collection):
    with pytest.raises(ImageNotFoundError, match=r"gone\.png"):
        collection.search(Path("gone.png"))


@pytest.mark.parametrize("vector", [np.zeros(32, np.float32), np.full(32, np.nan, np.float32)])
def test_a_vector_near_to_nothing_is_refused(collection, vector):
    with pytest.raises(InvalidPointError, match="zero or has a NaN"):
        collection.vectors.search(vector)


def test_recommends_what_is_like_points_and_leaves_them_out(collection):
    ids = {hit.source: hit.id for hit in collection.vectors.scan()}
    collection.add([Record("dark red", square((200, 10, 10))), Record("navy", square((30, 60, 200)))])
    assert found(collection.recommend([ids["red"]], limit=1)) == ["dark red"]
    liked = collection.recommend([ids["red"], ids["blue"]], negative=[ids["blue"]], limit=10)
    assert found(liked)[0] == "dark red"
    assert not {"red", "blue"} & set(found(liked))
    assert found(collection.recommend([ids["red"]], where={"warm": True})) == ["yellow"]


def test_recommends_by_points_of_others_with_integers_for_ids(collection):
    for number, colour in enumerate(("red", "blue"), 1):
        (vector,) = collection.encoder.embed_images([square(colour)])
        point = models.PointStruct(id=number, vector={"image": vector.tolist()}, payload={"source": f"their {colour}"})
        collection.vectors.upsert([point])
    (best,) = collection.search(square("blue"), limit=1, where={"source": "their blue"})
    assert best.id == "2"
    liked = collection.recommend([best.id], limit=10)
    assert found(liked)[0] == "blue"
    assert "their blue" not in found(liked)


def test_recommending_by_nothing_is_refused(collection):
    note = next(hit.id for hit in collection.vectors.scan() if hit.source == "note")
    missing = "00000000-0000-0000-0000-000000000001"
    with pytest.raises(ConfigError, match="at least one positive id"):
        collection.recommend([])
    with pytest.raises(ConfigError, match=f"There is no point '{missing}'"):
        collection.recommend([missing])
    assert found(collection.recommend([note], limit=1)) == ["green"]


def test_gets_in_the_order_asked_and_skips_what_is_not_there(collection):
    ids = {hit.source: hit.id for hit in collection.vectors.scan()}
    asked = [ids["blue"], "00000000-0000-0000-0000-000000000001", ids["red"]]
    assert found(collection.get(asked)) == ["blue", "red"]
    assert collection.get([]) == []


def test_deletes_by_id_and_by_filter(collection):
    ids = {hit.source: hit.id for hit in collection.vectors.scan()}
    assert collection.delete([ids["red"], "00000000-0000-0000-0000-000000000001"]) == 1
    assert collection.delete(where={"warm": True}) == 1
    assert collection.delete([]) == 0
    assert collection.count() == 4
    assert collection.count(where="modality == 'text'") == 1


@pytest.mark.parametrize("arguments", [{}, {"where": {}}, {"ids": ["x"], "where": {"warm": True}}])
def test_nothing_is_deleted_by_accident(collection, arguments):
    with pytest.raises(ConfigError, match="either ids or a filter that is not empty"):
        collection.delete(**arguments)
    assert collection.count() == 6


def test_scans_beyond_one_page(client, name):
    collection = ClipCollection(client, name, FakeEncoder())
    collection.add(Record(f"{i}", text=f"note {i}") for i in range(2_300))
    assert {hit.source for hit in collection.vectors.scan()} == {f"{i}" for i in range(2_300)}


def test_an_empty_collection_answers_with_nothing(client, name):
    collection = ClipCollection(client, name, FakeEncoder())
    for using in ("image", "text", "both"):
        assert collection.search("red", using=using) == []
    assert collection.count() == 0


def test_optimize_is_for_folders(tmp_path):
    with connect(tmp_path) as client:
        collection = ClipCollection(client, "c", FakeEncoder())
        collection.add([Record("red", square("red"))])
        assert collection.optimize() in (True, False)
        assert found(collection.search("red")) == ["red"]
    with connect(":memory:") as client, pytest.raises(UnsupportedError, match="Only a folder"):
        ClipCollection(client, "c", FakeEncoder()).optimize()


def test_closing_and_opening_again_keeps_everything(tmp_path):
    with ClipCollection(connect(tmp_path), "c", FakeEncoder()) as collection:
        collection.add([Record("red", square("red"))])
    with pytest.raises(RuntimeError, match="is closed"):
        collection.count()
    with ClipCollection(connect(tmp_path), "c", FakeEncoder()) as collection:
        assert found(collection.search("red")) == ["red"]
