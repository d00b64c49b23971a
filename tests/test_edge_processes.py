"""Several processes: one holds the folder, a killed one loses nothing that was acknowledged."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from qdrant_client import models

import clip_qdrant
from clip_qdrant.errors import StorageError, StorageLockedError
from clip_qdrant.storage.connect import connect
from clip_qdrant.storage.edge import lock as edge_lock

pytestmark = pytest.mark.skipif(os.name == "nt", reason="uses POSIX signals")

UNIT = models.VectorParams(size=2, distance=models.Distance.COSINE)
ROOT = Path(clip_qdrant.__file__).parent.parent
OPEN = """
import sys
from qdrant_client import models
from clip_qdrant.storage.connect import connect
client = connect(sys.argv[1])
"""
WRITE_FOREVER = (
    OPEN
    + """
client.create_collection("c", vectors_config=models.VectorParams(size=2, distance="Cosine"))
for number in range(10**9):
    points = [models.PointStruct(id=number * 3 + i, vector=[1.0, i + 1.0], payload={"n": number}) for i in range(3)]
    client.upsert("c", points)
    print(number, flush=True)
"""
)
HOLD = OPEN + "print('open', flush=True)\nsys.stdin.read()\n"
TRY = """
import sys
from clip_qdrant.storage.connect import connect
from clip_qdrant.errors import StorageLockedError
try:
    connect(sys.argv[1])
except StorageLockedError as error:
    print(error)
"""
LEAVE_OPEN = (
    OPEN
    + """
from clip_qdrant.storage.edge.shard import Shard
client.create_collection("c", vectors_config=models.VectorParams(size=2, distance="Cosine"))
client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0])])
flush = Shard.flush
Shard.flush = lambda shard: print("flush", shard.name) or flush(shard)
"""
)
DIE_BEFORE_CHILD = (
    OPEN
    + """
import os
if os.fork():
    os._exit(0)
sys.stdin.read()
"""
)


def start(code, folder):
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_second_process_is_told_and_the_first_goes_on(tmp_path):
    with connect(tmp_path) as client:
        client.create_collection("c", vectors_config=UNIT)
        output, errors = start(TRY, tmp_path).communicate(timeout=60)
        assert f"in use by process {os.getpid()}" in output, errors
        assert "client.close()" in output
        client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0])])
        client.flush()
    with connect(tmp_path) as client:
        assert client.count("c").count == 1


def test_the_lock_names_its_holder_and_dies_with_it(tmp_path):
    with start(HOLD, tmp_path) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StorageLockedError, match=f"process {holder.pid}"):
            connect(tmp_path)
        holder.kill()
    with connect(tmp_path) as client:
        assert client.get_collections().collections == []


def test_a_lock_whose_file_was_removed_lets_nobody_in(tmp_path, monkeypatch):
    lock = edge_lock._try_lock

    def removed_before_it_is_locked(fd):
        (tmp_path / ".lock").unlink()
        lock(fd)

    monkeypatch.setattr(edge_lock, "_try_lock", removed_before_it_is_locked)
    with pytest.raises(StorageLockedError, match="was removed by the process that used it"):
        edge_lock.FolderLock(tmp_path)
    monkeypatch.undo()
    edge_lock.FolderLock(tmp_path).release()


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path):
    with start(WRITE_FOREVER, tmp_path) as writer:
        acknowledged = [int(writer.stdout.readline()) for _ in range(40)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    with connect(tmp_path) as client:
        wanted = range((acknowledged[-1] + 1) * 3)
        records = client.retrieve("c", list(wanted), with_vectors=True)
        assert [record.id for record in records] == list(wanted)
        assert all(record.payload == {"n": record.id // 3} and len(record.vector) == 2 for record in records)
        client.upsert("c", [models.PointStruct(id=10**9, vector=[1.0, 0.0])])
        client.flush()


def test_a_refused_batch_does_not_come_back_after_a_crash(tmp_path):
    code = (
        OPEN
        + """
client.create_collection("c", vectors_config={"v": models.VectorParams(size=2, distance="Cosine")})
client.upsert("c", [models.PointStruct(id=1, vector={"v": [1.0, 0.0]})])
for bad in ({"w": [1.0, 0.0]}, {"v": [1.0]}):
    try:
        client.upsert("c", [models.PointStruct(id=i, vector=v) for i, v in ((2, {"v": [1.0, 0.0]}), (3, bad))])
    except ValueError as error:
        print("refused", flush=True)
print("done", flush=True)
sys.stdin.read()
"""
    )
    with start(code, tmp_path) as writer:
        assert [writer.stdout.readline() for _ in range(3)] == ["refused\n", "refused\n", "done\n"]
        writer.kill()
    with connect(tmp_path) as client:
        assert [record.id for record in client.scroll("c")[0]] == [1]


def test_a_process_that_ends_without_closing_flushes(tmp_path):
    writer = start(LEAVE_OPEN, tmp_path)
    output, errors = writer.communicate(timeout=60)
    assert (writer.returncode, output, errors) == (0, "flush c\n", "")
    with connect(tmp_path) as client:
        assert client.count("c").count == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_keep_the_lock_of_a_dead_parent(tmp_path):
    with start(DIE_BEFORE_CHILD, tmp_path) as parent:
        assert parent.wait(timeout=60) == 0
        with connect(tmp_path) as client:
            assert client.get_collections().collections == []
        parent.stdin.close()  # ends the child


def _use_after_fork(client, folder, results):
    for call in (lambda: client.count("c"), lambda: connect(folder)):
        try:
            call()
            results.put("no error")
        except StorageError as error:
            results.put(str(error))
    client.close()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_cannot_touch_the_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with connect(tmp_path) as client:
        client.create_collection("c", vectors_config=UNIT)
        child = context.Process(target=_use_after_fork, args=(client, tmp_path, results))
        child.start()
        messages = [results.get(timeout=30) for _ in range(2)]
        child.join()
        client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0])])
        client.flush()
        assert client.count("c").count == 1
    assert "forked this one" in messages[0]
    assert f"in use by process {os.getpid()}" in messages[1]
