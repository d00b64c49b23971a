"""The training loop: what it learns, and that how it computes changes nothing of it."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.training import train
from tests.training_runs import (
    OPTIONS,
    batch_of,
    clip_model,
    equal,
    score,
    siglip_model,
    stop_at,
    weights,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def alike(model, expected, within):
    """Weights but for the keys' biases, which no softmax sees: their gradients are rounding errors."""
    for name, weight in weights(model).items():
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(expected[name], weight, rtol=0, atol=within)


def test_it_learns_what_belongs_together(tmp_path):
    model = clip_model()
    report = train(model, batch_of, tmp_path, replace(OPTIONS, steps=60, learning_rate=3e-3))
    assert report.steps == 60 and report.stopped == "budget"
    assert sum(report.losses[-5:]) < 0.7 * sum(report.losses[:5])


def test_chunks_change_nothing(tmp_path):
    # Dropout draws by chunk, so it is off where the two are compared.
    whole, chunked = clip_model(dropout=0.0), clip_model(dropout=0.0)
    one = train(whole, batch_of, tmp_path / "a", replace(OPTIONS, steps=3))
    other = train(chunked, batch_of, tmp_path / "b", replace(OPTIONS, steps=3, chunk=3))
    assert other.losses == pytest.approx(one.losses, abs=1e-5)
    alike(whole, weights(chunked), 1e-4)


@pytest.mark.parametrize(("tower", "parts"), [("image", ("vision_", "visual_")), ("text", ("text_",))])
@pytest.mark.parametrize("chunk", [None, 3])
def test_a_frozen_tower_stays_as_it_is(tmp_path, tower, parts, chunk):
    model = clip_model()
    before = weights(model)
    train(model, batch_of, tmp_path, replace(OPTIONS, freeze=(tower,), chunk=chunk))
    changed = {name for name, weight in weights(model).items() if not torch.equal(weight, before[name])}
    assert changed and not any(name.startswith(parts) for name in changed)
    frozen = {name for name in before if name.startswith(parts)}
    assert changed >= {name for name in before if name not in frozen and not name.endswith("k_proj.bias")}


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_frozen_tower_has_no_dropout(tmp_path, tower):
    seen = []

    def look(model, step):
        seen.append((model.vision_model.training, model.text_model.training))
        return model.logit_scale * 0.0

    train(
        clip_model(),
        batch_of,
        tmp_path,
        replace(OPTIONS, steps=5, judge_every=2, freeze=(tower,)),
        judge=score,
        auxiliary=look,
    )
    assert seen == [(tower == "text", tower == "image")] * 5


def test_options_that_this_training_cannot_follow_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="patience=2 needs a judge"):
        train(clip_model(), batch_of, tmp_path, replace(OPTIONS, patience=2))
    model = clip_model()
    model.eyes = model.vision_model
    del model.vision_model, model.visual_projection
    with pytest.raises(ConfigError, match=r"CLIPModel has no part .* tower of image \(vision_…, visual_…\)"):
        train(model, batch_of, tmp_path, replace(OPTIONS, freeze=("image",)))
    assert not list(tmp_path.iterdir())


def test_the_sigmoid_loss_trains_scale_and_bias(tmp_path):
    model = siglip_model()
    before = weights(model)
    report = train(model, batch_of, tmp_path, replace(OPTIONS, steps=40, loss="sigmoid", learning_rate=3e-3))
    assert report.losses[-1] < report.losses[0]
    assert not torch.equal(model.logit_bias, before["logit_bias"])


@pytest.mark.parametrize(("start", "most"), [(117.3, 117.3), (59.9, 60.0)])
def test_a_temperature_rises_to_its_limit_and_is_never_pulled_below_where_it_starts(tmp_path, start, most):
    model = siglip_model()
    with torch.no_grad():
        model.logit_scale.fill_(math.log(start))
    options = replace(OPTIONS, loss="sigmoid", max_scale=60.0, average=0.0)
    train(model, batch_of, tmp_path, options, auxiliary=lambda model, step: -100 * model.logit_scale.sum())
    assert float(model.logit_scale.detach().exp()) == pytest.approx(most, rel=1e-5)


def test_the_sigmoid_loss_needs_a_bias(tmp_path):
    with pytest.raises(ConfigError, match=r"needs a model with a logit_bias.*CLIPModel.*info_nce"):
        train(clip_model(), batch_of, tmp_path, replace(OPTIONS, loss="sigmoid"))


def test_bfloat16_computes_in_it_and_keeps_weights_in_float32(tmp_path):
    exact, rough = clip_model(), clip_model()
    train(exact, batch_of, tmp_path / "exact", OPTIONS)
    train(rough, batch_of, tmp_path / "rough", replace(OPTIONS, precision="bfloat16"))
    assert {weight.dtype for weight in rough.parameters()} == {torch.float32}
    assert not equal(weights(rough), weights(exact))
    alike(exact, weights(rough), 0.03)


def test_float16_computes_in_it_and_goes_on_after_a_break(tmp_path):
    exact, rough, resumed = clip_model(), clip_model(), clip_model()
    options = replace(OPTIONS, precision="float16")
    train(exact, batch_of, tmp_path / "exact", OPTIONS)
    train(rough, batch_of, tmp_path / "rough", options)
    assert {weight.dtype for weight in rough.parameters()} == {torch.float32}
    assert not equal(weights(rough), weights(exact))
    alike(exact, weights(rough), 0.03)
    train(clip_model(), batch_of, tmp_path / "cut", options, stop=stop_at(5))
    train(resumed, batch_of, tmp_path / "cut", options, resume=True)
    assert equal(weights(resumed), weights(rough))


def test_patience_ends_training_and_the_best_weights_are_kept(tmp_path):
    scores = iter([0.1, 0.9, 0.5, 0.4, 0.3, 0.2])
    seen = []

    def judge(model):
        seen.append(weights(model))
        return next(scores)

    model = clip_model()
    report = train(model, batch_of, tmp_path, replace(OPTIONS, steps=100, patience=2), judge=judge)
    assert (report.steps, report.stopped, report.best_step) == (12, "patience", 6)
    assert report.scores == {3: 0.1, 6: 0.9, 9: 0.5, 12: 0.4}
    assert equal(weights(model), seen[1])
    # Killed before the weights were stored, it does not train on.
    resumed = clip_model()
    again = train(resumed, batch_of, tmp_path, replace(OPTIONS, steps=100, patience=2), judge=judge, resume=True)
    assert (again.steps, again.stopped, again.best_step) == (12, "patience", 6)
    assert equal(weights(resumed), seen[1])


def test_the_last_weights_can_be_asked_for_instead(tmp_path):
    scores, model, seen = iter([0.9, 0.1, 0.1, 0.1]), clip_model(), []

    def judge(model):
        seen.append(weights(model))
        return next(scores)

    report = train(model, batch_of, tmp_path, replace(OPTIONS, keep_best=False), judge=judge)
    assert report.best_step is None
    assert equal(weights(model), seen[-1])


def test_the_judge_sees_the_average_and_training_goes_on_from_its_own_weights(tmp_path):
    judged, alone = clip_model(), clip_model()
    with_judge = train(judged, batch_of, tmp_path / "a", OPTIONS, judge=score)
    without = train(alone, batch_of, tmp_path / "b", OPTIONS)
    assert with_judge.losses == without.losses
    last = clip_model()
    train(last, batch_of, tmp_path / "c", replace(OPTIONS, average=0.0))
    assert not equal(weights(alone), weights(last))


def test_what_else_is_to_be_learnt_is_added(tmp_path):
    plain, pulled = clip_model(), clip_model()
    train(plain, batch_of, tmp_path / "a", OPTIONS)
    train(pulled, batch_of, tmp_path / "b", OPTIONS, auxiliary=lambda model, step: 100 * (model.logit_scale - 3.0) ** 2)
    assert abs(score(pulled) + 3.0) < abs(score(plain) + 3.0)


def test_progress_tells_of_every_step(tmp_path):
    told = []
    train(clip_model(), batch_of, tmp_path, OPTIONS, judge=score, progress=told.append)
    assert [now.step for now in told] == list(range(1, 13))
    assert [now.step for now in told if now.score is not None] == [3, 6, 9, 12]
    assert told[-1].share == 1.0 and told[5].share == 0.5
    rates = [now.learning_rate for now in told]
    assert max(rates) == pytest.approx(1e-3) and rates[-1] < 0.2e-3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": None}, "steps or minutes"),
        ({"minutes": 3.0}, "steps or minutes"),
        ({"steps": 0}, "above 0"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"chunk": 0}, "chunk"),
        ({"patience": 0}, "patience"),
        ({"warmup": 0.5}, "warmup <= plateau"),
        ({"average": 1.0}, "average"),
        ({"loss": "triplet"}, "'info_nce' or 'sigmoid'"),
        ({"precision": "int8"}, "precision must be one of"),
        ({"freeze": ("image", "text")}, "not both"),
        ({"freeze": ("vision",)}, "'image' or 'text'"),
        ({"judge_every": -1}, "judge_every"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**32}, "seed must be at least 0"),
    ],
)
def test_options_that_cannot_be_used(wrong, message):
    with pytest.raises(ConfigError, match=message):
        replace(OPTIONS, **wrong)


FEW = replace(OPTIONS, steps=4, clip_norm=1e9)


def gradients(model):
    """Of the last step; Adam's steps are the same for gradients that are all too short."""
    return {f"gradient of {name}": weight.grad for name, weight in model.named_parameters()}


WORKER = """
import sys, torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
from pathlib import Path
from dataclasses import replace
from safetensors.torch import save_file
from test_training import FEW, batch_of, clip_model, gradients, train, weights
model = clip_model(dropout=0.0)
report = train(model, batch_of, Path({out!r}), replace(FEW, chunk={chunk}))
import torch.distributed as dist
if dist.get_rank() == 0:
    save_file({{**weights(model), **gradients(model)}}, {result!r})
dist.destroy_process_group()
"""


@pytest.mark.parametrize("chunk", [None, 2])
def test_three_processes_learn_what_one_does(tmp_path, chunk):
    pytest.importorskip("accelerate")
    from safetensors.torch import load_file

    result = tmp_path / "weights.safetensors"
    tests = str(Path(__file__).parent)
    script = WORKER.format(tests=tests, out=str(tmp_path / "run"), result=str(result), chunk=chunk)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    common = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "ACCELERATE_USE_CPU": "true"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error::FutureWarning", "-c", script],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    ends = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], ends
    alone = clip_model(dropout=0.0)
    train(alone, batch_of, tmp_path / "alone", FEW)
    together = load_file(result)
    alike(alone, together, 1e-5)
    for name, gradient in gradients(alone).items():
        torch.testing.assert_close(together[name], gradient, rtol=1e-3, atol=1e-5)
