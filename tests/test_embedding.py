"""`ClipEmbedding`: texts and images of every form, one at a time and in batches, at once and async."""

import asyncio
import base64
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_qdrant import ClipEmbedding
from clip_qdrant.errors import (
    ConfigError,
    ImageDecodeError,
    ImageError,
    ImageFetchError,
    ImageNotFoundError,
)
from clip_qdrant.llamaindex import embedding_cache
from clip_qdrant.testing import FakeEncoder
from tests.embeddings import Counting, Slow

LONG = "a photo of a red bear " * 40


@pytest.fixture
def embedding():
    return ClipEmbedding(encoder=FakeEncoder())


@pytest.fixture(scope="module")
def pocket():
    return ClipEmbedding("pocket", device="cpu", dtype="float32")


def close(a, b):
    return np.allclose(a, b, atol=1e-6)


def test_defect_01_no_gradients_are_kept(pocket, monkeypatch):
    import torch

    modes = []
    towers = pocket.encoder._towers
    for name in ("embed_windows", "embed_images"):
        forward = getattr(towers, name)

        def recording(batch, forward=forward):
            modes.append(torch.is_inference_mode_enabled())
            return forward(batch)

        monkeypatch.setattr(towers, name, recording)
    pocket.get_text_embedding("red")
    pocket.get_image_embedding(Image.new("RGB", (64, 64), "red"))
    assert modes == [True, True]


@pytest.mark.parametrize("run", ["sync", "async"])
def test_defect_02_a_batch_is_one_forward_pass(run):
    encoder = Counting()
    embedding = ClipEmbedding(encoder=encoder, embed_batch_size=4)
    picture = Image.new("RGB", (8, 8), "red")
    if run == "sync":
        images = embedding.get_image_embedding_batch([picture] * 10)
        texts = embedding.get_text_embedding_batch(["red"] * 10)
    else:
        images = asyncio.run(embedding.aget_image_embedding_batch([picture] * 10))
        texts = asyncio.run(embedding.aget_text_embedding_batch(["red"] * 10))
    assert [len(batch) for batch in encoder.image_batches] == [4, 4, 2]
    assert [len(batch) for batch in encoder.text_batches] == [4, 4, 2]
    assert (len(images), len(texts)) == (10, 10)


@pytest.mark.parametrize(
    "method, argument",
    [
        ("aget_query_embedding", "red"),
        ("aget_text_embedding", "red"),
        ("aget_text_embedding_batch", ["red", "blue"]),
        ("aget_image_embedding", "picture"),
        ("aget_image_embedding_batch", ["picture", "picture"]),
        ("_aget_query_embedding", "red"),
        ("_aget_text_embedding", "red"),
        ("_aget_text_embeddings", ["red"]),
        ("_aget_image_embedding", "picture"),
        ("_aget_image_embeddings", ["picture"]),
    ],
)
def test_defects_03_and_07_the_loop_beats_while_the_model_runs(method, argument):
    picture = Image.new("RGB", (8, 8), "red")
    argument = {"picture": picture}.get(argument, argument) if isinstance(argument, str) else argument
    argument = [picture if item == "picture" else item for item in argument] if isinstance(argument, list) else argument
    encoder = Slow()

    async def both():
        return await asyncio.gather(
            getattr(ClipEmbedding(encoder=encoder), method)(argument), encoder.heartbeat(beats=10)
        )

    vectors, _ = asyncio.run(both())
    assert encoder.in_time, "the encoder stood in the heartbeat's way"
    assert np.shape(vectors)[-1] == 32


def test_defects_03_and_07_the_loop_beats_while_the_model_is_loaded(monkeypatch):
    slow = Slow()
    loaded = []

    def load(*args, **kwargs):
        slow.in_time &= slow.go_on.wait(10)
        loaded.append(args)
        return FakeEncoder()

    monkeypatch.setattr("clip_qdrant.llamaindex.embedding.ClipEncoder", load)

    async def all_of_them():
        embedding = ClipEmbedding("pocket")
        await asyncio.gather(
            embedding.aget_query_embedding("red"), embedding.aget_text_embedding("blue"), slow.heartbeat(beats=10)
        )

    asyncio.run(all_of_them())
    assert slow.in_time
    assert loaded == [("pocket",)], "two who ask at once share one model"


def test_defect_04_device_length_and_norm(pocket):
    assert str(pocket.encoder.device) == "cpu"
    vectors = pocket.get_text_embedding_batch(["red", LONG])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-6)
    with pytest.raises(ConfigError, match="no device 'abacus'"):
        ClipEmbedding("pocket", device="abacus").get_text_embedding("red")


def test_the_text_policy_reaches_the_model(pocket):
    pooled = ClipEmbedding("pocket", device="cpu", dtype="float32", text_policy="pool")
    assert not close(pooled.get_text_embedding(LONG + "blue"), pocket.get_text_embedding(LONG + "blue"))


def test_defect_05_every_form_of_an_image_is_embedded_alike(embedding, swatches):
    path = swatches / "red.png"
    encoded = path.read_bytes()
    uri = "data:image/png;base64," + base64.b64encode(encoded).decode()
    picture = Image.open(path)
    forms = [str(path), path, encoded, BytesIO(encoded), uri, picture, np.asarray(picture), path.as_uri()]
    assert embedding.get_image_embedding_batch(forms) == [embedding.get_image_embedding(path)] * len(forms)


@pytest.mark.parametrize("name", ["a red picture.png", "red", "", Path("red.png")], ids=repr)
def test_defect_06_a_missing_path_is_an_error_and_never_a_text(embedding, name):
    for call in (embedding.get_image_embedding, lambda name: asyncio.run(embedding.aget_image_embedding(name))):
        with pytest.raises(ImageError):
            call(name)
    with pytest.raises(ImageNotFoundError, match=r"nowhere\.png"):
        embedding.get_image_embedding("nowhere.png")


@pytest.mark.parametrize("text", ["https://127.0.0.1:1/red.png", "data:image/png;base64,AAAA", "{path}"])
def test_defect_33_a_text_is_always_a_text(pocket, swatches, text):
    path = swatches / "red.png"
    text = text.format(path=path)
    assert np.dot(pocket.get_text_embedding(text), pocket.get_image_embedding(path)) < 0.9
    assert close(pocket.get_query_embedding(text), pocket.encoder.embed_texts([text])[0])


def test_sync_async_single_and_batch_agree(embedding, swatches):
    path = str(swatches / "blue.png")

    async def all_of_them():
        return (
            await embedding.aget_text_embedding("red"),
            await embedding.aget_query_embedding("red"),
            (await embedding.aget_text_embedding_batch(["blue", "red"]))[1],
            await embedding.aget_image_embedding(path),
            (await embedding.aget_image_embedding_batch([str(swatches / "red.png"), path]))[1],
        )

    *texts, image, image_of_batch = asyncio.run(all_of_them())
    assert texts == [embedding.get_text_embedding("red")] * 3 == [embedding.get_query_embedding("red")] * 3
    assert image == image_of_batch == embedding.get_image_embedding(path)


def test_batches_of_none(embedding):
    assert embedding.get_text_embedding_batch([]) == embedding.get_image_embedding_batch([]) == []
    assert asyncio.run(embedding.aget_image_embedding_batch([])) == embedding([]) == []


@pytest.mark.parametrize("one", ["red.png", b"red", Path("red.png"), Image.new("RGB", (2, 2)), np.zeros((2, 2, 3))])
def test_one_image_where_many_belong_is_refused(embedding, one):
    with pytest.raises(ConfigError, match=r"Many images are a list, got one .*Write \[image\]"):
        embedding.get_image_embedding_batch(one)
    with pytest.raises(ConfigError, match="Many texts are a list"):
        asyncio.run(embedding.aget_text_embedding_batch("red"))


def test_an_image_is_no_text(embedding, swatches):
    with pytest.raises(ConfigError, match=r"A text is a str, got PosixPath\. Use get_image_embedding"):
        embedding.get_text_embedding(swatches / "red.png")
    with pytest.raises(ConfigError, match="A query is a str, got bytes"):
        embedding.get_query_embedding(b"red")


def test_one_broken_image_of_many_is_named(embedding, swatches):
    (swatches / "green.png").write_bytes(b"no picture")
    with pytest.raises(ImageDecodeError, match=r"green\.png"):
        embedding.get_image_embedding_batch(sorted(swatches.iterdir()))


def test_a_url_is_opened_only_where_allowed(monkeypatch, embedding):
    url = "https://user:secret@example.org/red.png"
    with pytest.raises(ImageFetchError, match=r"example\.org/red\.png.*ClipEmbedding\(allow_url=True\)") as error:
        embedding.get_image_embedding(url)
    assert "secret" not in str(error.value)

    asked = []
    red = Image.new("RGB", (8, 8), "red")

    def opened(urls, *, min_side, allow_url):
        asked.append((urls, min_side, allow_url))
        return iter([red for _ in urls])

    monkeypatch.setattr(embedding_cache, "decode_ahead", opened)
    allowing = ClipEmbedding(encoder=FakeEncoder(), allow_url=True)
    assert allowing.get_image_embedding_batch([url, red])[0] == embedding.get_image_embedding(red)
    assert asked == [([url], 8, True)]


def test_a_url_into_the_own_network_stays_closed():
    with pytest.raises(ImageFetchError, match="not a public address"):
        ClipEmbedding(encoder=FakeEncoder(), allow_url=True).get_image_embedding("http://127.0.0.1:1/red.png")


def test_instructions_are_put_before_what_they_are_for():
    encoder = Counting()
    embedding = ClipEmbedding(encoder=encoder, query_instruction="find: ", text_instruction="keep: ")
    embedding.get_query_embedding("red")
    embedding.get_text_embedding_batch(["red"])
    assert encoder.text_batches == [["find: red"], ["keep: red"]]
