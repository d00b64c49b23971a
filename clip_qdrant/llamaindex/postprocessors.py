"""What to do with retrieved nodes: rank them anew by what CLIP sees, and leave out pictures that are shown already."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle

from clip_qdrant.collection.fusion import RRF_K
from clip_qdrant.errors import ConfigError, ImageError
from clip_qdrant.images import decode_ahead, open_image
from clip_qdrant.llamaindex.embedding import encoder_of
from clip_qdrant.llamaindex.nodes import content_hash_of, image_of, kind_of, text_of
from clip_qdrant.llamaindex.queries import picture_of
from clip_qdrant.storage.points import CONTENT_HASH, IMAGE
from clip_qdrant.storage.vectors_checks import whole_number

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from clip_qdrant.llamaindex.embedding import ClipEmbedding
    from clip_qdrant.types import Encoder, ImageSource

_QUERY = -1
"""The query's own place among the nodes."""
_ROUNDING = 1e-6


class ClipReranker(BaseNodePostprocessor):
    """Ranks nodes by the CLIP cosine of the query with the node.

    The query is the bundle's texts, its picture, or the mean of both. A node is its picture; where it has none, or one
    that cannot be opened, it is its text. All pictures are encoded in one call, and all texts in another.

    Cosines of pictures and of texts lie in different ranges. Nodes of one kind have their cosine as their score; where
    there are both, each kind is ranked by itself, the two are fused by reciprocal rank, and that is the score.

    A node with nothing to compare (no text, and a picture that cannot be opened) comes last, with the score it had, if
    `top_n` leaves room for it. The bundle and the nodes given are not changed.

    Args:
        encoder: a `ClipEncoder`, any other `Encoder`, or a `ClipEmbedding`.
        top_n: how many nodes to keep; None: all.

    Raises:
        ConfigError: `top_n` below 1, or no encoder; when it is called, no query.
        ImageError: when it is called, the query's picture cannot be opened.
    """

    top_n: int | None = Field(default=None, description="How many nodes to keep; None: all.")
    _encoder: Any = PrivateAttr()

    def __init__(self, encoder: Encoder | ClipEmbedding, *, top_n: int | None = None, **kwargs: Any) -> None:
        fields: dict[str, Any] = {"top_n": None if top_n is None else whole_number("top_n", top_n, 1)}
        super().__init__(**fields, **kwargs)
        self._encoder = encoder_of(encoder)

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex serialises this component by."""
        return "ClipReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        words = [text for text in query_bundle.embedding_strs if text.strip()] if query_bundle else []
        picture = picture_of(query_bundle) if query_bundle else None
        if not words and picture is None:
            raise ConfigError("There is no query to rank by. Give a query_str, or a QueryBundle with an image_path.")
        if not nodes:
            return []
        sources = _sources(dict(enumerate(nodes)))
        if picture is not None:
            sources[_QUERY] = open_image(picture, min_side=self._encoder.image_side)
        pictures = _embed_pictures(self._encoder, sources)
        of_nodes = {place: text_of(node.node) for place, node in enumerate(nodes) if place not in pictures}
        texts = {place: text for place, text in of_nodes.items() if text is not None}
        vectors = self._encoder.embed_texts([*words, *texts.values()])
        parts = [vectors[: len(words)].mean(axis=0)] if words else []
        if picture is not None:
            parts.append(pictures.pop(_QUERY))
        query = np.mean(parts, axis=0)
        query /= np.linalg.norm(query)
        kinds = [pictures, dict(zip(texts, vectors[len(words) :], strict=True))]
        scores = _scores([{place: float(vector @ query) for place, vector in kind.items()} for kind in kinds])
        ranked = [NodeWithScore(node=nodes[place].node, score=score) for place, score in scores.items()]
        last = [node for place, node in enumerate(nodes) if place not in scores]
        return [*ranked, *last][: self.top_n]


class NearDuplicateFilter(BaseNodePostprocessor):
    """Leaves out pictures that are, to the byte or to the eye, one that scores higher; the order stays as it was.

    Two pictures are one where their `content_hash` is the same, or the cosine of their CLIP vectors is at least
    `threshold`: at 0.97 the bundled model finds all of 111 photos again when they are halved or saved as JPEG of
    quality 40, and 84% of them cut by 5%, and takes no two of them for one.

    A picture's vector is the node's `embedding`; where a node has none, its picture is encoded, all of them in one
    call. Texts are not compared, and of a picture that cannot be opened at most the hash is.

    Args:
        encoder: the one that the embeddings were made with, also as a `ClipEmbedding`; None: nodes without embedding
            are compared by hash alone.
        threshold: the least cosine of two pictures that are one, above 0 and at most 1.

    Raises:
        ConfigError: such a threshold there cannot be; when it is called, vectors of several models.
    """

    threshold: float = Field(default=0.97, description="The least cosine of two pictures that are one.")
    _encoder: Any = PrivateAttr(default=None)

    def __init__(
        self, encoder: Encoder | ClipEmbedding | None = None, *, threshold: float = 0.97, **kwargs: Any
    ) -> None:
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float, np.number)) or not 0 < threshold <= 1:
            raise ConfigError(f"threshold must be above 0 and at most 1, got {threshold!r}.")
        fields: dict[str, Any] = {"threshold": float(threshold)}
        super().__init__(**fields, **kwargs)
        self._encoder = None if encoder is None else encoder_of(encoder)

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex serialises this component by."""
        return "NearDuplicateFilter"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        del query_bundle
        pictures = {place: node for place, node in enumerate(nodes) if kind_of(node.node) == IMAGE}
        vectors = self._vectors(pictures)
        # Rows of zeros are near nothing, so the matrix need not grow.
        seen = np.zeros((len(nodes), len(next(iter(vectors.values()), ()))), np.float32)
        hashes, gone = set[str](), set[int]()
        for place in sorted(pictures, key=lambda place: _falling(nodes[place].score)):
            content, vector = _hash(nodes[place].node), vectors.get(place)
            alike = vector is not None and (seen @ vector).max() >= self.threshold - _ROUNDING
            if alike or content in hashes:
                gone.add(place)
                continue
            if vector is not None:
                seen[place] = vector
            if content is not None:
                hashes.add(content)
        return [node for place, node in enumerate(nodes) if place not in gone]

    def _vectors(self, nodes: Mapping[int, NodeWithScore]) -> dict[int, NDArray[np.float32]]:
        """The unit vectors (dim,) of those nodes that have one, or whose picture can be opened."""
        embeddings = {place: node.node.embedding for place, node in nodes.items() if node.node.embedding}
        vectors = {place: np.asarray(embedding, np.float32) for place, embedding in embeddings.items()}
        if self._encoder is not None:
            rest = {place: node for place, node in nodes.items() if place not in vectors}
            vectors |= _embed_pictures(self._encoder, _sources(rest))
        dims = sorted({len(vector) for vector in vectors.values()})
        if len(dims) > 1:
            raise ConfigError(f"The pictures' vectors are {dims}-d: of several models. Give nodes and encoder of one.")
        return {place: vector / np.linalg.norm(vector) for place, vector in vectors.items() if vector.any()}


def _sources(nodes: Mapping[int, NodeWithScore]) -> dict[int, ImageSource]:
    """The pictures of those nodes that have one."""
    sources: dict[int, ImageSource] = {}
    for place, node in nodes.items():
        with suppress(ImageError):  # base64 that is none: a picture that cannot be opened, like any other
            source = image_of(node.node)
            if source is not None:
                sources[place] = source
    return sources


def _embed_pictures(encoder: Encoder, sources: Mapping[int, ImageSource]) -> dict[int, NDArray[np.float32]]:
    """The vectors (dim,) of those pictures that can be opened, in one call, which holds few of them at a time."""
    if not sources:
        return {}
    opened = list[int]()

    def usable(pictures: Iterable[Image.Image | ImageError]) -> Iterator[Image.Image]:
        for place, picture in zip(sources, pictures, strict=True):
            if not isinstance(picture, ImageError):
                opened.append(place)
                yield picture

    with closing(decode_ahead(sources.values(), min_side=encoder.image_side)) as decoded:
        vectors = encoder.embed_images(usable(decoded))
    return dict(zip(opened, vectors, strict=True))


def _scores(kinds: list[dict[int, float]]) -> dict[int, float]:
    """What the places score, best first: the cosines of one kind, or the reciprocal ranks of several."""
    ranked = [dict(sorted(kind.items(), key=lambda entry: -entry[1])) for kind in kinds if kind]
    if len(ranked) == 1:
        return ranked[0]
    fused = {place: 1 / (RRF_K - 1 + rank) for kind in ranked for rank, place in enumerate(kind, start=1)}
    return dict(sorted(fused.items(), key=lambda entry: -entry[1]))


def _hash(node: BaseNode) -> str | None:
    """The hash of a picture's bytes: of the bytes, else what the metadata says of them; None where neither is there."""
    try:
        return content_hash_of(node)
    except (ConfigError, ImageError):
        known = node.metadata.get(CONTENT_HASH)
        return known if isinstance(known, str) else None


def _falling(score: float | None) -> float:
    return math.inf if score is None else -score
