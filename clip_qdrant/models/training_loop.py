"""The loop that networks are trained by which make pictures: AdamW, averaged weights, and a state to go on from.

Contrastive training has another, with batches over several processes: `training`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from clip_qdrant.models.training import Progress, TrainingReport
from clip_qdrant.models.training_options import TrainingOptions, adamw
from clip_qdrant.models.training_state import CHECKPOINT, TrainingState


def learn(
    model: nn.Module,
    loss_of: Callable[[int], Tensor],
    out: Path,
    options: TrainingOptions,
    *,
    resume: bool = False,
    look: Callable[[int], object] | None = None,
    progress: Callable[[Progress], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainingReport:
    """Train a model in place, on the device where it is; it ends with its averaged weights.

    Args:
        model: what `loss_of` uses.
        loss_of: the loss of a step; what is random in it follows from the step, or is drawn from torch's generator.
        out: the folder of the state.
        options: of them those about the budget, the learning rate, decay, average, seed and state count.
        resume: go on from the state in `out`, to the same weights as without the break.
        look: called with the averaged weights in place, every `judge_every` steps and at the end.
        progress: called after every step.
        stop: asked after every step; when it says so, the state is written and training ends.

    Raises:
        ConfigError: there is no state to resume from, or it is that of other options or another model; or there is one
            and it was not asked for.
        TrainingError: the loss or its gradient is not a number; the state in `out`, if there is one yet, is of before.
    """
    trained = [one for one in model.parameters() if one.requires_grad]
    optimiser = adamw(trained, options)
    state = TrainingState(model, optimiser, torch.amp.GradScaler("cpu", enabled=False), out / CHECKPOINT, options)
    state.start(resume=resume)
    saved, losses, stopped = state.seconds, list[float](), "budget"
    device = trained[0].device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        while (share := options.share(state.step, state.seconds)) < 1:
            start = time.perf_counter()
            rate = options.rate(share)
            for group in optimiser.param_groups:
                group["lr"] = rate
            torch.manual_seed(options.seed * 1_000_003 + state.step)
            model.train()
            loss = loss_of(state.step)
            if not torch.isfinite(loss):
                raise state.not_a_number("loss")
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            length = torch.nn.utils.clip_grad_norm_(trained, options.clip_norm)
            if not torch.isfinite(length):
                raise state.not_a_number("gradient")
            optimiser.step()
            state.step += 1
            with torch.no_grad():
                state.follow()
            state.seconds += time.perf_counter() - start
            losses.append(loss.item())
            share = options.share(state.step, state.seconds)
            if progress is not None:
                progress(Progress(state.step, min(share, 1.0), state.seconds / 60, losses[-1], rate))
            if look is not None and (share >= 1 or state.step % options.judge_every == 0):
                with state.averaged():
                    model.eval()
                    look(state.step)
            asked = stop is not None and stop()
            if share >= 1 or asked or state.seconds - saved > 60 * options.checkpoint_minutes:
                state.save()
                saved = state.seconds
            if asked:
                stopped = "asked"
                break
    state.give_weights(best=False)
    model.eval()
    return TrainingReport(state.step, state.seconds / 60, losses, {}, None, stopped)  # type: ignore[arg-type]
