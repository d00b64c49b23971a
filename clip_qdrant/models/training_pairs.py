"""Pairs of an image and what is said of it, made into the batches of training."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import torch

from clip_qdrant.errors import ConfigError, ImageError, TrainingError
from clip_qdrant.images import decode_ahead
from clip_qdrant.models.augmentation import open_see_through
from clip_qdrant.models.training import Batch

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from clip_qdrant.models.augmentation import Augment
    from clip_qdrant.models.training_model import Trainable
    from clip_qdrant.types import ImageSource

_logger = logging.getLogger(__name__)
_TOO_MANY = 8
"""So many broken pictures in one batch, and more than the batch is large, are no longer an accident."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its captions.

    Attributes:
        image: whatever `open_image` opens; it is opened when it is learnt from, not before.
        captions: at least one; each is a right answer.
        concept: pairs of the same concept are right answers to each other; "" for a concept of its own.
        content: the content hash of the image, where it is known; "" where it is not.

    Raises:
        ConfigError: one str for captions, whose letters would each be one.
    """

    image: ImageSource = field(repr=False)
    captions: tuple[str, ...]
    concept: str = ""
    content: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.captions, str):
            raise ConfigError(f"captions must be a tuple of texts, got the str {self.captions[:40]!r}. Write (text,).")


HardNegatives: TypeAlias = Callable[[Sequence[Pair]], Sequence[str]]
"""The pairs of a batch -> texts that are easily taken for theirs, and are not."""

PickCaption: TypeAlias = Callable[[Pair, random.Random], str]
"""Which caption of a pair to learn this time."""


class PairBatches:
    """The batch of a step, for `training.train`. All choices follow from the seed and the step.

    In every epoch each pair comes once, in another order. With `images_per_concept`, pairs of one concept come
    together. A broken picture is left out, another takes its place, and it is told of once in the log and in
    `problems`.

    Args:
        pairs: read once; images stay where they are.
        trainable: whose inputs to make.
        batch: how many pairs are in a batch; with fewer pairs, all of them.
        seed: of all choices.
        images_per_concept: how many pairs of a concept are in a batch, for a loss between images.
        augment: changes every image a little; see `Augmentation`.
        hard_negatives: further wrong answers for a batch. What is said of any of its pairs, or of another pair of their
            concepts, is taken out of them.
        pick_caption: which of a pair's captions to take; at random by default.

    Raises:
        ConfigError: fewer than two pairs, one without a caption, pairs that are all right answers to each other, or a
            batch below two.
    """

    def __init__(
        self,
        pairs: Iterable[Pair],
        trainable: Trainable,
        *,
        batch: int = 64,
        seed: int = 0,
        images_per_concept: int = 1,
        augment: Augment | None = None,
        hard_negatives: HardNegatives | None = None,
        pick_caption: PickCaption | None = None,
    ) -> None:
        self._pairs = list(pairs)
        _check_pairs(self._pairs)
        if batch < 2 or images_per_concept < 1:
            raise ConfigError(
                f"A batch has at least 2 pairs and 1 image of a concept, got {batch!r} and {images_per_concept!r}."
            )
        self.problems: dict[int, str] = {}
        self._trainable, self._seed = trainable, seed
        self._batch = min(batch, len(self._pairs))
        self._per_concept = images_per_concept
        self._augment = augment
        self._hard_negatives = hard_negatives
        self._pick = pick_caption or (lambda pair, rng: rng.choice(pair.captions))
        self._concepts: dict[str, list[int]] = {}
        for index, pair in enumerate(self._pairs):
            self._concepts.setdefault(_concept(pair, index), []).append(index)
        self._epoch = lru_cache(2)(self._ordered)  # a batch may have of two
        self._sayings = lru_cache(None)(self._said_of)

    def __len__(self) -> int:
        """How many steps an epoch has."""
        return -(-len(self._pairs) // self._batch)

    def __call__(self, step: int) -> Batch:
        """The batch of a step.

        Raises:
            TrainingError: too many of its pictures cannot be opened.
            ConfigError: `pick_caption` or `hard_negatives` gave something that is no text.
        """
        rng = random.Random(f"{self._seed}:{step}")
        chosen, pixels = self._opened(step, rng)
        pairs = [self._pairs[index] for index in chosen]
        texts = [self._pick(pair, rng) for pair in pairs]
        for text in texts:
            _check_text("pick_caption gave", text)
        own = [{text.casefold(), *map(str.casefold, pair.captions)} for pair, text in zip(pairs, texts, strict=True)]
        concepts = [_concept(pair, index) for index, pair in zip(chosen, pairs, strict=True)]
        if self._hard_negatives is not None:
            texts += self._wrong(self._hard_negatives(pairs), concepts, set().union(*own))
        numbers = {concept: number for number, concept in enumerate(dict.fromkeys(concepts))}
        shown = torch.tensor([numbers[concept] for concept in concepts])
        said = [text.casefold() for text in texts]
        positives = torch.tensor([[text in captions for text in said] for captions in own])
        positives[:, : len(pairs)] |= shown[:, None] == shown[None, :]
        ids, mask = self._trainable.tokens(texts)
        return Batch(
            pixels=pixels,
            ids=ids,
            mask=mask,
            positives=positives,
            concepts=shown if len(numbers) < len(pairs) else None,
        )

    def _wrong(self, texts: Sequence[str], concepts: Sequence[str], said: set[str]) -> list[str]:
        """Those texts that are true of no pair of these concepts, each once."""
        said = said.union(*map(self._sayings, concepts))
        for text in texts:
            _check_text("hard_negatives gave", text)
        return list({text.casefold(): text for text in texts if text.casefold() not in said}.values())

    def _said_of(self, concept: str) -> frozenset[str]:
        return frozenset(text.casefold() for index in self._concepts[concept] for text in self._pairs[index].captions)

    def _opened(self, step: int, rng: random.Random) -> tuple[list[int], Tensor]:
        """Which pairs a batch has, and their pixels; no more pictures are in memory at once than are decoded ahead."""
        following = iter(self._following(step))
        kept: list[int] = []
        parts: list[Tensor] = []
        broken = 0
        while wanted := list(islice(following, self._batch - len(kept))):
            sources = [self._pairs[index].image for index in wanted]
            decoded = decode_ahead(sources, min_side=self._trainable.towers.image_side)
            for index, image in zip(wanted, decoded, strict=True):
                if isinstance(image, ImageError):
                    broken += 1
                    if index not in self.problems:
                        _logger.warning("left out of training: %s", image)
                    self.problems[index] = str(image)
                else:
                    kept.append(index)
                    parts.append(self._pixels(index, image, rng))
            if broken > max(self._batch, _TOO_MANY):
                break
        if broken > max(self._batch, _TOO_MANY) or len(kept) < 2:
            raise TrainingError(
                f"{broken} of the {broken + len(kept)} pictures of a batch cannot be opened. The first: "
                f"{next(iter(self.problems.values()))}"
            )
        return kept, torch.cat(parts)

    def _pixels(self, index: int, image: Image.Image, rng: random.Random) -> Tensor:
        if self._augment is not None:
            image = open_see_through(self._pairs[index].image) or image
            # Of a crop of a quarter of the area the model still sees every pixel, and the rest would only take time.
            factor = min(image.size) // (2 * self._trainable.towers.image_side)
            image = self._augment(image.reduce(factor) if factor > 1 else image, rng)
        return self._trainable.pixels([image])

    def _following(self, step: int) -> Iterator[int]:
        """The pairs of a batch and those that come after, each once. After the end of an epoch comes the next."""
        length = len(self._pairs)
        found: dict[int, None] = {}
        at = step * self._batch
        while len(found) < length:
            index = self._epoch(at // length)[at % length]
            if index not in found:
                found[index] = None
                yield index
            at += 1

    def _ordered(self, number: int) -> list[int]:
        """The order of an epoch, in which what the batch at its beginning has of the epoch before comes late enough."""
        order, before = self._shuffled(number), number * len(self._pairs) % self._batch
        if not before:
            return order
        taken = set(self._shuffled(number - 1)[-before:])
        return sorted(order[: self._batch], key=taken.__contains__) + order[self._batch :]

    def _shuffled(self, number: int) -> list[int]:
        rng = random.Random(f"{self._seed}:epoch:{number}")
        groups = []
        for members in self._concepts.values():
            mixed = rng.sample(members, len(members))
            groups += [mixed[at : at + self._per_concept] for at in range(0, len(mixed), self._per_concept)]
        rng.shuffle(groups)
        return [index for group in groups for index in group]


def _check_pairs(pairs: Sequence[Pair]) -> None:
    if len(pairs) < 2:
        raise ConfigError(f"Contrastive training compares pairs: it takes at least two, got {len(pairs)}.")
    for index, pair in enumerate(pairs):
        if not isinstance(pair, Pair):
            raise ConfigError(f"pairs must be of Pair, got a {type(pair).__name__} for pair {index}.")
        if not pair.captions:
            raise ConfigError(f"Pair {index} has no caption: leave it out.")
        for caption in pair.captions:
            _check_text(f"Pair {index} has no caption, or one that is blank or no text:", caption)
    said = {pair.concept or frozenset(map(str.casefold, pair.captions)) for pair in pairs}
    if len(said) < 2:
        raise ConfigError(
            f"All {len(pairs)} pairs have the same concept or captions, so that there are no wrong answers to learn "
            "from. Give captions that tell images apart."
        )


def _check_text(what: str, text: object) -> None:
    if not isinstance(text, str) or not text.strip() or _is_broken(text):
        raise ConfigError(f"{what} {text!r}. Give a text in whole Unicode, or leave it out.")


def _is_broken(text: str) -> bool:
    """Whether it has half of a character, which no tokenizer takes."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def _concept(pair: Pair, index: int) -> str:
    return f"concept:{pair.concept}" if pair.concept else f"pair:{index}"
