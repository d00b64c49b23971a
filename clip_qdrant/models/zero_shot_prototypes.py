"""Prototypes: the vectors that stand for labels, made of words and, where there are some, of example pictures.

Pictures and texts of one thing do not lie together: each kind has a cone of its own (Liang et al., "Mind the Gap",
2022). A picture is nearer to any other picture than to its own description, so a label with examples would draw
everything from the labels without. `Prototypes.mixed` therefore moves pictures across the gap before it mixes them with
words.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from clip_qdrant.errors import ImageError, ModelError
from clip_qdrant.images import content_hash, open_image
from clip_qdrant.models.zero_shot_prompts import background, wordings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clip_qdrant.models.zero_shot_labels import Label
    from clip_qdrant.types import Encoder, ImageSource, Vectors

_LABELS_AT_ONCE = 512
_LAYOUT = 1
"""Part of the digest, so that what an older release wrote is not read as something else."""

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Prototypes:
    """What labels look like to a model.

    Attributes:
        texts: the mean of what is said of each label, unit float32 (labels, dim).
        images: the mean of each label's examples, unit float32 (labels, dim); zeros where there are none.
        background: the mean of what is said of anything at all, unit float32 (1, dim).
    """

    texts: Vectors
    images: Vectors
    background: Vectors

    def mixed(self, weight: float) -> Vectors:
        """The words moved by the examples, unit float32 (labels, dim).

        Of the labels with examples the mean difference between pictures and words is taken to be the gap. The pictures
        are moved back by it, and mixed in with `weight`: at 0 words alone count, at 1 pictures alone. A label without
        examples stays where its words are; so does one that alone has some, with a warning in the log, for all of the
        difference might be gap.
        """
        seen = self.images.any(axis=1)
        if weight == 0 or not seen.any():
            return self.texts
        if seen.sum() == 1:
            _logger.warning(
                "Only one label has example images, and what is special about it cannot be told from what is special "
                "about images: they are left out. Give examples of at least one label more."
            )
            return self.texts
        gap = (self.images[seen] - self.texts[seen]).mean(axis=0)
        mixed = self.texts.astype(np.float64)
        mixed[seen] = (1 - weight) * mixed[seen] + weight * _unit(self.images[seen] - gap, "the examples")
        return _unit(mixed, "words and examples").astype(np.float32)


def digest(encoder: Encoder, labels: Sequence[Label], templates: Sequence[str]) -> str:
    """SHA-256 (hex) of all that prototypes are made of: the encoder, what is said of the labels, and their examples.

    Raises:
        ImageError: an example that cannot be read.
    """
    said = hashlib.sha256(json.dumps([_LAYOUT, encoder.fingerprint.digest, list(templates)]).encode())
    for label in labels:
        shown = _of_label(label, map(content_hash, label.examples))
        said.update(json.dumps([label.name, label.synonyms, label.description, shown]).encode())
    return said.hexdigest()


def embed_prototypes(encoder: Encoder, labels: Sequence[Label], templates: Sequence[str]) -> Prototypes:
    """Embed labels, a bounded number of them at a time.

    Raises:
        ImageError: an example that cannot be opened.
        ModelError: the model makes no unit vectors of them.
    """
    said = [background(templates), *(wordings(label, templates) for label in labels)]
    parts = [_said(encoder, said[at : at + _LABELS_AT_ONCE]) for at in range(0, len(said), _LABELS_AT_ONCE)]
    texts = np.concatenate(parts)
    return Prototypes(texts[1:], _shown(encoder, labels), texts[:1])


def _said(encoder: Encoder, labels: Sequence[list[list[str]]]) -> Vectors:
    """One vector a label: the mean of a wording's templates, and of these the mean over wordings."""
    wordings = [wording for label in labels for wording in label]
    vectors = encoder.embed_texts([text for wording in wordings for text in wording])
    return _means(_means(vectors, wordings, "a label's prompts"), labels, "a label's wordings").astype(np.float32)


def _shown(encoder: Encoder, labels: Sequence[Label]) -> Vectors:
    """One vector a label: the mean of its examples, or zeros."""
    found = np.zeros((len(labels), encoder.dim), np.float32)
    seen = [index for index, label in enumerate(labels) if label.examples]
    if seen:
        opened = (image for index in seen for image in _opened(labels[index], encoder.image_side))
        groups = [labels[index].examples for index in seen]
        found[seen] = _means(encoder.embed_images(opened), groups, "a label's examples")
    return found


def _opened(label: Label, side: int) -> Iterable[ImageSource]:
    return _of_label(label, (open_image(example, min_side=side) for example in label.examples))


def _of_label(label: Label, found: Iterable[_T]) -> list[_T]:
    try:
        return list(found)
    except ImageError as error:
        raise type(error)(f"{error.source}, an example of the label {label.name!r}", error.reason) from error


def _means(vectors: NDArray[Any], groups: Sequence[Sequence[Any]], what: str) -> NDArray[np.float64]:
    """The unit mean of each group of rows, groups lying one after the other."""
    ends = np.cumsum([len(group) for group in groups])
    return _unit(np.add.reduceat(vectors.astype(np.float64), [0, *ends[:-1]], axis=0), what)


def _unit(vectors: NDArray[Any], what: str) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(unit).all():
        raise ModelError(f"The mean of {what} is no direction: the model made NaN or opposites. Use another model.")
    return unit
