"""Collections are made once, checked ever after, and say what they hold."""

import numpy as np
import pytest
from pydantic import ValidationError
from qdrant_client import models

from clip_qdrant import connect
from clip_qdrant.errors import CollectionMismatchError, CollectionNotFoundError, ConfigError, FilterError
from clip_qdrant.storage.recall import measured_recall
from clip_qdrant.storage.schema import OWN_INDEXES, CollectionSchema, Hnsw
from clip_qdrant.storage.vectors import VectorCollection
from clip_qdrant.testing import FakeEncoder

FAKE = FakeEncoder().fingerprint


def test_making_twice_is_making_once(client, name):
    schema = CollectionSchema(dim=32, fingerprint=FAKE, indexes={"year": "integer"})
    schema.ensure(client, name)
    client.upsert(name, [models.PointStruct(id=1, vector={"image": [1.0] * 32})])
    schema.ensure(client, name)
    assert client.count(name).count == 1
    assert set(client.get_collection(name).config.params.vectors) == {"image", "text"}


def test_indexes_are_there_and_can_be_added(tmp_path):
    with connect(tmp_path) as client:
        CollectionSchema(dim=32).ensure(client, "c")
        assert set(client.get_collection("c").payload_schema) == set(OWN_INDEXES)
        CollectionSchema(dim=32, indexes={"year": "integer"}).ensure(client, "c")
        assert client.get_collection("c").payload_schema["year"].data_type == models.PayloadSchemaType.INTEGER


def test_the_fingerprint_is_kept_with_the_collection(tmp_path):
    with connect(tmp_path) as client:
        CollectionSchema(dim=32, fingerprint=FAKE).ensure(client, "c")
    with connect(tmp_path) as client:
        assert VectorCollection(client, "c").fingerprint == FAKE


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (FakeEncoder(64).fingerprint, "holds 32-d vectors of 'fake', but 'fake' makes 64-d. Use another"),
        (FakeEncoder(name="x").fingerprint, "holds 32-d vectors of 'fake', but 'x' makes 32-d of another space."),
        (None, "holds 32-d vectors of 'fake', but 16-d was asked for."),
    ],
)
def test_another_encoder_is_refused(client, name, other, message):
    CollectionSchema(dim=32, fingerprint=FAKE).ensure(client, name)
    with pytest.raises(CollectionMismatchError) as caught:
        CollectionSchema(dim=other.dim if other else 16, fingerprint=other).ensure(client, name)
    assert message in str(caught.value)


def test_a_foreign_collection_is_refused(client, name):
    client.create_collection(name, vectors_config=models.VectorParams(size=32, distance=models.Distance.COSINE))
    with pytest.raises(CollectionMismatchError, match="has no vector named 'image' but one without a name"):
        CollectionSchema(dim=32).ensure(client, name)


def test_a_collection_that_must_be_there_names_those_that_are(client, name):
    with pytest.raises(CollectionNotFoundError, match=f"There is no collection '{name}'; there is"):
        VectorCollection(client, name)


FULL = CollectionSchema(
    dim=32,
    fingerprint=FAKE,
    vectors=("image",),
    distance="dot",
    lexical=True,
    indexes={"path": "prefix", "user": "tenant", "year": "integer", "place": "geo", "caption": "text"},
    hnsw=Hnsw(m=8, ef_construct=64),
    quantization="int8",
    on_disk=True,
    strict=True,
    shards=1,
    replicas=1,
    write_consistency=1,
)


@pytest.fixture
def full(tmp_path):
    """A client of a folder with the collection "c" made by FULL."""
    with connect(tmp_path) as client:
        FULL.ensure(client, "c")
        yield client


def test_everything_that_was_asked_for_is_made(full):
    info = full.get_collection("c")
    image = info.config.params.vectors["image"]
    assert list(info.config.params.vectors) == ["image"]
    assert (image.size, image.distance, image.on_disk) == (32, models.Distance.DOT, True)
    assert info.config.params.sparse_vectors["lexical"].modifier == models.Modifier.IDF
    assert (info.config.hnsw_config.m, info.config.hnsw_config.ef_construct) == (8, 64)
    assert info.config.quantization_config.scalar.type == models.ScalarType.INT8
    assert info.config.strict_mode_config.unindexed_filtering_retrieve is False
    assert info.payload_schema["path"].params.prefix is True
    assert info.payload_schema["user"].params.is_tenant is True
    assert info.payload_schema["place"].data_type == models.PayloadSchemaType.GEO
    with pytest.raises(FilterError, match="'month'"):
        full.count("c", models.Filter(must=[models.FieldCondition(key="month", match={"value": 1})]))


def test_a_text_index_finds_phrases(full):
    point = models.PointStruct(id=1, vector={"image": [1.0] * 32}, payload={"caption": "a brown bear sleeps"})
    full.upsert("c", [point])
    phrase = models.FieldCondition(key="caption", match=models.MatchPhrase(phrase="brown bear"))
    assert full.count("c", models.Filter(must=[phrase])).count == 1


def test_asking_again_or_for_less_changes_nothing(full):
    before = full.get_collection("c")
    FULL.ensure(full, "c")
    CollectionSchema(vectors=("image",), distance="dot").ensure(full, "c")
    assert full.get_collection("c") == before.model_copy(
        update={"payload_schema": full.get_collection("c").payload_schema}
    )
    assert set(before.payload_schema) == set(full.get_collection("c").payload_schema)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distance": "cosine"}, "the distance of 'image' is 'dot', not 'cosine'"),
        ({"indexes": {"year": "keyword"}}, "the index of 'year' is 'integer', not 'keyword'"),
        ({"hnsw": Hnsw(m=8, ef_construct=99)}, "hnsw.ef_construct is 64, not 99"),
        ({"quantization": "turbo"}, "quantization is 'int8', not 'turbo'"),
        ({"on_disk": False}, "on_disk of 'image' is True, not False"),
        ({"strict": False}, "strict is True, not False"),
        ({"shards": 3}, "shards is 1, not 3"),
        ({"replicas": 2}, "replicas is 1, not 2"),
        ({"write_consistency": 2}, "write_consistency is 1, not 2"),
    ],
)
def test_what_differs_is_said(full, change, message):
    with pytest.raises(CollectionMismatchError, match="'c' is another than was asked for") as caught:
        FULL.model_copy(update=change).ensure(full, "c")
    assert message in str(caught.value)


def test_all_that_differs_is_said_at_once(full):
    with pytest.raises(CollectionMismatchError) as caught:
        FULL.model_copy(update={"distance": "cosine", "shards": 3}).ensure(full, "c")
    assert "distance" in str(caught.value) and "shards" in str(caught.value)


def test_a_missing_vector_is_said(full, tmp_path):
    with pytest.raises(CollectionMismatchError, match=r"no vector named 'text' but \['image'\]"):
        CollectionSchema(dim=32, distance="dot").ensure(full, "c")
    CollectionSchema(dim=4).ensure(full, "plain")
    with pytest.raises(CollectionMismatchError, match="there is no sparse vector 'lexical'"):
        CollectionSchema(dim=4, lexical=True).ensure(full, "plain")


def test_memory_keeps_no_parameters_and_is_not_held_to_them():
    with connect(":memory:") as client:
        for _ in range(2):
            FULL.ensure(client, "c")
        with pytest.raises(CollectionMismatchError, match="distance"):
            FULL.model_copy(update={"distance": "cosine"}).ensure(client, "c")


def test_a_collection_needs_a_dimension(client, name):
    with pytest.raises(ConfigError, match="needs a dimension"):
        CollectionSchema().ensure(client, name)
    assert not client.collection_exists(name)


@pytest.mark.parametrize(
    "wrong",
    [{"dim": 0}, {"dim": 65_537}, {"vectors": ()}, {"distance": "l2"}, {"indexes": {"a": "number"}}, {"shards": 0},
     {"quantization": "binary"}, {"hnsw": {"m": -1}}, {"colour": "red"}],
)  # fmt: skip
def test_a_schema_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        CollectionSchema(**{"dim": 4, **wrong})


def test_two_that_create_at_once_both_get_the_collection(tmp_path, monkeypatch):
    with connect(tmp_path) as client:
        create = client.create_collection

        def another_was_faster(name, **definition):
            create(name, **definition)
            raise RuntimeError(f"Collection {name!r} already exists")

        monkeypatch.setattr(client, "create_collection", another_was_faster)
        CollectionSchema(dim=4).ensure(client, "c")
        assert set(client.get_collection("c").payload_schema) == set(OWN_INDEXES)


def test_a_creation_that_fails_is_not_hidden(tmp_path, monkeypatch):
    with connect(tmp_path) as client:

        def fail(name, **definition):
            raise RuntimeError("disk full")

        monkeypatch.setattr(client, "create_collection", fail)
        with pytest.raises(RuntimeError, match="disk full"):
            CollectionSchema(dim=4).ensure(client, "c")


@pytest.mark.parametrize("quantization", ["int8", "turbo"])
def test_quantised_vectors_find_the_same(tmp_path, quantization):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, 64))
    vectors = np.repeat(centres, 50, axis=0) + 0.3 * rng.normal(size=(1000, 64))
    with connect(tmp_path) as client:
        CollectionSchema(dim=64, vectors=("image",), quantization=quantization).ensure(client, "c")
        client.update_collection(
            "c", optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1, default_segment_number=1)
        )
        client.upload_collection("c", vectors={"image": vectors.astype(np.float32)}, ids=range(1000))
        assert client.optimize("c")
        assert list((tmp_path / "collections").rglob("quantized.*"))
        assert measured_recall(client, "c", "image", sample=50) >= 0.95


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"vectors": ("a/b",)}, "cannot contain '/'"),
        ({"vectors": ("",)}, "name '' is not allowed"),
        ({"vectors": ("image", "image")}, "a name of its own"),
        ({"indexes": {"a[": "keyword"}}, "'a\\[' does not name a field"),
        ({"indexes": {"source": "text"}}, "needs an index of kind 'keyword'"),
    ],
)
def test_what_no_collection_can_have_is_refused_before_one_is_made(wrong, message):
    with pytest.raises(ValueError, match=message):
        CollectionSchema(dim=2, **wrong)


def test_an_index_may_serve_more_than_our_own_does(tmp_path):
    with connect(tmp_path) as client:
        CollectionSchema(dim=2, indexes={"source": "prefix"}).ensure(client, "c")
        assert client.get_collection("c").payload_schema["source"].params.prefix


def test_a_field_whose_name_needs_quotes_is_indexed_as_filters_find_it(tmp_path):
    with connect(tmp_path) as client:
        collection = VectorCollection(
            client, "c", CollectionSchema(dim=2, indexes={"lens model": "keyword"}, strict=True)
        )
        point = models.PointStruct(id=1, vector={"image": [1.0, 0.0]}, payload={"lens model": "RF 50"})
        collection.upsert([point])
        assert [hit.id for hit in collection.scan(where={"lens model": "RF 50"})] == ["1"]
