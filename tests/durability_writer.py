"""A process to be killed: opens a folder, says what is in it, and runs a plan, telling of each step before and after.

Run: python durability_writer.py FOLDER. It speaks JSON, a line a message. It waits for a first line before it opens
the folder, and for a second one with the plan, a list of steps: a name of `STEPS`, a collection and what else the step
takes.

All of a point is a function of its id and of the numbers in its `State`, so that a half, or a mixture, of points shows.
"""

from __future__ import annotations

import json
import math
import random
import sys
from typing import NamedTuple

from qdrant_client import models

from clip_qdrant.storage.connect import connect

SIZES = {"image": 16, "text": 8}
GROUPS = 5


class State(NamedTuple):
    """What happened to a point: which write made it, which one its picture's vector, and which one stamped it."""

    written: int
    moved: int
    stamped: int | None = None

    def vectors(self, point_id):
        return {"image": vector("image", point_id, self.moved), "text": vector("text", point_id, self.written)}

    def payload(self, point_id):
        payload = {
            "of": point_id,
            "written": self.written,
            "group": f"g{(point_id + self.written) % GROUPS}",
            "note": f"{point_id}:{self.written}," * (point_id % 40),
        }
        return payload if self.stamped is None else {**payload, **stamp(self.stamped)}


def vector(name, point_id, number):
    rng = random.Random(f"{name} {point_id} {number}")
    values = [rng.uniform(-1, 1) for _ in range(SIZES[name])]
    length = math.hypot(*values)
    return [value / length for value in values]


def stamp(number):
    return {"stamp": number, "twice": 2 * number}


def create(client, name):
    vectors = {key: models.VectorParams(size=size, distance="Cosine") for key, size in SIZES.items()}
    small = models.OptimizersConfigDiff(indexing_threshold=1)  # in KB, so that there is something to optimize
    client.create_collection(name, vectors_config=vectors, optimizers_config=small)


def upsert(client, name, ids, number):
    states = [(point_id, State(number, number)) for point_id in ids]
    client.upsert(name, [models.PointStruct(id=i, vector=s.vectors(i), payload=s.payload(i)) for i, s in states])


def move(client, name, ids, number):
    client.update_vectors(
        name,
        [models.PointVectors(id=point_id, vector={"image": vector("image", point_id, number)}) for point_id in ids],
    )


STEPS = {
    "create": create,
    "upsert": upsert,
    "move": move,
    "stamp": lambda client, name, ids, number: client.set_payload(name, stamp(number), ids),
    "delete": lambda client, name, ids: client.delete(name, ids),
    "index": lambda client, name: client.create_payload_index(name, "group", "keyword"),
    "unindex": lambda client, name: client.delete_payload_index(name, "group"),
    "optimize": lambda client, name: client.optimize(name),
    "flush": lambda client, name: client.flush(name),
    "drop": lambda client, name: client.delete_collection(name),
}


def contents(client):
    """All of the folder, by collection, seen by every way of reading."""
    return {each.name: _contents(client, each.name) for each in client.get_collections().collections}


def _contents(client, name):
    records, page = [], None
    while page is not None or not records:
        found, page = client.scroll(name, limit=250, offset=page, with_vectors=True)
        records += found
        if not found:
            break
    return {
        "count": client.count(name).count,
        "indexes": sorted(client.get_collection(name).payload_schema),
        "points": [(record.id, record.payload, record.vector) for record in records],
        "groups": {f"g{number}": _in_group(client, name, f"g{number}") for number in range(GROUPS)},
        "nearest": [
            (using, record.id, _nearest(client, name, using, record)) for record in records[::29] for using in SIZES
        ],
    }


def _in_group(client, name, group):
    chosen = models.Filter(must=[models.FieldCondition(key="group", match=models.MatchValue(value=group))])
    return [record.id for record in client.scroll(name, chosen, limit=100_000, with_payload=False)[0]]


def _nearest(client, name, using, record):
    exact = models.SearchParams(exact=True)
    found = client.query_points(name, record.vector[using], using=using, limit=1, search_params=exact)
    return found.points[0].id


def tell(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main():
    json.loads(sys.stdin.readline())  # until then another writer may have the folder
    tell("opening")
    with connect(sys.argv[1]) as client:
        tell(contents(client))
        for number, (kind, *args) in enumerate(json.loads(sys.stdin.readline())):
            tell(["before", number])
            STEPS[kind](client, *args)
            tell(["after", number])


if __name__ == "__main__":
    main()
