"""The loop that the generators are trained by: AdamW, averaged weights, and a state to go on from after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from clip_qdrant.errors import TrainingError
from clip_qdrant.models.training import TrainingOptions
from clip_qdrant.models.training_state import CHECKPOINT, TrainingState

WARMUP, PLATEAU = 0.02, 0.5


def learn(
    model: nn.Module,
    loss_of: Callable[[int], Tensor],
    out: Path,
    options: TrainingOptions,
    *,
    look: Callable[[int], object] | None = None,
) -> None:
    """Train a model in place, which ends with its averaged weights; goes on from the state in `out` where there is one.

    Args:
        model: what `loss_of` uses.
        loss_of: the loss of a step; all that is random in it follows from the step.
        out: the folder of the state.
        options: steps or minutes, learning rate, weight decay, average, seed, and how often to write the state.
        look: called with the averaged weights in place, every `judge_every` steps and at the end.

    Raises:
        TrainingError: the loss is not a number.
    """
    matrices = [one for one in model.parameters() if one.requires_grad and one.ndim > 1]
    others = [one for one in model.parameters() if one.requires_grad and one.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.99))
    state = TrainingState(model, optimiser, torch.amp.GradScaler("cpu", enabled=False), out / CHECKPOINT, options)
    state.start(resume=(out / CHECKPOINT).exists())
    saved, losses = state.seconds, [0.0]
    while (share := _share(state, options)) < 1:
        start = time.perf_counter()
        rate = options.learning_rate * _rate(share)
        for group in optimiser.param_groups:
            group["lr"] = rate
        torch.manual_seed(options.seed * 1_000_003 + state.step)
        model.train()
        loss = loss_of(state.step)
        if not torch.isfinite(loss):
            raise TrainingError(f"The loss of step {state.step} is {loss.item()}. Lower the learning rate.")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*matrices, *others], options.clip_norm)
        optimiser.step()
        state.step += 1
        with torch.no_grad():
            state.follow()
        state.seconds += time.perf_counter() - start
        losses = [*losses[-199:], loss.item()]
        if state.step % 100 == 0:
            mean = sum(losses) / len(losses)
            print(f"step {state.step}  {state.seconds / 60:.1f} min  loss {mean:.4f}  lr {rate:.1e}", flush=True)
        last = _share(state, options) >= 1
        if look is not None and (last or state.step % options.judge_every == 0):
            with state.averaged():
                model.eval()
                look(state.step)
        if last or state.seconds - saved > 60 * options.checkpoint_minutes:
            state.save()
            saved = state.seconds
    state.give_weights(best=False)
    model.eval()


def _share(state: TrainingState, options: TrainingOptions) -> float:
    if options.steps is not None:
        return state.step / options.steps
    assert options.minutes is not None
    return state.seconds / (60 * options.minutes)


def _rate(share: float) -> float:
    rising = min(1.0, (share + 1e-3) / WARMUP)
    falling = max(0.0, share - PLATEAU) / (1 - PLATEAU)
    return min(rising, 0.5 * (1 + math.cos(math.pi * min(1.0, falling))))
