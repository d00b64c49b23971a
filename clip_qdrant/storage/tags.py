"""Tags: what a classifier said of a point, in its payload beside what its record says. Only here are their keys known.

A point that was tagged in the field `kind` has

    kind             the label, not there where none holds; where a point may have several, a list of them
    kind_confidence  its probability, or theirs in the same order
    kind_path        of labels in a tree the names from the coarsest down
    _tags            {"kind": digest}: which fields are tags, and by which classifier

so that whoever writes the payload anew can tell tags, which it keeps, from metadata, which it replaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.points import RESERVED_KEYS, TAGS
from clip_qdrant.storage.schema import create_indexes

if TYPE_CHECKING:
    from uuid import UUID

    from qdrant_client import QdrantClient, models

    from clip_qdrant.storage.schema import IndexKind

    Change: TypeAlias = tuple[int | str | UUID, Mapping[str, Any], Mapping[str, Any]]
    """A point's id, the payload it has, and what is to be written."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def tag_keys(field: str) -> tuple[str, str, str]:
    """The payload keys of a field of tags: its label, confidence and path.

    Raises:
        ConfigError: it is no plain name, or a name of ours.
    """
    if not isinstance(field, str) or not _NAME.fullmatch(field):
        raise ConfigError(f"A field for tags is a plain name, such as kind or main_colour, got {field!r}.")
    keys = _keys(field)
    ours = sorted(RESERVED_KEYS.intersection(keys))
    if ours:
        raise ConfigError(f"{ours[0]!r} is a payload key of clip-qdrant's own. Write the tags to another field.")
    return keys


def tags_of(payload: Mapping[str, Any]) -> dict[str, str]:
    """The digest of each field of a payload that is a tag."""
    found = payload.get(TAGS)
    return dict(found) if isinstance(found, Mapping) else {}


def tag_values(payload: Mapping[str, Any]) -> dict[str, Any]:
    """All of a payload that is tags, with the mark that says so; nothing where it has none."""
    fields = tags_of(payload)
    values = {key: payload[key] for field in fields for key in _keys(field) if key in payload}
    return {**values, TAGS: fields} if fields else {}


def with_tags(payload: dict[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """A new payload with the tags of the one stored; a field that the new one has itself is no tag any longer."""
    kept = {field: by for field, by in tags_of(stored).items() if payload.keys().isdisjoint(_keys(field))}
    return {**payload, **tag_values({**stored, TAGS: kept})}


def prepare(client: QdrantClient, name: str, field: str, *, tree: bool) -> None:
    """Make the payload indexes that tags are filtered, faceted and found again by.

    Raises:
        ConfigError: the field cannot be one of tags, or has an index of another kind already.
    """
    label, confidence, path = tag_keys(field)
    present = client.get_collection(name).payload_schema
    if label in present and present[label].data_type.value != "keyword":
        raise ConfigError(
            f"The field {label!r} of {name!r} has an index for {present[label].data_type.value}, so it is no field of "
            "tags. Write them to another one."
        )
    wanted: dict[str, IndexKind] = {
        label: "keyword",
        confidence: "float",
        f"{TAGS}.{field}": "keyword",
        **({path: "keyword"} if tree else {}),
    }
    create_indexes(client, name, wanted)


def not_tagged_by(field: str, digest: str, where: models.Filter | None) -> models.Filter:
    """Of some points those whose tags of a field are not by this classifier."""
    from qdrant_client import models

    done = models.FieldCondition(key=f"{TAGS}.{field}", match=models.MatchValue(value=digest))
    return models.Filter(must=[where] if where else None, must_not=[done])


def write_tags(client: QdrantClient, name: str, field: str, digest: str, changes: Sequence[Change]) -> None:
    """Write the tags of many points in one request, and return when they are written; None takes a key away."""
    from qdrant_client import models

    operations = [
        models.SetPayloadOperation(
            set_payload=models.SetPayload(payload={**values, TAGS: {**tags_of(stored), field: digest}}, points=[id])
        )
        for id, stored, values in changes
    ]
    if operations:
        client.batch_update_points(name, update_operations=operations, wait=True)


def remove_tags(client: QdrantClient, name: str, field: str, ids: Sequence[Any]) -> None:
    """Remove a field of tags from points."""
    if ids:
        client.delete_payload(name, keys=[*tag_keys(field), f"{TAGS}.{field}"], points=list(ids), wait=True)


def _keys(field: str) -> tuple[str, str, str]:
    return field, f"{field}_confidence", f"{field}_path"
