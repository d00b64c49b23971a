"""Fine-tuning from end to end on a tiny model: it gains, it forgets less when asked to, and it can be interrupted."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from clip_qdrant.cli.app import app
from clip_qdrant.collection.clip import ClipCollection
from clip_qdrant.collection.finetune import finetune
from clip_qdrant.collection.pairs import Parts, pairs_from_records, split
from clip_qdrant.errors import ConfigError, ModelNotFoundError, TrainingError
from clip_qdrant.models.encoder import ClipEncoder
from clip_qdrant.models.training import TrainingOptions
from clip_qdrant.models.training_model import load_trainable
from clip_qdrant.sources import records_in
from clip_qdrant.storage.connect import connect
from clip_qdrant.types import Record
from tests.checkpoints import make_clip

COLOURS = {"red": (230, 30, 30), "green": (20, 200, 40), "blue": (30, 40, 220), "grey": (128, 128, 128)}
OPTIONS = TrainingOptions(steps=60, learning_rate=3e-3, judge_every=20, device="cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixty noisy swatches with captions; what there is to learn is the name of their colour."""
    place = tmp_path_factory.mktemp("swatches")
    rng = np.random.default_rng(0)
    for index in range(60):
        name, colour = list(COLOURS.items())[index % 4]
        pixels = np.clip(rng.normal(colour, 12, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{index:02}.png")
        (place / f"{index:02}.txt").write_text(f"the {name} swatch")
    return place


@pytest.fixture(scope="module")
def parts(folder):
    return split(pairs_from_records(records_in(folder, exif=False)), test=0.25, judge=0.15)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_tuned_model_finds_what_its_base_did_not(base, parts, tmp_path):
    result = finetune(base, parts, tmp_path / "new", OPTIONS, batch=16)
    assert result.saved and result.training.steps == 60
    assert result.after.text_to_image.recall_1 > result.before.text_to_image.recall_1
    assert result.after.image_to_text.recall_1 >= 0.9 > result.before.image_to_text.recall_1
    told = json.loads((tmp_path / "new" / "training.json").read_text())
    assert told["after"]["image_to_text"]["recall_1"] == result.after.image_to_text.recall_1
    assert "| image to text | recall@1 |" in (tmp_path / "new" / "README.md").read_text()
    assert str(base) not in (tmp_path / "new" / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    encoder = ClipEncoder(tmp_path / "new", device="cpu")
    pictures = encoder.embed_images([pair.image for pair in parts.test])
    texts = encoder.embed_texts([f"the {name} swatch" for name in COLOURS])
    named = [list(COLOURS)[column] for column in (pictures @ texts.T).argmax(axis=1)]
    right = sum(f"the {name} swatch" in pair.captions for name, pair in zip(named, parts.test, strict=True))
    assert right >= 0.9 * len(parts.test)


def test_what_is_kept_is_a_share_of_the_training(base, parts, tmp_path):
    none = finetune(base, parts, tmp_path / "none", OPTIONS, batch=16, keep=0.0)
    assert none.after == none.before
    half = finetune(base, parts, tmp_path / "half", OPTIONS, batch=16, keep=0.5)
    full = finetune(base, parts, tmp_path / "full", OPTIONS, batch=16)
    start, moved, there = (load_trainable(place).weights() for place in (base, tmp_path / "half", tmp_path / "full"))
    for name, weight in moved.items():
        torch.testing.assert_close(weight, (start[name] + there[name]) / 2, rtol=0, atol=1e-6)
    assert half.training.losses == full.training.losses


def test_an_interrupted_run_ends_at_the_same_weights(base, parts, tmp_path):
    finetune(base, parts, tmp_path / "whole", OPTIONS, batch=16)
    calls = iter(range(1, 100))
    first = finetune(base, parts, tmp_path / "cut", OPTIONS, batch=16, stop=lambda: next(calls) == 25)
    assert not first.saved and first.after is None and not (tmp_path / "cut").exists()
    with pytest.raises(ConfigError, match="Go on with resume"):
        finetune(base, parts, tmp_path / "cut", OPTIONS, batch=16)
    finetune(base, parts, tmp_path / "cut", OPTIONS, batch=16, resume=True)
    expected, resumed = (load_trainable(tmp_path / name).weights() for name in ("whole", "cut"))
    assert all(torch.equal(weight, expected[name]) for name, weight in resumed.items())
    assert not (tmp_path / "cut.training").exists()


def test_without_held_out_parts_there_are_no_figures(base, parts, tmp_path):
    everything = Parts([*parts.train, *parts.judge, *parts.test], [], [])
    result = finetune(base, everything, tmp_path / "new", replace(OPTIONS, steps=2), half=True)
    assert result.before is None and result.after is None and result.training.scores == {}
    assert "nobody knows how good it is" in (tmp_path / "new" / "README.md").read_text()


def test_what_cannot_be_is_refused_before_anything_is_done(base, parts, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").touch()
    with pytest.raises(ConfigError, match="is there already"):
        finetune(base, parts, tmp_path / "taken", OPTIONS)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        finetune(base, parts, tmp_path / "new", OPTIONS, keep=2.0)
    with pytest.raises(ModelNotFoundError):
        finetune(tmp_path / "nobody", parts, tmp_path / "new", OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]


def test_a_run_that_blows_up_keeps_what_was_there(base, parts, tmp_path):
    with pytest.raises(TrainingError, match="not a number"):
        finetune(base, parts, tmp_path / "new", replace(OPTIONS, learning_rate=1e30, warmup=0.0), batch=16)
    assert not (tmp_path / "new").exists()


def run(*arguments, env=None):
    quiet = {"QDRANT_URL": None, "QDRANT_API_KEY": None, **(env or {})}
    return CliRunner(env=quiet).invoke(app, ["train", *map(str, arguments)])


FAST = ("--steps", 40, "--batch", 16, "--learning-rate", 3e-3, "--test-share", 0.25, "--device", "cpu")


def test_the_command_trains_and_tells(base, folder, tmp_path):
    result = run(folder, "--base", base, "--out", tmp_path / "new", *FAST, "--judge-every", 20)
    assert result.exit_code == 0, result.output
    assert "60 pictures with captions" in result.stderr and "step 40" in result.stderr and "recall" in result.stderr
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[:2] for row in rows][3] == ["image to text", "recall@1"]
    assert float(rows[3][3]) > float(rows[3][2])
    assert ClipEncoder(tmp_path / "new", device="cpu").dim == 24


def test_the_command_answers_in_json(base, folder, tmp_path):
    result = run(folder, "--base", base, "--out", tmp_path / "new", *FAST, "--keep", 0.5, "--freeze", "image", "--json")
    told = json.loads(result.stdout)
    assert told["saved"] and told["kept"] == 0.5 and told["training"]["steps"] == 40
    before, after = load_trainable(base).weights(), load_trainable(tmp_path / "new").weights()
    assert torch.equal(before["visual_projection.weight"], after["visual_projection.weight"])


def test_the_command_trains_on_a_collection(base, folder, tmp_path):
    with connect(tmp_path / "store") as client:
        clip = ClipCollection(client, "swatches", ClipEncoder(base, device="cpu"))
        clip.add(records_in(folder, exif=False))
        clip.add([Record(str(tmp_path / "else.png"), Image.new("RGB", (8, 8)), "elsewhere")])
    where = ("--collection", "swatches", "--location", tmp_path / "store")
    result = run(folder, "--base", base, "--out", tmp_path / "new", *FAST, *where, "--hard-negatives")
    assert result.exit_code == 0, result.output
    assert "60 pictures with captions" in result.stderr
    assert json.loads((tmp_path / "new" / "training.json").read_text())["after"]["image_to_text"]["recall_1"] > 0.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", 5, "--epochs", 2], "Give one of --epochs, --steps and --minutes"),
        (["--hard-negatives"], "name it with --collection"),
        (["--freeze", "eyes"], "freeze may name 'image' or 'text'"),
        (["--device", "cuda:7"], "no device 'cuda:7'"),
        (["--test-share", 0.9, "--judge-share", 0.2], "together below 1"),
        (["--collection", "none"], "nothing at"),
        (["--keep", 3], "from 0 to 1"),
    ],
)
def test_the_command_refuses_in_one_line(base, folder, tmp_path, arguments, message):
    where = ("--location", tmp_path / "nowhere")
    result = run(folder, "--base", base, "--out", tmp_path / "new", *where, *arguments)
    assert result.exit_code == 1 and message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "new").exists() and not (tmp_path / "new.training").exists()


def test_folders_without_anything_to_learn_are_named(base, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    Image.new("RGB", (8, 8)).save(empty / "silent.png")
    result = run(empty, "--base", base, "--out", tmp_path / "new")
    assert result.exit_code == 1 and "no pictures with captions" in result.stderr
    (empty / "silent.txt").write_text("no longer")
    result = run(empty, "--base", base, "--out", tmp_path / "new")
    assert result.exit_code == 1 and "too few" in result.stderr


def test_ctrl_c_keeps_the_state_and_says_how_to_go_on(base, folder, tmp_path):
    command = [
        *(sys.executable, "-c", "from clip_qdrant.cli.app import main; main()", "train", str(folder)),
        *("--base", str(base), "--out", str(tmp_path / "new"), "--steps", "4000", "--batch", "16", "--device", "cpu"),
        *("--judge-every", "5", "--learning-rate", "0.0001"),
    ]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        for line in process.stderr:
            if line.startswith("step 10 "):
                process.send_signal(signal.SIGINT)
                break
        told = process.stderr.read()
    assert process.returncode == 130
    assert "Stopping after this step" in told and "The same command with --resume goes on" in told
    assert (tmp_path / "new.training" / "training.safetensors").is_file() and not (tmp_path / "new").exists()


def test_two_processes_write_one_model(base, folder, tmp_path):
    pytest.importorskip("accelerate")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [
        *(
            sys.executable,
            "-m",
            "clip_qdrant",
            "train",
            str(folder),
            "--base",
            str(base),
            "--out",
            str(tmp_path / "two"),
        ),
        *("--steps", "20", "--batch", "16", "--learning-rate", "0.003", "--device", "cpu", "--json"),
    ]
    common = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "HF_HUB_OFFLINE": "1"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            command,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert json.loads(told[0][0])["saved"] and told[1][0] == ""
    assert ClipEncoder(tmp_path / "two", device="cpu").dim == 24
    alone = run(folder, "--base", base, "--out", tmp_path / "one", "--steps", 20, "--batch", 16, *FAST[4:6], *FAST[8:])
    assert alone.exit_code == 0
    one, two = (load_trainable(tmp_path / name).weights() for name in ("one", "two"))
    for name, weight in one.items():
        if not name.endswith("k_proj.bias"):  # which no softmax sees
            torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-3)
