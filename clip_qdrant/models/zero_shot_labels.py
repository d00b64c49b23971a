"""Labels: what a classifier chooses from, flat or as a tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from clip_qdrant.types import ImageSource


@dataclass(frozen=True, slots=True)
class Label:
    """One label.

    Attributes:
        name: the word or words for it; what the answers have.
        synonyms: other words for the same; each counts as much as the name.
        description: a sentence that says what it looks like or is about; counts as much as the name, in no template.
        examples: pictures of it, whatever `open_image` opens; see `ZeroShotClassifier` for what they do.
        children: finer labels under this one; names will do.
        metadata: payload of a label that lives in a collection, to filter labels by; no classifier looks at it.

    Raises:
        ConfigError: a name, synonym or description that is no text or blank, or one of something where many belong.
    """

    name: str
    synonyms: Sequence[str] = ()
    description: str | None = None
    examples: Sequence[ImageSource] = field(default=(), compare=False, repr=False)
    children: Sequence[Label] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for what, value in (("name", self.name), ("description", self.description)):
            if value is not None or what == "name":
                object.__setattr__(self, what, _text(what, value))
        for what in ("synonyms", "examples", "children"):
            value = getattr(self, what)
            if not isinstance(value, (list, tuple)):
                raise ConfigError(f"The {what} of {self.name!r} must be a list, got {type(value).__name__}.")
            object.__setattr__(self, what, tuple(value))
        children = (child if isinstance(child, Label) else Label(child) for child in self.children)
        object.__setattr__(self, "children", tuple(children))
        object.__setattr__(self, "synonyms", tuple(_text("synonym", synonym) for synonym in self.synonyms))


Labels: TypeAlias = "Sequence[str | Label] | Mapping[str, Labels]"
"""Names or `Label`s; a tree may also be written {"animals": ["cat", "dog"], "vehicles": {...}}."""


def as_labels(given: Labels) -> tuple[Label, ...]:
    """Labels however they are written, checked: each name is there once among its siblings.

    Raises:
        ConfigError: no labels, two of one name, a synonym of one that is the name of its sibling, or something else.
    """
    labels = _labels(given)
    if not labels:
        raise ConfigError("There are no labels. Give at least two names.")
    _check_siblings(labels)
    return labels


def _labels(given: Any) -> tuple[Label, ...]:
    if isinstance(given, Mapping):
        return tuple(Label(name, children=_labels(below)) for name, below in given.items())
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise ConfigError(f"labels must be a list or a mapping, got {given!r:.80}. Write [label, label].")
    return tuple(label if isinstance(label, Label) else Label(label) for label in given)


def _check_siblings(labels: Sequence[Label]) -> None:
    names: set[str] = set()
    for label in labels:
        if label.name in names:
            raise ConfigError(f"There are two labels {label.name!r}. Leave one out, or say how they differ.")
        names.add(label.name)
    for label in labels:
        shared = names.intersection(label.synonyms) - {label.name}
        if shared:
            raise ConfigError(f"{min(shared)!r} is a label, and a synonym of {label.name!r} too. Leave one out.")
        _check_siblings(label.children)


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"A label's {what} must be a text that is not blank, got {value!r:.80}.")
    return value.strip()
