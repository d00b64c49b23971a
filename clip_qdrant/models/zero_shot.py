"""Zero-shot classification: labels in words -> prototypes -> predictions, with nothing trained.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021, section 3.1.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.zero_shot_answers import (
    Classification,
    Judge,
    Kind,
    Score,
    calibrations_by_kind,
    checked_kind,
)
from clip_qdrant.models.zero_shot_cache import PrototypeCache
from clip_qdrant.models.zero_shot_calibration import Calibration
from clip_qdrant.models.zero_shot_fit import Answer, calibrate
from clip_qdrant.models.zero_shot_inputs import Unreadable, checked_vectors, image_vectors, joined, slices, text_vectors
from clip_qdrant.models.zero_shot_labels import Label, Labels, as_labels
from clip_qdrant.models.zero_shot_prompts import templates_named
from clip_qdrant.models.zero_shot_prototypes import Prototypes, digest, embed_prototypes
from clip_qdrant.models.zero_shot_tree import Coarse, LabelTree

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from clip_qdrant.types import Encoder, Fingerprint, ImageSource, Vectors

__all__ = ["Calibration", "Classification", "Kind", "Label", "PrototypeCache", "Score", "ZeroShotClassifier"]

Activation = Literal["auto", "softmax", "sigmoid"]

DEFAULT_SCALE: Final = 100.0
"""For an encoder without a logit scale of its own: where CLIP's training stops its scale from growing."""

_MEMORY = PrototypeCache()


class ZeroShotClassifier:
    """Says which labels images, texts and pictures of pages have, by the likeness of their vectors to the labels'.

    A label's prototype is the mean of what is said of it: its name in every template, its synonyms likewise, and its
    description. Example images move it: they are first taken across the gap between pictures and texts (see
    `zero_shot_prototypes`), then mixed in by `example_weight`.

    Probabilities are a softmax over the model's logit scale times cosines; of a model with a logit bias (SigLIP), and
    with `multi_label`, each label's own sigmoid. A bias was learnt between pictures and texts: between texts such a
    model has a softmax too. A model without a bias knows no sigmoid: there a label is weighed against the word
    "something" in the same templates, a rough guess that `calibrate_images` mends.

    Labels with children are judged among their siblings, coarse first, and probabilities multiply down the tree. The
    answer is the best leaf, or, where that does not reach the calibration's limits, the finest label above it that
    does. A coarse label goes by all that is below it: models know "cat" and "dog" far better than "animals". Of
    OpenMoji's emoji the pocket model finds the group four times in five so, and one time in four by the group's name.

    Args:
        encoder: a `ClipEncoder`, or any other `Encoder`; `logit_scale` and `logit_bias` are used where it has them.
        labels: names, `Label`s, or a tree of them as a mapping: {"animals": ["cat", "dog"], "vehicles": [...]}.
        templates: the name of a set in `zero_shot_prompts.TEMPLATES`, or your own, each with {} for the label.
        multi_label: any number of labels may hold for one input, none too.
        activation: "softmax" or "sigmoid" where the model's own is not wanted.
        coarse: "below", or "words" for what is said of a coarse label itself, where that is a better description.
        example_weight: how far example images move a prototype, from 0 (not at all) to 1 (words do not count).
        calibration: temperature and limits, for images and texts alike or for each kind; see `calibrate_images`.
        cache: keeps prototypes: a folder, or a `PrototypeCache`; None for this process's memory. Or the `Prototypes`
            themselves, of the labels level by level, and nothing is embedded.

    Raises:
        ConfigError: labels, templates or options that cannot be used; raised before anything is embedded.
        ImageError: an example that cannot be opened.
        ModelError: the model makes NaN.
    """

    def __init__(
        self,
        encoder: Encoder,
        labels: Labels,
        *,
        templates: str | Sequence[str] = "default",
        multi_label: bool = False,
        activation: Activation = "auto",
        coarse: Coarse = "below",
        example_weight: float = 0.5,
        calibration: Calibration | Mapping[Kind, Calibration] | None = None,
        cache: PrototypeCache | Prototypes | str | Path | None = None,
    ) -> None:
        if activation not in ("auto", "softmax", "sigmoid"):
            raise ConfigError(f"activation must be 'auto', 'softmax' or 'sigmoid', got {activation!r}.")
        if multi_label and activation == "softmax":
            raise ConfigError("A softmax shares one label out among all. Use multi_label with 'sigmoid' or 'auto'.")
        if coarse not in ("below", "words"):
            raise ConfigError(f"coarse must be 'below' or 'words', got {coarse!r}.")
        if isinstance(example_weight, bool) or not 0 <= example_weight <= 1:
            raise ConfigError(f"example_weight must be from 0 to 1, got {example_weight!r}.")
        self._encoder = encoder
        self._tree = LabelTree(as_labels(labels))
        self._templates = templates_named(templates)
        self._multi_label = multi_label
        self._coarse: Coarse = coarse
        self._activation = "sigmoid" if multi_label else activation
        self._calibration = calibrations_by_kind(calibration)
        if len(self._tree.leaves) == 1 and not (self._sigmoid("image") and self._sigmoid("text")):
            raise ConfigError(
                f"With {self._tree.nodes[0].name!r} alone there is nothing to choose from: its share is always 1. "
                "Give another label, or multi_label=True."
            )
        known = cache if isinstance(cache, Prototypes) else self._made(cache)
        self._prototypes = known.mixed(example_weight)
        self._background = known.background

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels that have none below, in the order of `probabilities`."""
        return tuple(path[-1] for path in self.paths)

    @property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        """Of the same labels the names from the coarsest down."""
        return tuple(self._tree.paths[leaf] for leaf in self._tree.leaves)

    @property
    def prototypes(self) -> Vectors:
        """The vectors of the same labels, unit float32 (labels, dim)."""
        return self._prototypes[self._tree.leaves]

    @property
    def is_tree(self) -> bool:
        """Whether labels have labels below."""
        return not self._tree.is_flat

    @property
    def multi_label(self) -> bool:
        """Whether any number of labels may hold for one input."""
        return self._multi_label

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the encoder."""
        return self._encoder.fingerprint

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that decides, prototypes and options: what has the same gives the same answers."""
        limits = {kind: calibration.to_dict() for kind, calibration in sorted(self._calibration.items())}
        options = [self._multi_label, self._coarse, self._activation, self._scale, self._bias, limits]
        said = hashlib.sha256(json.dumps([self.fingerprint.digest, self._tree.paths, options]).encode())
        said.update(self._prototypes.tobytes() + self._background.tobytes())
        return said.hexdigest()

    @property
    def calibration(self) -> Mapping[Kind, Calibration]:
        """What is used for images and for texts."""
        return dict(self._calibration)

    def classify_images(
        self, images: Iterable[ImageSource], *, top_k: int | None = 5, unreadable: Unreadable = "raise"
    ) -> Iterator[Classification]:
        """Label images, pictures of pages too, as they come: one batch is in memory at a time.

        Args:
            images: whatever `open_image` opens, read lazily.
            top_k: how many labels an answer has at most; None for all.
            unreadable: "raise", or "skip" an image that cannot be opened, with a warning in the log; `index` says
                which input an answer is for.

        Raises:
            ConfigError: one image instead of many, or an option that cannot be used.
            ImageError: an image that cannot be opened; the message says the how many-th it is.
        """
        return self._judge("image", top_k).judge_all(image_vectors(self._encoder, images, unreadable))

    def classify_texts(
        self, texts: Iterable[str], *, top_k: int | None = 5, unreadable: Unreadable = "raise"
    ) -> Iterator[Classification]:
        """Label texts as they come; arguments as for `classify_images`. A blank text is one that cannot be read.

        Raises:
            ConfigError: one str instead of many, or something that is no text, or blank.
        """
        return self._judge("text", top_k).judge_all(text_vectors(self._encoder, texts, unreadable))

    def classify_vectors(
        self, vectors: ArrayLike, kind: Kind = "image", *, top_k: int | None = 5
    ) -> Iterator[Classification]:
        """Label what is embedded already: unit vectors (n, dim) of images or of texts, by the same encoder.

        Raises:
            ConfigError: another shape, NaN, or vectors that are not of unit length.
        """
        found = checked_vectors(vectors, self._encoder.dim)
        return self._judge(kind, top_k).judge_all(slices(found))

    def probabilities(self, vectors: ArrayLike, kind: Kind = "image") -> NDArray[np.float64]:
        """Of each vector (n, dim) the probabilities of all `labels`, float64 (n, labels).

        Raises:
            ConfigError: as `classify_vectors`.
        """
        judge = self._judge(kind, None)
        found = judge.log_probabilities(checked_vectors(vectors, self._encoder.dim))[1]
        return np.exp(found[:, self._tree.leaves])

    def calibrate_images(
        self, images: Iterable[ImageSource], answers: Sequence[Answer], *, precision: float | None = None
    ) -> ZeroShotClassifier:
        """This classifier with a temperature and a limit for "none of these", found on labelled images.

        Args:
            images: at least 10, of at least two labels; a hundred are better.
            answers: of each image the label (a name, or the path in a tree), or None for none of them; with
                `multi_label` a list of labels.
            precision: the share of the given answers that is to be right; None for the limit that tells right answers
                from wrong ones best.

        Raises:
            ConfigError: too few, of one label only, unknown labels, or a precision that no limit reaches.
        """
        vectors = joined(image_vectors(self._encoder, images, "raise"), self._encoder.dim)
        return self.calibrate_vectors(vectors, answers, "image", precision=precision)

    def calibrate_texts(
        self, texts: Iterable[str], answers: Sequence[Answer], *, precision: float | None = None
    ) -> ZeroShotClassifier:
        """As `calibrate_images`, for texts."""
        vectors = joined(text_vectors(self._encoder, texts, "raise"), self._encoder.dim)
        return self.calibrate_vectors(vectors, answers, "text", precision=precision)

    def calibrate_vectors(
        self, vectors: ArrayLike, answers: Sequence[Answer], kind: Kind = "image", *, precision: float | None = None
    ) -> ZeroShotClassifier:
        """As `calibrate_images`, for what is embedded already."""
        found = calibrate(self._judge(kind, None), checked_vectors(vectors, self._encoder.dim), answers, precision)
        other = copy.copy(self)
        other._calibration = {**self._calibration, kind: found}
        return other

    def _judge(self, kind: Kind, top_k: int | None) -> Judge:
        checked_kind(kind)
        if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
            raise ConfigError(f"top_k must be a whole number of at least 1, or None for all, got {top_k!r}.")
        return Judge(
            tree=self._tree,
            prototypes=np.concatenate([self._prototypes, self._background]),
            scale=self._scale,
            bias=self._bias if kind == "image" else 0.0,
            sigmoid=self._sigmoid(kind),
            coarse=self._coarse,
            multi_label=self._multi_label,
            calibration=self._calibration[kind],
            top_k=top_k,
        )

    def _made(self, cache: PrototypeCache | str | Path | None) -> Prototypes:
        kept = cache if isinstance(cache, PrototypeCache) else _MEMORY if cache is None else PrototypeCache(cache)
        encoder, nodes, templates = self._encoder, self._tree.nodes, self._templates
        return kept.get(
            digest(encoder, nodes, templates), len(nodes), lambda: embed_prototypes(encoder, nodes, templates)
        )

    @property
    def _scale(self) -> float:
        scale = getattr(self._encoder, "logit_scale", None)
        return DEFAULT_SCALE if scale is None else float(scale)

    @property
    def _bias(self) -> float:
        return float(getattr(self._encoder, "logit_bias", 0.0))

    def _sigmoid(self, kind: Kind) -> bool:
        if self._activation == "auto":
            return kind == "image" and self._bias != 0.0
        return self._activation == "sigmoid"
