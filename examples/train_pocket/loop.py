"""What the scripts that train generators share: the command line, and how a training says how it is getting on."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from generated import Drawn, load_drawn
from torch import Tensor, nn

from clip_qdrant.models import training_loop
from clip_qdrant.models.training import Progress
from clip_qdrant.models.training_options import TrainingOptions
from clip_qdrant.models.training_state import CHECKPOINT


def learn(
    model: nn.Module,
    loss_of: Callable[[int], Tensor],
    out: Path,
    options: TrainingOptions,
    *,
    look: Callable[[int], object] | None = None,
) -> None:
    """The package's `learn`; it goes on from the state in `out` where there is one, and says how it is getting on."""
    training_loop.learn(model, loss_of, out, options, resume=started(out), look=look, progress=printed())


def started(out: Path) -> bool:
    """Whether there is a state to go on from."""
    return (out / CHECKPOINT).exists()


def printed() -> Callable[[Progress], None]:
    """Prints a line every hundred steps, with the mean loss of the last two hundred."""
    losses = deque[float](maxlen=200)

    def say(progress: Progress) -> None:
        losses.append(progress.loss)
        if progress.step % 100 == 0:
            mean, rate = sum(losses) / len(losses), progress.learning_rate
            print(f"step {progress.step}  {progress.minutes:.1f} min  loss {mean:.4f}  lr {rate:.1e}", flush=True)

    return say


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
