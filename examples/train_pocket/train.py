"""Train the pocket CLIP on emoji and icon art; see README.md for the data.

python examples/train_pocket/train.py --data DIR --out OUT --minutes 65 --seed 0 [--resume]
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from batches import PocketBatches
from concepts import load_concepts
from evaluate import HEADER, bars, evaluate, load_data
from icons import Icons, load_icons
from model import MAX_TOKENS, VOCABULARY, build_model, build_processor, export
from torch import Tensor
from torch.nn.functional import interpolate, normalize
from transformers import CLIPModel, CLIPProcessor
from vocabulary import build_tokenizer
from words import likeness_loss, load_texts, teach

from clip_qdrant.models.training import Progress, TrainingReport, train
from clip_qdrant.models.training_model import interpolate as interpolate_weights
from clip_qdrant.models.training_options import TrainingOptions

TEACHER_WEIGHT = 0.5


@dataclass(frozen=True)
class Options:
    """What the command line sets.

    Attributes:
        data: where npm installed the icon sets.
        out: drawn art, checkpoints and exports; outside any repository, the art is not ours.
        minutes: the budget of training time, counted over all resumed parts.
        steps: the budget in steps instead; the run then does not depend on the machine's speed.
        text_steps: how long the text tower alone learns from the teacher before.
        emoji: concepts in a batch; each is drawn twice, in two styles.
        icons: icons in a batch; 0 to train on emoji alone.
        extra: further labels that serve as wrong answers only.
        words: texts without a picture in a batch, for the teacher; 0 to train without one.
        start_from: a folder with an earlier model that training starts from; its pictures may be of another size.
        keep: of a run that started from a model, the share of the way from there that is gone in the end (WiSE-FT).
        evaluate_steps: steps between evaluations, each followed by an export.
    """

    data: Path
    out: Path
    minutes: float | None = None
    steps: int | None = None
    text_steps: int = 3000
    seed: int = 0
    emoji: int = 208
    icons: int = 96
    extra: int = 128
    words: int = 192
    learning_rate: float = 1e-3
    start_from: Path | None = None
    keep: float = 0.85
    evaluate_steps: int = 300
    resume: bool = False
    tiny: bool = False


class Teacher:
    """Texts, what the larger encoder makes of them, and how far a model is from it."""

    def __init__(self, texts: list[str], vectors: Tensor, processor: CLIPProcessor, count: int, seed: int) -> None:
        self._ids = processor.tokenizer(texts, truncation=True)["input_ids"]
        self._vectors, self._pad = vectors, processor.tokenizer.pad
        self._count, self._seed = min(count, len(texts)), seed

    def loss(self, model: Any, step: int) -> Tensor:
        """Of the texts of a step."""
        picked = random.Random(f"words:{self._seed}:{step}").sample(range(len(self._ids)), self._count)
        inputs = self._pad({"input_ids": [self._ids[i] for i in picked]}, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16):
            vectors = model.get_text_features(**inputs).pooler_output
        return likeness_loss(normalize(vectors.float(), dim=-1), self._vectors[picked].float())


def distil(model: CLIPModel, teacher: Teacher, steps: int, learning_rate: float) -> None:
    """Let the text tower alone follow the teacher, which takes a small part of the time of training with pictures."""
    weights = [weight for name, weight in model.named_parameters() if name.startswith("text_")]
    optimiser = torch.optim.AdamW(weights, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(steps):
        share = step / steps
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1.0, 20 * share + 0.01, 0.5 * (1 + math.cos(math.pi * share)) + 0.1)
        loss = teacher.loss(model, -1 - step)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        if step % 200 == 0:
            print(f"text step {step}  loss {loss.item():.3f}", flush=True)


def start_from(model: CLIPModel, folder: Path) -> None:
    """Take the weights of an earlier model; what it knew of places is stretched to the size of the pictures."""
    weights = CLIPModel.from_pretrained(folder).state_dict()
    name = "vision_model.embeddings.position_embedding.weight"
    old, count = weights[name], model.get_parameter(name).shape[0]
    if len(old) != count:
        before, after = (round((places - 1) ** 0.5) for places in (len(old), count))
        grid = old[1:].T.reshape(1, -1, before, before)
        grid = interpolate(grid, size=(after, after), mode="bicubic", align_corners=False)
        weights[name] = torch.cat([old[:1], grid.flatten(2)[0].T])
    model.load_state_dict(weights)


def run(options: Options) -> tuple[CLIPModel, CLIPProcessor, TrainingReport]:
    """Run the recipe to the end of its budget.

    Raises:
        ConfigError: the data folder lacks an icon set, or there is no state to resume from.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    concepts, art = load_data(options.data, options.out)
    trained = [concept for concept in concepts if not concept.held_out]
    held_out = [concept for concept in load_concepts(options.data) if concept.held_out]
    icons: Icons | None = load_icons(options.data, options.out / "art", held_out) if options.icons else None
    texts = [text for concept in trained for text in (concept.label, *concept.tags)]
    names = icons.names if icons else []
    processor = build_processor(build_tokenizer([*texts * 3, *names], VOCABULARY, MAX_TOKENS))
    model = build_model(processor.tokenizer, options.seed, options.tiny)
    teacher = None
    if options.words:
        corpus = list(dict.fromkeys([*load_texts(options.data), *names, *texts]))
        vectors = teach(corpus, options.out / "art")
        teacher = Teacher(corpus, vectors, processor, options.words, options.seed)
    if not options.resume:
        if options.start_from:
            start_from(model, options.start_from)
        elif teacher:
            distil(model, teacher, options.text_steps, options.learning_rate)
    weights = sum(weight.numel() for weight in model.parameters())
    print(f"{len(trained)} of {len(concepts)} concepts, {len(names)} icons, {weights:,} parameters", flush=True)

    def judge(model: CLIPModel) -> float:
        rows = evaluate(model, processor, concepts, art)
        print("\n".join([HEADER, *map(str, rows)]))
        print("openmoji", bars(model, processor, concepts, art), flush=True)
        export(model, processor, options.out / "clip")
        return rows[0].recall_5

    batches = PocketBatches(
        trained,
        art,
        icons,
        processor,
        emoji=options.emoji,
        icon_count=options.icons,
        extra=options.extra,
        seed=options.seed,
    )
    report = train(
        model,
        batches,
        options.out / "state",
        TrainingOptions(
            steps=options.steps,
            minutes=options.minutes,
            learning_rate=options.learning_rate,
            warmup=0.03,
            precision="bfloat16",
            average=0.997,
            image_weight=0.5,
            max_scale=50.0,
            judge_every=options.evaluate_steps,
            keep_best=False,  # the last weights: choosing by what is held out would be training on it
            seed=options.seed,
            device="cpu",
        ),
        resume=options.resume,
        judge=judge,
        auxiliary=_weighted(teacher.loss) if teacher else None,
        progress=_print,
    )
    if options.start_from:
        start = build_model(processor.tokenizer, options.seed, options.tiny)
        start_from(start, options.start_from)
        interpolate_weights(dict(start.named_parameters()), model, options.keep)
        judge(model)
    return model, processor, report


def _weighted(loss: Callable[[Any, int], Tensor]) -> Callable[[Any, int], Tensor]:
    return lambda model, step: TEACHER_WEIGHT * loss(model, step)


def _print(progress: Progress) -> None:
    if progress.step % 50 == 0:
        print(
            f"step {progress.step}  {progress.minutes:.1f} min  loss {progress.loss:.3f}  "
            f"lr {progress.learning_rate:.2e}",
            flush=True,
        )


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="a budget in steps instead of minutes")
    parser.add_argument("--text-steps", type=int, default=3000, help="of the text tower alone, before")
    parser.add_argument("--start-from", type=Path, help="an earlier model to start from")
    parser.add_argument("--keep", type=float, default=0.85, help="the share of the way from there to keep")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from the state in --out")
    arguments = vars(parser.parse_args())
    # The moments of rarely used tokens fade to numbers so small that a CPU takes a hundred times as long for them. It
    # is said before the first tensor, since the threads that are started then take it over.
    torch.set_flush_denormal(True)
    torch.set_num_threads(arguments.pop("threads"))
    run(Options(**arguments))


if __name__ == "__main__":
    main()
