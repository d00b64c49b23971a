"""A writer killed at thirty random moments, on one folder: what it acknowledged is there, and no half of anything."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import clip_qdrant
from clip_qdrant.errors import StorageLockedError
from clip_qdrant.storage.connect import connect
from tests import durability_writer
from tests.durability_writer import State

pytestmark = pytest.mark.skipif(os.name == "nt", reason="uses POSIX signals")

ROOT = Path(clip_qdrant.__file__).parent.parent
SEED = int(os.environ.get("DURABILITY_SEED", "0"))
"""Another seed is another thirty moments."""
KINDS = ["upsert", "optimize", "upsert", "index", "delete", "stamp", "create", "move", "flush", "drop"]
KINDS += ["opening", "upsert", "optimize", "unindex", "stamp", "upsert", "create", "delete", "upsert", "drop"]
KINDS += ["optimize", "upsert", "opening", "move", "index", "upsert", "flush", "delete", "upsert", "optimize"]
"""What each kill is to hit."""

SECONDS = {"optimize": 0.1, "create": 0.05, "drop": 0.02, "opening": 0.1}
"""Up to how long after a step was announced the kill comes; about as long as the step takes, 5 ms for the others."""


class Model:
    """What the folder should hold: the points of each collection, and the collections with an index."""

    def __init__(self, points=None, indexed=(), last=0):
        self.points = {name: dict(states) for name, states in (points or {}).items()}
        self.indexed = set(indexed)
        self.last = last

    def after(self, steps):
        changed = Model(self.points, self.indexed, self.last)
        for step in steps:
            changed.apply(*step)
        return changed

    def apply(self, kind, name, ids=(), number=0):
        self.last = max(self.last, number)
        points = self.points.setdefault(name, {})
        for point_id in ids:
            if kind == "upsert":
                points[point_id] = State(number, number)
            elif kind == "move":
                points[point_id] = points[point_id]._replace(moved=number)
            elif kind == "stamp":
                points[point_id] = points[point_id]._replace(stamped=number)
            elif kind == "delete":
                del points[point_id]
        if kind == "drop":
            del self.points[name]
        if kind == "index":
            self.indexed.add(name)
        if kind in ("unindex", "drop"):
            self.indexed.discard(name)


def make_plan(model, target, rng):
    """A mixed load with a step of the kind to hit in its midst: the steps, and which one that is."""
    model, plan = model.after([]), []
    wanted = ["create " + name for name in ("main", "other") if name not in model.points]
    wanted += {"index": ["unindex"], "unindex": ["index"], "create": ["drop"]}.get(target, [])
    wanted += rng.choices(["upsert", "upsert", "move", "stamp", "delete"], k=rng.randrange(3, 12))
    at = len(wanted)
    wanted += [target, *rng.choices(["upsert", "stamp", "delete"], k=10)]
    for kind in wanted:
        plan.append(make_step(model, *kind.split(), rng=rng))
        model.apply(*plan[-1])
    return plan, at


def make_step(model, kind, name=None, *, rng):
    if name or kind in ("create", "drop"):
        return kind, name or "other"
    if kind in ("index", "unindex", "optimize", "flush"):
        return kind, "main"
    name = rng.choice(["main", "main", *model.points])
    there = sorted(model.points[name])
    if kind == "upsert" or not there:
        return "upsert", name, rng.sample(range(800), rng.choice([1, 3, 20, 100, 300, 600])), model.last + 1
    ids = rng.sample(there, min(len(there), rng.choice([1, 5, 50, 300])))
    return (kind, name, ids) if kind == "delete" else (kind, name, ids, model.last + 1)


@pytest.fixture
def start(tmp_path):
    """Starts writers on one folder. Each waits to be told to open it, having loaded by then what it needs."""
    writers = []

    def start_one():
        writer = subprocess.Popen(
            [sys.executable, durability_writer.__file__, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        writers.append(writer)
        return writer

    yield start_one
    for writer in writers:
        writer.kill()
        writer.communicate()


def send(writer, message):
    writer.stdin.write(json.dumps(message) + "\n")
    writer.stdin.flush()


def read(writer):
    """The writer's next message, None at its end; a line that it was killed in does not count."""
    line = writer.stdout.readline()
    return json.loads(line) if line.endswith("\n") else None


def read_until(writer, wanted):
    while (message := read(writer)) != wanted:
        assert message is not None, "the writer ended by itself"


def kill(writer, seconds):
    """Kill the writer that many seconds from now; how many steps it had begun and how many it had done by then.

    None of them where it had not said so since what was read last.
    """
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass  # sleeping is not that precise
    writer.kill()
    counts = {}
    while (message := read(writer)) is not None:
        if message[0] in ("before", "after"):
            counts[message[0]] = message[1] + 1
    return counts.get("before"), counts.get("after")


def as_it_turned_out(found, before, after):
    """The model that the folder's contents agree with; some agree with none.

    Args:
        found: `durability_writer.contents`.
        before: the model by all that was acknowledged.
        after: the same with the step that was under way, of which each point may be there or not.
    """
    assert before.points.keys() & after.points.keys() <= found.keys() <= before.points.keys() | after.points.keys()
    points = {name: _points(found[name], before.points.get(name), after.points.get(name)) for name in found}
    for name, content in found.items():
        assert (content["indexes"] == ["group"]) in (name in before.indexed, name in after.indexed)
    return Model(points, {name for name in found if found[name]["indexes"]}, after.last)


def _points(content, before, after):
    ids = [point_id for point_id, _, _ in content["points"]]
    assert len(ids) == len(set(ids)) == content["count"], "a point is there twice, or the count is wrong"
    for group, members in content["groups"].items():
        assert members == [point_id for point_id, payload, _ in content["points"] if payload["group"] == group]
    assert [nearest for _, _, nearest in content["nearest"]] == [itself for _, itself, _ in content["nearest"]]
    by_id = {point_id: (payload, vectors) for point_id, payload, vectors in content["points"]}
    possible = [states for states in (before, after) if states is not None]
    everything = by_id.keys() | {point_id for states in possible for point_id in states}
    seen = {i: _state(i, by_id.get(i), [states.get(i) for states in possible]) for i in everything}
    return {point_id: state for point_id, state in seen.items() if state is not None}


def _state(point_id, found, possible):
    """The one of the possible states that a point is in, with all of its parts."""
    for state in possible:
        if state is None or found is None:
            if state is found:
                return None
        elif found[0] == state.payload(point_id) and _same(found[1], state.vectors(point_id)):
            return state
    raise AssertionError(f"Point {point_id} should be in one of the states {possible}, and is {found}")


def _same(found, wanted):
    return found.keys() == wanted.keys() and all(math.dist(found[name], wanted[name]) < 1e-5 for name in wanted)


def test_thirty_kills_lose_nothing_and_leave_no_half(tmp_path, start):
    rng = random.Random(SEED)
    before = after = Model()
    hit = []
    following = start()
    for kind in KINDS:
        writer, following = following, start()
        send(writer, "open")
        read_until(writer, "opening")
        seconds = rng.uniform(0, SECONDS.get(kind, 0.005))
        if kind == "opening":
            kill(writer, seconds)
            hit.append(kind)
            continue
        before = as_it_turned_out(read(writer), before, after)
        plan, at = make_plan(before, kind, rng)
        send(writer, plan)
        read_until(writer, ["before", at])
        begun, done = kill(writer, seconds)
        begun, done = begun or at + 1, done or at
        before, after = before.after(plan[:done]), before.after(plan[:begun])
        hit += [step[0] for step in plan[done:begun]]
    assert len(KINDS) == 30
    assert len(hit) >= 15, "most kills should come while a step is under way"
    for _ in range(2):
        with connect(tmp_path) as client:
            found = json.loads(json.dumps(durability_writer.contents(client)))
            before = after = as_it_turned_out(found, before, after)


def test_a_second_process_is_told_and_the_first_goes_on_writing(tmp_path, start):
    plan, _ = make_plan(Model(), "optimize", random.Random(SEED))
    plan += [("flush", "main"), ("flush", "other")]
    writer = start()
    send(writer, "open")
    read_until(writer, {})
    refusals = 0
    send(writer, plan)
    for number in range(len(plan)):
        read_until(writer, ["before", number])
        with pytest.raises(StorageLockedError, match=f"in use by process {writer.pid}"):
            connect(tmp_path)
        refusals += 1
    read_until(writer, ["after", len(plan) - 1])
    assert writer.wait(timeout=60) == 0
    with connect(tmp_path) as client:
        found = json.loads(json.dumps(durability_writer.contents(client)))
    wanted = Model().after(plan)
    assert as_it_turned_out(found, wanted, wanted).points == wanted.points
