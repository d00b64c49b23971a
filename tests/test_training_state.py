"""A training that is stopped, killed or broken off goes on as if it had not been, or says why it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clip_qdrant.errors import ConfigError, TrainingError
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

KILLED = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from dataclasses import replace
from clip_qdrant.models.training import train
from tests.training_runs import OPTIONS, batch_of, clip_model
options = replace(OPTIONS, steps=200, checkpoint_minutes=1e-9)
train(clip_model(), batch_of, Path({out!r}), options, progress=lambda now: print(now.step, flush=True))
"""


@pytest.mark.parametrize("chunk", [None, 3])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path, chunk):
    options = replace(OPTIONS, chunk=chunk)
    whole, cut, fresh = clip_model(), clip_model(), clip_model()
    expected = train(whole, batch_of, tmp_path / "whole", options, judge=score)
    first = train(cut, batch_of, tmp_path / "cut", options, judge=score, stop=stop_at(5))
    assert (first.steps, first.stopped) == (5, "asked")
    second = train(fresh, batch_of, tmp_path / "cut", options, judge=score, resume=True)
    assert first.losses + second.losses == expected.losses
    assert second.scores == expected.scores and second.best_step == expected.best_step
    assert equal(weights(fresh), weights(whole))
    assert not equal(weights(cut), weights(whole))


def test_a_killed_process_loses_no_more_than_the_steps_since_the_last_state(tmp_path):
    script = KILLED.format(out=str(tmp_path / "cut"))
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env) as process:
        for line in process.stdout:
            if int(line) == 20:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    options = replace(OPTIONS, steps=200, checkpoint_minutes=1e-9)
    whole, resumed = clip_model(), clip_model()
    train(whole, batch_of, tmp_path / "whole", replace(options, checkpoint_minutes=3.0))
    report = train(resumed, batch_of, tmp_path / "cut", options, resume=True)
    assert report.steps == 200 and len(report.losses) <= 181
    assert equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("pixels", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_training_and_keeps_the_state(tmp_path, pixels):
    def batches(step):
        batch = batch_of(step)
        return replace(batch, pixels=batch.pixels * pixels) if step == 2 else batch

    with pytest.raises(TrainingError, match=r"The loss of step 2 is not a number\. .* rate than 0\.001\. The state of"):
        train(clip_model(), batches, tmp_path, replace(OPTIONS, checkpoint_minutes=1e-9))
    resumed = train(clip_model(), batch_of, tmp_path, replace(OPTIONS, checkpoint_minutes=1e-9), resume=True)
    assert len(resumed.losses) == 10


def test_a_gradient_that_is_no_number_stops_training_and_speaks_of_no_state_where_there_is_none(tmp_path):
    def steep(model, step):  # the root of nothing has no slope
        return ((model.logit_scale - model.logit_scale.detach()) * float(step == 2)).abs().sqrt()

    with pytest.raises(TrainingError, match=r"The gradient of step 0 .* precision='float32'\.$"):
        train(clip_model(), batch_of, tmp_path, replace(OPTIONS, precision="bfloat16"), auxiliary=steep)
    assert not list(tmp_path.iterdir())


def test_a_state_is_neither_overwritten_nor_missed_nor_mixed_up(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing to resume in .*Start without resume"):
        train(clip_model(), batch_of, tmp_path, OPTIONS, resume=True)
    train(clip_model(), batch_of, tmp_path, OPTIONS, stop=stop_at(2))
    with pytest.raises(ConfigError, match=r"has the state of a training\. Go on with resume"):
        train(clip_model(), batch_of, tmp_path, OPTIONS)
    with pytest.raises(ConfigError, match=r"was started with learning_rate=0\.001, seed=0"):
        train(clip_model(), batch_of, tmp_path, replace(OPTIONS, seed=1, learning_rate=1e-4), resume=True)
    with pytest.raises(
        ConfigError, match="was started with keep_best=True"
    ):  # the best weights are kept or they are not
        train(clip_model(), batch_of, tmp_path, replace(OPTIONS, keep_best=False), judge=score, resume=True)
    with pytest.raises(ConfigError, match="model of another shape"):
        train(siglip_model(), batch_of, tmp_path, OPTIONS, resume=True)
    (tmp_path / "training.safetensors").write_bytes(b"half a file")
    with pytest.raises(ConfigError, match="is not the state of a training"):
        train(clip_model(), batch_of, tmp_path, OPTIONS, resume=True)


def test_a_run_is_not_resumed_with_another_frozen_tower(tmp_path):
    options = replace(OPTIONS, freeze=("text",))
    train(clip_model(), batch_of, tmp_path, options, stop=stop_at(2))
    other = clip_model()
    torch.nn.init.ones_(other.text_model.final_layer_norm.bias)
    with pytest.raises(ConfigError, match=r"frozen weights are others\. Resume it with the model"):
        train(other, batch_of, tmp_path, options, resume=True)
    assert train(clip_model(), batch_of, tmp_path, options, resume=True).steps == 12


def test_a_state_with_other_buffers_is_refused(tmp_path):
    model = clip_model()
    model.register_buffer("seen", torch.ones(3))
    train(model, batch_of, tmp_path, OPTIONS, stop=stop_at(2))
    with pytest.raises(ConfigError, match="model of another shape"):
        train(clip_model(), batch_of, tmp_path, OPTIONS, resume=True)


def test_a_run_can_be_given_more_steps(tmp_path):
    train(clip_model(), batch_of, tmp_path, replace(OPTIONS, steps=4))
    report = train(clip_model(), batch_of, tmp_path, replace(OPTIONS, steps=9), resume=True)
    assert report.steps == 9 and len(report.losses) == 5


def test_minutes_are_a_budget_over_all_parts(tmp_path, monkeypatch):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    options = replace(OPTIONS, steps=None, minutes=0.5, checkpoint_minutes=1e-9)
    assert train(clip_model(), batch_of, tmp_path, options, stop=stop_at(2)).steps == 2
    assert train(clip_model(), batch_of, tmp_path, options, resume=True).steps == 5
