"""Train the pocket painter: vectors of the pocket CLIP, of pictures and of prompts, to pictures of 64 x 64 pixels.

python examples/train_pocket/painter.py --data DIR --out OUT --minutes 100

Started again it goes on from the state in OUT.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from concepts import Concept
from generated import STYLES, TEMPLATES, Drawn, as_pictures, as_tensor, moved, prompt, sheet
from loop import command, printed, started
from torch import Tensor

from clip_qdrant.models.encoder import ClipEncoder
from clip_qdrant.models.painter import EmbeddingPainter
from clip_qdrant.models.painter_training import Painting, train_painter
from clip_qdrant.models.training_options import TrainingOptions

VIEWS = 3
BARE = ("{}", "a {}")
"""Templates without a style, which stand for the first style that a concept has to learn from."""
ADJECTIVES = ("red", "orange", "yellow", "green", "blue", "brown", "black", "white", "small", "big", "old", "happy")
PHRASES = 14
"""Of each concept, as people may ask for it: with an adjective or a tag beside the label, and without a style."""
FROM_TEXT, BARE_SHARE = 0.65, 0.55
JITTER = 0.4
"""How far half of the vectors are moved at most, in shares of what lies between two others of their kind: a vector that
was never met is then painted like one near by."""
SHIFTED = 0.3
"""Of the texts, the share that are prompts of any of the concept's styles, moved by what lies between that style's mean
and the one of the style asked for, so that what names the concept and what names the style have to be told apart."""
LIKENESS, LOOKED_AT = 50.0, 0.0625
SIZE = {"hidden": 1024, "channels": 8}
_SHOWN = 16


@dataclass(frozen=True)
class Known:
    """The vectors of all that is learnt from, unit float32.

    Attributes:
        views: (VIEWS, pairs, dim), of the pictures; the first as they are, the others moved a little.
        prompts: (templates, pairs, dim), of what they are asked for as.
        bare: (templates and PHRASES, concepts, dim), of what they are asked for as without a style.
        bare_pairs: (concepts,), the pair that a label without a style stands for.
        pairs: (pairs, 2), of concept and style.
    """

    views: Tensor
    prompts: Tensor
    bare: Tensor
    bare_pairs: Tensor
    pairs: Tensor

    @cached_property
    def styles(self) -> Tensor:
        """The mean vector of the prompts of each style, (styles, dim)."""
        return torch.stack([self.prompts[:, self.pairs[:, 1] == style].mean((0, 1)) for style in range(len(STYLES))])

    @cached_property
    def siblings(self) -> list[list[int]]:
        """Of each pair all pairs of its concept."""
        concepts = self.pairs[:, 0]
        return [torch.nonzero(concepts == concept).flatten().tolist() for concept in concepts]

    def shifted(self, pair: int, words: random.Random) -> Tensor:
        """The vector of a prompt of the pair's concept in some style, moved to that of the pair."""
        other = words.choice(self.siblings[pair])
        between = self.styles[self.pairs[pair, 1]] - self.styles[self.pairs[other, 1]]
        return self.prompts[words.randrange(len(self.prompts)), other] + between


def known(drawn: Drawn, encoder: ClipEncoder, seed: int) -> Known:
    """Embed the pairs to learn from, and their prompts."""
    pairs, rng = drawn.trained.tolist(), torch.Generator().manual_seed(seed)
    pictures = as_tensor(drawn.pictures[tuple(drawn.trained.T)])
    views = [pictures, *(moved(pictures, rng) for _ in range(VIEWS - 1))]
    prompts = [[prompt(drawn.concepts[index], style, text) for index, style in pairs] for text in TEMPLATES]
    bare = [[text.format(concept.label) for concept in drawn.concepts] for text in BARE]
    said = random.Random(seed)
    bare += [[phrase(concept, said) for concept in drawn.concepts] for _ in range(PHRASES)]
    concepts = torch.from_numpy(drawn.trained[:, 0].copy())
    return Known(
        torch.stack([vectors_of(encoder, view) for view in views]),
        torch.stack([torch.from_numpy(encoder.embed_texts(texts)) for texts in prompts]),
        torch.stack([torch.from_numpy(encoder.embed_texts(texts)) for texts in bare]),
        torch.searchsorted(concepts, torch.arange(len(drawn.concepts))),
        torch.tensor(pairs),
    )


def phrase(concept: Concept, rng: random.Random) -> str:
    """The label with another word: "a blue whale", "fruit red apple"."""
    words = [f"a {rng.choice(ADJECTIVES)} {concept.label}", f"{rng.choice(ADJECTIVES)} {concept.label}"]
    words += [
        said
        for tag in rng.sample(concept.tags, min(1, len(concept.tags)))
        for said in (f"{tag} {concept.label}", f"{concept.label} {tag}")
    ]
    return rng.choice(words)


@torch.inference_mode()
def vectors_of(encoder: ClipEncoder, pictures: Tensor) -> Tensor:
    """Unit vectors (n, dim) of pictures (n, 3, side, side) in -1 to 1."""
    return torch.cat([encoder.embed_pixels((part + 1) / 2) for part in pictures.split(128)])


def painting(known: Known, pictures: Tensor, step: int, batch: int, seed: int) -> Painting:
    """What a step learns from: vectors of pictures and of texts, all of which shall give the picture as it is."""
    words, n = random.Random(f"painter:{seed}:{step}"), known.views.shape[1]
    vectors, picked = [], []
    for _ in range(batch):
        pair = words.randrange(n)
        others = known.prompts[0]
        if words.random() >= FROM_TEXT:
            vectors.append(known.views[words.randrange(len(known.views)), pair])
            others = known.views[0]
        elif words.random() < SHIFTED:
            vectors.append(known.shifted(pair, words))
        elif words.random() >= BARE_SHARE:
            vectors.append(known.prompts[words.randrange(len(known.prompts)), pair])
        else:
            concept = words.randrange(len(known.bare_pairs))
            vectors.append(known.bare[words.randrange(len(known.bare)), concept])
            pair = int(known.bare_pairs[concept])
        picked.append(pair)
        between = others[words.randrange(n)] - others[words.randrange(n)]
        vectors[-1] = vectors[-1] + max(0.0, words.uniform(-JITTER, JITTER)) * between
    return Painting(torch.stack(vectors), (pictures[picked] + 1) / 2, known.views[0, picked])


def run(drawn: Drawn, out: Path, options: TrainingOptions, clip: str | Path = "pocket", batch: int = 128) -> None:
    """Train on the pairs that are not withheld; writes sheets to look at and the painters on the way to `out`."""
    encoder = ClipEncoder(clip, device="cpu")
    vectors = known(drawn, encoder, options.seed)
    sample = torch.cat([vectors.views[0], vectors.prompts[1]])
    pictures = as_tensor(drawn.pictures[tuple(drawn.trained.T)])
    painter = EmbeddingPainter.untrained(
        encoder.fingerprint,
        **SIZE,
        sample=sample,
        pictures=((pictures + 1) / 2).repeat(2, 1, 1, 1),
        seed=options.seed,
        device="cpu",
    )
    count = sum(one.numel() for one in painter.network.parameters())
    print(f"{len(pictures)} pictures, {count:,} parameters", flush=True)
    withheld = np.argwhere(drawn.withheld)
    others = as_tensor(drawn.pictures[tuple(withheld.T)])
    seen = vectors_of(encoder, others)
    asked = torch.from_numpy(encoder.embed_texts([prompt(drawn.concepts[index], style) for index, style in withheld]))

    def look(step: int) -> None:
        some = slice(0, len(pictures), max(1, len(pictures) // _SHOWN))
        few = slice(0, len(others), max(1, len(others) // _SHOWN))
        rows = [pictures[some], *(painted(painter, one[some]) for one in (vectors.views[0], vectors.prompts[1]))]
        rows += [others[few], painted(painter, seen[few]), painted(painter, asked[few])]
        shown = min(map(len, rows))
        sheet(np.stack([as_pictures(row[:shown]) for row in rows])).save(out / f"painted-{step}.png")
        for name, given in (("pictures", seen), ("prompts", asked)):
            found = painted(painter, given)
            off, near = (found - others).abs().mean() / 2, (vectors_of(encoder, found) * seen).sum(1).mean()
            print(f"step {step}  withheld, from {name}: within {off:.4f}, cosine {near:.3f}", flush=True)
        painter.save(out / f"painter-{step}")

    train_painter(
        painter,
        lambda step: painting(vectors, pictures, step, batch, options.seed),
        encoder,
        out / "painter-state",
        options,
        likeness=LIKENESS,
        looked_at=LOOKED_AT,
        resume=started(out / "painter-state"),
        look=look,
        progress=printed(),
    )
    painter.save(out / "painter")


@torch.inference_mode()
def painted(painter: EmbeddingPainter, vectors: Tensor) -> Tensor:
    """Pictures (n, 3, side, side) in -1 to 1 of vectors (n, dim), not rounded."""
    return torch.cat([painter.network(part).clamp(0, 1) for part in vectors.split(256)]) * 2 - 1


if __name__ == "__main__":
    command(__doc__, run, minutes=100, learning_rate=5e-4, average=0.999, judge_every=2000, precision="bfloat16")
