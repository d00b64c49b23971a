"""The paths that a manifest names, held to their folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_qdrant.images.sources import kind_of


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """Where the paths of a manifest start from.

    Attributes:
        root: absolute.
        allow_outside: take paths that lead out of it, too.
    """

    root: Path
    allow_outside: bool = False

    def path_of(self, value: Any) -> Path:
        """The absolute path of what a manifest says, without its detours, so that one file has one path.

        The text decides, not the file system: a link within the folder is the folder's own affair.

        Raises:
            ValueError: it is no path, or leads out of the folder; the message reads on after the name of the row.
        """
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"its image is {value!r}, not a path")
        if kind_of(value) != "path" or value[:7].lower() == "file://":
            raise ValueError(f"its image {value[:100]!r} is a URL. Download it, and give its path")
        try:
            possible = b"\0" not in os.fsencode(value)
        except UnicodeEncodeError:
            possible = False
        if not possible:
            raise ValueError(f"its image {value!r} is not a possible file name")
        root = os.path.normpath(self.root)
        path = os.path.normpath(os.path.join(root, value))
        within = os.path.join(root, "")
        if path.startswith(within):
            return self.root / path[len(within) :]
        if self.allow_outside:
            return Path(path)
        raise ValueError(
            f"its image {value!r} leads out of {str(self.root)!r}. Name the right folder as images, or pass "
            "allow_outside=True"
        )
