"""Generated pictures in a collection: files that say how they were made, found like any other, marked as synthetic."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from clip_qdrant.errors import ConfigError, ModelError
from clip_qdrant.storage.points import IMAGE, MODALITY, SYNTHETIC, point_id
from clip_qdrant.types import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clip_qdrant.collection.clip import ClipCollection
    from clip_qdrant.models.diffusion import DiffusionGenerator
    from clip_qdrant.models.encoder import ClipEncoder
    from clip_qdrant.storage.filters import Where
    from clip_qdrant.types import Generated, Hit, ImageGenerator

    GoodEnough: TypeAlias = float | Callable[[Hit], bool]
    """The cosine from which an answer will do, or whatever says so of it."""

    Maker: TypeAlias = Callable[[str, Sequence[Hit]], Sequence[Generated]]
    """Makes pictures of words, and of what was found that is not good enough, best first, with vectors."""

PROMPT, SEED, MODEL, PARENT = "prompt", "seed", "model", "parent"
"""The metadata of a generated picture, beside `synthetic`."""


def records_of(
    made: Iterable[Generated], folder: str | Path, *, parent: str | None = None, scope: str = ""
) -> list[Record]:
    """Write generated pictures to a folder, and describe them as records to index.

    A file is named by its content, so that the same picture, made again, is the same record.

    Args:
        made: what a generator gave.
        folder: where to write the files; made where it is missing.
        parent: the source or the id of the picture that they were made from.
        scope: as `Record.scope`.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    place = Path(folder).expanduser().absolute()
    records = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        for one in made:
            png = one.png()
            path = place / f"{hashlib.sha256(png).hexdigest()[:24]}.png"
            if not path.exists():
                part = path.with_suffix(".part")
                part.write_bytes(png)
                part.replace(path)
            metadata = {SYNTHETIC: True, PROMPT: one.prompt, SEED: one.seed, MODEL: one.model}
            metadata |= {} if parent is None else {PARENT: parent}
            records.append(Record(str(path), path, text=one.prompt, metadata=metadata, scope=scope))
    except OSError as error:
        raise ConfigError(f"Cannot write generated pictures to {str(folder)!r}: {error}.") from error
    return records


def store(
    collection: ClipCollection,
    made: Sequence[Generated],
    folder: str | Path,
    *,
    parent: str | None = None,
    scope: str = "",
) -> list[Hit]:
    """Write generated pictures to a folder and into a collection, and return what was stored, in order.

    Raises:
        ConfigError: the folder cannot be written to, or a picture that was written cannot be indexed.
        ModelError: the model's safety checker flagged a picture; nothing is stored then.
    """
    flagged = [one.seed for one in made if getattr(one, "flagged", None)]
    if flagged:
        raise ModelError(
            f"The model's safety checker flagged what it made of {made[0].prompt!r} with the seeds {flagged}. Nothing "
            "was stored. Ask for something else, or with another seed."
        )
    records = records_of(made, folder, parent=parent, scope=scope)
    report = collection.add(records)
    if report.failed:
        raise ConfigError(f"A generated picture cannot be stored: {report.failed[0].reason}.")
    return collection.get([point_id(record) for record in records], with_vectors=True)


class RetrieveOrGenerate:
    """Searches, and where nothing found is good enough, makes something, stores it and gives that.

    What was made is in the collection from then on, and found by the next query that it is good enough for. A search
    that leaves synthetic pictures out makes a new one each time.

    Args:
        collection: what to search, and where what is made goes.
        make: how to make pictures.
        folder: where their files are written.
        good_enough: a cosine, or whatever says of a hit whether it will do. A cosine of CLIP means little by itself:
            measure some queries of yours first.

    Raises:
        ConfigError: a cosine outside of -1 to 1.
    """

    def __init__(self, collection: ClipCollection, make: Maker, folder: str | Path, *, good_enough: GoodEnough) -> None:
        if not callable(good_enough) and not -1 <= good_enough <= 1:
            raise ConfigError(f"good_enough is a cosine, from -1 to 1, or a function of a hit, got {good_enough!r}.")
        self.collection = collection
        self._make, self._folder, self._good_enough = make, folder, good_enough
        self._lock = Lock()

    def search(
        self, vector: NDArray[np.float32], prompt: str, *, limit: int = 10, where: Where | None = None
    ) -> list[Hit]:
        """The answers that are good enough, best first; else what was made of the prompt, each with its cosine.

        Args:
            vector: what to search by, unit float32 (dim,).
            prompt: what to make; where it is blank (a picture was asked with), nothing is made.
            limit: how many at most.
            where: which points to search among.

        Raises:
            ConfigError: what was made cannot be stored.
            FilterError: `where` cannot be understood.
        """
        good = self._good(self.collection.vectors.search(vector, limit=limit, where=where))
        if good or not prompt.strip():
            return good
        with self._lock:  # of two that ask for the same at once the second finds what the first has made
            near = self.collection.vectors.search(vector, limit=limit, where=where, with_vectors=True)
            good = self._good(near)
            if good:
                return good
            made = store(self.collection, self._make(prompt, near), self._folder)
        scored = [replace(hit, score=float(hit.vector @ vector)) for hit in made if hit.vector is not None]
        return sorted(scored, key=lambda hit: -hit.score)[:limit]

    def _good(self, hits: Sequence[Hit]) -> list[Hit]:
        good = self._good_enough
        return [hit for hit in hits if (good(hit) if callable(good) else hit.score >= good)]


def from_words(generator: ImageGenerator) -> Maker:
    """Make a picture of the words alone."""
    return lambda prompt, near: generator.generate(prompt)


def from_nearest(generator: ImageGenerator, *, strength: float = 0.7) -> Maker:
    """Start from the nearest picture whose file is there; of the words alone where there is none."""

    def make(prompt: str, near: Sequence[Hit]) -> Sequence[Generated]:
        files = (Path(hit.source) for hit in near if hit.source and hit.metadata.get(MODALITY) == IMAGE)
        nearest = next((file for file in files if file.is_file()), None)
        return generator.generate(prompt) if nearest is None else generator.edit(nearest, prompt, strength=strength)

    return make


def steered(generator: DiffusionGenerator, encoder: ClipEncoder, *, scale: float = 0.1) -> Maker:
    """Make a picture of the words, pulled by CLIP towards the middle of the pictures that were found.

    Args:
        generator: a diffusion model.
        encoder: the collection's.
        scale: how much, as of `ClipGuide`.

    """
    from clip_qdrant.models.guidance import ClipGuide

    def make(prompt: str, near: Sequence[Hit]) -> Sequence[Generated]:
        found = [hit.vector for hit in near if hit.vector is not None and hit.metadata.get(MODALITY) == IMAGE]
        if not found:
            return generator.generate(prompt)
        return generator.generate(prompt, guide=ClipGuide(encoder, np.mean(found, axis=0), scale=scale))

    return make
