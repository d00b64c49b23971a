"""The engine is in beta: an upgrade that changes what is used of it fails here first, and says what changed.

python tests/test_edge_signatures.py    writes engine_signatures.txt anew, to be read in the diff of an upgrade
"""

import inspect
import re
from importlib.metadata import version
from pathlib import Path

import qdrant_edge

ROOT = Path(__file__).parents[1]
KNOWN = Path(__file__).with_name("engine_signatures.txt")


def used():
    """The engine's names that the package uses."""
    texts = [path.read_text() for path in (ROOT / "clip_qdrant" / "storage").rglob("*.py")]
    return sorted(set(re.findall(r"\bedge\.([A-Z]\w+)", "\n".join(texts))))


def signatures(names):
    """A line for each name and each of its members: how it is called, or that it is a value."""
    yield f"qdrant-edge-py {version('qdrant-edge-py')}"
    for name in names:
        found = getattr(qdrant_edge, name)
        yield f"{name}{inspect.signature(found)}"
        for member in sorted(member for member in vars(found) if not member.startswith("_")):
            value = getattr(found, member)
            yield f"    {member}{inspect.signature(value) if callable(value) else ''}"


def test_what_is_used_of_the_engine_is_as_it_was():
    assert list(signatures(used())) == KNOWN.read_text().splitlines()


if __name__ == "__main__":
    KNOWN.write_text("\n".join(signatures(used())) + "\n")
