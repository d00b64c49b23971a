"""What CLIP in the loop does to the pocket diffusion, by a judge that is never in it; and how pictures come nearer.

python examples/train_pocket/guided.py --data DIR --out OUT [--model FOLDER] [--count 200]

Needs what `judge.py` has written to OUT. The same seeds with and without a guide; OUT receives `alignment.png`, the
similarity of ten pictures with their prompts, step by step.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from textwrap import fill

import numpy as np
import torch
from drawings import interval
from generated import STYLES, Drawn, as_tensor, load_drawn, prompt
from judge import Judge, Verdict, load_judge, verdicts
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from clip_qdrant.models.diffusion import DiffusionGenerator
from clip_qdrant.models.encoder import ClipEncoder
from clip_qdrant.models.guidance import ClipGuide
from clip_qdrant.models.picture import Picture

SCALES = (0.0, 0.03, 0.1)
_WIDTH, _HEIGHT, _EDGE = 900, 560, 50
_INKS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")


def pick(drawn: Drawn, count: int, seed: int) -> list[tuple[int, int]]:
    """Pairs of concept and style that were learnt from, by chance."""
    pairs = drawn.trained.tolist()
    return [(concept, style) for concept, style in random.Random(seed).sample(pairs, min(count, len(pairs)))]


def drawn_by(
    generator: DiffusionGenerator, encoder: ClipEncoder, prompts: list[str], scale: float, away: list[str]
) -> list[Picture]:
    """A picture a prompt, the i-th by the seed i, each pulled towards its own prompt."""
    targets, others = encoder.embed_texts(prompts), encoder.embed_texts(away) if away else ()
    return [
        generator.generate(text, seed=index, guide=ClipGuide(encoder, target, away=others, scale=scale))[0]
        for index, (text, target) in enumerate(zip(prompts, targets, strict=True))
    ]


def judged(judge: Judge, pictures: list[Picture], asked: list[tuple[int, int]]) -> Verdict:
    """What the judge says of pictures."""
    pixels = np.stack([np.asarray(one.image) for one in pictures])
    return verdicts(judge, as_tensor(pixels), torch.tensor(asked))


def difference(off: Tensor, on: Tensor, seed: int = 0) -> str:
    """Of verdicts on the same seeds the difference of their shares, with a bootstrap's interval of 95 %."""
    change = on.numpy().astype(float) - off.numpy().astype(float)
    rng = np.random.default_rng(seed)
    means = rng.choice(change, (4000, len(change))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{change.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def plot(pictures: list[Picture]) -> Image.Image:
    """The alignment of pictures, step by step."""
    page = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    lines = [one.alignment for one in pictures]
    low, high = min(map(min, lines)), max(map(max, lines))
    right, bottom = _WIDTH - 5 * _EDGE, _HEIGHT - _EDGE

    def at(step: int, value: float, steps: int) -> tuple[float, float]:
        across = _EDGE + step / max(1, steps - 1) * (right - _EDGE)
        return across, bottom - (value - low) / (high - low) * (bottom - _EDGE)

    for share in range(5):
        value = low + share / 4 * (high - low)
        _, down = at(0, value, 2)
        pen.line((_EDGE, down, right, down), "#dddddd")
        pen.text((_EDGE - 6, down), f"{value:.2f}", "black", font, anchor="rm")
    for index, (one, line) in enumerate(zip(pictures, lines, strict=True)):
        ink = _INKS[index % len(_INKS)]
        points = [at(step, value, len(line)) for step, value in enumerate(line)]
        pen.line(points, ink, 2)
        pen.text((right + 8, _EDGE + 34 * index), fill(one.prompt, 30), ink, font)
    pen.text((_EDGE, _EDGE / 3), "Cosine of what the picture is going to be with its prompt, by step", "black", font)
    return page


def main() -> None:
    """Read the command line, print the table, write the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    drawn = load_drawn(arguments.data, arguments.out / "art")
    judge = load_judge(arguments.out, len(drawn.concepts))
    generator, encoder = DiffusionGenerator(arguments.model), ClipEncoder("pocket")
    asked = pick(drawn, arguments.count, seed=3)
    prompts = [prompt(drawn.concepts[concept], style) for concept, style in asked]
    made = {scale: drawn_by(generator, encoder, prompts, scale, []) for scale in SCALES}
    found = {scale: judged(judge, pictures, asked) for scale, pictures in made.items()}
    for scale, verdict in found.items():
        cosine = np.mean([one.alignment[-1] for one in made[scale]])
        shares = "  ".join(f"{name} {interval(part)}" for name, part in zip(Verdict._fields, verdict, strict=True))
        print(f"scale {scale}  n {len(asked)}  {shares}  the pocket CLIP's cosine {cosine:.3f}", flush=True)
        if scale:
            changes = zip(Verdict._fields, found[0.0], verdict, strict=True)
            print("  against none:  " + "  ".join(f"{name} {difference(off, on)}" for name, off, on in changes))
    shown = made[0.0][: min(10, len(asked))]
    plot(shown).save(arguments.out / "alignment.png")
    plot(made[0.1][: len(shown)]).save(arguments.out / "alignment-pulled.png")
    print(f"{len(STYLES)} styles; {arguments.out / 'alignment.png'}")


if __name__ == "__main__":
    main()
