"""Prompts: the sentences that a label is put into before the model reads it.

A model of images and texts was trained with captions, and a caption is hardly ever one word. One label in several
sentences, their vectors averaged, is steadier than any one of them (Radford et al., 2021, section 3.1.4). The sets here
are short, for every template is one more text to embed for every label; which set does best is a matter of the data, so
measure your own against them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from clip_qdrant.models.zero_shot_labels import Label

DEFAULT_TEMPLATES: Final[tuple[str, ...]] = (
    "{}",
    "a {}",
    "a photo of {}",
    "a photo of a {}",
    "a picture of {}",
    "an image of a {}",
    "a drawing of a {}",
    "something that shows {}",
)
"""For pictures of any kind: with and without an article, since labels are things, stuff and plurals."""

TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "default": DEFAULT_TEMPLATES,
        "name": ("{}",),
        "photos": (
            "a photo of {}",
            "a photo of a {}",
            "a photo of the {}",
            "a close-up photo of a {}",
            "a photo of a {} outdoors",
            "a photo of a {} indoors",
            "a bright photo of a {}",
            "a blurry photo of a {}",
        ),
        "icons": (
            "{}",
            "a {} emoji",
            "an icon of a {}",
            "the symbol of {}",
            "a drawing of a {}",
            "a simple picture of a {}",
        ),
        "documents": (
            "{}",
            "a text about {}",
            "a document about {}",
            "an article on {}",
            "this is about {}",
        ),
        "pages": (
            "{}",
            "a page about {}",
            "a scanned document about {}",
            "a printed page with a text on {}",
            "a screenshot of a document about {}",
        ),
    }
)
"""Sets by what is to be labelled; "name" is the label alone, "documents" is for texts, "pages" for pictures of them."""

_BACKGROUND: Final = "something"


def templates_named(given: str | Sequence[str]) -> tuple[str, ...]:
    """A set of `TEMPLATES` by its name, or the caller's own, checked.

    Raises:
        ConfigError: an unknown name, no templates, one twice, or one without {}.
    """
    if isinstance(given, str):
        if given not in TEMPLATES:
            known = ", ".join(map(repr, TEMPLATES))
            raise ConfigError(
                f"There are no templates {given!r}; there are {known}. A template of your own: [template]."
            )
        return TEMPLATES[given]
    own = tuple(given)
    if not own:
        raise ConfigError("There are no templates. Give at least one, such as '{}'.")
    for template in own:
        if not isinstance(template, str) or "{}" not in template:
            raise ConfigError(f"A template is a str with {{}} where the label goes, got {template!r}.")
    if len(set(own)) < len(own):
        raise ConfigError(f"A template is there twice: {max(own, key=own.count)!r}. Leave one out.")
    return own


def wordings(label: Label, templates: Sequence[str]) -> list[list[str]]:
    """What is said of a label, in groups that count the same: its name in every template, each synonym, a description.

    The description is a sentence already, so it is in no template.
    """
    names = dict.fromkeys((label.name, *label.synonyms))
    groups = [[template.replace("{}", name) for template in templates] for name in names]
    return groups if label.description is None else [*groups, [label.description]]


def background(templates: Sequence[str]) -> list[list[str]]:
    """What is said of anything at all, to tell what a picture is from what every picture is."""
    return [[template.replace("{}", _BACKGROUND) for template in templates]]
