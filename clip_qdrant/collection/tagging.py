"""What a classifier says of every point, written into the payload, so that it can be filtered and faceted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from clip_qdrant.collection.labels import LabelCollection
from clip_qdrant.errors import CollectionMismatchError, ConfigError
from clip_qdrant.models.zero_shot import ZeroShotClassifier
from clip_qdrant.storage.filters import to_filter
from clip_qdrant.storage.points import IMAGE, TEXT
from clip_qdrant.storage.tags import not_tagged_by, prepare, remove_tags, tag_keys, tags_of, write_tags
from clip_qdrant.storage.vectors_scan import PAGE, scan_by_id

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qdrant_client import models

    from clip_qdrant.collection.clip import ClipCollection
    from clip_qdrant.models.zero_shot import Classification, Kind
    from clip_qdrant.models.zero_shot_labels import Labels
    from clip_qdrant.storage.filters import Where
    from clip_qdrant.types import Encoder

_MOST: Final = 32
"""Labels of one point."""
_SAME: Final = 0.01
"""A confidence that moved by less is not written again."""


@dataclass(frozen=True, slots=True)
class TagReport:
    """What became of the points.

    Attributes:
        written: have new tags.
        unchanged: had them already: the same labels, as sure of them to 0.01.
        skipped: have neither an image nor a text vector.
        seconds: that it took.
    """

    written: int = 0
    unchanged: int = 0
    skipped: int = 0
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """How many points were looked at."""
        return self.written + self.unchanged + self.skipped


def tag(
    collection: ClipCollection,
    labels: Labels | LabelCollection | ZeroShotClassifier,
    field: str = "kind",
    *,
    where: Where | None = None,
    on_progress: Callable[[TagReport], object] | None = None,
) -> TagReport:
    """Write into every point's payload which label it has, by its stored vector: nothing but the labels is embedded.

    A point gets `kind` (the label; with `multi_label` a list of 32 at most), `kind_confidence`, and of labels in a tree
    `kind_path`, the names from the coarsest down; all have payload indexes. Where no label holds there is no `kind`,
    and {"kind": None} finds it. Pictures go by their image vector, texts by their text vector.

    A thousand points are read, judged and written at a time, so the same call goes on after an interruption. Points
    that the same classifier has tagged are not read again, and of another only what it says otherwise is written: new
    points and new labels cost no more than they change. Indexing again keeps the tags of what has the same content.

    Args:
        collection: whose points.
        labels: what `ZeroShotClassifier` takes, or one, with templates, calibration and options of its own; or a
            `LabelCollection`, with all its labels.
        field: where to write the labels.
        where: which points to tag.
        on_progress: called after every thousand with the report so far.

    Raises:
        ConfigError: labels that cannot be used, or a field that holds something else than tags.
        CollectionMismatchError: the classifier's encoder is not the collection's.
        FilterError: `where` cannot be understood.
    """
    start, vectors = perf_counter(), collection.vectors
    tag_keys(field)  # refused before anything is embedded
    wanted = to_filter(where)
    classifier = _classifier_of(labels, collection.encoder)
    ours, theirs = classifier.fingerprint, collection.encoder.fingerprint
    if ours.digest != theirs.digest:
        raise CollectionMismatchError(
            f"The classifier is of {ours.model!r}, and the vectors of {collection.name!r} are of {theirs.model!r}. "
            "Make it with the collection's encoder."
        )
    prepare(vectors.client, vectors.name, field, tree=classifier.is_tree)
    digest = classifier.digest[:16]
    pending = not_tagged_by(field, digest, wanted)
    report = TagReport(unchanged=vectors.count(where=wanted) - vectors.count(where=pending))
    for page in _pages(scan_by_id(vectors.client, vectors.name, pending, with_vectors=True)):
        judged = list(_judged(classifier, page))
        changes = [
            (point.id, point.payload or {}, values)
            for point, answer in judged
            if (values := _change(point, field, _values(classifier, field, answer))) is not None
        ]
        write_tags(vectors.client, vectors.name, field, digest, changes)
        report = replace(
            report,
            written=report.written + len(changes),
            unchanged=report.unchanged + len(judged) - len(changes),
            skipped=report.skipped + len(page) - len(judged),
            seconds=perf_counter() - start,
        )
        if on_progress is not None:
            on_progress(report)
    return replace(report, seconds=perf_counter() - start)


def untag(collection: ClipCollection, field: str = "kind") -> int:
    """Remove the tags of a field from every point, and return from how many.

    Raises:
        ConfigError: the field cannot be one of tags.
    """
    vectors, count = collection.vectors, 0
    for page in _pages(scan_by_id(vectors.client, vectors.name, None, with_vectors=False)):
        tagged = [point for point in page if field in tags_of(point.payload or {})]
        remove_tags(vectors.client, vectors.name, field, [point.id for point in tagged])
        count += len(tagged)
    return count


def _classifier_of(labels: Labels | LabelCollection | ZeroShotClassifier, encoder: Encoder) -> ZeroShotClassifier:
    if isinstance(labels, LabelCollection):
        return labels.classifier()
    return labels if isinstance(labels, ZeroShotClassifier) else ZeroShotClassifier(encoder, labels)


def _pages(points: Iterable[models.Record]) -> Iterator[list[models.Record]]:
    iterator = iter(points)
    while page := list(islice(iterator, PAGE)):
        yield page


def _judged(
    classifier: ZeroShotClassifier, page: Sequence[models.Record]
) -> Iterator[tuple[models.Record, Classification]]:
    """The points that have a vector, with what the classifier says of each."""
    kinds: tuple[tuple[Kind, Any], ...] = (
        (IMAGE, lambda vectors: vectors.get(IMAGE)),
        (TEXT, lambda vectors: None if IMAGE in vectors else vectors.get(TEXT)),
    )
    for kind, vector_of in kinds:
        found = [
            (point, vector)
            for point in page
            if isinstance(point.vector, dict) and (vector := vector_of(point.vector)) is not None and any(vector)
        ]
        if found:
            rows = _unit(np.array([vector for _, vector in found], np.float32))
            answers = classifier.classify_vectors(rows, kind, top_k=_MOST if classifier.multi_label else 1)
            yield from ((point, answer) for (point, _), answer in zip(found, answers, strict=True))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _values(classifier: ZeroShotClassifier, field: str, answer: Classification) -> dict[str, Any]:
    """What to write of an answer."""
    label, confidence, path = tag_keys(field)
    names = [score.label for score in answer.labels]
    sure = [round(score.probability, 4) for score in answer.labels]
    steps = list(dict.fromkeys(name for score in answer.labels for name in score.path))
    values: dict[str, Any] = {label: names, confidence: sure}
    if not classifier.multi_label:
        values = {key: given[0] if given else None for key, given in values.items()}
    return {**values, path: steps} if classifier.is_tree else values


def _change(point: models.Record, field: str, values: dict[str, Any]) -> dict[str, Any] | None:
    """What has to be written for a point to have these tags, or None where it has them.

    Raises:
        ConfigError: the field holds what no tagging wrote.
    """
    stored: Mapping[str, Any] = point.payload or {}
    keys = tag_keys(field)
    if field not in tags_of(stored):
        taken = [key for key in keys if key in stored]
        if taken:
            raise ConfigError(
                f"The point {str(point.id)!r} has a {taken[0]!r} already, {stored[taken[0]]!r}, which is no tag. Write "
                "the tags to another field."
            )
        return values
    label, confidence, path = keys
    before, after = (np.atleast_1d([] if one.get(confidence) is None else one[confidence]) for one in (stored, values))
    same = all(stored.get(key) == values.get(key) for key in (label, path))
    if same and before.shape == after.shape and bool((np.abs(before - after) < _SAME).all()):
        return None
    # A tree's path is not left behind where the labels are in no tree any more.
    return {**values, path: None} if path in stored and path not in values else values
