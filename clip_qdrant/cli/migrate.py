"""`clip-qdrant migrate`: which clients, which keys, and how it is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from clip_qdrant.cli import output
from clip_qdrant.cli.session import connect_with_key, without_credentials
from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.edge.manifest import MANIFEST_NAME
from clip_qdrant.storage.migrate import MigrationProgress, is_local_mode_folder, open_local_mode

if TYPE_CHECKING:
    from clip_qdrant.storage.edge.client import ManagedQdrantClient
    from clip_qdrant.storage.migrate import CollectionReport, MigrationReport

Side = Literal["source", "target"]

_DOING = {"copy": "Copying", "verify": "Verifying"}


def check_locations(source: str, target: str) -> None:
    """Refuse two locations that cannot be migrated between, before either is opened.

    Raises:
        ConfigError: one is memory, the source is not there or holds nothing of Qdrant, or both are the same.
    """
    for location in (source, target):
        if location == ":memory:":
            raise ConfigError("':memory:' ends with the command, so that there is nothing to migrate. Give a folder.")
    if _is_url(source) or _is_url(target):
        if without_credentials(source).rstrip("/").lower() == without_credentials(target).rstrip("/").lower():
            raise ConfigError(f"Source and target are the same, {without_credentials(source)!r}. Give another target.")
    elif _folder(source) == _folder(target):
        raise ConfigError(
            f"Source and target are the same folder, {source!r}. A folder is not migrated in place: give a new one as "
            "the target, and remove the old one when you have seen that all is there."
        )
    if not _is_url(source):
        folder = _folder(source)
        if not folder.is_dir():
            raise ConfigError(f"There is no folder {source!r} to migrate from. Check the path.")
        if not ((folder / MANIFEST_NAME).is_file() or is_local_mode_folder(folder)):
            raise ConfigError(f"The folder {source!r} was not written by clip-qdrant or qdrant-client. Check the path.")


def open_side(location: str, side: Side, other: str) -> ManagedQdrantClient:
    """Connect to one side of a migration, and say to what.

    A server's key is QDRANT_SOURCE_API_KEY's or QDRANT_TARGET_API_KEY's; with one server QDRANT_API_KEY's will do. With
    two it will not: the key of one server is not sent to another.

    Args:
        location: a folder or a URL; as a source also a folder of qdrant-client's `path=`.
        side: which one it is.
        other: the location of the other side.
    """
    output.note(f"{side.capitalize()}: {without_credentials(location)}")
    if not _is_url(location):
        if side == "source" and is_local_mode_folder(_folder(location)):
            output.note(
                "It is in the format of qdrant-client's path=, which is read with pickle and can run any program: "
                "migrate only folders that you trust."
            )
            return open_local_mode(_folder(location))
        return connect_with_key(location, None)
    variable = f"QDRANT_{side.upper()}_API_KEY"
    api_key, common = os.environ.get(variable) or None, os.environ.get("QDRANT_API_KEY") or None
    if api_key is None and common and _is_url(other):
        output.note(f"QDRANT_API_KEY is not sent to two servers; set {variable} for the {side}, if it has a key.")
    elif api_key is None:
        api_key = common
    return connect_with_key(location, api_key)


@contextmanager
def progress() -> Iterator[Callable[[MigrationProgress], None]]:
    """Bars on stderr, where that is a terminal; yields what `migrate` calls after each page."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[tuple[str, str], TaskID] = {}

        def show(now: MigrationProgress) -> None:
            key = (now.collection, now.step)
            if key not in tasks:
                tasks[key] = bar.add_task(f"{_DOING[now.step]} {escape(now.collection)}", total=now.total)
            bar.update(tasks[key], completed=now.done)

        yield show


def report(report: MigrationReport, *, as_json: bool) -> None:
    """What became of each collection, and what to do about those that are not verified."""
    if as_json:
        output.collections([{**asdict(one), "verified": one.verified} for one in report.collections], as_json=True)
    else:
        output.collections([_row(one) for one in report.collections], as_json=False)
    for one in report.collections:
        for what in one.left_out:
            output.note(f"Not as in the source, collection {one.collection!r}: {what}")
        if not one.verified:
            output.note(_advice(one))


def _row(one: CollectionReport) -> dict[str, Any]:
    return {
        "collection": one.collection,
        "points": one.points,
        "copied": one.copied,
        "present": one.already_there,
        "missing": one.missing,
        "differ": one.differing,
        "extra": one.extra,
        "verified": "yes" if one.verified else "no",
    }


def _advice(one: CollectionReport) -> str:
    such = f" (such as {', '.join(map(str, one.examples))})" if one.examples else ""
    if one.differing:
        cure = "They were left as they are; --overwrite replaces them by the source's."
    else:
        cure = "Something was writing at the same time; run the same command again."
    return (
        f"Collection {one.collection!r} is not verified: of {one.points:,} points (counted {one.source_count:,}) "
        f"{one.missing:,} are missing in the target and {one.differing:,} are otherwise there{such}. {cure}"
    )


def _is_url(location: str) -> bool:
    return "://" in location


def _folder(location: str) -> Path:
    return Path(location).expanduser().resolve()
