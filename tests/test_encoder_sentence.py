"""What is particular to models loaded through sentence-transformers: their fingerprint, their pickles, their code."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers.base.modules import Dense

from clip_qdrant import ClipEncoder
from clip_qdrant.errors import ModelFormatError
from tests import checkpoints


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    dense = Dense(24, 8, activation_function=torch.nn.Identity())
    return checkpoints.make_sentence_transformer(root / "sentence", checkpoints.make_clip(root / "clip"), dense)


@pytest.fixture
def folder(original, tmp_path, monkeypatch):
    """A model to change."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shutil.copytree(original, tmp_path / "copy")


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def digest(folder):
    return ClipEncoder(folder, device="cpu").fingerprint.digest


def test_modules_after_the_network_count(folder):
    assert ClipEncoder(folder, device="cpu").dim == 8


def test_a_copy_saved_by_another_release_has_the_same_fingerprint(original, folder):
    change(folder / "config_sentence_transformers.json", __version__={"sentence_transformers": "9.9"})
    assert digest(folder) == digest(original)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config_sentence_transformers.json", {"prompts": {"query": "find: "}, "default_prompt_name": "query"}),
        ("1_Dense/config.json", {"activation_function": "torch.nn.modules.activation.Tanh"}),
        ("sentence_bert_config.json", {"max_seq_length": 40}),
    ],
)
def test_what_changes_vectors_changes_the_fingerprint(original, folder, file, values):
    change(folder / file, **values)
    before, after = (ClipEncoder(path, device="cpu", dtype="float32") for path in (original, folder))
    assert abs(after.embed_texts(["cat " * 60]) - before.embed_texts(["cat " * 60])).max() > 1e-3
    assert after.fingerprint.digest != before.fingerprint.digest


def test_weights_of_every_module_count(original, folder):
    weights = folder / "1_Dense" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert digest(folder) != digest(original)


def test_a_pickle_in_one_module_is_refused(folder):
    weights = folder / "1_Dense" / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    with pytest.raises(ModelFormatError, match=r"only as 'pytorch_model\.bin', a pickle"):
        ClipEncoder(folder, device="cpu")


@pytest.mark.parametrize("kind", ["evil.Evil", "os.system"])
def test_code_of_a_module_is_not_run(folder, tmp_path, kind):
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"idx": 2, "name": "2", "path": "", "type": kind}]))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(ModelFormatError, match="trust_remote_code=True"):
        ClipEncoder(folder, device="cpu")
    assert not (tmp_path / "ran").exists()
