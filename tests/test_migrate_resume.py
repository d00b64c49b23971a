"""Migrations that are interrupted, disturbed, or large."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from clip_qdrant import connect
from clip_qdrant.errors import InvalidPointError, StorageError, StorageLockedError
from clip_qdrant.storage.migrate import is_local_mode_folder, migrate, open_local_mode, run
from tests.migrate_data import everything, make_plain, plain_point

SLOWLY = """
import sys
from clip_qdrant.storage.connect import connect
from clip_qdrant.storage.migrate import migrate

def tell_and_wait(now):
    print(now.step, now.done, flush=True)
    sys.stdin.readline()

with connect(sys.argv[1]) as source, connect(sys.argv[2]) as target:
    migrate(source, target, batch_size=10, on_progress=tell_and_wait)
"""


class Interruption(Exception):
    """Of a test."""


@pytest.fixture
def source(tmp_path, name):
    """A folder with a collection of 95 points."""
    with connect(tmp_path / "from") as client:
        make_plain(client, name, 95)
        yield client


def interrupt_at(step, done):
    def interrupt(now):
        if (now.step, now.done) == (step, done):
            raise Interruption

    return interrupt


def test_goes_on_after_an_exception(source, client, name):
    with pytest.raises(Interruption):
        migrate(source, client, batch_size=10, on_progress=interrupt_at("copy", 40))
    assert client.count(name).count == 40
    with pytest.raises(Interruption):
        migrate(source, client, batch_size=10, on_progress=interrupt_at("copy", 70))
    with pytest.raises(Interruption):
        migrate(source, client, batch_size=10, on_progress=interrupt_at("verify", 50))
    report = migrate(source, client, batch_size=7).collections[0]
    assert (report.copied, report.already_there, report.verified) == (0, 95, True)
    assert [record.id for record in everything(client, name)] == list(range(95))


@pytest.mark.skipif(os.name == "nt", reason="uses POSIX signals")
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_goes_on_after_a_killed_process(source, tmp_path, name, signal_number):
    source.close()
    command = [sys.executable, "-c", SLOWLY, str(tmp_path / "from"), str(tmp_path / "to")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        for done in (10, 20, 30):
            assert process.stdout.readline() == f"copy {done}\n".encode()
            if done < 30:
                process.stdin.write(b"\n")
                process.stdin.flush()
        process.send_signal(signal_number)
        process.wait(timeout=60)
    assert process.returncode != 0
    with connect(tmp_path / "from") as again, connect(tmp_path / "to") as target:
        report = migrate(again, target).collections[0]
        assert (report.copied, report.already_there, report.verified) == (65, 30, True)


def test_what_is_damaged_before_the_verification_is_found(source, client, name):
    def tamper(now):
        if (now.step, now.done) == ("copy", 95):
            client.delete(name, [5, 6])
            client.update_vectors(name, [models.PointVectors(id=7, vector=[1.0, 7.5, 7.5, 7.501])])
            client.set_payload(name, {"n": 8.0}, points=[8])
            client.upsert(name, [plain_point(1_000)])

    report = migrate(source, client, on_progress=tamper).collections[0]
    assert (report.missing, report.differing, report.extra, report.verified) == (2, 2, 1, False)
    assert report.examples == (5, 6, 7, 8)
    repaired = migrate(source, client, overwrite=True).collections[0]
    assert (repaired.copied, repaired.extra, repaired.verified) == (4, 1, True)


def test_what_is_written_to_the_source_meanwhile_is_reported_and_copied_the_next_time(source, client, name):
    def write(now):
        if (now.step, now.done) == ("copy", 20):
            source.upsert(name, [plain_point(200)])  # its page is still to come
            source.delete(name, [3])  # its page has been
            source.set_payload(name, {"late": True}, points=[4])

    report = migrate(source, client, batch_size=10, on_progress=write).collections[0]
    assert (report.points, report.missing, report.differing, report.extra) == (95, 0, 1, 1)
    assert report.examples == (4,)

    def delete(now):
        if (now.step, now.done) == ("verify", 95):
            source.delete(name, [0])

    report = migrate(source, client, overwrite=True, on_progress=delete).collections[0]
    assert (report.copied, report.points, report.source_count, report.verified) == (1, 95, 94, False)
    assert migrate(source, client).verified


def test_large_points_travel_in_small_pages(source, client, name, monkeypatch):
    monkeypatch.setattr(run, "PAGE_BYTES", 10_000)
    source.set_payload(name, {"picture": "x" * 3_000}, points=list(range(40, 95)))
    pages = []
    sent = []
    upsert = client.upsert
    monkeypatch.setattr(client, "upsert", lambda at, points, **rest: sent.append(len(points)) or upsert(at, points))
    report = migrate(source, client, on_progress=lambda now: now.step == "copy" and pages.append(now.done))
    assert report.verified
    sizes = np.diff([0, *pages])
    assert list(sizes[:2]) == [32, 63]  # small points let the page grow, until large ones come
    assert max(sent[2:]) == 3
    assert sum(sent) == 95


def test_a_page_shrinks_and_grows_with_its_points(source, name, monkeypatch):
    monkeypatch.setattr(run, "PAGE_BYTES", 10_000)
    monkeypatch.setattr(run, "_FIRST_PAGE", 4)
    source.set_payload(name, {"picture": "x" * 6_000}, points=list(range(4, 20)))
    sizes = [len(records) for records in run._pages(source, name, 1_000)]
    assert sizes == [4, 8, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 32, 12]


def test_floats_that_the_engine_rounds_are_not_a_difference(tmp_path, name):
    floats = np.random.default_rng(0).uniform(-1e6, 1e6, 2_000).tolist()
    with connect(":memory:") as source, connect(tmp_path / "to") as target, connect(tmp_path / "further") as further:
        make_plain(source, name, 1)
        source.set_payload(name, {"floats": floats}, points=[0])
        first, second = migrate(source, target).collections[0], migrate(target, further).collections[0]
        assert target.retrieve(name, [0])[0].payload["floats"] != floats  # else this test is of nothing
        assert first.verified
        assert second.verified
        assert first.checksum == second.checksum
        assert migrate(source, further).verified


def make_small_numbers(client, name, datatype, vectors):
    params = models.VectorParams(size=48, distance=models.Distance.COSINE, datatype=datatype)
    client.create_collection(name, vectors_config=params)
    client.upsert(name, [models.PointStruct(id=at, vector=vector.tolist()) for at, vector in enumerate(vectors)])


def test_vectors_of_half_floats_are_compared_with_their_rounding(tmp_path, name):
    # Local mode keeps float32, whatever the datatype: the engine is the one that rounds.
    with connect(":memory:") as source, connect(tmp_path / "b") as target, connect(tmp_path / "c") as further:
        make_small_numbers(source, name, models.Datatype.FLOAT16, np.random.default_rng(1).normal(size=(50, 48)))
        assert migrate(source, target).collections[0].differing == 0
        assert migrate(target, further).collections[0].differing == 0
        assert migrate(source, further).verified


def test_vectors_of_bytes_keep_their_length(tmp_path, name):
    vectors = np.random.default_rng(1).integers(1, 128, (50, 48)).astype(float)
    with connect(tmp_path / "a") as source, connect(tmp_path / "b") as target:
        make_small_numbers(source, name, models.Datatype.UINT8, vectors)
        assert migrate(source, target).verified
        target.update_vectors(name, [models.PointVectors(id=3, vector=(vectors[3] * 2).tolist())])
        assert migrate(source, target).collections[0].examples == (3,)


def test_a_point_that_the_target_cannot_store_is_named(tmp_path, name):
    with connect(":memory:") as source, connect(tmp_path / "to") as target:
        make_plain(source, name, 3)
        source.upsert(name, [models.PointStruct(id=2, vector=[0.0] * 4)])
        with pytest.raises(InvalidPointError, match=r"\(id 2\).*no direction to compare by cosine"):
            migrate(source, target)


def test_an_integer_that_qdrant_cannot_keep_is_found(tmp_path, name):
    with connect(":memory:") as source, connect(tmp_path / "to") as target:
        make_plain(source, name, 3)
        source.set_payload(name, {"n": 2**70 + 1}, points=[1])
        report = migrate(source, target).collections[0]
    assert (report.verified, report.differing, report.examples) == (False, 1, (1,))


@pytest.fixture
def old(tmp_path, name):
    """A folder of qdrant-client's local mode."""
    client = QdrantClient(path=str(tmp_path / "old"))
    make_plain(client, name, 5)
    client.close()
    return tmp_path / "old"


def test_the_folders_of_local_mode_are_recognised(old, source, tmp_path):
    assert is_local_mode_folder(old)
    (old / "meta.json").unlink()
    assert is_local_mode_folder(old)
    assert not is_local_mode_folder(tmp_path / "from")
    assert not is_local_mode_folder(tmp_path)
    with pytest.raises(StorageError, match="was not written by qdrant-client's local mode"):
        open_local_mode(tmp_path / "from")


def test_a_folder_that_is_open_elsewhere_is_locked(old):
    client = QdrantClient(path=str(old))
    with pytest.raises(StorageLockedError, match="in use by process"):
        open_local_mode(old)
    client.close()
    open_local_mode(old).close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_folder_that_is_broken_is_said(old, name):
    (old / "meta.json").write_text("{")
    with pytest.raises(StorageError, match="cannot be read: JSONDecodeError"):
        open_local_mode(old)


def test_text_indexes_of_local_mode_are_carried_over(name):
    scoring = models.TextScoringParams(type=models.TextScoringType.BM25)
    scored = models.TextIndexParams(type=models.TextIndexType.TEXT, scoring=scoring)
    with connect(":memory:") as source, connect(":memory:") as target:
        make_plain(source, name, 2)
        source.create_payload_index(name, "text", scored)
        migrate(source, target)
        assert target._client.collections[name].text_indexes == {"text": scored}


def test_more_points_than_local_mode_is_made_for_migrate_without_a_warning(tmp_path, name, monkeypatch):
    from qdrant_client.local.qdrant_local import QdrantLocal

    monkeypatch.setattr(QdrantLocal, "LARGE_DATA_THRESHOLD", 3)
    client = QdrantClient(path=str(tmp_path / "old"))
    make_plain(client, name, 5)
    client.close()
    with open_local_mode(tmp_path / "old") as source, connect(":memory:") as target:
        assert migrate(source, target).verified
