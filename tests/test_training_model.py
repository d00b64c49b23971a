"""Models to train, of every family, and what is written of them: three libraries load it, and agree."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clip_qdrant.errors import ConfigError, ModelFormatError, ModelNotFoundError
from clip_qdrant.models import training_model
from clip_qdrant.models.encoder import ClipEncoder
from clip_qdrant.models.towers import load_towers
from clip_qdrant.models.training import Batch, train
from clip_qdrant.models.training_model import check_free, interpolate, load_trainable, save_trained
from clip_qdrant.models.training_options import TrainingOptions
from tests.checkpoints import (
    make_chinese_clip,
    make_clip,
    make_fixed_siglip2,
    make_metaclip2,
    make_old_sentence_transformer,
    make_sentence_transformer,
    make_siglip,
    make_siglip2,
)

TEXTS = ["a photo of a cat", "THE quick brown fox " * 60, "x"]
IMAGES = [Image.new("RGB", (40, 32), colour) for colour in ("red", "navy", "white")]
FAMILIES = (make_clip, make_siglip, make_fixed_siglip2, make_metaclip2, make_chinese_clip)


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda make: make.__name__)
def folder(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("models") / request.param.__name__)


def vectors(output):
    return torch.nn.functional.normalize(output.pooler_output, dim=-1).detach().numpy()


def vectors_of(encoder):
    return np.concatenate([encoder.embed_images(IMAGES), encoder.embed_texts(TEXTS)])


def test_its_inputs_and_vectors_are_those_of_the_encoder(folder):
    trainable = load_trainable(folder)
    expected = vectors_of(ClipEncoder(folder, dtype="float32", device="cpu"))
    ours = torch.cat([trainable.embed_images(IMAGES), trainable.embed_texts(TEXTS)])
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-5)
    ids, mask = trainable.tokens(TEXTS)
    assert len(ids) == 3 and (mask is None or mask.shape == ids.shape)
    assert trainable.pixels(IMAGES).shape == (3, 3, 32, 32)


def test_every_family_learns(folder, tmp_path):
    trainable = load_trainable(folder)
    before = trainable.weights()
    options = TrainingOptions(steps=8, learning_rate=2e-3, device="cpu", warmup=0.0)
    report = train(trainable.model, lambda step: _batch(trainable), tmp_path, options)
    assert report.losses[-1] < report.losses[0]
    changed = [name for name, weight in trainable.weights().items() if not torch.equal(weight, before[name])]
    assert any("text" in name for name in changed) and any("vision" in name for name in changed)


def _batch(trainable):
    return Batch(trainable.pixels(IMAGES), *trainable.tokens(TEXTS))


@pytest.mark.parametrize("half", [False, True])
def test_what_is_written_three_libraries_load_alike(folder, tmp_path, half):
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoProcessor

    trainable = load_trainable(folder)
    options = TrainingOptions(steps=2, learning_rate=1e-3, device="cpu")
    train(trainable.model, lambda step: _batch(trainable), tmp_path / "state", options)
    saved = tmp_path / "new" / "model"
    save_trained(trainable, saved, {"README.md": "# A card\n"}, half=half)
    expected = torch.cat([trainable.embed_images(IMAGES), trainable.embed_texts(TEXTS)]).numpy()
    within = 2e-2 if half else 1e-5
    np.testing.assert_allclose(vectors_of(ClipEncoder(saved, dtype="float32", device="cpu")), expected, atol=within)
    other = SentenceTransformer(str(saved), device="cpu", model_kwargs={"use_safetensors": True})
    items = [{"image": image} for image in IMAGES] + [{"text": text} for text in TEXTS]
    theirs = np.concatenate([other.encode([item], normalize_embeddings=True) for item in items])
    np.testing.assert_allclose(theirs, expected, atol=within)
    model = AutoModel.from_pretrained(saved)
    assert model.dtype == torch.float32
    processor, full = AutoProcessor.from_pretrained(saved), folder.name in ("make_siglip", "make_fixed_siglip2")
    seen = vectors(model.get_image_features(**processor(images=IMAGES, return_tensors="pt")))
    read = processor(  # as the card says
        text=[text.lower() for text in TEXTS] if full else TEXTS, padding="max_length" if full else True,
        truncation=True, return_attention_mask=not full, return_tensors="pt",
    )  # fmt: skip
    np.testing.assert_allclose(np.concatenate([seen, vectors(model.get_text_features(**read))]), expected, atol=within)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, trainable.weights()[name], rtol=0, atol=1e-2 if half else 0)
    assert (saved / "README.md").read_text() == "# A card\n"
    assert not list(saved.glob("**/*.bin")) and [path.name for path in saved.parent.iterdir()] == ["model"]


def test_what_is_written_can_be_trained_again(tmp_path):
    first = load_trainable(make_clip(tmp_path / "clip"))
    save_trained(first, tmp_path / "once", {})
    again = load_trainable(tmp_path / "once")
    assert all(torch.equal(weight, first.weights()[name]) for name, weight in again.weights().items())


def test_sentence_transformers_around_a_network_are_taken(tmp_path):
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    clip = make_clip(tmp_path / "clip")
    expected = load_trainable(clip).embed_texts(TEXTS)
    for folder in (
        make_sentence_transformer(tmp_path / "plain", clip),
        make_sentence_transformer(tmp_path / "normal", clip, Normalize()),
        make_old_sentence_transformer(tmp_path / "old", clip),
    ):
        torch.testing.assert_close(load_trainable(folder).embed_texts(TEXTS), expected)
    dense = make_sentence_transformer(tmp_path / "dense", clip, Dense(24, 8))
    with pytest.raises(ModelFormatError, match=r"made of Transformer, Dense.*Train it with sentence-transformers"):
        load_trainable(dense)


def test_what_cannot_be_trained_is_refused(tmp_path):
    with pytest.raises(ModelNotFoundError):
        load_trainable(tmp_path / "nothing")
    with pytest.raises(ModelFormatError, match="each image at a size of its own"):
        load_trainable(make_siglip2(tmp_path / "siglip2"))


def test_a_model_without_a_temperature_is_refused(tmp_path, monkeypatch):
    def without(*args, **kwargs):
        towers = load_towers(*args, **kwargs)
        del towers.model.logit_scale
        return towers

    monkeypatch.setattr(training_model, "load_towers", without)
    with pytest.raises(ModelFormatError, match=r"CLIPModel\) has no logit_scale"):
        load_trainable(make_clip(tmp_path / "clip"))


def test_what_a_sentence_transformer_does_to_texts_is_kept_or_refused(tmp_path):
    folder = make_sentence_transformer(tmp_path / "sentence", make_clip(tmp_path / "clip"))
    (settings,) = (json.loads(path.read_text()) for path in [folder / "sentence_bert_config.json"])
    (folder / "sentence_bert_config.json").write_text(json.dumps({**settings, "max_seq_length": 6}))
    expected = ClipEncoder(folder, dtype="float32", device="cpu").embed_texts(TEXTS)
    np.testing.assert_allclose(load_trainable(folder).embed_texts(TEXTS).numpy(), expected, atol=1e-5)
    path = folder / "config_sentence_transformers.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "prompts": {"query": "find: "}, "default_prompt_name": "query"}))
    with pytest.raises(ModelFormatError, match="puts 'find: ' before every text"):
        load_trainable(folder)
    path.write_text(json.dumps(told))
    for broken in ("{", "[1]", '[{"type": "a.Transformer"}]'):
        (folder / "modules.json").write_text(broken)
        with pytest.raises(ModelFormatError, match=r"modules\.json of .* Check the copy"):
            load_trainable(folder)


def test_weights_too_large_for_half_are_not_written_as_infinity(tmp_path):
    trainable = load_trainable(make_clip(tmp_path / "clip"))
    with torch.no_grad():
        trainable.model.text_projection.weight[0, 0] = 1e6
    with pytest.raises(ModelFormatError, match=r"'text_projection\.weight' do not fit into float16"):
        save_trained(trainable, tmp_path / "half", {}, half=True)
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


KILLED = """
import os, signal, sys
from pathlib import Path
from clip_qdrant.models import training_model
trainable = training_model.load_trainable(Path(sys.argv[1]))
training_model._as_sentence_transformer = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
training_model.save_trained(trainable, Path(sys.argv[2]), {"README.md": "new"})
"""


def test_a_kill_while_writing_leaves_no_half_folder(tmp_path):
    clip, out = make_clip(tmp_path / "clip"), tmp_path / "out"
    process = subprocess.run([sys.executable, "-c", KILLED, clip, out], cwd=Path(__file__).parents[1], check=False)
    assert process.returncode == -signal.SIGKILL
    assert not out.exists() and (tmp_path / ".out.part").is_dir()
    save_trained(load_trainable(clip), out, {"README.md": "new"})
    assert ClipEncoder(out, device="cpu").dim == 24 and not (tmp_path / ".out.part").exists()


def test_a_folder_may_be_named_from_here(tmp_path, monkeypatch):
    trainable = load_trainable(make_clip(tmp_path / "clip"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save_trained(trainable, Path("out"), {})
    assert (tmp_path / "here" / "out" / "model.safetensors").is_file()


def test_half_way_back_is_half_of_the_change(tmp_path):
    trainable = load_trainable(make_clip(tmp_path / "clip"))
    start = trainable.weights()
    with torch.no_grad():
        for weight in trainable.model.parameters():
            weight.add_(0.1 + weight)
    tuned = trainable.weights()
    interpolate(start, trainable.model, 1.0)
    assert all(torch.equal(weight, tuned[name]) for name, weight in trainable.weights().items())
    interpolate(start, trainable.model, 0.25)
    for name, weight in trainable.weights().items():
        torch.testing.assert_close(weight, start[name] + 0.25 * (tuned[name] - start[name]))
    interpolate(start, trainable.model, 0.0)
    assert all(torch.equal(weight, start[name]) for name, weight in trainable.weights().items())
    with pytest.raises(ConfigError, match="from 0 to 1"):
        interpolate(start, trainable.model, 1.5)
    with pytest.raises(ConfigError, match="of another model"):
        interpolate({"logit_scale": start["logit_scale"]}, trainable.model, 0.5)


def test_nothing_is_overwritten_and_no_half_folder_stays(tmp_path, monkeypatch):
    trainable = load_trainable(make_clip(tmp_path / "clip"))
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    for taken in (full, full / "mine.txt"):
        with pytest.raises(ConfigError, match="is there already"):
            check_free(taken)
        with pytest.raises(ConfigError, match="is there already"):
            save_trained(trainable, taken, {})
    assert (full / "mine.txt").read_text() == "mine"
    empty = tmp_path / "empty"
    empty.mkdir()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(json, "loads", _interrupted)
        save_trained(trainable, empty, {})
    assert not any(empty.iterdir())
    # What a kill left behind is not in the way.
    (tmp_path / ".empty.part" / "plain").mkdir(parents=True)
    save_trained(trainable, empty, {})
    assert (empty / "model.safetensors").is_file() and not (tmp_path / ".empty.part").exists()


def _interrupted(*args, **kwargs):
    raise KeyboardInterrupt
