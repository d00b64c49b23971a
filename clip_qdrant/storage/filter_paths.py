"""The names of fields, as people write them and as Qdrant reads them."""

from __future__ import annotations

import re

from clip_qdrant.errors import FilterError

RESERVED = ("not", "any", "all", "$id", "$has_vector")
"""Keys of a filter that are not fields. A field of such a name stands in double quotes: {'"any"': 3}."""

_STEP = re.compile(r'(?P<name>"[^"\0]*"|[^".\[\]\0]+)(?P<indexes>(?:\[\d*\])*)(?P<dot>\.(?!$))?')


def payload_path(name: str) -> str:
    """The path that Qdrant reads, with quotes where they are needed: `exif.lens model` -> `exif."lens model"`.

    Raises:
        FilterError: not a path; the message says what one looks like.
    """
    if name.startswith("$"):
        raise FilterError(
            f"{name!r} is neither of the keys $id and $has_vector. A field of that name is written '\"{name}\"'."
        )
    path, position, dot = [], 0, True
    while position < len(name):
        step = _STEP.match(name, position) if dot else None
        if step is None:
            break
        plain = step["name"].strip('"')
        path.append((plain if re.fullmatch(r"[\w-]+", plain) else f'"{plain}"') + step["indexes"])
        position, dot = step.end(), step["dot"] is not None
    else:
        if path:
            return ".".join(path)
    raise FilterError(
        f"{name!r} does not name a field. Write year, exif.camera, objects[].label or objects[0].label; a name that "
        'itself has a dot or a bracket stands in double quotes: "a.b".'
    )
