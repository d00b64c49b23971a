"""Train the judge of generated pictures: a residual network that never sees a text, and is never in the loop.

python examples/train_pocket/judge.py --data DIR --out OUT --minutes 30

It learns what the pictures show, and in which style, from all of them, those withheld from the generators too. Started
again it goes on from the state in OUT.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from generated import STYLES, Drawn, as_tensor, moved
from loop import command, learn
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate, relu

from clip_qdrant.models.training_options import TrainingOptions

WIDTHS = (48, 96, 192, 256)


class Block(nn.Module):
    """Two convolutions and a way around them (He et al., 2016)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.GroupNorm(16, after), nn.GroupNorm(16, after)])
        self.around = nn.Conv2d(before, after, 1, stride) if (before, stride) != (after, 1) else nn.Identity()

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, before, h, w) to (n, after, h / stride, w / stride)."""
        inner = relu(self.norms[0](self.first(pictures)))
        return relu(self.norms[1](self.second(inner)) + self.around(pictures))


class Judge(nn.Module):
    """Scores of the concepts and of the styles of pictures (n, 3, 64, 64) in -1 to 1."""

    def __init__(self, concepts: int) -> None:
        super().__init__()
        blocks = [Block(before, after, 2) for before, after in zip((32, *WIDTHS[:-1]), WIDTHS, strict=True)]
        self.body = nn.Sequential(nn.Conv2d(3, 32, 3, 1, 1), nn.ReLU(), *blocks, Block(WIDTHS[-1], WIDTHS[-1], 1))
        self.concepts = nn.Linear(WIDTHS[-1], concepts)
        self.styles = nn.Linear(WIDTHS[-1], len(STYLES))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, concepts) and (n, styles)."""
        found = self.body(pictures).mean((2, 3))
        return self.concepts(found), self.styles(found)


class Verdict(NamedTuple):
    """What the judge says of a picture that was asked for as a concept in a style; bool (n,) each."""

    concept: Tensor
    concept_5: Tensor
    style: Tensor


@torch.inference_mode()
def verdicts(judge: Judge, pictures: Tensor, asked: Tensor) -> Verdict:
    """Of pictures (n, 3, 64, 64) in -1 to 1 and pairs (n, 2) of concept and style."""
    parts = [judge(part) for part in pictures.split(256)]
    concepts, styles = (torch.cat(scores) for scores in zip(*parts, strict=True))
    best = concepts.topk(5, dim=1).indices
    wanted = asked[:, :1]
    return Verdict(best[:, 0] == asked[:, 0], (best == wanted).any(1), styles.argmax(1) == asked[:, 1])


def distort(pictures: Tensor, rng: torch.Generator) -> Tensor:
    """What a generator may do to a picture without making another of it: place, colour, softness, noise."""
    n = len(pictures)
    pictures = moved(pictures, rng, reach=0.12)
    gain = 1 + 0.3 * (torch.rand(n, 3, 1, 1, generator=rng) - 0.5)
    shift = 0.3 * (torch.rand(n, 1, 1, 1, generator=rng) - 0.5)
    pictures = pictures * gain + shift
    soft = interpolate(avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear", align_corners=False)
    pictures = torch.lerp(pictures, soft, torch.rand(n, 1, 1, 1, generator=rng))
    noise = torch.randn(pictures.shape, generator=rng) * 0.15 * torch.rand(n, 1, 1, 1, generator=rng)
    return (pictures + noise).clamp(-1, 1)


def run(drawn: Drawn, out: Path, options: TrainingOptions, batch: int = 96) -> Judge:
    """Train on all pairs; writes `judge.safetensors` to `out`."""
    from safetensors.torch import save_file

    torch.manual_seed(options.seed)
    judge = Judge(len(drawn.concepts))
    pictures = as_tensor(drawn.pictures.reshape(-1, *drawn.pictures.shape[2:]))
    asked = torch.cartesian_prod(torch.arange(len(drawn.concepts)), torch.arange(len(STYLES)))

    def loss(step: int) -> Tensor:
        rng = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        picked = torch.randint(len(pictures), (batch,), generator=rng)
        with torch.autocast("cpu", torch.bfloat16):
            concepts, styles = judge(distort(pictures[picked], rng))
        wanted = asked[picked]
        return cross_entropy(concepts.float(), wanted[:, 0], label_smoothing=0.1) + cross_entropy(
            styles.float(), wanted[:, 1]
        )

    def look(step: int) -> None:
        rng = torch.Generator().manual_seed(1)
        plain, harder = verdicts(judge, pictures, asked), verdicts(judge, distort(pictures, rng), asked)
        for name, found in (("pictures", plain), ("distorted", harder)):
            shares = "  ".join(f"{part} {getattr(found, part).float().mean():.3f}" for part in found._fields)
            print(f"step {step}  {name}: {shares}", flush=True)

    learn(judge, loss, out / "judge-state", options, look=look)
    save_file(judge.state_dict(), out / "judge.safetensors")
    return judge


def load_judge(out: Path, concepts: int) -> Judge:
    """The judge that `run` wrote."""
    from safetensors.torch import load_file

    judge = Judge(concepts)
    judge.load_state_dict(load_file(out / "judge.safetensors"))
    return judge.eval()


if __name__ == "__main__":
    command(__doc__, run, minutes=30, seed=7, learning_rate=1e-3, average=0.998, judge_every=500)
