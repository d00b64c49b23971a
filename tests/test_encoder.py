"""`ClipEncoder` against transformers, computed here one item at a time and without any of our code."""

import logging
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BertTokenizerFast,
    ChineseCLIPModel,
    CLIPModel,
    CLIPTokenizer,
    GemmaTokenizer,
    MetaClip2Model,
    PreTrainedTokenizerFast,
    Siglip2Model,
    Siglip2Tokenizer,
    SiglipModel,
    SiglipTokenizer,
)
from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from clip_qdrant import ClipEncoder
from clip_qdrant.errors import ImageDecodeError, ImageNotFoundError
from clip_qdrant.types import Encoder
from tests import checkpoints

REFERENCES = {
    "clip": (CLIPModel, CLIPTokenizer, CLIPImageProcessorPil, {"truncation": True, "max_length": 77}),
    "siglip": (
        SiglipModel,
        SiglipTokenizer,
        SiglipImageProcessorPil,
        {"truncation": True, "padding": "max_length", "max_length": 64, "return_attention_mask": False},
    ),
    "siglip2": (
        Siglip2Model,
        Siglip2Tokenizer,
        Siglip2ImageProcessorPil,
        {"truncation": True, "padding": "max_length", "max_length": 64, "return_attention_mask": False},
    ),
    "fixed_siglip2": (
        SiglipModel,
        GemmaTokenizer,
        SiglipImageProcessorPil,
        {"truncation": True, "padding": "max_length", "max_length": 64, "return_attention_mask": False},
    ),
    "metaclip2": (
        MetaClip2Model,
        PreTrainedTokenizerFast,
        CLIPImageProcessorPil,
        {"truncation": True, "max_length": 77},
    ),
    "chinese_clip": (
        ChineseCLIPModel,
        BertTokenizerFast,
        ChineseCLIPImageProcessorPil,
        {"truncation": True, "max_length": 52},
    ),
}
THROUGH_SENTENCE_TRANSFORMERS = ["clip", "siglip", "siglip2", "fixed_siglip2", "chinese_clip"]
SIZES = [(32, 32), (50, 40), (33, 64), (120, 90), (31, 200), (300, 20), (1, 1), (64, 64)]
WORDS = "a photo of the quick brown fox and 42 lazy dogs in many kinds of words".split()


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A checkpoint of every family."""
    root = tmp_path_factory.mktemp("checkpoints")
    made = {family: getattr(checkpoints, f"make_{family}")(root / family) for family in REFERENCES}
    for name in THROUGH_SENTENCE_TRANSFORMERS:
        made[f"sentence_{name}"] = checkpoints.make_sentence_transformer(root / f"sentence_{name}", made[name])
    made["sentence_old_clip"] = checkpoints.make_old_sentence_transformer(root / "sentence_old_clip", made["clip"])
    return made


@pytest.fixture(
    scope="session",
    params=[*REFERENCES, *(f"sentence_{name}" for name in THROUGH_SENTENCE_TRANSFORMERS), "sentence_old_clip"],
)
def family(request):
    return request.param


@pytest.fixture(scope="session")
def encoder(folders, family):
    return ClipEncoder(folders[family], dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def clip(folders):
    return ClipEncoder(folders["clip"], dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def images():
    """64 noisy pictures of mixed sizes."""
    random = np.random.default_rng(0)
    return [
        Image.fromarray(random.integers(0, 256, (*SIZES[i % len(SIZES)][::-1], 3), dtype=np.uint8)) for i in range(64)
    ]


@pytest.fixture(scope="session")
def texts():
    """64 texts of 0, 1, 77 and 500 words, and lengths between."""
    random = np.random.default_rng(1)
    lengths = [0, 1, 77, 500, *random.integers(1, 30, 60)]
    return [" ".join(random.choice(WORDS, length)) for length in lengths]


def reference(folders, family, *, images=(), texts=()):
    """Unit vectors in float64, by transformers alone."""
    name = family.removeprefix("sentence_").removeprefix("old_")
    if name == "fixed_siglip2":  # trained on lower case, of which its tokenizer does not know
        texts = [text.lower() for text in texts]
    model_class, tokenizer_class, processor_class, options = REFERENCES[name]
    model = model_class.from_pretrained(folders[name], dtype=torch.float32).eval()
    tokenizer = tokenizer_class.from_pretrained(folders[name])
    processor = processor_class.from_pretrained(folders[name])
    with torch.inference_mode():
        outputs = [model.get_image_features(**processor(images=[image], return_tensors="pt")) for image in images]
        outputs += [model.get_text_features(**tokenizer([text], return_tensors="pt", **options)) for text in texts]
    vectors = np.array([output.pooler_output[0].numpy() for output in outputs], np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cosines(ours, theirs):
    return (ours.astype(np.float64) * theirs).sum(axis=1)


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_float32_equals_the_reference(encoder, folders, family, images, texts, count):
    theirs = reference(folders, family, images=images[:count], texts=texts[:count])
    assert cosines(encoder.embed_images(images[:count]), theirs[:count]).min() >= 0.99999
    assert cosines(encoder.embed_texts(texts[:count]), theirs[count:]).min() >= 0.99999


def test_bfloat16_stays_near_the_reference(folders, family, images, texts):
    encoder = ClipEncoder(folders[family], dtype="bfloat16", device="cpu")
    theirs = reference(folders, family, images=images, texts=texts)
    assert cosines(encoder.embed_images(images), theirs[:64]).min() >= 0.999
    assert cosines(encoder.embed_texts(texts), theirs[64:]).min() >= 0.999


def test_the_inputs_are_told_apart(folders, family, images, texts):
    """Or else the comparison with the reference would say nothing."""
    vectors = reference(folders, family, images=images[:8], texts=texts[4:12])
    similarity = vectors @ vectors.T
    assert similarity[~np.eye(16, dtype=bool)].max() < 0.999


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_neither_batch_size_nor_order_changes_a_vector(encoder, folders, family, images, texts, batch_size):
    other = ClipEncoder(folders[family], dtype="float32", device="cpu", batch_size=batch_size)
    shuffled = np.random.default_rng(2).permutation(64)
    ours, theirs = encoder.embed_images(images), other.embed_images([images[i] for i in shuffled])
    np.testing.assert_allclose(theirs, ours[shuffled], atol=1e-5)
    ours, theirs = encoder.embed_texts(texts), other.embed_texts([texts[i] for i in shuffled])
    np.testing.assert_allclose(theirs, ours[shuffled], atol=1e-5)


def test_vectors_are_float32_of_unit_length(encoder, images, texts):
    for vectors in (encoder.embed_images(images[:5]), encoder.embed_texts(texts[:5])):
        assert (vectors.dtype, vectors.shape) == (np.float32, (5, encoder.dim))
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_nothing_in_nothing_out(encoder):
    assert encoder.embed_images([]).shape == encoder.embed_texts([]).shape == (0, encoder.dim)
    assert encoder.embed_images(iter(())).dtype == np.float32


def test_is_an_encoder(encoder):
    assert isinstance(encoder, Encoder)
    assert encoder.image_side == 32
    assert encoder.batch_size == 32


def test_a_text_is_a_text_whatever_it_looks_like(encoder, folders, family, tmp_path, monkeypatch):
    """STOCK_DEFECTS 33: an address or a path in a search box opens nothing."""
    picture = tmp_path / "picture.png"
    Image.new("RGB", (32, 32), "red").save(picture)
    data = "data:image/png;base64,iVBORw0KGgo="
    texts = [str(picture), "https://127.0.0.1:1/picture.png", "http://example.org/a.jpg", data]
    expected = reference(folders, family, texts=texts)

    def refuse(*arguments, **_options):
        raise AssertionError(f"something was opened: {arguments}")

    for owner, attribute in ((Image, "open"), (socket.socket, "connect"), (socket, "getaddrinfo"), (Path, "open")):
        monkeypatch.setattr(owner, attribute, refuse)
    monkeypatch.setattr("builtins.open", refuse)
    assert cosines(encoder.embed_texts(texts), expected).min() >= 0.99999


def test_a_long_text_is_cut_with_one_warning(folders, family, caplog):
    encoder = ClipEncoder(folders[family], dtype="float32", device="cpu")
    with caplog.at_level(logging.WARNING, logger="clip_qdrant"):
        first = encoder.embed_texts(["fox " * 500])
        encoder.embed_texts(["dog " * 500, "cat"])
    (record,) = caplog.records
    assert f"longer than the {encoder.max_text_tokens} tokens" in record.getMessage()
    np.testing.assert_allclose(first, encoder.embed_texts(["fox " * 600]), atol=1e-6)


def test_pooling_reads_a_long_text_to_its_end(folders, family, caplog):
    encoder = ClipEncoder(folders[family], dtype="float32", device="cpu", text_policy="pool")
    start = "fox " * 500
    pooled = encoder.embed_texts([f"{start} cat words photo", start, "cat"])
    assert "embedded in pieces" in caplog.text
    assert np.linalg.norm(pooled[0] - pooled[1]) > 1e-4
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(pooled[2], encoder.embed_texts(["cat"])[0], atol=1e-5)


def test_pooling_is_the_mean_by_length(clip, folders):
    """Two windows of CLIP: 75 tokens, and the 5 that are left."""
    encoder = ClipEncoder(folders["clip"], dtype="float32", device="cpu", text_policy="pool")
    letter = next(letter for letter in "zqxkj" if len(clip._towers.windows(letter)[0]) == 1)
    whole, rest = clip.embed_texts([" ".join([letter] * 75), " ".join([letter] * 5)]).astype(np.float64)
    mean = (75 * whole + 5 * rest) / 80
    (pooled,) = encoder.embed_texts([" ".join([letter] * 80)])
    np.testing.assert_allclose(pooled, mean / np.linalg.norm(mean), atol=1e-6)


def test_images_come_in_every_form(clip, tmp_path):
    path = tmp_path / "picture.png"
    Image.effect_noise((40, 50), 90).convert("RGB").save(path)
    forms = [path, str(path), path.read_bytes(), Image.open(path), np.asarray(Image.open(path))]
    vectors = clip.embed_images(forms)
    np.testing.assert_allclose(vectors, vectors[[0] * 5], atol=1e-6)


def test_a_bad_image_is_its_own_error_and_the_encoder_goes_on(clip, images):
    with pytest.raises(ImageNotFoundError, match=r"nowhere\.png"):
        clip.embed_images([images[0], "nowhere.png"])
    with pytest.raises(ImageDecodeError):
        clip.embed_images([b"no picture"])
    assert clip.embed_images(images[:2]).shape == (2, clip.dim)


def test_an_interruption_leaves_the_encoder_usable(clip, images):
    def interrupted():
        yield from images[:40]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clip.embed_images(interrupted())
    assert clip.embed_images(images[:2]).shape == (2, clip.dim)


def test_threads_share_an_encoder(clip, images, texts):
    expected, found = (clip.embed_images(images), clip.embed_texts(texts)), [None] * 4

    def embed(i):
        found[i] = clip.embed_images(images) if i % 2 == 0 else clip.embed_texts(texts)

    threads = [threading.Thread(target=embed, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, vectors in enumerate(found):
        np.testing.assert_allclose(vectors, expected[i % 2], atol=1e-5)


def test_one_batch_at_a_time(folders, images, monkeypatch):
    """Two threads never meet in the model, whose memory is sized for one batch."""
    encoder = ClipEncoder(folders["clip"], device="cpu")
    forward, meeting, met = encoder._towers.embed_images, threading.Barrier(2), []

    def wait_for_another(batch):
        try:
            meeting.wait(timeout=0.3)
            met.append(True)
        except threading.BrokenBarrierError:
            pass
        return forward(batch)

    monkeypatch.setattr(encoder._towers, "embed_images", wait_for_another)
    threads = [threading.Thread(target=encoder.embed_images, args=(images[:2],)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == []


def test_siglip_texts_are_lower_cased_whatever_the_tokenizer_does(tmp_path):
    """SigLIP 2 was trained on lower case; its checkpoints of one size bring a tokenizer that keeps capitals."""
    encoder = ClipEncoder(checkpoints.make_fixed_siglip2(tmp_path), dtype="float32", device="cpu")
    upper, lower, other = encoder.embed_texts(["A Photo of a CAT", "a photo of a cat", "a photo of a dog"])
    np.testing.assert_array_equal(upper, lower)
    assert upper @ other < 0.9999


def test_scale_and_bias_are_the_models_own(folders):
    clip, siglip = (ClipEncoder(folders[name], device="cpu") for name in ("clip", "siglip"))
    assert clip.logit_scale == pytest.approx(float(np.exp(2.6592)), rel=1e-2)
    assert clip.logit_bias == 0.0
    assert (siglip.logit_scale, siglip.logit_bias) == (pytest.approx(20.0, rel=1e-2), -5.0)
    sentence = ClipEncoder(folders["sentence_siglip"], device="cpu")
    assert (sentence.logit_scale, sentence.logit_bias) == (siglip.logit_scale, siglip.logit_bias)
