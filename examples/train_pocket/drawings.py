"""How good the pocket diffusion is, by the judge and by the pocket CLIP, and a sheet of it to look at.

python examples/train_pocket/drawings.py --data DIR --out OUT

Needs what `denoiser.py` and `judge.py` have written to OUT.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from generated import SIDE, STYLES, Drawn, as_pictures, as_tensor, load_drawn, prompt
from judge import Judge, Verdict, load_judge, verdicts
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from clip_qdrant.models.encoder import ClipEncoder

STEPS, GUIDANCE = 20, 3.0
_AT_ONCE = 64
_COLUMNS = 8


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    """A pipeline from a folder, without its progress bar."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline: StableDiffusionPipeline, prompts: Sequence[str], first_seed: int = 0) -> Tensor:
    """A picture a prompt, (n, 3, 64, 64) in -1 to 1; the i-th by the seed `first_seed + i`."""
    parts = []
    for start in range(0, len(prompts), _AT_ONCE):
        some = list(prompts[start : start + _AT_ONCE])
        rng = [torch.Generator().manual_seed(first_seed + start + index) for index in range(len(some))]
        found = pipeline(some, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=rng, output_type="pt")
        parts.append(found.images * 2 - 1)
    return torch.cat(parts)


def best_of(pipeline: StableDiffusionPipeline, encoder: ClipEncoder, prompts: Sequence[str], count: int) -> Tensor:
    """Of `count` pictures a prompt the one that the pocket CLIP likes best."""
    drawn = [draw(pipeline, prompts, first_seed=100_000 * index) for index in range(count)]
    scores = np.stack([scored(encoder, pictures, prompts) for pictures in drawn])
    return torch.stack([drawn[best][index] for index, best in enumerate(scores.argmax(0))])


def scored(encoder: ClipEncoder, pictures: Tensor, prompts: Sequence[str]) -> NDArray[np.float32]:
    """The cosine of each picture with its prompt, by the pocket CLIP."""
    images = [Image.fromarray(picture) for picture in as_pictures(pictures)]
    found: NDArray[np.float32] = (encoder.embed_images(images) * encoder.embed_texts(list(prompts))).sum(1)
    return found


def interval(right: Tensor) -> str:
    """A share with Wilson's interval of 95 %."""
    n, p, z = len(right), float(right.float().mean()), 1.96
    middle, reach = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * reach) / (1 + z * z / n) for sign in (-1, 1))
    return f"{p:.3f} ({low:.3f} to {high:.3f})"


def lines(name: str, found: Verdict) -> str:
    """A row of the table."""
    return f"{name:34} {len(found.concept):5}  " + "  ".join(interval(part) for part in found)


def nearest(drawn: Drawn, pictures: Tensor) -> NDArray[np.uint8]:
    """Of each picture the training picture that differs least, by the mean square."""
    known = drawn.pictures[tuple(drawn.trained.T)]
    flat = as_tensor(known).flatten(1)
    return known[torch.cdist(pictures.flatten(1), flat).argmin(1).numpy()]


def labelled_sheet(prompts: Sequence[str], pictures: Tensor, beside: NDArray[np.uint8], path: Path) -> None:
    """Each picture, beside it its nearest training picture, and the prompt under both."""
    side, line, gap = 2 * SIDE, 14, 6
    width, height = 2 * side + gap, side + 2 * line + gap
    rows = -(-len(prompts) // (_COLUMNS // 2))
    page = Image.new("RGB", (_COLUMNS // 2 * width, rows * height), "white")
    pen = ImageDraw.Draw(page)
    for index, (text, ours, theirs) in enumerate(zip(prompts, as_pictures(pictures), beside, strict=True)):
        left, top = index % (_COLUMNS // 2) * width, index // (_COLUMNS // 2) * height
        for place, picture in ((left, ours), (left + side, theirs)):
            page.paste(Image.fromarray(picture).resize((side, side)), (place, top))
        pen.text((left + 2, top + side), text[:42], fill="black")
    page.save(path)


def trained_pairs(drawn: Drawn) -> Tensor:
    """Each concept in one of the styles that it was learnt in, (concepts, 2)."""
    rng = random.Random(0)
    kept = [sorted(np.flatnonzero(~out).tolist()) for out in drawn.withheld]
    return torch.tensor([(index, rng.choice(styles)) for index, styles in enumerate(kept)])


def tables(drawn: Drawn, pipeline: StableDiffusionPipeline, judge: Judge, encoder: ClipEncoder) -> Iterator[str]:
    """The rows of the report, as they are found."""
    trained = trained_pairs(drawn)
    withheld = torch.from_numpy(np.argwhere(drawn.withheld))
    yield f"{'':34} {'n':>5}  {'concept right':22}  {'in the first five':22}  {'style right':22}"
    for name, asked in (("trained pairs", trained), ("withheld pairs", withheld)):
        real = as_tensor(drawn.pictures[tuple(asked.T.numpy())])
        yield lines(f"{name}, real pictures", verdicts(judge, real, asked))
        made = draw(pipeline, prompts := _prompts(drawn, asked))
        yield lines(f"{name}, generated", verdicts(judge, made, asked))
        scores = [scored(encoder, pictures, prompts).mean() for pictures in (made, real)]
        yield f"{'':34} the pocket CLIP's cosine {scores[0]:.3f}, of real pictures {scores[1]:.3f}"
    some = trained[::4]
    prompts = _prompts(drawn, some)
    yield lines("a quarter, one of one", verdicts(judge, draw(pipeline, prompts), some))
    yield lines("a quarter, best of four", verdicts(judge, best_of(pipeline, encoder, prompts, 4), some))


def _prompts(drawn: Drawn, asked: Tensor) -> list[str]:
    return [prompt(drawn.concepts[concept], style) for concept, style in asked.tolist()]


def main() -> None:
    """Read the command line, print the table, write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pipeline", type=Path, help="another folder than OUT/pipeline")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    drawn = load_drawn(arguments.data, arguments.out / "art")
    pipeline = load_pipeline(arguments.pipeline or arguments.out / "pipeline")
    judge, encoder = load_judge(arguments.out, len(drawn.concepts)), ClipEncoder("pocket")
    picked = random.Random(1).sample(range(len(drawn.concepts)), 40)
    prompts = [prompt(drawn.concepts[concept], index % len(STYLES)) for index, concept in enumerate(picked)]
    pictures = draw(pipeline, prompts)
    labelled_sheet(prompts, pictures, nearest(drawn, pictures), arguments.out / "drawings.png")
    for line in tables(drawn, pipeline, judge, encoder):
        print(line, flush=True)


if __name__ == "__main__":
    main()
