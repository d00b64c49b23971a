"""Qdrant's own settings of vectors, as the stock store takes them."""

import pytest
from llama_index.core.schema import TextNode
from qdrant_client import models

from clip_qdrant import CollectionSchema, connect
from clip_qdrant.errors import CollectionMismatchError, ConfigError
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from clip_qdrant.llamaindex.vector_store_config import schema_fields
from clip_qdrant.testing import FakeEncoder

NODE = TextNode(id_="n", text="x", embedding=[1.0, 0.5])
INT8 = models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8", quantile=0.99, always_ram=True))
TURBO = models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig())


def params(distance=models.Distance.DOT, size=2, **more):
    return models.VectorParams(size=size, distance=distance, **more)


def test_a_new_collection_is_as_qdrants_settings_say(tmp_path):
    dense = params(on_disk=True, hnsw_config=models.HnswConfigDiff(m=8, ef_construct=64))
    with connect(tmp_path) as client:
        ClipQdrantVectorStore("c", client=client, dense_config=dense, quantization_config=INT8).add([NODE])
        config = client.get_collection("c").config
        assert {vector.distance for vector in config.params.vectors.values()} == {models.Distance.DOT}
        assert {vector.on_disk for vector in config.params.vectors.values()} == {True}
        assert (config.hnsw_config.m, config.hnsw_config.ef_construct) == (8, 64)
        assert config.quantization_config.scalar.type == models.ScalarType.INT8
        ClipQdrantVectorStore("c", client=client, dense_config=dense, quantization_config=INT8)
        with pytest.raises(CollectionMismatchError, match="the distance of 'image' is 'dot', not 'cosine'"):
            ClipQdrantVectorStore("c", client=client, dense_config=params(models.Distance.COSINE))


def test_a_collection_of_the_stock_store_is_held_to_them(tmp_path):
    with connect(tmp_path) as client:
        client.create_collection("c", vectors_config=params())
        ClipQdrantVectorStore("c", client=client, dense_config=params()).add([NODE])
        with pytest.raises(CollectionMismatchError, match="holds 2-d vectors, but 3-d was asked for"):
            ClipQdrantVectorStore("c", client=client, dense_config=params(size=3))


@pytest.mark.parametrize(
    ("dense", "quantization", "fields"),
    [
        (None, None, {}),
        (params(), None, {"dim": 2, "distance": "dot"}),
        (params(quantization_config=TURBO), None, {"dim": 2, "distance": "dot", "quantization": "turbo"}),
        (params(on_disk=False), INT8, {"dim": 2, "distance": "dot", "on_disk": False, "quantization": "int8"}),
        (params(hnsw_config=models.HnswConfigDiff(m=4)), None, {"dim": 2, "distance": "dot", "hnsw": {"m": 4}}),
        (None, models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8")),
         {"quantization": "int8"}),
    ],
)  # fmt: skip
def test_what_is_given_is_a_schemas_field(dense, quantization, fields):
    assert schema_fields(dense, quantization) == fields
    assert CollectionSchema(**fields)


@pytest.mark.parametrize(
    ("dense", "quantization", "message"),
    [
        (params(datatype="float16"), None, "dense_config takes size, .*, not datatype"),
        (params(multivector_config=models.MultiVectorConfig(comparator="max_sim")), None, "not multivector_config"),
        (params(hnsw_config=models.HnswConfigDiff(payload_m=4)), None, "hnsw_config takes m, .*, not payload_m"),
        ({"size": 2}, None, "dense_config is Qdrant's VectorParams, got {'size': 2}"),
        (None, models.BinaryQuantization(binary=models.BinaryQuantizationConfig()), "quantization_config can be"),
        (None, models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8", quantile=0.5)), "0.99"),
        (None, models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8", always_ram=False)),
         "in memory always"),
        (None, models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(bits="bits1")), "with 4 bits"),
        (None, "int8", "got 'int8'"),
    ],
)  # fmt: skip
def test_what_a_schema_has_no_word_for_is_refused(dense, quantization, message):
    with connect(":memory:") as client:
        with pytest.raises(ConfigError, match=message):
            ClipQdrantVectorStore("c", client=client, dense_config=dense, quantization_config=quantization)


def test_a_dimension_that_the_encoder_does_not_have_is_refused():
    with connect(":memory:") as client:
        with pytest.raises(ConfigError, match="dense_config has the size 2, but 'fake' makes 32-d vectors"):
            ClipQdrantVectorStore("c", client=client, encoder=FakeEncoder(), dense_config=params())
