"""The loop that the generators are trained by: AdamW, averaged weights, and a state to go on from after a kill."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from generated import Drawn, load_drawn
from torch import Tensor, nn

from clip_qdrant.errors import TrainingError
from clip_qdrant.models.training_options import TrainingOptions, adamw
from clip_qdrant.models.training_state import CHECKPOINT, TrainingState


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
        options: of them those about the budget, the learning rate, decay, average, seed and state count.
        look: called with the averaged weights in place, every `judge_every` steps and at the end.

    Raises:
        TrainingError: the loss is not a number.
    """
    trained = [one for one in model.parameters() if one.requires_grad]
    optimiser = adamw(trained, options)
    state = TrainingState(model, optimiser, torch.amp.GradScaler("cpu", enabled=False), out / CHECKPOINT, options)
    state.start(resume=(out / CHECKPOINT).exists())
    saved, losses = state.seconds, list[float]()
    while (share := options.share(state.step, state.seconds)) < 1:
        start = time.perf_counter()
        rate = options.rate(share)
        for group in optimiser.param_groups:
            group["lr"] = rate
        torch.manual_seed(options.seed * 1_000_003 + state.step)
        model.train()
        loss = loss_of(state.step)
        if not torch.isfinite(loss):
            raise TrainingError(f"The loss of step {state.step} is {loss.item()}. Lower the learning rate.")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, options.clip_norm)
        optimiser.step()
        state.step += 1
        with torch.no_grad():
            state.follow()
        state.seconds += time.perf_counter() - start
        losses = [*losses[-199:], loss.item()]
        if state.step % 100 == 0:
            mean = sum(losses) / len(losses)
            print(f"step {state.step}  {state.seconds / 60:.1f} min  loss {mean:.4f}  lr {rate:.1e}", flush=True)
        last = options.share(state.step, state.seconds) >= 1
        if look is not None and (last or state.step % options.judge_every == 0):
            with state.averaged():
                model.eval()
                look(state.step)
        if last or state.seconds - saved > 60 * options.checkpoint_minutes:
            state.save()
            saved = state.seconds
    state.give_weights(best=False)
    model.eval()


def command(
    about: str | None,
    run: Callable[[Drawn, Path, TrainingOptions], object],
    *,
    minutes: float,
    seed: int = 0,
    **more: Any,
) -> None:
    """Read the command line, and train.

    Args:
        about: the docstring of the script.
        run: what to do with the pictures, the folder to write to, and the options.
        minutes: the budget, unless the command line says another.
        seed: likewise.
        more: of the options.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--seed", type=int, default=seed)
    given = parser.parse_args()
    torch.set_flush_denormal(True)  # before the first tensor: the threads that are started then take it over
    options = TrainingOptions(
        minutes=given.minutes, seed=given.seed, warmup=0.02, plateau=0.5, weight_decay=0.01, device="cpu", **more
    )
    run(load_drawn(given.data, given.out / "art"), given.out, options)
