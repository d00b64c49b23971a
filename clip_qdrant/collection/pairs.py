"""Records and stored points as pairs to learn from, and their split by content."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from clip_qdrant.errors import ConfigError, ImageError
from clip_qdrant.images import content_hash, decode_ahead
from clip_qdrant.models.training_pairs import Pair
from clip_qdrant.storage.points import CAPTION, CONTENT_HASH, IMAGE, MODALITY

if TYPE_CHECKING:
    from PIL.Image import Image

    from clip_qdrant.storage.filters import Where
    from clip_qdrant.storage.vectors import VectorCollection
    from clip_qdrant.types import Encoder, Record, Vectors

_logger = logging.getLogger(__name__)
_ROWS = 2048


class Parts(NamedTuple):
    """A split.

    Attributes:
        train: to learn from.
        judge: to stop by.
        test: for the figures; nothing is ever decided by it.
    """

    train: list[Pair]
    judge: list[Pair]
    test: list[Pair]


def pairs_from_records(records: Iterable[Record], *, concept_field: str | None = None) -> list[Pair]:
    """The pairs of a folder or a manifest (`records_in`, `records_from`).

    The captions of a record are its text, and the `captions` of its metadata. What has no image or no caption is left
    out; a picture that is there twice, by its content, becomes one pair with the captions of both; one that cannot be
    read is left out with a warning.

    Args:
        records: read lazily; pictures are read for their hash, and stay where they are.
        concept_field: a field of the metadata; pairs with the same value of it show the same.
    """
    found: dict[str, Pair] = {}
    for record in records:
        captions = _captions([record.text, record.metadata.get("captions")])
        if record.image is None or not captions:
            continue
        try:
            content = content_hash(record.image)
        except ImageError as error:
            _logger.warning("left out of training: %s", error)
            continue
        _add(found, Pair(record.image, captions, _concept(record.metadata, concept_field), content))
    return list(found.values())


def pairs_from_collection(
    vectors: VectorCollection,
    root: str | os.PathLike[str],
    *,
    caption_field: str = CAPTION,
    concept_field: str | None = None,
    where: Where | None = None,
) -> list[Pair]:
    """The pairs of a collection: its pictures, opened from where they were indexed, and a payload field as caption.

    Args:
        vectors: the collection; read a page at a time.
        root: the folder that the pictures are in; a point whose source is outside of it, or is no file any more, is
            left out with a warning: a collection may come from anybody.
        caption_field: a text, or a list of texts; with the default also the `captions` of the metadata.
        concept_field: points with the same value of it show the same.
        where: which points.

    Raises:
        ConfigError: `root` is no folder.
    """
    folder = Path(root).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {str(root)!r} with the pictures of {vectors.name!r}. Check the path.")
    found: dict[str, Pair] = {}
    outside = 0
    for hit in vectors.scan(where=where):
        payload = hit.payload
        # Where there are several captions, the text is the first, and `captions` has them all.
        captions = _captions(
            [payload.get(caption_field), payload.get("captions") if caption_field == CAPTION else None]
        )
        if payload.get(MODALITY, IMAGE) != IMAGE or not captions:
            continue
        path = Path(hit.source or "").resolve()
        if not path.is_relative_to(folder) or not path.is_file():
            outside += 1
            continue
        content = str(payload.get(CONTENT_HASH) or content_hash(path))
        _add(found, Pair(path, captions, _concept(payload, concept_field), content))
    if outside:
        _logger.warning("%d points of %r are left out: no picture of theirs in %s", outside, vectors.name, folder)
    return list(found.values())


def split(pairs: Sequence[Pair], *, test: float = 0.1, judge: float = 0.1, seed: int = 0) -> Parts:
    """Split by content: a picture, and all that shows the same concept, is in one part.

    A hash decides, so that what is added later moves nothing that was there.

    Args:
        pairs: each with its content or its concept.
        test: the share for the figures.
        judge: the share to stop by.
        seed: another one, another split.

    Raises:
        ConfigError: shares that leave nothing to learn from, a pair without content and concept, or a part that came
            out too small to be used.
    """
    if not (test >= 0 and judge >= 0 and test + judge < 1):
        raise ConfigError(f"The shares of a split are from 0, and together below 1, got {test!r} and {judge!r}.")
    parts = Parts([], [], [])
    keys: dict[str, str] = {}
    for pair in pairs:
        key = f"concept:{pair.concept}" if pair.concept else f"content:{pair.content}"
        if key == "content:":
            raise ConfigError("A pair has neither content nor concept, so that nobody can tell what it may leak into.")
        if pair.content and keys.setdefault(pair.content, key) != key:
            raise ConfigError(
                f"One picture is of two concepts, {keys[pair.content]!r} and {key!r}, and would be on two sides. "
                "Make one pair of it."
            )
        share = int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8], "big") / 2**64
        part = parts.test if share < test else parts.judge if share < test + judge else parts.train
        part.append(pair)
    for name, share, least in (("train", 1.0, 2), ("judge", judge, 2), ("test", test, 2)):
        if share and len(getattr(parts, name)) < least:
            raise ConfigError(
                f"Of {len(pairs)} pairs the part to {name} got {len(getattr(parts, name))}, which is too few. Bring "
                "more pairs, or change the shares."
            )
    return parts


def group_near_duplicates(pairs: Sequence[Pair], encoder: Encoder, *, threshold: float = 0.98) -> list[Pair]:
    """Give pictures that look the same one concept, so that a split keeps them together, and no loss sets them apart.

    Pictures that cannot be opened look like no other.

    Args:
        pairs: their pictures are opened, a few at a time.
        encoder: to compare them with.
        threshold: the cosine from which two pictures are the same.
    """
    if not pairs:
        return []
    opened, vectors = _embedded(pairs, encoder)
    first = np.arange(len(pairs))
    known: dict[str, int] = {}
    for index, pair in enumerate(pairs):
        if pair.concept:
            _join(first, index, known.setdefault(pair.concept, index))
    for start in range(0, len(opened), _ROWS):
        rows, columns = np.nonzero(vectors[start : start + _ROWS] @ vectors.T >= threshold)
        for row, column in zip(rows + start, columns, strict=True):
            if row < column:
                _join(first, opened[row], opened[column])
    heads = [_head(first, index) for index in range(len(pairs))]
    groups: dict[int, list[Pair]] = {}
    for head, pair in zip(heads, pairs, strict=True):
        groups.setdefault(head, []).append(pair)
    # The least of what they could be called, so that the order of the pairs does not decide.
    names = {
        head: min(
            (pair.concept for pair in group if pair.concept), default=f"like {min(pair.content for pair in group)}"
        )
        for head, group in groups.items()
    }
    return [
        replace(pair, concept=names[head]) if len(groups[head]) > 1 else pair
        for head, pair in zip(heads, pairs, strict=True)
    ]


def _embedded(pairs: Sequence[Pair], encoder: Encoder) -> tuple[list[int], Vectors]:
    """Which pictures can be opened, and their vectors."""
    opened: list[int] = []

    def decoded() -> Iterator[Image]:
        for index, image in enumerate(decode_ahead((pair.image for pair in pairs), min_side=encoder.image_side)):
            if not isinstance(image, ImageError):
                opened.append(index)
                yield image

    vectors = encoder.embed_images(decoded())  # which fills the list
    return opened, vectors


def _add(found: dict[str, Pair], pair: Pair) -> None:
    """Put a pair to those found; one of the same content takes its captions."""
    before = found.get(pair.content)
    if before is not None:
        captions = tuple(dict.fromkeys((*before.captions, *pair.captions)))
        pair = replace(before, captions=captions, concept=before.concept or pair.concept)
    found[pair.content] = pair


def _captions(values: Iterable[Any]) -> tuple[str, ...]:
    """The texts among values, one level deep, that say anything; each once."""
    flat = (one for value in values for one in (value if isinstance(value, list) else [value]))
    return tuple(dict.fromkeys(text for one in flat if isinstance(one, str) and (text := one.strip())))


def _concept(values: Any, field: str | None) -> str:
    value = None if field is None else values.get(field)
    return "" if value is None or isinstance(value, (list, dict)) else str(value)


def _head(first: Any, index: int) -> int:
    while first[index] != index:
        first[index] = first[first[index]]
        index = int(first[index])
    return index


def _join(first: Any, one: int, other: int) -> None:
    heads = sorted((_head(first, one), _head(first, other)))
    first[heads[1]] = heads[0]
