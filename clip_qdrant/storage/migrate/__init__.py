"""Copying collections from one Qdrant to another: folder, server or memory, in every direction.

run.py          `migrate`: page by page, resumable, verified at the end
definition.py   what a collection is besides its points: made in the target, or compared with what is there
contents.py     whether two points are the same, with the roundings that Qdrant does
report.py       what is told on the way and at the end
local_mode.py   the folders of qdrant-client's `path=`, as a source

No state is kept anywhere: what is in the target already is found by reading it.
"""

from __future__ import annotations

from clip_qdrant.storage.edge.manifest import is_local_mode_folder
from clip_qdrant.storage.migrate.local_mode import open_local_mode
from clip_qdrant.storage.migrate.report import CollectionReport, MigrationProgress, MigrationReport
from clip_qdrant.storage.migrate.run import migrate

__all__ = [
    "CollectionReport",
    "MigrationProgress",
    "MigrationReport",
    "is_local_mode_folder",
    "migrate",
    "open_local_mode",
]
