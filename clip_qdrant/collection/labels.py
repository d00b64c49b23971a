"""Labels as points: a set of labels that lives in a Qdrant collection, grows by upserts and is chosen from by filters.

A label is a point like any other: its name is the text, its `text` vector what is said of it in all templates, its
`image` vector the mean of its examples, its `content_hash` of all that both are made of. Beside its own metadata the
payload has `label` (the name) and, in a tree, `parents` (the names above it, coarsest first).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from clip_qdrant.collection.ingest import IngestReport
from clip_qdrant.errors import ConfigError
from clip_qdrant.models.zero_shot import ZeroShotClassifier
from clip_qdrant.models.zero_shot_labels import Label, as_labels
from clip_qdrant.models.zero_shot_prompts import templates_named
from clip_qdrant.models.zero_shot_prototypes import Prototypes, digest, embed_prototypes
from clip_qdrant.models.zero_shot_tree import LabelTree
from clip_qdrant.storage.filters import to_filter
from clip_qdrant.storage.points import CONTENT_HASH, IMAGE, SCOPE, TEXT, payload_of, point_id, point_of
from clip_qdrant.storage.schema import CollectionSchema
from clip_qdrant.storage.vectors import VectorCollection
from clip_qdrant.storage.vectors_checks import pages
from clip_qdrant.storage.vectors_scan import scan_by_id
from clip_qdrant.types import Record

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

    from clip_qdrant.models.zero_shot_labels import Labels
    from clip_qdrant.storage.filters import Where
    from clip_qdrant.types import Encoder, Vectors

    Path: TypeAlias = tuple[str, ...]
    """The names of a label and those above it, coarsest first."""

LABEL, PARENTS = "label", "parents"
_AT_ONCE: Final = 500


class LabelCollection:
    """A set of labels in a collection.

    Example:
        >>> from clip_qdrant.storage.connect import connect
        >>> from clip_qdrant.testing import FakeEncoder
        >>> from PIL import Image
        >>> with connect(":memory:") as client:
        ...     labels = LabelCollection(client, "colours", FakeEncoder())
        ...     report = labels.add(["red", "green", Label("blue", metadata={"mood": "calm"})])
        ...     picture = Image.new("RGB", (8, 8), "red")
        ...     [answer.label for answer in labels.classifier().classify_images([picture])]
        ['red']

    Args:
        client: from `connect`, or any `QdrantClient`; it is not closed here.
        name: of the collection; made if it is not there. Not the one that the pictures are in.
        encoder: a `ClipEncoder`, or anything else that is an `Encoder`.
        templates: as `ZeroShotClassifier`; the same whenever the collection is opened.
        schema: what else the collection shall be, such as indexes of the labels' metadata.

    Raises:
        CollectionMismatchError: the collection holds vectors of another encoder, or is another than the schema says.
        ConfigError: templates that cannot be used.
    """

    def __init__(
        self,
        client: QdrantClient,
        name: str,
        encoder: Encoder,
        *,
        templates: str | Sequence[str] = "default",
        schema: CollectionSchema | None = None,
    ) -> None:
        self.encoder = encoder
        self._templates = templates_named(templates)
        given = schema or CollectionSchema()
        own = {
            "dim": encoder.dim,
            "fingerprint": encoder.fingerprint,
            "indexes": {LABEL: "keyword", PARENTS: "keyword", SCOPE: "keyword", **given.indexes},
        }
        self.vectors = VectorCollection(client, name, given.model_copy(update=own))

    def add(self, labels: Labels, *, scope: str = "") -> IngestReport:
        """Write labels, each over the one of the same scope and path; what is there already is not embedded again.

        Examples belong to a label as its synonyms do: give all of them, whenever it is written.

        Args:
            labels: names, `Label`s or a tree of them.
            scope: keeps labels of one name apart for two owners (a tenant); in the payload as `scope`.

        Raises:
            ConfigError: labels that cannot be used.
            InvalidPointError: metadata with a key of ours, or that is not JSON; what stood before it may be written.
            ImageError: an example that cannot be opened.
        """
        start, report = perf_counter(), IngestReport()
        tree = LabelTree(as_labels(labels))
        for page in pages(list(zip(tree.paths, tree.nodes, strict=True)), _AT_ONCE):
            report = self._add([(label, _record(label, path, scope)) for path, label in page], report)
        return replace(report, seconds=perf_counter() - start)

    def classifier(self, *, where: Where | None = None, **options: Any) -> ZeroShotClassifier:
        """A classifier over the labels as they are now; a thousand of them are one request, however many its inputs.

        Nothing is embedded, but once the word that all labels are weighed against. What is added later is for the next
        classifier. A label whose parent is not among those chosen stands at the top. Hundreds of thousands of labels
        are better searched among: `labels.vectors.search(vector, using="text")`.

        Args:
            where: which labels: {"tenant": "acme", "parents": "animals"}.
            **options: multi_label, activation, coarse, example_weight, calibration; as `ZeroShotClassifier`.

        Raises:
            ConfigError: no label, one alone, or two of one name; options that cannot be used.
            FilterError: `where` cannot be understood.
        """
        unknown = options.keys() & {"templates", "cache"}
        if unknown:
            raise ConfigError(f"{min(unknown)} is the collection's own. Give it to LabelCollection, or leave it out.")
        found: dict[Path, models.Record] = {}
        for point in scan_by_id(self.vectors.client, self.vectors.name, to_filter(where), with_vectors=True):
            path = _path(point)
            if path is None:
                continue
            if path in found:
                scopes = [(one.payload or {}).get(SCOPE, "") for one in (found[path], point)]
                raise ConfigError(f"{path[-1]!r} is a label in two scopes, {scopes}. Give where={{'scope': …}}.")
            found[path] = point
        if not found:
            raise ConfigError(f"There is no label in {self.vectors.name!r} that passes the filter. Add some.")
        labels, order = _tree(found)
        rows = [found[path] for path in order]
        prototypes = Prototypes(self._rows(rows, TEXT), self._rows(rows, IMAGE), self._background)
        return ZeroShotClassifier(self.encoder, labels, templates=self._templates, cache=prototypes, **options)

    def _add(self, page: Sequence[tuple[Label, Record]], report: IngestReport) -> IngestReport:
        made_of = [digest(self.encoder, [label], self._templates) for label, _ in page]
        stored = {str(point.id): point.payload or {} for point in self.vectors.retrieve([point_id(r) for _, r in page])}
        new: list[int] = []
        updated = 0
        for index, (_, record) in enumerate(page):
            payload, before = payload_of(record, made_of[index]), stored.get(point_id(record), {})
            if before.get(CONTENT_HASH) != made_of[index]:
                new.append(index)
            elif before != payload:
                self.vectors.set_payload(point_id(record), payload)
                updated += 1
        if new:
            prototypes = embed_prototypes(self.encoder, [page[index][0] for index in new], self._templates)
            rows = zip(new, prototypes.texts, prototypes.images, strict=True)
            self.vectors.upsert(
                [
                    point_of(page[at][1], made_of[at], {TEXT: said} | ({IMAGE: shown} if shown.any() else {}))
                    for at, said, shown in rows
                ]
            )
        return replace(
            report,
            embedded=report.embedded + len(new),
            updated=report.updated + updated,
            unchanged=report.unchanged + len(page) - len(new) - updated,
        )

    def _rows(self, points: Sequence[models.Record], leg: str) -> Vectors:
        none = [0.0] * self.encoder.dim
        vectors = [point.vector if isinstance(point.vector, dict) else {} for point in points]
        return np.array([vector.get(leg, none) for vector in vectors], np.float32)

    @cached_property
    def _background(self) -> Vectors:
        return embed_prototypes(self.encoder, (), self._templates).background


def _record(label: Label, path: Path, scope: str) -> Record:
    """A label as what is stored of it; two labels of one scope and path are one point."""
    own = {LABEL: label.name, **({PARENTS: list(path[:-1])} if len(path) > 1 else {})}
    clash = sorted(own.keys() & label.metadata.keys())
    if clash:
        raise ConfigError(f"The metadata of the label {label.name!r} uses the reserved key {clash[0]!r}. Rename it.")
    said = {
        **({"synonyms": list(label.synonyms)} if label.synonyms else {}),
        **({"description": label.description} if label.description else {}),
        **({"examples": len(label.examples)} if label.examples else {}),
    }
    # The names are escaped, so that "a/b" and "b" under "a" are two.
    place = "/".join(name.replace("%", "%25").replace("/", "%2F") for name in path)
    return Record(f"label:{place}", text=label.name, metadata={**said, **label.metadata, **own}, scope=scope)


def _path(point: models.Record) -> Path | None:
    payload: Mapping[str, Any] = point.payload or {}
    return (*payload.get(PARENTS, ()), payload[LABEL]) if LABEL in payload else None


def _tree(found: Mapping[Path, Any]) -> tuple[list[Label], list[Path]]:
    """Labels as a tree, and their paths in the order that `LabelTree` has them in: level by level, by name."""
    below: dict[Path, list[Path]] = {}
    for path in sorted(found):
        below.setdefault(path[:-1] if path[:-1] in found else (), []).append(path)

    def label_of(path: Path) -> Label:
        return Label(path[-1], children=[label_of(child) for child in below.get(path, ())])

    level = below[()]
    order: list[Path] = []
    while level:
        order += level
        level = [child for path in level for child in below.get(path, ())]
    return [label_of(path) for path in below[()]], order
