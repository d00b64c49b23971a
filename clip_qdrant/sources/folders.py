"""The pictures of a folder as records."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from clip_qdrant.errors import ConfigError
from clip_qdrant.sources.pictures import picture_record
from clip_qdrant.sources.problems import OnProblem, log_problem
from clip_qdrant.sources.sidecars import Sidecar, read_sidecars
from clip_qdrant.types import Record

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .gif .webp .avif .bmp .dib .tif .tiff .ico .ppm .pgm .pbm .mpo".split()
)
"""What counts as a picture by its name; what the file really holds is found out when it is opened."""


def records_in(
    place: str | os.PathLike[str],
    *,
    recursive: bool = True,
    scope: str = "",
    exif: bool = True,
    sidecars: bool = True,
    on_problem: OnProblem = log_problem,
) -> Iterator[Record]:
    """The pictures of a folder, or the one picture of a path, sorted by path; each file is opened when it is its turn.

    A broken picture is a record too: the one who opens it says why it cannot be. Hidden files and folders are left
    out, and links to folders are not followed.

    The metadata to filter on, where it is known: `file_name`, `folder` (relative to the place), `file_type` (mime),
    `file_size` (bytes), `modified` (RFC 3339); `width`, `height`, `camera`, `lens`, `taken`, `location` (see
    `read_exif`); and `year`, in which the picture was taken by its camera's clock, or else in which the file was last
    modified. The caption and more metadata come from files beside the picture (see `read_sidecars`); they count before
    what the file says.

    Args:
        place: a folder, or an image file.
        recursive: look into folders within it.
        scope: of the records (see `Record`).
        exif: open each file for what it says of itself; without, `year` is the file's.
        sidecars: read captions beside the pictures.
        on_problem: called with each sidecar that cannot be used; logs a warning if not given.

    Raises:
        ConfigError: there is nothing at that path. Raised at the call, not at the first record.
    """
    root = Path(place).expanduser().absolute()

    def record(path: Path, root: Path, names: Collection[str] | None) -> Record:
        beside = read_sidecars(path, names=names, on_problem=on_problem) if sidecars else Sidecar()
        return picture_record(path, root, scope=scope, exif=exif, text=beside.text, written=beside.metadata)

    if root.is_file():
        return (record(path, path.parent, None) for path in [root])
    if not root.is_dir():
        raise ConfigError(f"There is no folder or file {str(place)!r}. Check the path.")
    return (record(path, root, names) for path, names in _pictures(root, recursive))


def _pictures(root: Path, recursive: bool) -> Iterator[tuple[Path, Collection[str]]]:
    """Paths of pictures, each with the names of all files in its folder."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if recursive else []
        names = frozenset(files)
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(folder, name), names
