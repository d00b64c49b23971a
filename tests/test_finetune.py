"""Fine-tuning from end to end on a tiny model: it gains, it forgets less when asked to, and it can be interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clip_qdrant import ClipCollection, connect
from clip_qdrant.collection import finetune as finetuning
from clip_qdrant.collection.finetune import finetune
from clip_qdrant.collection.mining import MinedNegatives
from clip_qdrant.collection.pairs import Parts, pairs_from_records, split
from clip_qdrant.errors import ConfigError, ModelNotFoundError, TrainingError
from clip_qdrant.models.augmentation import Augmentation
from clip_qdrant.models.encoder import ClipEncoder
from clip_qdrant.models.training_model import load_trainable, save_trained
from clip_qdrant.models.training_options import TrainingOptions
from clip_qdrant.sources import records_in
from clip_qdrant.testing import FakeEncoder
from tests.checkpoints import make_clip

pytestmark = pytest.mark.usefixtures("one_thread")

COLOURS = {"red": (230, 30, 30), "green": (20, 200, 40), "blue": (30, 40, 220), "grey": (128, 128, 128)}
OPTIONS = TrainingOptions(steps=60, learning_rate=3e-3, judge_every=20, device="cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("models") / "clip")


def draw_swatches(place):
    """Sixty noisy swatches with captions; what there is to learn is the name of their colour."""
    rng = np.random.default_rng(0)
    for index in range(60):
        name, colour = list(COLOURS.items())[index % 4]
        pixels = np.clip(rng.normal(colour, 12, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{index:02}.png")
        (place / f"{index:02}.txt").write_text(f"the {name} swatch")
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return draw_swatches(tmp_path_factory.mktemp("swatches"))


@pytest.fixture(scope="module")
def parts(folder):
    return split(pairs_from_records(records_in(folder, exif=False)), test=0.25, judge=0.15)


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
    assert not list(tmp_path.iterdir())  # of a state there had been none yet


def test_what_would_be_refused_after_hours_is_refused_at_once(base, parts, tmp_path, monkeypatch):
    finetune(base, parts, tmp_path / "begun", OPTIONS, batch=16, stop=stopped_after(1))
    monkeypatch.setattr(finetuning, "load_trainable", lambda *_, **__: pytest.fail("it was begun"))
    with pytest.raises(ConfigError, match="Go on with resume"):
        finetune(base, parts, tmp_path / "begun", OPTIONS, batch=16)
    with pytest.raises(ConfigError, match="nothing to resume"):
        finetune(base, parts, tmp_path / "new", OPTIONS, batch=16, resume=True)


def test_a_model_that_another_process_wrote_in_the_meantime_is_refused_before_training(
    base, parts, tmp_path, monkeypatch
):
    load = finetuning.load_trainable

    def slow(*given, **options):
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "config.json").write_text("{}")
        return load(*given, **options)

    monkeypatch.setattr(finetuning, "load_trainable", slow)
    monkeypatch.setattr(finetuning, "train", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(ConfigError, match="new"):
        finetune(base, parts, tmp_path / "new", OPTIONS, batch=16)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_state_of_something_else_is_refused(base, parts, tmp_path):
    finetune(base, parts, tmp_path / "new", OPTIONS, batch=16, stop=stopped_after(1))
    (tmp_path / "new.training" / "begun.json").unlink()
    with pytest.raises(ConfigError, match="has a state that `finetune` has not begun"):
        finetune(base, parts, tmp_path / "new", OPTIONS, batch=16, resume=True)


def test_a_place_that_cannot_be_written_is_refused(base, parts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"Cannot write to '.*new\.training'"):
        finetune(base, parts, tmp_path / "file" / "new", OPTIONS, batch=16)


def test_a_run_is_not_resumed_with_hard_negatives_of_other_settings(base, parts, tmp_path):
    with connect(":memory:") as client:
        vectors = ClipCollection(client, "pictures", FakeEncoder()).vectors
        two, three = (MinedNegatives(vectors, per_pair=count) for count in (2, 3))
        finetune(base, parts, tmp_path / "new", OPTIONS, batch=16, hard_negatives=two, stop=stopped_after(1))
        with pytest.raises(ConfigError, match="begun with another hard_negatives"):
            finetune(base, parts, tmp_path / "new", OPTIONS, batch=16, hard_negatives=three, resume=True)


def test_two_trainings_into_one_folder_do_not_mix(base, parts, tmp_path):
    script = f"""
import sys
from clip_qdrant.collection.finetune_run import alone_in
from pathlib import Path
with alone_in(Path({str(tmp_path / "new.training")!r})):
    print("at it", flush=True)
    sys.stdin.read()
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True, env=env) as other:
        assert other.stdout.readline() == "at it\n"
        with pytest.raises(ConfigError, match=r"Another process is training in '.*new\.training'\. Wait until"):
            finetune(base, parts, tmp_path / "new", OPTIONS, batch=16)
        other.kill()
    assert finetune(base, parts, tmp_path / "new", replace(OPTIONS, steps=2), batch=16).saved
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_the_card_has_all_that_the_weights_follow_from(base, parts, tmp_path):
    lost = replace(parts.train[0], image=tmp_path / "gone.png", content="gone")
    given = Parts([*parts.train, lost], parts.judge, parts.test)
    options = replace(OPTIONS, steps=8, judge_every=3, patience=5, freeze=("text",), warmup=0.1)

    def mined(pairs):
        return []

    finetune(
        base,
        given,
        tmp_path / "new",
        options,
        batch=16,
        keep=0.5,
        hard_negatives=mined,
        data="Swatches.",
        revision="v2",
    )
    card = (tmp_path / "new" / "README.md").read_text()
    assert f"Swatches. {len(parts.train)} pairs of an image" in card  # without the one that is gone
    for row in (
        *("budget | 8 steps", "steps | 8", "patience | 5", "judge_every | 3", "freeze | text", "warmup | 0.1"),
        *(
            "revision of the base model | v2",
            "plateau | 0.4",
            "batch | 16",
            "keep | 0.5",
            f"pairs to judge by | {len(parts.judge)}",
        ),
        *(f"augmentation | {Augmentation()}", f"hard_negatives | {mined.__qualname__}"),
    ):
        assert f"| {row} |" in card
    few = finetune(base, given, tmp_path / "few", replace(OPTIONS, steps=1), batch=16)
    assert few.saved and "16 pairs of an image" in (tmp_path / "few" / "README.md").read_text()


def stopped_after(steps):
    calls = iter(range(1, 1000))
    return lambda: next(calls) == steps


def test_a_run_goes_on_only_with_what_it_was_begun_with(base, parts, tmp_path):
    finetune(base, parts, tmp_path / "cut", OPTIONS, batch=16, stop=stopped_after(5))
    kept = (tmp_path / "cut.training" / "training.safetensors").read_bytes()
    fewer = Parts(parts.train[1:], parts.judge, parts.test)
    said = Parts([replace(parts.train[0], captions=("else",)), *parts.train[1:]], parts.judge, parts.test)
    other = load_trainable(base)
    with torch.no_grad():
        other.model.logit_scale += 1
    save_trained(other, tmp_path / "other", {})
    count = len(parts.train)
    for model, given, batch, message in (
        (base, fewer, 16, rf"another number of pairs \({count}, now {count - 1}\)"),
        (base, said, 16, "another pairs. Resume"),
        (base, parts, 8, r"another batch \(16, now 8\)"),
        (tmp_path / "other", parts, 16, "another base model. Resume"),
        (base, Parts(parts.train, parts.test, parts.judge), 16, "another judge's part. Resume"),
        (base, Parts(parts.train, parts.judge, parts.test[1:]), 16, "another test part. Resume"),
    ):
        with pytest.raises(ConfigError, match=message):
            finetune(model, given, tmp_path / "cut", OPTIONS, batch=batch, resume=True)
    for changed, message in (
        ({"augment": Augmentation(crop=0.9)}, "another augmentation. Resume"),
        ({"hard_negatives": lambda pairs: []}, "another hard_negatives. Resume"),
    ):
        with pytest.raises(ConfigError, match=message):
            finetune(base, parts, tmp_path / "cut", OPTIONS, batch=16, resume=True, **changed)
    assert (tmp_path / "cut.training" / "training.safetensors").read_bytes() == kept
    assert finetune(base, parts, tmp_path / "cut", OPTIONS, batch=16, resume=True).saved


def test_a_killed_process_goes_on_from_its_last_state(base, folder, parts, tmp_path):
    finetune(base, parts, tmp_path / "whole", OPTIONS, batch=16)
    script = f"""
import os, signal, torch
from dataclasses import replace
from clip_qdrant.collection.finetune import finetune
from tests.test_finetune import OPTIONS
from clip_qdrant.collection.pairs import pairs_from_records, split
from clip_qdrant.sources import records_in
torch.set_num_threads(1)
parts = split(pairs_from_records(records_in({str(folder)!r}, exif=False)), test=0.25, judge=0.15)
kill = lambda now: now.step == 30 and os.kill(os.getpid(), signal.SIGKILL)
often = replace(OPTIONS, checkpoint_minutes=1e-6)
finetune({str(base)!r}, parts, {str(tmp_path / "cut")!r}, often, batch=16, progress=kill)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "HF_HUB_OFFLINE": "1"}
    assert subprocess.run([sys.executable, "-c", script], env=env, capture_output=True).returncode == -signal.SIGKILL
    assert not (tmp_path / "cut").exists()
    resumed = finetune(base, parts, tmp_path / "cut", OPTIONS, batch=16, resume=True)
    assert len(resumed.training.losses) == OPTIONS.steps - 29
    expected, found = (load_trainable(tmp_path / name).weights() for name in ("whole", "cut"))
    assert all(torch.equal(weight, expected[name]) for name, weight in found.items())


def test_a_missing_device_is_told_before_the_base_model_is_measured(base, parts, tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(finetuning, "evaluate", lambda *_: measured.append(1))
    with pytest.raises(ConfigError, match="no device 'cuda:7'"):
        finetune(base, parts, tmp_path / "new", replace(OPTIONS, device="cuda:7"))
    assert not measured and not list(tmp_path.iterdir())


def test_the_base_model_is_measured_on_the_device_of_the_training(base, parts, tmp_path, monkeypatch):
    devices = []

    def evaluate(trainable, _):
        devices.append(trainable.model.device.type)
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning, "evaluate", evaluate)
    monkeypatch.setattr(finetuning, "pick_device", lambda _: torch.device("meta"))
    with pytest.raises(KeyboardInterrupt):
        finetune(base, parts, tmp_path / "new", OPTIONS)
    assert devices == ["meta"]


def test_patience_takes_pairs_to_judge_by(base, parts, tmp_path):
    without = Parts(parts.train, [], parts.test)
    with pytest.raises(ConfigError, match="patience=3 needs pairs to judge by"):
        finetune(base, without, tmp_path / "new", replace(OPTIONS, patience=3))
    assert not list(tmp_path.iterdir())
