"""The batches of the pocket CLIP: emoji in two styles each, icons, captions of both, and names as wrong answers."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

import torch
from art import MORE_STYLES, TRAIN_STYLES
from augment import augment
from concepts import Concept, caption
from evaluate import Art
from icons import Icons
from torch import Tensor
from transformers import CLIPProcessor

from clip_qdrant.models.training import Batch


@dataclass(frozen=True)
class _Text:
    """A text of a batch.

    Attributes:
        text: the text.
        said: the words it says.
        names: whether it names one emoji, and so is a wrong answer for every other.
    """

    text: str
    said: frozenset[str]
    names: bool


class PocketBatches:
    """The batch of a step; all its choices follow from the seed and the step.

    Args:
        concepts: the emoji to train on.
        art: their pictures, by style and key.
        icons: further pictures with names.
        processor: of the model.
        emoji: how many concepts a batch has, each in two styles.
        icon_count: how many icons it has.
        extra: how many further labels serve as wrong answers only.
        seed: of all choices.
    """

    def __init__(
        self,
        concepts: list[Concept],
        art: Art,
        icons: Icons | None,
        processor: CLIPProcessor,
        *,
        emoji: int,
        icon_count: int,
        extra: int,
        seed: int,
    ) -> None:
        self._concepts, self._processor = concepts, processor
        self._icons = icons
        self._counts = emoji, icon_count if icons else 0, extra
        self._seed = seed
        self._pictures = [
            [torch.from_numpy(art[style][one.key]) for style in (*TRAIN_STYLES, *MORE_STYLES) if one.key in art[style]]
            for one in concepts
        ]

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        rng = random.Random(f"{self._seed}:{step}")
        noise = torch.Generator().manual_seed(rng.getrandbits(62))
        emoji, icon_count, extra = self._counts
        order = rng.sample(range(len(self._concepts)), len(self._concepts))
        chosen, others = order[:emoji], order[emoji:][:extra]
        pairs = [rng.sample(self._pictures[index], 2) for index in chosen]
        icons = rng.sample(range(len(self._icons.names)), icon_count) if self._icons else []
        drawn = [torch.from_numpy(self._icons.pictures[index]) for index in icons] if self._icons else []
        pixels = augment(torch.stack([pair[view] for view in (0, 1) for pair in pairs] + drawn), noise)
        names = [self._icons.names[index] for index in icons] if self._icons else []
        texts = [self._caption(self._concepts[index], rng) for index in chosen]
        texts += [_Text(_phrase(name, rng), frozenset(name.split()), names=False) for name in names]
        texts += [
            _Text(label, frozenset(label.split()), names=True) for label in (self._concepts[i].label for i in others)
        ]
        tokens = self._processor(
            text=[one.text for one in texts], padding="longest", truncation=True, return_tensors="pt"
        )
        shown = [self._concepts[index].words for index in chosen] * 2 + [frozenset(name.split()) for name in names]
        # Which text is about which image: each emoji's two pictures share one.
        owner = torch.tensor([*range(len(chosen))] * 2 + [len(chosen) + i for i in range(len(names))])
        first = {text.text: index for index, text in reversed(list(enumerate(texts)))}
        same = torch.tensor([first[text.text] for text in texts])
        positives = same[owner][:, None] == same[None, :]
        return Batch(
            pixels=pixels,
            ids=tokens["input_ids"],
            mask=tokens["attention_mask"],
            positives=positives,
            ignored=self._true_of_both(texts, shown, len(chosen)),
            concepts=same[owner],
        )

    def _caption(self, concept: Concept, rng: random.Random) -> _Text:
        drawn = caption(concept, rng)
        return _Text(drawn.text, drawn.said or frozenset(drawn.text.split()), names=not drawn.said)

    def _true_of_both(self, texts: list[_Text], shown: list[frozenset[str]], emoji: int) -> Tensor:
        """Which texts are true of which pictures that are not theirs: "fruit" of a pear, too."""
        rows = [[text.said <= words for text in texts] for words in shown]
        ignored = torch.tensor(rows)
        # "man" names an emoji, and is a wrong answer for "man running", which is another.
        ignored[: 2 * emoji] &= ~torch.tensor([text.names for text in texts])
        return ignored


def _phrase(name: str, rng: random.Random) -> str:
    template = rng.choice(("{}", "{}", "{}", "{}", "{} icon", "an icon of {}", "a {}"))
    return re.sub(r"\s+", " ", template.format(name))
