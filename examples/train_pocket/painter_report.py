"""How good the pocket painter is, by the judge and by the pocket CLIP, and sheets of it to look at.

python examples/train_pocket/painter_report.py --data DIR --out OUT

Needs what `painter.py` and `judge.py` have written to OUT.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from art import load_art
from concepts import load_concepts
from drawings import labelled_sheet, lines, nearest
from generated import Drawn, as_tensor, load_drawn, prompt, small
from judge import Judge, load_judge, verdicts
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clip_qdrant.models.encoder import ClipEncoder
from clip_qdrant.models.painter import EmbeddingPainter

_SHEET = 40


class Report:
    """A painter before its judges.

    Args:
        drawn: the art.
        painter: the painter.
        judge: the network that was trained for this, and was never in the loop.
        encoder: the pocket CLIP, which was.
        every: of the concepts take each so many-th, for a quicker look; of the withheld pairs all are taken.
    """

    def __init__(
        self, drawn: Drawn, painter: EmbeddingPainter, judge: Judge, encoder: ClipEncoder, every: int = 1
    ) -> None:
        painter.check(encoder.fingerprint)
        self._every = every
        self._drawn, self._painter, self._judge, self._encoder = drawn, painter, judge, encoder

    def pairs(self) -> Iterator[str]:
        """Of each concept a pair that was learnt from, and all that were withheld: of texts and of pictures."""
        rng = random.Random(0)
        kept = [sorted(np.flatnonzero(~out).tolist()) for out in self._drawn.withheld]
        trained = np.array([(index, rng.choice(styles)) for index, styles in enumerate(kept)])[:: self._every]
        for name, asked in (("trained", trained), ("withheld", np.argwhere(self._drawn.withheld))):
            real = self._drawn.pictures[tuple(asked.T)]
            seen = self._seen(real)
            yield lines(f"{name}, real pictures", verdicts(self._judge, as_tensor(real), torch.from_numpy(asked)))
            yield from self._painted(f"{name}, of prompts", self.of_prompts(asked), asked, seen)
            yield from self._painted(f"{name}, of pictures' vectors", self._paint(seen), asked, seen)

    def labels(self) -> Iterator[str]:
        """Of labels alone, without a style; the style asked for is the first of those that there are to learn."""
        concepts = range(0, len(self._drawn.concepts), self._every)
        asked = np.array([(index, np.flatnonzero(~self._drawn.withheld[index])[0]) for index in concepts])
        texts = [self._drawn.concepts[index].label for index in concepts]
        seen = self._seen(self._drawn.pictures[tuple(asked.T)])
        yield from self._painted("labels without a style", self._paint(self._encoder.embed_texts(texts)), asked, seen)
        texts = [f"my shiny {text}" for text in texts]  # words that the painter never learnt from
        yield from self._painted("labels in other words", self._paint(self._encoder.embed_texts(texts)), asked, seen)

    def another_hand(self, name: str, art: dict[str, NDArray[np.uint8]]) -> Iterator[str]:
        """Of pictures' vectors, where no picture of that style was ever learnt from. The style is no question."""
        there = [index for index, concept in enumerate(self._drawn.concepts) if concept.key in art][:: self._every]
        seen = self._seen(np.stack([small(art[self._drawn.concepts[index].key]) for index in there]))
        asked = np.array([(index, 0) for index in there])
        yield from self._painted(f"{name}, never seen, of its vectors", self._paint(seen), asked, seen)

    def of_prompts(self, asked: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pictures (n, side, side, 3) of pairs (n, 2) of concept and style."""
        return self._paint(self._encoder.embed_texts(self.prompts(asked)))

    def prompts(self, asked: NDArray[np.int64]) -> list[str]:
        """What pairs (n, 2) of concept and style are asked for as."""
        return [prompt(self._drawn.concepts[concept], style) for concept, style in asked.tolist()]

    def _paint(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        return np.stack([np.asarray(picture) for picture in self._painter.paint(vectors)])

    def _seen(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._encoder.embed_images([Image.fromarray(picture) for picture in pictures])

    def _painted(
        self, name: str, pictures: NDArray[np.uint8], asked: NDArray[np.int64], seen: NDArray[np.float32]
    ) -> Iterator[str]:
        """What the judge says; under it whether the pocket CLIP sees in the pictures what it saw in the real ones."""
        yield lines(name, verdicts(self._judge, as_tensor(pictures), torch.from_numpy(asked)))
        cosines = self._seen(pictures) @ seen.T
        first = (cosines.argmax(1) == np.arange(len(cosines))).mean()
        yield f"{'':34} the pocket CLIP's cosine with the real ones {np.diag(cosines).mean():.3f}, first {first:.3f}"


def sheets(report: Report, drawn: Drawn, out: Path) -> None:
    """Forty pairs that were learnt from, and forty that were withheld, each beside its nearest training picture."""
    rng = random.Random(1)
    for name, pairs in (("trained", drawn.trained), ("withheld", np.argwhere(drawn.withheld))):
        asked = pairs[sorted(rng.sample(range(len(pairs)), min(_SHEET, len(pairs))))]
        pictures: Tensor = as_tensor(report.of_prompts(asked))
        labelled_sheet(report.prompts(asked), pictures, nearest(drawn, pictures), out / f"painted-{name}.png")


def main() -> None:
    """Read the command line, print the table, write the sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--painter", type=Path, help="another folder than OUT/painter")
    parser.add_argument("--every", type=int, default=1, help="take each so many-th concept, for a quicker look")
    parser.add_argument("--judge", type=Path, help="another folder than OUT for the judge")
    given = parser.parse_args()
    drawn = load_drawn(given.data, given.out / "art")
    report = Report(
        drawn,
        EmbeddingPainter(given.painter or given.out / "painter"),
        load_judge(given.judge or given.out, len(drawn.concepts)),
        ClipEncoder("pocket"),
        given.every,
    )
    sheets(report, drawn, given.out)
    print(f"{'':34} {'n':>5}  {'concept right':22}  {'in the first five':22}  {'style right':22}", flush=True)
    another = load_art(given.data, given.out / "art", "openmoji", load_concepts(given.data))
    for rows in (report.pairs(), report.labels(), report.another_hand("OpenMoji", another)):
        for row in rows:
            print(row, flush=True)


if __name__ == "__main__":
    main()
