"""Hard negatives out of a collection: captions of pictures that look alike and are something else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.points import CAPTION, CONTENT_HASH, IMAGE

if TYPE_CHECKING:
    from clip_qdrant.models.training_pairs import Pair
    from clip_qdrant.storage.filters import Where
    from clip_qdrant.storage.vectors import VectorCollection
    from clip_qdrant.types import Hit

_CAPTIONS = "captions"
"""Where folders and manifests put all captions of a picture that has several; its text is the first."""


class MinedNegatives:
    """For the pairs of a batch the captions of their nearest neighbours in a collection; see `PairBatches`.

    A neighbour that is too near is more likely another picture of the same than something else, and is left out, as is
    one of the same content or concept, or with a caption in common. Each pair is looked up once, all new ones of a
    batch in one request.

    Args:
        vectors: the collection, with pictures indexed by the model that training starts from, or any other.
        per_pair: how many texts for a pair, at most.
        ceiling: the cosine from which a neighbour counts as the same thing.
        caption_field: of the payload: a text, or a list whose first is taken.
        concept_field: of the payload; a neighbour whose value is the pair's concept is left out.
        where: among which points.
        held_out: content hashes of the pictures that the model is judged and tested by: their captions are not learnt
            from, not as wrong answers either.

    Raises:
        ConfigError: a `per_pair` below 1, or a ceiling that is no cosine.
    """

    def __init__(
        self,
        vectors: VectorCollection,
        *,
        per_pair: int = 2,
        ceiling: float = 0.95,
        caption_field: str = CAPTION,
        concept_field: str | None = None,
        where: Where | None = None,
        held_out: Iterable[str] = (),
    ) -> None:
        if per_pair < 1 or not -1.0 <= ceiling <= 1.0:
            raise ConfigError(f"per_pair is at least 1 and ceiling a cosine, got {per_pair!r} and {ceiling!r}.")
        self._vectors = vectors
        self._per_pair, self._ceiling = per_pair, ceiling
        self._caption, self._concept = caption_field, concept_field
        self._where = where
        self._held_out = frozenset(held_out)
        self._known: dict[str, tuple[str, ...]] = {}

    def __repr__(self) -> str:
        fields = f"caption_field={self._caption!r}, concept_field={self._concept!r}, where={self._where!r}"
        return f"MinedNegatives(per_pair={self._per_pair}, ceiling={self._ceiling}, {fields})"

    def __call__(self, pairs: Sequence[Pair]) -> list[str]:
        """The texts for a batch, each once; for a pair that the collection does not have, none."""
        new = {pair.content: pair for pair in pairs if pair.content and pair.content not in self._known}
        stored = self._vectors.with_content(new)
        asked: dict[str, Any] = {
            content: point.vector[IMAGE]
            for content, point in stored.items()
            if isinstance(point.vector, dict) and IMAGE in point.vector
        }
        # Some of the neighbours are the pair itself, or the same thing.
        found = self._vectors.search_batch(list(asked.values()), limit=4 * self._per_pair + 4, where=self._where)
        hits = dict(zip(asked, found, strict=True))
        for content, pair in new.items():
            self._known[content] = self._wrong(pair, hits.get(content, []))
        return list(dict.fromkeys(text for pair in pairs for text in self._known.get(pair.content, ())))

    def _wrong(self, pair: Pair, neighbours: Sequence[Hit]) -> tuple[str, ...]:
        own = {caption.casefold() for caption in pair.captions}
        texts: dict[str, None] = {}
        for hit in neighbours:
            content = hit.payload.get(CONTENT_HASH)
            same = content == pair.content or content in self._held_out or hit.score >= self._ceiling
            related = pair.concept and self._concept and str(hit.payload.get(self._concept)) == pair.concept
            captions = _texts(hit.payload.get(self._caption))
            said = {text.casefold() for text in (*captions, *_texts(hit.payload.get(_CAPTIONS)))}
            if captions and not same and not related and own.isdisjoint(said):
                texts[captions[0]] = None
        return tuple(texts)[: self._per_pair]


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text.strip() for text in values if isinstance(text, str) and text.strip()]
