"""Vectors to pictures: the bundled painter, files, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from clip_qdrant import ClipEncoder
from clip_qdrant.errors import ConfigError, ModelFormatError, ModelNotFoundError
from clip_qdrant.models.painter import EmbeddingPainter
from clip_qdrant.testing import FakeEncoder
from clip_qdrant.types import Fingerprint
from tests.painters import Colours, quarters, small

WORDS = ("a red apple", "a blue whale", "a christmas tree", "a grinning face", "a school bus", "a brown bear")


@pytest.fixture(scope="module")
def encoder():
    return ClipEncoder("pocket", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def painter():
    return EmbeddingPainter("pocket", device="cpu")


def test_what_is_painted_of_a_picture_looks_like_it_to_the_encoder(painter, encoder, swatches):
    seen = encoder.embed_texts(WORDS)
    pictures = painter.paint(seen)
    assert all(picture.size == (64, 64) and picture.mode == "RGB" for picture in pictures)
    again = encoder.embed_images(painter.paint(encoder.embed_images(pictures)))
    cosines = again @ encoder.embed_images(pictures).T
    assert (cosines.argmax(axis=1) == np.arange(len(WORDS))).all()


def test_what_is_painted_of_words_is_nearer_to_them_than_to_other_words(painter, encoder):
    seen = encoder.embed_images(painter.paint(encoder.embed_texts(WORDS)))
    cosines = seen @ encoder.embed_texts(WORDS).T
    assert (cosines.argmax(axis=1) == np.arange(len(WORDS))).all()


def test_the_bundled_painter_is_small_and_knows_whose_vectors_it_takes(painter, encoder):
    from clip_qdrant.models.pocket import pocket_path

    files = {path.name: path.stat().st_size for path in pocket_path("painter").iterdir()}
    assert set(files) == {"README.md", "config.json", "model.safetensors"}
    assert files["model.safetensors"] < 7_500_000
    assert painter.encoder == encoder.fingerprint
    painter.check(encoder.fingerprint)
    assert {weight.dtype for weight in painter.network.parameters()} == {torch.float32}


def test_a_picture_depends_on_its_vector_alone(painter, encoder):
    vectors = encoder.embed_texts(WORDS)
    together = painter.paint(vectors)
    few = EmbeddingPainter("pocket", device="cpu", batch_size=4).paint(3.5 * vectors)
    for one, other in zip(together, few, strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1
    assert len({picture.tobytes() for picture in together}) == len(WORDS)


def test_nothing_is_painted_of_nothing(painter):
    assert painter.paint([]) == []
    assert painter.paint(np.empty((0, painter.dim), np.float32)) == []


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones(256), r"\(256,\).*\[vector\]"),
        (np.ones((2, 512)), r"\(n, 256\), got \(2, 512\)"),
        (np.empty((0, 512)), r"got \(0, 512\)"),
        (np.ones((1, 2, 256)), r"got \(1, 2, 256\)"),
        (np.vstack([np.ones(256), np.zeros(256)]), "Vector 1 has the length 0"),
        (np.full((1, 256), np.nan), "Vector 0 has the length nan"),
        (np.full((1, 256), np.inf), "Vector 0 has the length inf"),
        (["a red apple"], "must be numbers"),
        ([[1.0, 2.0], [1.0]], "must be numbers"),
        (None, r"got \(\)"),
    ],
)
def test_what_is_no_array_of_vectors_is_refused(painter, vectors, message):
    with pytest.raises(ConfigError, match=message):
        painter.paint(vectors)


def test_vectors_of_another_encoder_are_refused_though_they_are_as_long(painter):
    other = FakeEncoder(256, name="another")
    with pytest.raises(ConfigError, match=r"256-d vectors of 'pocket'.*256-d vectors of 'another'.*Use that encoder"):
        painter.check(other.fingerprint)


def test_importing_it_loads_no_torch():
    code = "import sys, clip_qdrant.models.painter, clip_qdrant.collection.preview; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Folders


def test_a_painter_is_the_same_when_it_is_loaded_again(tmp_path):
    vectors = Colours().embed_pixels(quarters(0))
    painter = small()
    painter.save(tmp_path / "whole", half=False)
    painter.save(tmp_path / "half")
    whole, half = (EmbeddingPainter(tmp_path / name, device="cpu") for name in ("whole", "half"))
    assert [one.tobytes() for one in whole.paint(vectors)] == [one.tobytes() for one in painter.paint(vectors)]
    for one, other in zip(half.paint(vectors), painter.paint(vectors), strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 2
    assert half.encoder == Colours.fingerprint
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.7 * sizes[1]


def test_a_name_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ModelNotFoundError, match="Use 'pocket', or a folder"):
        EmbeddingPainter(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "clip"}, "of 'clip'"),
        ({"kind": None}, "is no painter"),
        ({"grid": 16}, "not those of the painter"),
        ({"channels": 2}, "3 or more"),
        ({"patch": 2.5}, "whole numbers above 0"),
        ({"width": 12}, "multiple of 8"),
        ({"grid": None}, "whole numbers above 0"),
        ({"hidden": 0}, "whole numbers above 0"),
        ({"hidden": 64}, "not those of the painter"),
        ({"encoder": {"dim": 12}}, "must be a fingerprint"),
        ({"encoder": None}, "must be a fingerprint"),
        ({"encoder": Fingerprint("colours", "w", "p", 0).to_dict()}, "dim must be above 0"),
    ],
)
def test_a_config_that_was_tampered_with_is_refused(tmp_path, changes, message):
    small().save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelFormatError, match=message):
        EmbeddingPainter(tmp_path, device="cpu")


def test_a_folder_without_whole_weights_is_refused(tmp_path):
    with pytest.raises(ModelFormatError, match=r"has no config\.json"):
        EmbeddingPainter(tmp_path)
    small().save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelFormatError, match="not those of the painter"):
        EmbeddingPainter(tmp_path)
    weights.unlink()
    with pytest.raises(ModelFormatError, match=r"has no model\.safetensors"):
        EmbeddingPainter(tmp_path)


def test_weights_that_are_no_numbers_are_neither_written_nor_read(tmp_path):
    from safetensors.torch import load_file, save_file

    painter = small()
    painter.save(tmp_path)
    painter.network.last.bias.data[0] = 1e6  # too much for float16
    with pytest.raises(ModelFormatError, match="half=False"):
        painter.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "last.bias": weights["last.bias"] * float("nan")}, tmp_path / "model.safetensors")
    with pytest.raises(ModelFormatError, match=r"'last\.bias' are not all numbers"):
        EmbeddingPainter(tmp_path)


def test_an_untrained_painter_follows_from_its_seed_and_leaves_torchs_generator_alone():
    state = torch.get_rng_state()
    one, same, other = small(0), small(0), small(1)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one.network.first.weight, same.network.first.weight)
    assert not torch.equal(one.network.first.weight, other.network.first.weight)
    assert EmbeddingPainter.untrained(Colours.fingerprint, grid=24, patch=3).side == 72
    with pytest.raises(ConfigError, match="multiple of 8"):
        EmbeddingPainter.untrained(Colours.fingerprint, width=12)
    with pytest.raises(ConfigError, match="batch_size"):
        EmbeddingPainter("pocket", batch_size=0)


def test_a_sample_is_spread_out_before_it_enters(tmp_path):
    rng = np.random.default_rng(0)
    narrow = 1 + 0.01 * rng.normal(size=(500, 12)) * np.array([5.0, *[1.0] * 11])
    painter = EmbeddingPainter.untrained(Colours.fingerprint, hidden=32, grid=8, sample=narrow, device="cpu")
    entering = []
    painter.network.enter.register_forward_pre_hook(lambda module, given: entering.append(given[0].numpy()))
    painter.paint(narrow)
    found = np.concatenate(entering)
    assert np.abs(found.mean(axis=0)).max() < 0.01
    assert np.abs(np.cov(found.T) - np.diag(np.var(found, axis=0))).max() < 0.15
    assert 0.6 < found.std() < 1.1
    painter.save(tmp_path)
    again = EmbeddingPainter(tmp_path, device="cpu")
    assert torch.allclose(again.network.spread, painter.network.spread, rtol=1e-3, atol=0.1)
    with pytest.raises(ConfigError, match=r"got \(500, 11\)"):
        EmbeddingPainter.untrained(Colours.fingerprint, sample=narrow[:, 1:])


def test_a_sample_with_pictures_is_where_it_starts_from():
    pictures = quarters(0, 400)
    vectors = Colours().embed_pixels(pictures)
    shape = {"hidden": 32, "grid": 8, "patch": 2, "device": "cpu"}
    plain = EmbeddingPainter.untrained(Colours.fingerprint, sample=vectors, **shape)
    fitted = EmbeddingPainter.untrained(Colours.fingerprint, sample=vectors, pictures=pictures, **shape)
    others = quarters(1)
    with torch.inference_mode():
        off = [(one.network(Colours().embed_pixels(others)) - others).square().mean() for one in (plain, fitted)]
    assert off[1] < 0.5 * others.var() < off[0]
