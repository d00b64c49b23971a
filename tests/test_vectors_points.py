"""Points in and out of a collection by id, by filter and page by page, over every backend."""

import warnings

import numpy as np
import pytest
from qdrant_client import models

from clip_qdrant.errors import CollectionMismatchError, ConfigError, InvalidPointError
from clip_qdrant.storage.schema import CollectionSchema
from clip_qdrant.storage.vectors import VectorCollection
from tests import vectors_data as data
from tests.vectors_data import id_of, numbers, sources


@pytest.fixture
def collection(client, name):
    return data.small(client, name)


def numbered(client, name, payloads):
    """A point for each payload, numbered from 0."""
    collection = VectorCollection(client, name, CollectionSchema(dim=2, indexes=data.FIELDS))
    collection.upsert(
        [models.PointStruct(id=n, vector={"image": [1.0, 0.0]}, payload=payload) for n, payload in enumerate(payloads)]
    )
    return collection


def point(vectors, id=1):
    return models.PointStruct(id=id, vector=vectors, payload={})


@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        ({"image": [0.0, 0.0, 0.0]}, InvalidPointError, "the vector 'image' of point 1 is zero"),
        (
            {"image": [1.0, 0.0, 0.0], "text": [float("nan"), 0.0, 1.0]},
            InvalidPointError,
            "the vector 'text' of point 1",
        ),
        ({"image": [1e39, 0.0, 0.0]}, InvalidPointError, "has a NaN"),
        ({"image": [[1.0, 0.0, 0.0]]}, InvalidPointError, "is not one vector"),
        (
            {"text": [1.0, 0.0]},
            CollectionMismatchError,
            "3-d vectors as 'text', but the vector 'text' of point 1 is 2-d",
        ),
    ],
)
def test_points_that_could_not_be_found_are_not_written(collection, vectors, error, message):
    with pytest.raises(error, match=message):
        collection.upsert([point({"image": [1.0, 0.0, 0.0]}, id=0), point(vectors)])
    assert collection.count() == 5


def test_writing_nothing_changes_nothing(collection):
    collection.upsert([])
    assert collection.count() == 5


def test_gets_many_in_the_order_asked(client, name):
    collection = numbered(client, name, [{"source": str(n)} for n in range(2_500)])
    asked = [n * 7 % 2_600 for n in range(2_600)]
    assert numbers(collection.get(asked)) == [n for n in asked if n < 2_500]
    assert sources(collection.get(["7", 7, "9999"])) == ["7", "7"]


def test_deletes_many(client, name):
    collection = numbered(client, name, [{"source": str(n)} for n in range(2_500)])
    assert collection.delete([str(n) for n in range(100, 3_000)]) == 2_400
    assert numbers(collection.scan()) == list(range(100))
    assert collection.delete(where={"source": ["1", "2"]}) == 2
    assert collection.delete([1, 2]) == 0


@pytest.mark.parametrize("id", ["a cat", "", -1, 2**64, str(2**64), True, 1.5, None])
def test_what_is_no_id_is_refused(collection, id):
    for ask in (collection.get, collection.delete, collection.retrieve):
        with pytest.raises(InvalidPointError, match="neither a UUID nor an unsigned"):
            ask([id_of("cat"), id])
    with pytest.raises(InvalidPointError, match="neither a UUID nor an unsigned"):
        collection.set_payload(id, {})
    assert collection.count() == 5


def test_one_text_is_no_list_of_ids(client, name):
    collection = numbered(client, name, [{}, {}, {}])
    with pytest.raises(InvalidPointError, match="Ids are a list, got '12'"):
        collection.delete("12")
    assert collection.count() == 3


def test_a_payload_is_replaced(collection):
    collection.set_payload(id_of("cat"), {"source": "lynx"})
    (hit,) = collection.get([id_of("cat")], with_vectors=True)
    assert hit.payload == {"source": "lynx"}
    np.testing.assert_allclose(hit.vector, [1.0, 0.0, 0.0], atol=1e-6)


def test_finds_a_great_many_contents(client, name):
    collection = numbered(client, name, [{"content_hash": f"h{n % 150}"} for n in range(450)])
    found = collection.with_content(f"h{n}" for n in range(20, 250))
    assert sorted(found) == sorted(f"h{n}" for n in range(20, 150))
    assert all(point.payload["content_hash"] == hash for hash, point in found.items())
    assert collection.with_content([]) == {}


def test_facets_are_the_most_frequent_values(collection):
    assert list(collection.facet("doc_id").items()) == [("home", 3), ("wild", 2)]
    assert collection.facet("doc_id", limit=1) == {"home": 3}
    assert collection.facet("doc_id", where={"year": {"lte": 2022}}) == {"home": 2, "wild": 1}
    assert collection.facet("tame") == {False: 3, True: 2}
    assert collection.facet("year", where={"doc_id": "wild"}) == {2022: 1, 2023: 1}
    assert collection.facet("doc_id", where={"year": 1999}) == {}
    with pytest.raises(ConfigError, match="limit must be at least 1"):
        collection.facet("doc_id", limit=0)


@pytest.mark.parametrize("field", data.NO_FIELDS)
def test_what_is_no_field_is_refused(collection, field):
    with pytest.raises(ConfigError, match="facet takes the name of a field"):
        collection.facet(field)
    if field is not None:  # which is no order at all
        with pytest.raises(ConfigError, match="order_by takes the name of a field"):
            collection.scan(order_by=f"-{field}")


@pytest.mark.parametrize(
    ("field", "order"), [('"two words"', [0]), ("a.b", [0]), ("a[].b", [1, 1]), ("farbe_ö-1", [0])]
)
def test_a_field_may_be_nested_or_quoted(client, name, field, order):
    payloads = [{"two words": 1, "a": {"b": 1}, "farbe_ö-1": 1}, {"a": [{"b": 1}, {"b": 2}]}]
    collection = numbered(client, name, payloads)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Payload indexes have no effect", UserWarning)
        client.create_payload_index(name, field, field_schema="integer")
    assert collection.facet(field)[1] == 1
    assert numbers(collection.scan(order_by=field)) == order


def test_counts_what_matches(collection):
    assert (collection.count(), collection.count(where="tame == true"), collection.count(where={"year": 1})) == (
        5,
        2,
        0,
    )


def test_scans_in_order(collection):
    assert sources(collection.scan(order_by="year")) == list(data.ROWS)
    assert sources(collection.scan(order_by="-year")) == list(data.ROWS)[::-1]
    assert sources(collection.scan(order_by="-year", where={"doc_id": "home"})) == ["note", "dog", "cat"]
    assert list(collection.scan(order_by="weight")) == []


@pytest.mark.parametrize("descending", [False, True])
def test_scans_in_order_beyond_one_page(client, name, descending):
    """Of a value that many share, none is lost or repeated between two pages."""
    rng = np.random.default_rng(3)
    years = [*rng.integers(0, 900, size=1_500).tolist(), *[450] * 2_200]
    collection = numbered(client, name, [*({"year": year} for year in years), {"source": "no year"}])
    read = list(collection.scan(order_by="-year" if descending else "year"))
    assert [hit.metadata["year"] for hit in read] == sorted(years, reverse=descending)
    assert sorted(numbers(read)) == list(range(3_700))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("day", [f"{year}-03-0{day}T00:00:00Z" for year in range(1900, 2100) for day in range(1, 8)]),
        ("weight", [n / 8 for n in range(-700, 700)]),
    ],
)
def test_scans_in_the_order_of_dates_and_fractions(client, name, field, values):
    shuffled = np.random.default_rng(4).permutation(values).tolist()
    collection = numbered(client, name, [{field: value} for value in shuffled])
    assert [hit.metadata[field] for hit in collection.scan(order_by=field)] == values
    assert [hit.metadata[field] for hit in collection.scan(order_by=f"-{field}")] == values[::-1]


def test_a_scan_reads_no_more_than_is_taken(client, name, monkeypatch):
    collection = numbered(client, name, [{"year": n} for n in range(1_200)])
    pages, scroll = [], client.scroll
    monkeypatch.setattr(client, "scroll", lambda *args, **kwargs: pages.append(kwargs) or scroll(*args, **kwargs))
    for options in ({}, {"order_by": "year"}):
        pages.clear()
        hits = collection.scan(**options)
        assert next(hits).id == "0"
        assert len(pages) == 1


def test_draws_stored_vectors_without_repetition(collection):
    drawn = collection.sample(10, using="text")
    stored = [vectors["text"] for vectors in data.ROWS.values() if "text" in vectors]
    assert sorted(map(tuple, drawn.tolist())) == sorted(map(tuple, np.float32(stored).tolist()))
    assert collection.sample(2).shape == (2, 3)
    assert collection.sample(5, where={"doc_id": "nowhere"}).shape == (0, 3)
    with pytest.raises(ConfigError, match="count must be at least 1"):
        collection.sample(0)
