"""What does a question want: pictures, passages of text, a new picture, or an answer about one picture?

Zero-shot, by example questions: a question wants what the most similar of the examples wants. All questions of a CLIP
model lie close together, so what all examples have in common, their mean, is taken away before they are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clip_qdrant.types import Encoder, Vectors

Modality = Literal["pictures", "passages", "generation", "answer"]
MODALITIES: Final[tuple[Modality, ...]] = get_args(Modality)

EXAMPLES: Final[Mapping[Modality, tuple[str, ...]]] = MappingProxyType(
    {
        "pictures": (
            "show me pictures of it", "find photos of this", "which pictures show this", "look for images",
            "search for images of", "find similar images", "are there any photos of it", "search the gallery for",
            "get the photographs", "pull up the pictures", "images that look like this",
            "find me photos with it in them", "show all pictures", "give me some images of it",
            "do we have a picture of it", "look up photos", "pictures of", "photos of", "images of", "show photos with",
        ),
        "passages": (
            "what does the text say about it", "explain how it works", "why did it happen",
            "find the paragraph about it", "what is the definition", "summarize the report", "when was it founded",
            "who wrote it", "how much does it cost", "list the steps", "what are the terms",
            "according to the documentation", "how do I do it", "who is responsible", "tell me about the history",
            "what is the difference between them", "how long does it take", "which section describes it",
            "what are the rules", "what is the meaning",
        ),
        "generation": (
            "draw it", "draw me", "paint a picture of it", "paint me", "generate an image of it", "generate a picture",
            "create a new picture", "create an image", "make me an illustration", "make a logo", "design a logo",
            "design a poster", "imagine it", "render it", "sketch it as a cartoon", "sketch", "produce artwork",
            "an oil painting of it, please paint it", "invent a new icon", "compose a new image",
        ),
        "answer": (
            "what is in this picture", "what colour is it in the photo", "how many are there in this image",
            "describe this photo", "what is written on the sign in the picture",
            "who is standing on the left in this image", "is there one in this picture", "where was this photo taken",
            "what is the person in the image doing", "read the text in this image",
            "what is in the foreground of this photo", "does the photo show it", "what do you see in this picture",
            "is it day or night in this photo", "which one is it in the image", "what is on the table in this picture",
            "whose face is in the photo", "count them in this image", "what brand is it in the picture",
            "what is behind it in the photo",
        ),
    }
)  # fmt: skip
"""Questions that want each of them."""

_WITH_PICTURE: Final = ("pictures", "generation", "answer")


@dataclass(frozen=True, slots=True)
class Routed:
    """What a question wants.

    Attributes:
        modality: the answer.
        scores: of each possible one, a cosine of what is special about the question; higher is more likely.
        certain: whether the best is ahead of the next by the margin; if not, `modality` is the fallback.
    """

    modality: Modality
    scores: Mapping[Modality, float]
    certain: bool


class ModalityRouter:
    """Tells what questions want, by example questions; the examples are embedded once.

    A picture without words wants pictures like it. A question that comes with a picture wants an answer about it, a new
    picture made of it, or pictures like it, and no passages.

    Args:
        encoder: its text tower.
        examples: questions by what they want; your own in the place of `EXAMPLES`, in your users' language.
        margin: how far ahead the best must be, as a difference of cosines.
        fallback: what a question wants that is not clear.

    Raises:
        ConfigError: an unknown modality, one without examples, or fewer than two.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        examples: Mapping[Modality, Sequence[str]] = EXAMPLES,
        margin: float = 0.0,
        fallback: Modality = "passages",
    ) -> None:
        unknown = sorted({*examples, fallback} - set(MODALITIES))
        if unknown:
            raise ConfigError(f"There is no modality {unknown[0]!r}; there is {', '.join(map(repr, MODALITIES))}.")
        if len(examples) < 2 or not all(examples.values()):
            raise ConfigError("Give examples of at least two modalities, and at least one of each.")
        if not margin >= 0:
            raise ConfigError(f"margin is at least 0, got {margin!r}.")
        self._encoder = encoder
        self._examples = {name: tuple(examples[name]) for name in MODALITIES if name in examples}
        self._margin, self._fallback = margin, fallback
        self._known: tuple[NDArray[np.float32], dict[Modality, Vectors]] | None = None

    def route(self, question: str = "", *, has_picture: bool = False) -> Routed:
        """What one question wants.

        Raises:
            ConfigError: it has neither words nor a picture.
        """
        return self.route_all([question], has_picture=has_picture)[0]

    def route_all(self, questions: Sequence[str], *, has_picture: bool = False) -> list[Routed]:
        """What each of many questions wants; they are embedded in one call."""
        if not has_picture and not all(question.strip() for question in questions):
            raise ConfigError("There is nothing in the question: give it words, or a picture.")
        asked = [question for question in questions if question.strip()]
        rows = iter(self._centred(self._encoder.embed_texts(asked)) if asked else ())
        return [
            self._routed(next(rows), has_picture) if question.strip() else Routed("pictures", {"pictures": 1.0}, True)
            for question in questions
        ]

    def _routed(self, vector: NDArray[np.float32], has_picture: bool) -> Routed:
        _, prototypes = self._prototypes()
        scores: dict[Modality, float] = {
            name: float((rows @ vector).max())
            for name, rows in prototypes.items()
            if not has_picture or name in _WITH_PICTURE
        }
        best, *others = sorted(scores, key=lambda name: -scores[name])
        certain = not others or scores[best] - scores[others[0]] >= self._margin
        return Routed(best if certain else self._fallback, MappingProxyType(scores), certain)

    def _prototypes(self) -> tuple[NDArray[np.float32], dict[Modality, Vectors]]:
        """The mean of all examples, and each modality's without it."""
        if self._known is None:
            vectors = {name: self._encoder.embed_texts(texts) for name, texts in self._examples.items()}
            # Each modality counts the same in the mean, however many examples it has.
            mean: NDArray[np.float32] = np.mean([rows.mean(axis=0) for rows in vectors.values()], axis=0)
            self._known = mean, {name: _unit(rows - mean) for name, rows in vectors.items()}
        return self._known

    def _centred(self, vectors: Vectors) -> Vectors:
        return _unit(vectors - self._prototypes()[0])


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return unit
