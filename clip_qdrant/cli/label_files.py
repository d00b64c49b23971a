"""Labels as the commands take them: words with commas between, a file with one a line, or JSON, also of a tree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from clip_qdrant.cli.words import file_named
from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from clip_qdrant.models.zero_shot_labels import Labels


def read_labels(words: str | None, file: Path | None) -> Labels:
    """Labels from --labels or --labels-file, one of the two.

    Raises:
        ConfigError: both or neither, or a file that cannot be read.
    """
    if (words is None) == (file is None):
        raise ConfigError("Give one of --labels and --labels-file.")
    if file is None:
        return labels_of(words or "")
    path = file.expanduser()
    if not path.is_file():
        raise ConfigError(f"There is no file {str(file)!r} with labels.")
    return _json_labels(path) if _is_json(path) else labels_of(str(path))


def names_of(given: str) -> list[str]:
    """Labels of a command that takes words or a file, without a tree: of one those that have none below.

    Raises:
        ConfigError: there are none, or the file cannot be read.
    """
    from clip_qdrant.models.zero_shot_labels import as_labels
    from clip_qdrant.models.zero_shot_tree import LabelTree

    path = file_named(given)
    if path is None or not _is_json(path):
        return labels_of(given)
    tree = LabelTree(as_labels(_json_labels(path)))
    return [tree.nodes[leaf].name for leaf in tree.leaves]


def labels_of(given: str) -> list[str]:
    """Labels from a file, one a line, or from the words themselves, with commas between.

    Raises:
        ConfigError: there are none, or the file cannot be read.
    """
    path = file_named(given)
    if path is not None:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The labels {given!r} cannot be read: {error}. Save them as UTF-8, one a line."
            ) from error
    else:
        lines = given.split(",")
    labels = list(dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("#")))
    if not labels:
        raise ConfigError(f"There are no labels in {given!r}. Give cat,dog,bird, or a file with one a line.")
    return labels


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _json_labels(path: Path) -> Labels:
    try:
        found: Labels = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The labels {str(path)!r} cannot be read: {error}. Give a list or a tree in JSON."
        ) from error
    return found
