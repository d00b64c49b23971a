"""How good a model is at pairs it has not seen, and the model card that says so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from clip_qdrant.errors import ConfigError, ImageError
from clip_qdrant.images import decode_ahead
from clip_qdrant.metrics import ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clip_qdrant.models.training_model import Trainable
    from clip_qdrant.models.training_pairs import Pair

_Wanted: TypeAlias = Callable[[int], list[int]]

_CELLS = 1 << 22
"""How many scores are looked at at once: 32 MB of float64."""

_PATH = re.compile(r"(?<![\w:/.~-])(?:~|[A-Za-z]:)?(?:[/\\][\w .@+-]*[\w@+-]){2,}[/\\]?")
"""An absolute path of at least two parts; not what follows the colon of a URL, and not "text/image"."""


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
    try:
        kept, images, texts, vectors = _embedded(trainable, pairs, batch)
    finally:
        trainable.model.train(was_training)
    texts_of, images_of = _answers(kept, texts)
    return Figures(
        _direction(_ranks(vectors, images, images_of)),
        _direction(_ranks(images, vectors, texts_of)),
        len(kept),
        len(texts),
    )


def _embedded(
    trainable: Trainable, pairs: Iterable[Pair], batch: int
) -> tuple[list[Pair], NDArray[np.float32], list[str], NDArray[np.float32]]:
    """The pairs that can be opened with their image vectors, and what they say with the text vectors."""
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
    return kept, torch.cat(images).numpy(), texts, vectors.numpy()


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
        data: what it was trained on, in words. Of absolute paths, here and elsewhere, only the last part is written.
        recipe: settings by name.
        before: of the base model on pairs that were held out; None where there were none.
        after: of the trained model on the same.
        trained: how many pairs it was trained on.
        notes: further limits, a sentence each.
    """
    base, data, notes = _public(base), _public(data), [_public(note) for note in notes]
    settings = [f"| {_cell(name)} | {_cell(value)} |" for name, value in recipe.items()]
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
            'images, texts = encoder.embed_images(["cat.jpg"]), encoder.embed_texts(["a cat"])',
            "```",
            "",
            'sentence-transformers (`SentenceTransformer("this/folder").encode([{"text": "a cat"}])`) and transformers',
            "(`AutoModel`, `AutoProcessor`) load it, too. With transformers alone, texts of a SigLIP have to be in",
            'lower case, and are processed with `padding="max_length"` and without an attention mask.',
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


def _public(text: str) -> str:
    """A text without the folders of this machine: of an absolute path the last part is left."""
    return _PATH.sub(lambda match: re.split(r"[/\\]", match[0].rstrip("/\\"))[-1], text)


def _cell(value: object) -> str:
    return " ".join(_public(str(value)).split()).replace("|", r"\|")


def _answers(pairs: Sequence[Pair], texts: Sequence[str]) -> tuple[_Wanted, _Wanted]:
    """The texts that are right for an image, its own and those of its concept; and the images for a text."""
    columns: dict[str, list[int]] = {}
    for column, text in enumerate(texts):
        columns.setdefault(text.casefold(), []).append(column)
    own = [sorted({at for caption in pair.captions for at in columns[caption.casefold()]}) for pair in pairs]
    rows: list[list[int]] = [[] for _ in texts]
    # By concept its images and its texts: every image with every text of it could be more than there is memory for.
    images: dict[str, list[int]] = {}
    said: dict[str, dict[int, None]] = {}
    for row, pair in enumerate(pairs):
        for column in own[row]:
            rows[column].append(row)
        if pair.concept:
            images.setdefault(pair.concept, []).append(row)
            said.setdefault(pair.concept, {}).update(dict.fromkeys(own[row]))
    concepts: list[list[str]] = [[] for _ in texts]
    for concept, its in said.items():
        for column in its:
            concepts[column].append(concept)

    def texts_of(row: int) -> list[int]:
        return [*own[row], *said.get(pairs[row].concept, ())]

    def images_of(column: int) -> list[int]:
        return [*rows[column], *(row for concept in concepts[column] for row in images[concept])]

    return texts_of, images_of


def _ranks(queries: NDArray[np.float32], items: NDArray[np.float32], wanted: _Wanted) -> NDArray[np.int64]:
    """Each query's rank, in blocks: all queries against all items would take gigabytes."""
    rows = max(1, _CELLS // len(items))
    found = []
    for start in range(0, len(queries), rows):
        scores = queries[start : start + rows] @ items.T
        relevant = np.zeros(scores.shape, dtype=bool)
        for row in range(len(scores)):
            relevant[row, wanted(start + row)] = True
        found.append(ranks(scores, relevant))
    return np.concatenate(found)


def _direction(found: NDArray[np.int64]) -> Direction:
    first, five, ten = (float((found < k).mean()) for k in (1, 5, 10))
    return Direction(first, five, ten, float((1.0 / (1.0 + found)).mean()))


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
