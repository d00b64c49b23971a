"""Editing with the pocket diffusion: a part painted anew, and pictures that become others.

python examples/train_pocket/edits.py --data DIR --out OUT [--model FOLDER]

Needs what `judge.py` has written to OUT, which receives `edits.png`.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from autoencoder import round_trip
from drawings import interval
from generated import SIDE, Drawn, as_pictures, as_tensor, load_drawn, prompt, sheet
from judge import Judge, Verdict, load_judge, verdicts
from numpy.typing import NDArray

from clip_qdrant.models.diffusion import DiffusionGenerator
from clip_qdrant.models.encoder import ClipEncoder

COUNT, STYLE, FRAME = 40, 0, 8
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


def pick(drawn: Drawn) -> list[tuple[int, int]]:
    """Concepts, each with another that it is to become; both were learnt in the style."""
    known = [index for index, out in enumerate(drawn.withheld[:, STYLE]) if not out]
    picked = random.Random(5).sample(known, 2 * COUNT)
    return list(zip(picked[:COUNT], picked[COUNT:], strict=True))


def inpainted(
    generator: DiffusionGenerator, drawn: Drawn, pairs: list[tuple[int, int]], *, keep: bool
) -> NDArray[np.uint8]:
    """All but a frame of each picture painted anew as the other concept; the frame kept as it was, or as it comes."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[FRAME:-FRAME, FRAME:-FRAME] = 255
    made = []
    for index, (old, new) in enumerate(pairs):
        source, text = drawn.pictures[old, STYLE], _prompt(drawn, new)
        made += generator.edit(source, text, mask=mask, keep=keep, strength=1.0, seed=index)
    return np.stack([np.asarray(one.image) for one in made])


def outside(pictures: NDArray[np.uint8], others: NDArray[np.uint8]) -> float:
    """The mean difference of pictures in the frame, 0 to 1."""
    frame = np.ones((SIDE, SIDE), bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False
    return float(np.abs(pictures.astype(int) - others)[:, frame].mean() / 255)


def report(generator: DiffusionGenerator, judge: Judge, drawn: Drawn, out: Path) -> None:
    """Print what was found, and write a sheet of ten."""
    pairs, encoder = pick(drawn), ClipEncoder("pocket")
    old, new = (np.array(side) for side in zip(*pairs, strict=True))
    sources = drawn.pictures[old, STYLE]
    again = as_pictures(round_trip(generator.pipeline.vae, as_tensor(sources)))
    made, bare = (inpainted(generator, drawn, pairs, keep=keep) for keep in (True, False))
    print(f"inpainting {COUNT} pictures but for a frame of {FRAME} pixels, which differs from the source by ", end="")
    print(f"{outside(made, sources):.4f}, with keep=False {outside(bare, sources):.4f}, ", end="")
    print(f"after the autoencoder's round trip by {outside(again, sources):.4f}")
    asked = torch.tensor([(concept, STYLE) for concept in new.tolist()])
    found = verdicts(judge, as_tensor(made), asked)
    chance = f"chance {1 / len(drawn.concepts):.4f} and {5 / len(drawn.concepts):.4f}"
    print(f"  the new concept: right {interval(found.concept)}, in five {interval(found.concept_5)}; {chance}")
    words = encoder.embed_texts([_prompt(drawn, concept) for concept in new.tolist()])
    before, rows = encoder.embed_images(list(sources)), [sources[:10], made[:10]]
    for strength in STRENGTHS:
        changed = np.stack(
            [
                np.asarray(generator.edit(source, _prompt(drawn, concept), strength=strength, seed=index)[0].image)
                for index, (source, concept) in enumerate(zip(sources, new.tolist(), strict=True))
            ]
        )
        vectors = encoder.embed_images(list(changed))
        likeness, fit = (vectors * before).sum(1).mean(), (vectors * words).sum(1).mean()
        verdict: Verdict = verdicts(judge, as_tensor(changed), asked)
        print(f"strength {strength}: like the source {likeness:.3f}, like the prompt {fit:.3f}, ", end="")
        print(f"the new concept in five {interval(verdict.concept_5)}", flush=True)
        rows.append(changed[:10])
    sheet(np.stack(rows)).resize((10 * 2 * SIDE, len(rows) * 2 * SIDE)).save(out / "edits.png")


def _prompt(drawn: Drawn, concept: int) -> str:
    return prompt(drawn.concepts[concept], STYLE)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="pocket")
    arguments = parser.parse_args()
    drawn = load_drawn(arguments.data, arguments.out / "art")
    report(DiffusionGenerator(arguments.model), load_judge(arguments.out, len(drawn.concepts)), drawn, arguments.out)


if __name__ == "__main__":
    main()
