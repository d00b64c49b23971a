"""Adapt a model to a style it has never seen, and measure what it gains there and forgets elsewhere.

python examples/train_pocket/adapt.py --data DATA --out OUT [--model pocket] [--keep 1.0 0.5]

Of the trained concepts that OpenMoji draws, 60 % are learnt from in OpenMoji's style, by their label. The figures are
text to image over the other 40 %: in OpenMoji's style (what is gained) and in Noto's (what is forgotten).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from art import over_white
from concepts import Concept
from evaluate import Art, load_data

from clip_qdrant.collection.finetune import finetune
from clip_qdrant.collection.pairs import Parts, split
from clip_qdrant.models.training_model import interpolate, load_trainable
from clip_qdrant.models.training_options import TrainingOptions
from clip_qdrant.models.training_pairs import Pair
from clip_qdrant.models.training_report import evaluate

STYLE, OTHER = "openmoji", "noto"


def pairs_of(art: Art, style: str, concepts: list[Concept]) -> list[Pair]:
    """A style's pictures with their labels; a base concept is on one side of a split, whoever shows it."""
    return [
        Pair(over_white(art[style][one.key]), (one.label,), content=one.base)
        for one in concepts
        if one.key in art[style]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the folder of the training; holds the drawn art")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--keep", type=float, nargs="+", default=[1.0, 0.75, 0.5, 0.25])
    options = parser.parse_args()
    concepts, art = load_data(options.data, options.out)
    trained = [concept for concept in concepts if not concept.held_out]
    parts = split(pairs_of(art, STYLE, trained), test=0.4, judge=0.0)
    tested = {pair.content for pair in parts.test}
    other = pairs_of(art, OTHER, [concept for concept in trained if concept.base in tested])
    folder = options.out / "adapted"
    training = TrainingOptions(steps=options.steps, learning_rate=options.learning_rate, device="cpu")
    finetune(options.model, Parts(parts.train, [], []), folder, training, batch=128)
    start, tuned = load_trainable(options.model), load_trainable(folder)
    print(f"{len(parts.train)} pictures learnt from, {len(parts.test)} tested on, text to image")
    print(f"{'keep':6}{STYLE + ' R@1':>14}{'R@5':>8}{OTHER + ' R@1':>12}{'R@5':>8}")
    weights, before = tuned.weights(), start.weights()
    for keep in (0.0, *sorted(options.keep)):
        tuned.model.load_state_dict({**tuned.model.state_dict(), **weights})
        interpolate(before, tuned.model, keep)
        new, old = (evaluate(tuned, pairs).text_to_image for pairs in (parts.test, other))
        print(f"{keep:<6}{new.recall_1:>14.3f}{new.recall_5:>8.3f}{old.recall_1:>12.3f}{old.recall_5:>8.3f}")


if __name__ == "__main__":
    main()
