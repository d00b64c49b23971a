"""Collections are made once, checked ever after, and say what they hold."""

import pytest
from qdrant_client import models

from clip_qdrant import connect
from clip_qdrant.errors import CollectionMismatchError, CollectionNotFoundError
from clip_qdrant.storage.schema import OWN_INDEXES, CollectionSchema
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
