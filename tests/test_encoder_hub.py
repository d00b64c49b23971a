"""Models of the Hub, as its cache on this disk has them: whole, in part, in the wrong format. Nothing is fetched."""

import re
import shlex
import shutil
import sys
from types import SimpleNamespace

import httpx
import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import RevisionNotFoundError
from PIL import Image
from safetensors.torch import load_file

from clip_qdrant import ClipEncoder
from clip_qdrant.errors import ModelFormatError, ModelNotFoundError
from clip_qdrant.models.encoder import download_size
from tests import checkpoints

ID = "owner/clip"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return checkpoints.make_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture
def snapshot(original, tmp_path, monkeypatch):
    """The folder of the Hub's cache that has the model."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    repository = tmp_path / "hub" / "models--owner--clip"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    return shutil.copytree(original, repository / "snapshots" / ("0" * 40))


def publish(monkeypatch, sizes):
    files = [SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: SimpleNamespace(siblings=files))


def run_command_of(error, monkeypatch):
    """What the `python -c "…" MODEL FOLDER` of an error message does."""
    command = re.search(r"python -c .* FOLDER", str(error))[0]
    _interpreter, option, code, *arguments = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [option, *arguments])
    exec(code, {})


def test_a_cached_model_needs_no_network(snapshot, original):
    encoder = ClipEncoder(ID, device="cpu")
    assert encoder.model == encoder.fingerprint.model == ID
    assert encoder.fingerprint.digest == ClipEncoder(original, device="cpu").fingerprint.digest
    assert download_size(ID) == 0


def test_the_size_of_a_download_is_that_of_what_is_wanted(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    wanted = {"model.safetensors": 600, "config.json": 20, "merges.txt": 3, "1_Dense/model.safetensors": 5}
    wanted |= {"model-00001-of-00002.safetensors": 1000, "chat_template.jinja": 7}
    others = dict.fromkeys(["pytorch_model.bin", "open_clip_model.safetensors", "model.fp16.safetensors"], 10**6)
    others |= dict.fromkeys(["onnx/model.onnx", "onnx/config.json", "README.md", "tf_model.h5"], 10**6)
    publish(monkeypatch, wanted | others)
    assert download_size(ID) == 1635


def test_a_config_alone_in_the_cache_is_no_model(snapshot, monkeypatch):
    """As whoever asked for the config alone leaves it."""
    for file in list(snapshot.iterdir()):
        if file.name != "config.json":
            file.unlink()
    publish(monkeypatch, {"model.safetensors": 600})
    assert download_size(ID) == 600


def test_a_repository_with_a_pickle_alone_comes_with_the_command(snapshot, original, tmp_path, monkeypatch):
    """Pickles are not even fetched."""
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ModelFormatError, match=r"'owner/clip' has no model\.safetensors on the Hub") as caught:
        ClipEncoder(ID, device="cpu")
    assert "revision='refs/pr/…'" in str(caught.value)
    torch.save(load_file(original / "model.safetensors"), snapshot / "pytorch_model.bin")
    monkeypatch.chdir(tmp_path)
    run_command_of(caught.value, monkeypatch)
    assert_same(tmp_path / "FOLDER", original)


@pytest.mark.parametrize("kind", ["clip", "sentence"])
def test_the_command_for_a_pickle_makes_a_folder_that_works(kind, original, tmp_path, monkeypatch):
    folder = tmp_path / "it's here"
    if kind == "clip":
        shutil.copytree(original, folder)
    else:
        checkpoints.make_sentence_transformer(folder, original)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (folder / "sub").mkdir()
    shutil.copy(original / "model.safetensors", folder / "sub" / "other.safetensors")  # of no use to the loaders
    with pytest.raises(ModelFormatError, match=r"only as 'pytorch_model\.bin', a pickle") as caught:
        ClipEncoder(folder, device="cpu")
    monkeypatch.chdir(tmp_path)
    run_command_of(caught.value, monkeypatch)
    assert_same(tmp_path / "FOLDER", original)


@pytest.mark.parametrize("kind", ["clip", "sentence"])
def test_a_pickle_is_not_loaded_for_want_of_an_index(kind, original, tmp_path):
    """Shards without the file that lists them are nothing to the loaders, which then look for a pickle."""
    folder = tmp_path / "model"
    if kind == "clip":
        shutil.copytree(original, folder)
    else:
        checkpoints.make_sentence_transformer(folder, original)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    with pytest.raises(ModelFormatError, match="Check that the copy is whole"):
        ClipEncoder(folder, device="cpu")


def assert_same(folder, original):
    pictures, texts = [Image.effect_noise((40, 30), 90).convert("RGB")], ["a photo of a cat"]
    ours, theirs = (ClipEncoder(path, device="cpu", dtype="float32") for path in (folder, original))
    assert (ours.embed_images(pictures) == theirs.embed_images(pictures)).all()
    assert (ours.embed_texts(texts) == theirs.embed_texts(texts)).all()


def test_an_unknown_revision_is_told_from_a_missing_network(monkeypatch):
    def refuse(*_arguments, **_options):
        request = httpx.Request("GET", "https://example.org")
        raise RevisionNotFoundError("404", response=httpx.Response(404, request=request))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelNotFoundError, match="'owner/clip' has no revision 'v9'"):
        ClipEncoder(ID, revision="v9")


@pytest.mark.parametrize("name", ["my model/one", "a--b/c", "owner/" + "x" * 100, "own\\er/x"])
def test_what_cannot_be_a_hub_id_is_refused_as_a_name(name):
    for ask in (ClipEncoder, download_size):
        with pytest.raises(ModelNotFoundError, match="it is no folder here, and no Hub id"):
            ask(name)
