"""How the pocket diffusion gets better with time: the judge's table of the U-Nets that `denoiser.py` writes as it goes.

python examples/train_pocket/curve.py --data DIR --out OUT

Every so many of the trained concepts, and of the withheld pairs; the same for each U-Net.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from drawings import draw, lines, load_pipeline, trained_pairs
from generated import load_drawn, prompt
from judge import load_judge, verdicts


def checkpoints(out: Path) -> list[tuple[int, Path]]:
    """The U-Nets in a folder and the steps they had had, by these."""
    return sorted((int(folder.name.partition("-")[2]), folder) for folder in out.glob("unet-*"))


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=4, help="draw every so many of them")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    drawn = load_drawn(arguments.data, arguments.out / "art")
    judge, pipeline = load_judge(arguments.out, len(drawn.concepts)), load_pipeline(arguments.out / "pipeline")
    withheld = torch.from_numpy(np.argwhere(drawn.withheld))
    asked = {"trained": trained_pairs(drawn)[:: arguments.every], "withheld": withheld[:: arguments.every]}
    for step, folder in checkpoints(arguments.out):
        pipeline.unet = UNet2DConditionModel.from_pretrained(folder).eval()
        for name, pairs in asked.items():
            made = draw(pipeline, [prompt(drawn.concepts[concept], style) for concept, style in pairs.tolist()])
            print(lines(f"{step} steps, {name}", verdicts(judge, made, pairs)), flush=True)


if __name__ == "__main__":
    main()
