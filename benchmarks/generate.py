"""What the generator costs over diffusers' bare pipeline, and what CLIP in the loop costs a step.

python benchmarks/generate.py [MODEL] [ROUNDS]

MODEL is whatever `DiffusionGenerator` takes; "pocket" if nothing is said. Ours and the bare pipeline take turns, with
the same prompts, seeds and steps, in one process; the median of the ratios of the pairs is printed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

import torch

from clip_qdrant import ClipEncoder
from clip_qdrant.models.diffusion import DiffusionGenerator
from clip_qdrant.models.guidance import ClipGuide

STEPS = 20
PROMPT = "a red apple, noto style"


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(model: str = "pocket", rounds: str = "30") -> None:
    """Print the table."""
    generator, encoder = DiffusionGenerator(model), ClipEncoder("pocket")
    target = encoder.embed_texts([PROMPT])[0]

    def bare(seed: int) -> None:
        rng = torch.Generator("cpu").manual_seed(seed)
        generator.pipeline(PROMPT, num_inference_steps=STEPS, guidance_scale=3.0, generator=rng)

    def ours(seed: int, guide: ClipGuide | None = None) -> None:
        generator.generate(PROMPT, seed=seed, steps=STEPS, guidance=3.0, guide=guide)

    watching, pulling = (ClipGuide(encoder, target, scale=scale) for scale in (0.0, 0.1))
    bare(0)
    ours(0)
    ours(0, pulling)
    ways = {"bare": bare, "ours": ours, "watched": lambda s: ours(s, watching), "pulled": lambda s: ours(s, pulling)}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(int(rounds)):
        for name in ways if seed % 2 else reversed(ways):  # so that none is always first
            took[name].append(seconds(lambda name=name, seed=seed: ways[name](seed)))
    for name, times in took.items():
        ratio = median(one / other for one, other in zip(times, took["bare"], strict=True))
        print(f"{name:8} {median(times):.3f} s a picture, {1000 * median(times) / STEPS:6.1f} ms a step, x {ratio:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
