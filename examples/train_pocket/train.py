"""Train the pocket CLIP on emoji art; see README.md for the data.

python examples/train_pocket/train.py --data DIR --out OUT --minutes 65 --seed 0 [--resume]
"""

from __future__ import annotations

import argparse
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from art import TRAIN_STYLES
from augment import augment
from concepts import Concept, caption
from evaluate import HEADER, Art, evaluate, load_data
from model import MAX_TOKENS, VOCABULARY, build_model, build_processor, export
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, CLIPProcessor
from vocabulary import build_tokenizer

from clip_qdrant.errors import ConfigError

WARMUP = 0.03
# The learning rate stays up for this share of the budget and then falls along a cosine.
PLATEAU = 0.4
EMA = 0.997
STYLE_WEIGHT = 0.5
STYLE_TEMPERATURE = 0.1


@dataclass(frozen=True)
class Options:
    """What the command line sets.

    Attributes:
        data: where npm installed the icon sets.
        out: drawn art, checkpoints and exports; outside any repository, the art is not ours.
        minutes: the budget of training time, counted over all resumed parts.
        steps: the budget in steps instead; the run then does not depend on the machine's speed.
        batch: concepts in a batch; each is drawn twice, in two styles.
        extra: further labels that serve as wrong answers only.
        checkpoint_minutes: minutes between checkpoints.
        evaluate_minutes: minutes between evaluations, each followed by an export.
    """

    data: Path
    out: Path
    minutes: float = 65.0
    steps: int | None = None
    seed: int = 0
    batch: int = 256
    extra: int = 128
    learning_rate: float = 1e-3
    checkpoint_minutes: float = 3.0
    evaluate_minutes: float = 8.0
    resume: bool = False
    tiny: bool = False


class Trainer:
    """Model, optimiser and averaged weights, and how they are saved."""

    def __init__(self, options: Options, concepts: list[Concept], art: Art) -> None:
        self.options = options
        self.concepts, self.art = concepts, art
        self.trained = [concept for concept in concepts if not concept.held_out]
        self.pictures = {
            style: torch.from_numpy(np.stack([art[style][concept.key] for concept in self.trained]))
            for style in TRAIN_STYLES
        }
        texts = (text for concept in self.trained for text in (concept.label, *concept.tags))
        self.processor: CLIPProcessor = build_processor(build_tokenizer(texts, VOCABULARY, MAX_TOKENS))
        self.model = build_model(self.processor.tokenizer, options.seed, options.tiny).train()
        self.average: CLIPModel = build_model(self.processor.tokenizer, options.seed, options.tiny).eval()
        self.average.requires_grad_(False)
        decayed = [weight for weight in self.model.parameters() if weight.ndim > 1]
        others = [weight for weight in self.model.parameters() if weight.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=True)
        self.step = 0
        self.elapsed = 0.0

    @property
    def progress(self) -> float:
        """How much of the budget is used, 0 to 1."""
        steps = self.options.steps
        return self.step / steps if steps else self.elapsed / (60.0 * self.options.minutes)

    def learning_rate(self) -> float:
        """Warm-up, plateau, cosine to zero."""
        progress = self.progress
        falling = max(0.0, progress - PLATEAU) / (1 - PLATEAU)
        return self.options.learning_rate * min(1.0, progress / WARMUP + 0.01, 0.5 * (1 + math.cos(math.pi * falling)))

    def train_step(self) -> float:
        """One batch. All its choices follow from the seed and the step, so a resumed run draws the same."""
        rng = random.Random(f"{self.options.seed}:{self.step}")
        noise = torch.Generator().manual_seed(rng.getrandbits(62))
        order = rng.sample(range(len(self.trained)), len(self.trained))
        batch, extra = order[: self.options.batch], order[self.options.batch :][: self.options.extra]
        styles = [rng.sample(TRAIN_STYLES, 2) for _ in batch]
        views = [self.pictures[pair[view]][index] for view in (0, 1) for index, pair in zip(batch, styles, strict=True)]
        captions = [caption(self.trained[index], rng) for index in batch]
        texts = [one.text for one in captions] + [self.trained[index].label for index in extra]
        also = torch.tensor([[one.fits(self.trained[index]) for index in batch] for one in captions])
        tokens = self.processor(text=texts, padding="longest", truncation=True, return_tensors="pt")
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        loss = self._loss(augment(torch.stack(views), noise), tokens["input_ids"], also.fill_diagonal_(False))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(50.0))
            kept = min(EMA, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - kept)
        self.step += 1
        return loss.item()

    def _loss(self, pixels: Tensor, ids: Tensor, also: Tensor) -> Tensor:
        # Under bfloat16 a step takes less than half the time; the losses are computed in float32.
        with torch.autocast("cpu", torch.bfloat16):
            image = self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)
            text = self.model.text_projection(self.model.text_model(input_ids=ids).pooler_output)
        image = functional.normalize(image.float(), dim=-1)
        text = functional.normalize(text.float(), dim=-1)
        return contrastive_loss(image, text, also, self.model.logit_scale.exp())

    def save(self) -> None:
        """Write the checkpoint; a kill while writing leaves the one before."""
        part = self.options.out / "checkpoint.part"
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        torch.save(state, part)
        part.replace(self.options.out / "checkpoint.pt")

    def load(self) -> None:
        """Go on from the checkpoint in the output folder."""
        path = self.options.out / "checkpoint.pt"
        if not path.exists():
            raise ConfigError(f"There is no checkpoint {str(path)!r} to resume from. Leave out --resume to start anew.")
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.elapsed = state["step"], state["elapsed"]

    def report(self) -> None:
        """Print the recall table of the averaged weights and export them."""
        print(HEADER)
        for row in evaluate(self.average, self.processor, self.concepts, self.art):
            print(row, flush=True)
        export(self.average, self.processor, self.options.out / "clip")


def contrastive_loss(image: Tensor, text: Tensor, also: Tensor, scale: Tensor) -> Tensor:
    """InfoNCE between pictures and texts, and between the two pictures of a concept.

    Args:
        image: unit vectors, shape (2 n, dim): every concept of the batch in one style, then all in another.
        text: unit vectors, shape (n + m, dim): the captions of the batch, then m that belong to no picture.
        also: which captions are true of which other concepts, (n, n) bool; these pairs are no wrong answers.
        scale: the inverse temperature of picture and text.
    """
    n = len(image) // 2
    index = torch.arange(n)
    logits = scale * image @ text.T
    ignored = functional.pad(also.T, (0, len(text) - n)).repeat(2, 1)
    logits = logits.masked_fill(ignored, -torch.inf)
    from_image = functional.cross_entropy(logits, index.repeat(2))
    from_text = torch.zeros(())
    for view in (0, 1):
        # The caption's other picture is right as well, so it must not count as a wrong answer.
        masked = logits.T[:n].clone()
        masked[index, index + (1 - view) * n] = -torch.inf
        from_text = from_text + functional.cross_entropy(masked, index + view * n) / 2
    styles = image[:n] @ image[n:].T / STYLE_TEMPERATURE
    between = (functional.cross_entropy(styles, index) + functional.cross_entropy(styles.T, index)) / 2
    return (from_image + from_text) / 2 + STYLE_WEIGHT * between


def train(options: Options) -> Trainer:
    """Run the recipe to the end of its budget.

    Raises:
        ConfigError: the data folder lacks an icon set, or there is no checkpoint to resume from.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(options, *load_data(options.data, options.out))
    if options.resume:
        trainer.load()
    weights = sum(weight.numel() for weight in trainer.model.parameters())
    print(f"{len(trainer.trained)} of {len(trainer.concepts)} concepts, {weights:,} parameters", flush=True)
    saved = evaluated = trainer.elapsed
    losses: list[float] = []
    while trainer.progress < 1:
        start = time.monotonic()
        losses.append(trainer.train_step())
        trainer.elapsed += time.monotonic() - start
        if trainer.step % 50 == 0:
            mean, losses = sum(losses) / len(losses), []
            minutes, rate = trainer.elapsed / 60, trainer.learning_rate()
            print(f"step {trainer.step}  {minutes:.1f} min  loss {mean:.3f}  lr {rate:.2e}", flush=True)
        if trainer.elapsed - saved > 60 * options.checkpoint_minutes:
            trainer.save()
            saved = trainer.elapsed
        if trainer.elapsed - evaluated > 60 * options.evaluate_minutes:
            trainer.report()
            evaluated = trainer.elapsed
    trainer.save()
    trainer.report()
    return trainer


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=65.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="a budget in steps instead of minutes")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    arguments = vars(parser.parse_args())
    torch.set_num_threads(arguments.pop("threads"))
    train(Options(**arguments))


if __name__ == "__main__":
    main()
