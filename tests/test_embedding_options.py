"""How a `ClipEmbedding` is made: its arguments, those of the stock classes, and its way through JSON."""

import json
import shutil

import pytest
from llama_index.core import Settings
from llama_index.core.embeddings.loading import RECOGNIZED_EMBEDDINGS, load_embed_model

from clip_qdrant import ClipEmbedding
from clip_qdrant.errors import ConfigError, ModelNotFoundError
from clip_qdrant.models.encoder import ClipEncoder
from clip_qdrant.models.pocket import pocket_path
from clip_qdrant.testing import FakeEncoder


@pytest.fixture
def embedding():
    return ClipEmbedding(encoder=FakeEncoder())


def test_defect_07_unknown_arguments_are_refused_and_fields_kept():
    with pytest.raises(ConfigError, match=r"no argument 'devise'. It has .*'device'"):
        ClipEmbedding("pocket", devise="cpu")
    assert ClipEmbedding("pocket", device="cuda:1").device == "cuda:1"


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ({"normalize": False}, "unit length always"),
        ({"max_length": 77}, "text_policy='pool'"),
        ({"cache_folder": 7}, "cache_folder=7"),
        ({"parallel_process": True}, "decoded in threads"),
        ({"backend": "onnx"}, "runs in torch"),
        ({"token": "hf_x"}, "HF_TOKEN"),
        ({"model": "x"}, "model_name"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"text_policy": "cut"}, "text_policy='cut'"),
        ({"embed_batch_size": 0}, "embed_batch_size=0"),
        ({"model_name": None}, "model_name=None"),
    ],
    ids=str,
)
def test_an_argument_that_cannot_be_says_what_to_do(arguments, cure):
    with pytest.raises(ConfigError, match=cure):
        ClipEmbedding(**arguments)


def test_takes_what_the_stock_classes_take():
    assert ClipEmbedding(embed_batch_size=7, model_name="ViT-B/32").embed_batch_size == 7
    hugging_face = ClipEmbedding(
        "pocket",
        max_length=None,
        query_instruction="find: ",
        text_instruction=None,
        normalize=True,
        cache_folder=None,
        trust_remote_code=False,
        device=None,
        callback_manager=None,
        parallel_process=False,
        target_devices=None,
        show_progress_bar=False,
        num_workers=2,
        revision="main",
        backend="torch",
    )
    assert (hugging_face.device, hugging_face.query_instruction, hugging_face.num_workers) == ("auto", "find: ", 2)


def test_the_fields_reach_the_encoder_when_it_is_loaded(monkeypatch):
    loaded = []

    def load(*args, **kwargs):
        loaded.append((args, kwargs))
        return FakeEncoder()

    monkeypatch.setattr("clip_qdrant.llamaindex.embedding.ClipEncoder", load)
    given = {
        "revision": "main", "cache_folder": "models", "device": "cpu", "dtype": "float16", "text_policy": "pool",
        "trust_remote_code": True,
    }  # fmt: skip
    embedding = ClipEmbedding("ViT-B/32", embed_batch_size=7, **given)
    assert loaded == [], "not before the first vector"
    embedding.get_text_embedding("red")
    embedding.get_text_embedding("blue")
    assert loaded == [(("ViT-B/32",), {**given, "batch_size": 7})]


def test_models_of_the_hub_are_kept_in_the_cache_folder(tmp_path, monkeypatch):
    from huggingface_hub import constants

    before = constants.HF_HUB_CACHE
    embedding = ClipEmbedding("owner/model", cache_folder=str(tmp_path / "models"))
    with pytest.raises(ModelNotFoundError, match="'owner/model' is not on this disk"):
        embedding.get_text_embedding("red")
    snapshot = tmp_path / "models" / "models--owner--model" / "snapshots" / ("a" * 40)
    shutil.copytree(pocket_path("clip"), snapshot)
    reference = tmp_path / "models" / "models--owner--model" / "refs" / "main"
    reference.parent.mkdir()
    reference.write_text("a" * 40)
    assert embedding.get_text_embedding("red") == ClipEmbedding("pocket").get_text_embedding("red")
    assert embedding.encoder.fingerprint.model == "owner/model"
    assert constants.HF_HUB_CACHE == before
    assert ClipEmbedding.from_dict(embedding.to_dict()).cache_folder == str(tmp_path / "models")


def test_a_resnet_is_refused_by_name():
    with pytest.raises(ModelNotFoundError, match="ResNet"):
        ClipEmbedding(model_name="RN50").get_text_embedding("red")


def test_an_encoder_and_settings_for_another_are_refused():
    with pytest.raises(ConfigError, match="loaded already, with device='auto', and cannot have 'cuda'"):
        ClipEmbedding(encoder=FakeEncoder(), device="cuda")
    with pytest.raises(ConfigError, match="model_name='fake'"):
        ClipEmbedding("pocket", encoder=FakeEncoder())
    assert ClipEmbedding("fake", encoder=FakeEncoder()).model_name == "fake"


def test_the_fields_say_what_a_loaded_encoder_is():
    encoder = ClipEncoder("pocket", device="cpu", dtype="float32", text_policy="pool")
    embedding = ClipEmbedding(encoder=encoder)
    assert (embedding.model_name, embedding.device, embedding.dtype) == ("pocket", "cpu", "float32")
    assert embedding.text_policy == "pool"


def test_serialises_without_weights_and_without_loading():
    original = ClipEmbedding(
        "no/such-model", device="cpu", dtype="bfloat16", text_policy="pool", embed_batch_size=3, revision="main",
        query_instruction="find: ", allow_url=True, trust_remote_code=True,
    )  # fmt: skip
    data = original.to_dict()
    assert "trust_remote_code" not in data, "who loads a file decides on that anew"
    copy = ClipEmbedding.from_json(json.dumps(data))
    assert copy.to_dict() == data
    assert copy.device == "cpu" and copy.revision == "main" and copy.allow_url and not copy.trust_remote_code
    assert copy._encoder is None


def test_is_loaded_by_its_class_name(embedding):
    copy = load_embed_model(ClipEmbedding("pocket", device="cpu").to_dict())
    assert isinstance(copy, ClipEmbedding) and copy.device == "cpu"
    assert "ClipEmbedding" not in RECOGNIZED_EMBEDDINGS, "the stock class's name stays its own"
    assert ClipEmbedding.from_dict(embedding.to_dict(), encoder=FakeEncoder()).get_query_embedding("red")


def test_is_taken_by_settings(embedding, monkeypatch):
    monkeypatch.setattr(Settings, "_embed_model", None)
    Settings.embed_model = embedding
    assert Settings.embed_model is embedding
