"""How good a model is at pairs it has not seen, and the model card that says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clip_qdrant.errors import ConfigError, ImageError
from clip_qdrant.images import decode_ahead
from clip_qdrant.metrics import ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clip_qdrant.models.training_model import Trainable
    from clip_qdrant.models.training_pairs import Pair


@dataclass(frozen=True, slots=True)
class Direction:
    """Retrieval in one direction; recalls are shares of the queries with a right answer among the first 1, 5, 10."""

    recall_1: float
    recall_5: float
    recall_10: float
    mrr: float


@dataclass(frozen=True, slots=True)
class Figures:
    """How well a model tells pairs apart.

    Attributes:
        text_to_image: each caption's images among all images.
        image_to_text: each image's captions among all captions.
        images: how many images there were.
        texts: how many captions.
    """

    text_to_image: Direction
    image_to_text: Direction
    images: int
    texts: int

    @property
    def mean_recall(self) -> float:
        """The mean of the six recalls, one number to train by."""
        ways = (self.text_to_image, self.image_to_text)
        return sum(way.recall_1 + way.recall_5 + way.recall_10 for way in ways) / 6

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def evaluate(trainable: Trainable, pairs: Iterable[Pair], *, batch: int = 64) -> Figures:
    """Retrieval among pairs: every caption against every image, and the other way round.

    Captions that are the same text count once. An image and a text belong together if the text is one of the image's
    captions, or of an image of the same concept. Pictures that cannot be opened are left out.

    Args:
        trainable: the model, with the weights of now.
        pairs: read lazily, a batch at a time.
        batch: how many items go through the model at once.

    Raises:
        ConfigError: no pair whose picture can be opened.
    """
    was_training = trainable.model.training
    trainable.model.eval()
    images, kept = [], []
    for part in _batches(pairs, batch):
        opened = list(decode_ahead([pair.image for pair in part], min_side=trainable.towers.image_side))
        whole = [(pair, image) for pair, image in zip(part, opened, strict=True) if not isinstance(image, ImageError)]
        if whole:
            kept += [pair for pair, _ in whole]
            images.append(trainable.embed_images([image for _, image in whole]))
    if not kept:
        raise ConfigError("There is nothing to evaluate: no pair has a picture that can be opened.")
    texts = list(dict.fromkeys(caption for pair in kept for caption in pair.captions))
    vectors = torch.cat([trainable.embed_texts(part) for part in _batches(texts, batch)])
    trainable.model.train(was_training)
    scores = (torch.cat(images) @ vectors.T).numpy()
    wanted = _belonging(kept, texts)
    return Figures(_direction(scores.T, wanted.T), _direction(scores, wanted), len(kept), len(texts))


def model_card(
    *,
    base: str,
    data: str,
    recipe: Mapping[str, Any],
    before: Figures | None,
    after: Figures | None,
    trained: int,
    notes: Sequence[str] = (),
) -> str:
    """The README.md of a trained model.

    Args:
        base: the name of the model that training started from.
        data: what it was trained on, in words; no path of this machine.
        recipe: settings by name.
        before: of the base model on pairs that were held out; None where there were none.
        after: of the trained model on the same.
        trained: how many pairs it was trained on.
        notes: further limits, a sentence each.
    """
    settings = [f"| {name} | {value} |" for name, value in recipe.items()]
    limits = [_held_out(after), "It has the biases of its base model and of the captions it was trained on.", *notes]
    return "\n".join(
        [
            "---",
            "library_name: sentence-transformers",
            "tags: [clip, image-text-retrieval, clip-qdrant]",
            "---",
            "",
            f"# A CLIP model, from {base}",
            "",
            "An image and text encoder of one space, made by contrastive training with `clip-qdrant train`.",
            "",
            "```python",
            "from clip_qdrant.models.encoder import ClipEncoder",
            "",
            'encoder = ClipEncoder("this/folder")',
            "```",
            "",
            "transformers (`AutoModel`, `AutoProcessor`) and sentence-transformers (`SentenceTransformer`) load it,",
            "too.",
            "",
            "## Data",
            "",
            f"{data} {trained:,} pairs of an image and its captions were learnt from.",
            "",
            "## Recipe",
            "",
            "| setting | value |",
            "|---|---|",
            *settings,
            "",
            "## Figures",
            "",
            *_table(before, after),
            "",
            "## Limits",
            "",
            *(f"- {limit}" for limit in limits),
            "",
        ]
    )


def _held_out(figures: Figures | None) -> str:
    if figures is None:
        return "Nothing was held out, so nobody knows how good it is. Measure it, and the base model beside it."
    return (
        f"The figures are of {figures.images:,} images of the same kind as those it was trained on. Of other images "
        "they say nothing: measure it on yours, and the base model beside it."
    )


def _table(before: Figures | None, after: Figures | None) -> list[str]:
    if before is None or after is None:
        return ["None: nothing was held out."]
    names = {"recall@1": "recall_1", "recall@5": "recall_5", "recall@10": "recall_10", "MRR": "mrr"}
    ways = {
        "text to image": (before.text_to_image, after.text_to_image),
        "image to text": (before.image_to_text, after.image_to_text),
    }
    return [
        f"On {after.images:,} images with {after.texts:,} captions that were held out, each query against all of them.",
        "",
        "| direction | measure | before | after |",
        "|---|---|---:|---:|",
        *(
            f"| {way} | {name} | {getattr(old, key):.3f} | {getattr(new, key):.3f} |"
            for way, (old, new) in ways.items()
            for name, key in names.items()
        ),
    ]


def _belonging(pairs: Sequence[Pair], texts: Sequence[str]) -> NDArray[np.bool_]:
    """Which text is right for which image, bool (images, texts)."""
    at = {text: column for column, text in enumerate(texts)}
    said: dict[str, set[int]] = {}
    for index, pair in enumerate(pairs):
        said.setdefault(pair.concept or f"\0{index}", set()).update(at[caption] for caption in pair.captions)
    same: dict[str, list[int]] = {}
    for text, column in at.items():
        same.setdefault(text.casefold(), []).append(column)
    wanted = np.zeros((len(pairs), len(texts)), dtype=bool)
    for index, pair in enumerate(pairs):
        wanted[index, list(said[pair.concept or f"\0{index}"])] = True
        for caption in pair.captions:
            wanted[index, same[caption.casefold()]] = True
    return wanted


def _direction(scores: NDArray[np.float32], wanted: NDArray[np.bool_]) -> Direction:
    found = ranks(scores, wanted)
    first, five, ten = (float((found < k).mean()) for k in (1, 5, 10))
    return Direction(first, five, ten, float((1.0 / (1.0 + found)).mean()))


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
