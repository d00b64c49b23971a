"""`clip-qdrant train`: what it trains on, what it tells, what it refuses, and how it is stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from clip_qdrant.cli import session
from clip_qdrant.cli import train as training
from clip_qdrant.cli.app import app
from clip_qdrant.collection.clip import ClipCollection
from clip_qdrant.collection.mining import MinedNegatives
from clip_qdrant.collection.pairs import Parts, pairs_from_records, split
from clip_qdrant.images import content_hash
from clip_qdrant.models.encoder import ClipEncoder
from clip_qdrant.models.training_model import load_trainable
from clip_qdrant.models.training_pairs import Pair
from clip_qdrant.sources import records_in
from clip_qdrant.storage.connect import connect
from clip_qdrant.testing import FakeEncoder
from clip_qdrant.types import Record
from tests.checkpoints import make_clip
from tests.test_finetune import COLOURS, draw_swatches

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return draw_swatches(tmp_path_factory.mktemp("swatches"))


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
        (["--epochs", 0], "--epochs is a number above 0, got 0.0"),
        (["--epochs", "nan"], "--epochs is a number above 0, got nan"),
        (["--where", "a == 1"], "name it with --collection"),
        (["--caption-field", "title"], "--caption-field is for a collection or a manifest"),
        (["--concept-field", "kind"], "None of the 60 pictures has a field 'kind'"),
        (["--near-duplicates", 1.5], "--near-duplicates is a cosine"),
        (["--patience", 2, "--judge-share", 0], "needs pairs to judge by"),
        (["--resume", "--steps", 1], "nothing to resume"),
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
        *(sys.executable, "-m", "clip_qdrant", "train", str(folder)),
        *("--base", str(base), "--out", str(tmp_path / "two")),
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


@pytest.fixture(scope="module")
def store(base, folder, tmp_path_factory):
    """The swatches indexed, each with its colour and with a caption of its own under another key."""
    place = tmp_path_factory.mktemp("stores") / "store"
    with connect(place) as client:
        clip = ClipCollection(client, "swatches", ClipEncoder(base, device="cpu"))
        for index, record in enumerate(records_in(folder, exif=False)):
            more = {"colour": list(COLOURS)[index % 4], "title": f"swatch number {index}"}
            clip.add([Record(record.source, record.image, record.text, {**record.metadata, **more})])
    return "--collection", "swatches", "--location", place


def test_a_filter_and_fields_choose_what_is_learnt(base, folder, store, tmp_path):
    arguments = ("--where", "colour == 'red' or colour == 'blue'", "--caption-field", "title")
    shares = ("--test-share", 0.3, "--judge-share", 0)
    fast = ("--steps", 2, "--batch", 8, "--device", "cpu", "--json")
    result = run(folder, "--base", base, "--out", tmp_path / "new", *store, *arguments, *shares, *fast)
    assert result.exit_code == 0, result.output
    assert "30 pictures with captions" in result.stderr
    after = json.loads(result.stdout)["after"]
    assert after["images"] == after["texts"] > 2  # each has a title of its own, not the caption that many share


def test_negatives_are_not_taken_from_what_is_held_out(tmp_path):
    rng = np.random.default_rng(0)
    pictures = tmp_path / "noise"
    pictures.mkdir()
    for index in range(60):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(pictures / f"{index}.png")
        (pictures / f"{index}.txt").write_text(f"noise {index}")
    parts = split(pairs_from_records(records_in(pictures, exif=False)), test=0.3, judge=0.2)
    with connect(tmp_path / "store") as client:
        ClipCollection(client, "noise", FakeEncoder()).add(records_in(pictures, exif=False))
    fields = {"caption_field": None, "concept_field": None, "where": None}
    with training.negatives_of("noise", str(tmp_path / "store"), parts, **fields) as negatives:
        texts = negatives(parts.train)
    learnt = {caption for pair in parts.train for caption in pair.captions}
    assert len(texts) > 10 and set(texts) <= learnt
    chosen = {**fields, "where": "file_name == '7.png' or file_name == '8.png'"}
    with training.negatives_of("noise", str(tmp_path / "store"), Parts(parts.train, [], []), **chosen) as few:
        assert set(few(parts.train)) == {"noise 7", "noise 8"}


def test_a_neighbour_that_shares_any_caption_is_no_wrong_answer():
    colours = {"red": ["warm", "a fire"], "orange": ["warm"], "yellow": ["sun", "Warm"], "blue": ["sea"]}
    with connect(":memory:") as client:
        clip = ClipCollection(client, "colours", FakeEncoder())
        images = {name: Image.new("RGB", (8, 8), name) for name in colours}
        clip.add(Record(name, images[name], said[0], {"captions": said}) for name, said in colours.items())
        pair = Pair(images["red"], ("warm", "a fire"), content=content_hash(images["red"]))
        assert MinedNegatives(clip.vectors, per_pair=5)([pair]) == ["sea"]
        assert MinedNegatives(clip.vectors, per_pair=5, caption_field="captions")([pair]) == ["sea"]


def test_a_collection_without_its_pictures_says_what_to_look_at(base, store, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    result = run(elsewhere, "--base", base, "--out", tmp_path / "new", *store)
    assert result.exit_code == 1 and "Name the folder that was indexed" in result.stderr


def test_a_manifest_is_read_by_the_columns_that_are_named(base, folder, tmp_path):
    rows = [f"{index:02}.png,ignored,{index} of them,{index % 4}" for index in range(60)]
    manifest = folder / "list.csv"
    manifest.write_text("\n".join(["file,caption,title,colour", *rows]))
    try:
        fields = ("--caption-field", "title", "--concept-field", "colour", "--test-share", 0, "--judge-share", 0)
        pairs = training.pairs_of(manifest, None, "", caption_field="title", concept_field="colour", where=None)
        result = run(manifest, "--base", base, "--out", tmp_path / "new", *fields, "--steps", 2, "--device", "cpu")
    finally:
        manifest.unlink()
    assert (pairs[7].captions, pairs[7].concept, len(pairs)) == (("7 of them",), "3", 60)
    assert result.exit_code == 0, result.output
    assert result.stdout == "" and "2 steps" in result.stderr


def test_pictures_that_look_alike_stay_together(base, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for index in range(40):
        image = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        image.save(tmp_path / f"{index:02}.png")
        image.save(tmp_path / f"{index:02}.bmp")
    pairs = pairs_from_records(Record(str(path), path, path.name) for path in sorted(tmp_path.iterdir()))

    def torn(parts):
        sides = [{Path(pair.image).stem for pair in part} for part in parts]
        return len(sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2])

    assert torn(split(pairs, test=0.3, judge=0.2, seed=0)) > 5
    assert torn(training.parts_of(pairs, str(base), 0.99999, test=0.3, judge=0.2, seed=0)) == 0
    assert "80 of them look like another one" in capsys.readouterr().err


def test_the_card_says_where_pairs_are_from(base, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    result = run(".", "--base", base, "--out", tmp_path / "new", "--steps", 1, "--device", "cpu")
    assert result.exit_code == 0, result.output
    card = (tmp_path / "new" / "README.md").read_text()
    assert f"Pictures of the folder {folder.name!r}, captions beside them. " in card
    none = {"caption_field": None, "concept_field": None, "where": None}
    (tmp_path / "list.csv").touch()
    told = training.data_of(tmp_path / "list.csv", None, **{**none, "caption_field": "title", "concept_field": "kind"})
    assert told == (
        "Pictures and captions of the manifest 'list.csv'; column 'title'; those with the same 'kind' show the same."
    )
    told = training.data_of(folder, "swatches", **{**none, "where": "year > 2000"})
    assert told == f"Pictures of the folder {folder.name!r}, captions from 'text' of 'swatches'; where year > 2000."
    told = training.data_of(folder, None, 0.0, **none)
    assert told.endswith("; those whose cosine is 0.0 or more to the base model show the same.")


def test_a_process_that_is_not_the_first_says_what_it_failed_by(base, tmp_path):
    result = run(tmp_path / "nowhere", "--base", base, "--out", tmp_path / "new", env={"RANK": "1"})
    assert result.exit_code == 1 and "Error in process 1: There is no folder or file" in result.stderr


@pytest.mark.parametrize(("patience", "steps", "told"), [(2, 300, True), (2, 301, False), (None, 1, False)])
def test_patience_that_cannot_run_out_is_told_of(capsys, patience, steps, told):
    training.check_patience(patience, 100, steps)
    assert ("Lower --judge-every" in capsys.readouterr().err) == told


def test_epochs_are_steps_of_the_batches_there_are():
    assert training.steps_of(None, 640, 64) == 100
    assert training.steps_of(0.5, 100, 10) == 5
    assert training.steps_of(3, 10, 64) == 3
    assert training.steps_of(0.001, 10, 5) == 1


def test_an_option_is_refused_before_the_pictures_are_read(base, tmp_path):
    result = run(tmp_path / "nowhere", "--base", base, "--out", tmp_path / "new", "--chunk", 0)
    assert result.exit_code == 1 and "chunk must be a number above 0" in result.stderr
    assert run(tmp_path, "--base", base, "--out", tmp_path / "new", "--batch", 0).exit_code == 2


def test_an_unknown_base_and_a_taken_folder_are_named(base, folder, tmp_path, monkeypatch):
    result = run(folder, "--base", tmp_path / "nobody", "--out", tmp_path / "new")
    assert result.exit_code == 1 and "nobody" in result.stderr and "Traceback" not in result.stderr
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").touch()
    monkeypatch.setattr(session, "download_size", lambda model: 605_000_000)
    result = run(folder, "--base", tmp_path / "nobody", "--out", tmp_path / "new")
    assert "nobody (605 MB to download)" in result.stderr
    result = run(folder, "--base", base, "--out", tmp_path / "taken")
    assert result.exit_code == 1 and "is there already" in result.stderr


@pytest.mark.parametrize(("kept", "message"), [(True, "with --resume goes on"), (False, "nothing was kept")])
def test_a_second_ctrl_c_stops_at_once(tmp_path, kept, message, capsys):
    if kept:
        (tmp_path / "new.training").mkdir()
        (tmp_path / "new.training" / "training.safetensors").touch()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(typer.Exit) as stopped, training.stopping(tmp_path / "new.training") as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop()
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second one did not stop it")
    assert stopped.value.exit_code == 130 and signal.getsignal(signal.SIGINT) is before
    assert message in capsys.readouterr().err


def test_a_run_that_was_stopped_is_finished_by_the_same_command_with_resume(base, folder, tmp_path, monkeypatch):
    command = (folder, "--base", base, "--out", tmp_path / "new", *FAST)

    @contextmanager
    def pressed_at_once(out):
        yield lambda: True

    with monkeypatch.context() as patched:
        patched.setattr(training, "stopping", pressed_at_once)
        first = run(*command)
    assert first.exit_code == 130 and "Stopped at step 1. The same command with --resume" in first.stderr
    second = run(*command)
    assert second.exit_code == 1 and "Go on with resume" in second.stderr
    third = run(*command, "--resume")
    assert third.exit_code == 0 and "40 steps" in third.stderr and (tmp_path / "new" / "README.md").is_file()
