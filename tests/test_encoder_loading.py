"""Which models `ClipEncoder` takes, which it refuses and how, and what makes two of them the same."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from clip_qdrant import ClipEncoder
from clip_qdrant.errors import ConfigError, ModelFormatError, ModelNotFoundError
from clip_qdrant.models import device, fingerprint
from clip_qdrant.models.encoder import download_size
from clip_qdrant.models.names import resolve_name
from clip_qdrant.models.pocket import pocket_path
from tests import checkpoints


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return checkpoints.make_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture
def folder(original, tmp_path):
    """A checkpoint to spoil."""
    return shutil.copytree(original, tmp_path / "copy")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "clip-qdrant" / "weights.json"


def refusal(folder, error=ModelFormatError, **options):
    with pytest.raises(error) as caught:
        ClipEncoder(folder, device="cpu", **options)
    return str(caught.value)


def test_the_pocket_model_comes_with_the_package():
    encoder = ClipEncoder("pocket", dtype="float32")
    assert (encoder.image_side, encoder.fingerprint.model) == (96, "pocket")
    assert (pocket_path("clip") / "model.safetensors").stat().st_size <= 12_000_000
    assert download_size("pocket") == 0
    red, blue = encoder.embed_images([Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")])
    assert red @ blue < 0.9


def test_openai_names_are_hub_ids():
    assert resolve_name("ViT-B/32") == "openai/clip-vit-base-patch32"
    assert resolve_name("ViT-L/14@336px") == "openai/clip-vit-large-patch14-336"
    assert resolve_name("owner/name") == "owner/name"


@pytest.mark.parametrize("name", ["RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"])
def test_openai_resnets_name_alternatives(name):
    message = refusal(name, ModelNotFoundError)
    assert name in message
    assert "'ViT-B/32'" in message


@pytest.mark.parametrize("name", ["no-such-name", "./missing", "/nowhere/model", "a/b/c"])
def test_a_name_that_is_nothing_is_refused(name):
    assert "it is no folder here, and no Hub id" in refusal(name, ModelNotFoundError)


def test_an_empty_name_is_refused():
    assert "has no name" in refusal(" ", ConfigError)


def test_without_a_network_the_ways_out_are_named():
    message = refusal("owner/not-here", ModelNotFoundError)
    assert "the Hub cannot be reached" in message
    assert "--model pocket" in message
    assert "path of a folder" in message
    assert download_size("owner/not-here") is None


def test_what_is_no_model_says_what_it_found(folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "it has no config.json, but nothing" in refusal(empty)
    (folder / "config.json").unlink()
    assert "it has no config.json, but ['model.safetensors'" in refusal(folder)


def test_pickled_weights_come_with_the_command_to_convert_them(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    message = refusal(folder)
    assert "'pytorch_model.bin', a pickle" in message
    assert "save_pretrained" in message
    (folder / "pytorch_model.bin").unlink()
    assert "has no weights" in refusal(folder)


def test_code_of_its_own_is_not_run(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "unheard_of", "auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("open('ran', 'w')")
    assert "trust_remote_code=True" in refusal(folder)


@pytest.mark.parametrize("size", [0, 7, 4_000])
def test_broken_weights_are_refused(folder, size):
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:size])
    assert "Check that the copy is whole" in refusal(folder)


def test_missing_weights_are_refused_and_not_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "'text_projection.weight' among them" in refusal(folder)


def test_a_broken_config_is_refused(folder):
    (folder / "config.json").write_text("{")
    assert "config.json' cannot be read as JSON" in refusal(folder)


def test_a_text_model_is_refused(tmp_path):
    config = BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(tmp_path / "bert")
    assert "is of type 'bert', which does not embed both images and texts" in refusal(tmp_path / "bert")


def test_a_model_without_a_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer. It needs one of [" in refusal(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "There is no device 'gpu'"),
        ({"device": "cuda:99"}, "This machine has no device 'cuda:99'"),
        ({"dtype": "float8"}, "There is no dtype 'float8'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"text_policy": "drop"}, "text_policy must be 'truncate' or 'pool'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_loaded(options, message):
    with pytest.raises(ConfigError, match=message):
        ClipEncoder("owner/never-looked-for", **options)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx2": True}, torch.float32),
    ],
)
def test_dtype_auto_is_what_the_processor_computes(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert device.pick_dtype("auto", torch.device("cpu")) == expected


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_dtype_auto_with_a_torch_that_has_no_table_of_capabilities(monkeypatch, native, expected):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert device.pick_dtype("auto", torch.device("cpu")) == expected


def test_device_auto_prefers_cuda_then_mps(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.pick_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.pick_device("auto").type == "cuda"


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_dtype_auto_on_a_gpu(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native)
    assert device.pick_dtype("auto", torch.device("cuda")) == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_same_vectors(original):
    pictures = [Image.effect_noise((40, 30), 90).convert("RGB")] * 3
    cpu, gpu = (ClipEncoder(original, device=name, dtype="float32") for name in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu.embed_images(pictures), cpu.embed_images(pictures), atol=1e-4)


def digest(folder):
    return ClipEncoder(folder, device="cpu").fingerprint.digest


def test_a_copy_has_the_same_fingerprint(original, folder):
    assert digest(folder) == digest(original)
    assert (
        ClipEncoder(folder, dtype="float32").fingerprint.digest
        == ClipEncoder(folder, dtype="bfloat16").fingerprint.digest
    )


def test_other_weights_have_another_fingerprint(original, folder):
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"][0, 0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert digest(folder) != digest(original)


def test_other_preprocessing_has_another_fingerprint(original, folder):
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_mean": [0.1, 0.2, 0.3]}))
    assert digest(folder) != digest(original)


def test_weights_are_hashed_once(folder, cache, monkeypatch):
    first = digest(folder)
    assert len(json.loads(cache.read_text())) == 1
    monkeypatch.setattr(fingerprint, "hash_file", lambda file: pytest.fail("hashed again"))
    assert digest(folder) == first


def test_changed_weights_are_hashed_again(folder):
    path = folder / "model.safetensors"
    before = fingerprint.hash_weights([path])
    status = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert fingerprint.hash_weights([path]) != before


def test_a_cache_that_cannot_be_used_costs_only_time(folder, cache):
    cache.parent.parent.mkdir(parents=True)
    cache.parent.write_text("a file where a folder should be")
    assert digest(folder)
    cache.parent.unlink()
    cache.parent.mkdir()
    cache.write_text("{ broken")
    assert digest(folder)
