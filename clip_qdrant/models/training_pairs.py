"""Pairs of an image and what is said of it, made into the batches of training."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import torch

from clip_qdrant.errors import ConfigError, ImageError, TrainingError
from clip_qdrant.images import decode_ahead
from clip_qdrant.models.training import Batch

if TYPE_CHECKING:
    from PIL import Image

    from clip_qdrant.models.augmentation import Augment
    from clip_qdrant.models.training_model import Trainable
    from clip_qdrant.types import ImageSource

_logger = logging.getLogger(__name__)
_TOO_MANY = 0.5
"""The share of a batch's pictures that may be broken."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its captions.

    Attributes:
        image: whatever `open_image` opens; it is opened when it is learnt from, not before.
        captions: at least one; each is a right answer.
        concept: pairs of the same concept are right answers to each other; "" for a concept of its own.
        content: the content hash of the image, where it is known; "" where it is not.
    """

    image: ImageSource = field(repr=False)
    captions: tuple[str, ...]
    concept: str = ""
    content: str = ""


HardNegatives: TypeAlias = Callable[[Sequence[Pair]], Sequence[str]]
"""The pairs of a batch -> texts that are easily taken for theirs, and are not."""

PickCaption: TypeAlias = Callable[[Pair, random.Random], str]
"""Which caption of a pair to learn this time."""


class PairBatches:
    """The batch of a step, for `training.train`. All choices follow from the seed and the step.

    In every epoch each pair comes once, in another order. With `images_per_concept`, pairs of one concept come
    together. A broken picture is left out, and told of once in the log and in `problems`.

    Args:
        pairs: read once; images stay where they are.
        trainable: whose inputs to make.
        batch: how many pairs are in a batch; with fewer pairs, all of them.
        seed: of all choices.
        images_per_concept: how many pairs of a concept are in a batch, for a loss between images.
        augment: changes every image a little; see `Augmentation`.
        hard_negatives: further wrong answers for a batch. What is a caption in the batch is taken out of them.
        pick_caption: which of a pair's captions to take; at random by default.

    Raises:
        ConfigError: fewer than two pairs, one without a caption, or a batch below two.
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
        if len(self._pairs) < 2:
            raise ConfigError(f"Contrastive training compares pairs: it takes at least two, got {len(self._pairs)}.")
        for index, pair in enumerate(self._pairs):
            if not pair.captions or not all(caption.strip() for caption in pair.captions):
                raise ConfigError(f"Pair {index} has no caption, or one that is blank: leave it out.")
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
        self._epochs: dict[int, list[int]] = {}

    def __len__(self) -> int:
        """How many steps an epoch has."""
        return -(-len(self._epoch(0)) // self._batch)

    def __call__(self, step: int) -> Batch:
        """The batch of a step.

        Raises:
            TrainingError: more than half of its pictures cannot be opened.
        """
        rng = random.Random(f"{self._seed}:{step}")
        chosen, images = self._opened(self._chosen(step))
        pairs = [self._pairs[index] for index in chosen]
        if self._augment is not None:
            images = [self._augment(image, rng) for image in images]
        texts = [self._pick(pair, rng) for pair in pairs]
        own = [{caption.casefold() for caption in pair.captions} for pair in pairs]
        if self._hard_negatives is not None:
            said = set().union(*own)
            texts += [text for text in dict.fromkeys(self._hard_negatives(pairs)) if text.casefold() not in said]
        concepts = [_concept(pair, index) for index, pair in zip(chosen, pairs, strict=True)]
        numbers = {concept: number for number, concept in enumerate(dict.fromkeys(concepts))}
        shown = torch.tensor([numbers[concept] for concept in concepts])
        positives = torch.tensor([[text.casefold() in captions for text in texts] for captions in own])
        positives[:, : len(pairs)] |= shown[:, None] == shown[None, :]
        ids, mask = self._trainable.tokens(texts)
        return Batch(
            pixels=self._trainable.pixels(images),
            ids=ids,
            mask=mask,
            positives=positives,
            concepts=shown if len(numbers) < len(pairs) else None,
        )

    def _chosen(self, step: int) -> list[int]:
        """Which pairs; a batch at the end of an epoch is filled up from the next, without taking a pair twice."""
        length = len(self._epoch(0))
        start = step * self._batch
        found: dict[int, None] = {}
        while len(found) < self._batch:
            epoch, at = divmod(start, length)
            found[self._epoch(epoch)[at]] = None
            start += 1
        return list(found)

    def _epoch(self, number: int) -> list[int]:
        """The order of an epoch; two are kept, since a batch may have of both."""
        if number not in self._epochs:
            rng = random.Random(f"{self._seed}:epoch:{number}")
            groups = []
            for members in self._concepts.values():
                mixed = rng.sample(members, len(members))
                groups += [mixed[at : at + self._per_concept] for at in range(0, len(mixed), self._per_concept)]
            rng.shuffle(groups)
            self._epochs = {old: order for old, order in self._epochs.items() if old >= number - 1 or old == 0}
            self._epochs[number] = [index for group in groups for index in group]
        return self._epochs[number]

    def _opened(self, chosen: list[int]) -> tuple[list[int], list[Image.Image]]:
        sources = [self._pairs[index].image for index in chosen]
        kept: list[int] = []
        images: list[Image.Image] = []
        for index, image in zip(chosen, decode_ahead(sources, min_side=self._min_side), strict=True):
            if isinstance(image, ImageError):
                if index not in self.problems:
                    _logger.warning("left out of training: %s", image)
                self.problems[index] = str(image)
            else:
                kept.append(index)
                images.append(image)
        if len(kept) < max(2, _TOO_MANY * len(chosen)):
            broken = next(self.problems[index] for index in chosen if index in self.problems)
            raise TrainingError(
                f"{len(chosen) - len(kept)} of the {len(chosen)} pictures of a batch cannot be opened. The first: "
                f"{broken}"
            )
        return kept, images

    @property
    def _min_side(self) -> int:
        # Twice the model's: of a crop of a quarter of the area the model still sees every pixel.
        return 2 * self._trainable.towers.image_side


def _concept(pair: Pair, index: int) -> str:
    return f"concept:{pair.concept}" if pair.concept else f"pair:{index}"
