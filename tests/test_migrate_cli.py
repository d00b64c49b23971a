"""`clip-qdrant migrate`: locations, keys, what is printed and the exit code."""

import json
import logging
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from qdrant_client import QdrantClient
from typer.testing import CliRunner

from clip_qdrant import connect
from clip_qdrant.cli.app import app
from tests.migrate_data import alias, make_plain, plain_point

NO_KEYS = dict.fromkeys(["QDRANT_URL", "QDRANT_API_KEY", "QDRANT_SOURCE_API_KEY", "QDRANT_TARGET_API_KEY"])


def run(*arguments, **environment):
    return CliRunner(env={**NO_KEYS, **environment}).invoke(app, ["migrate", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path):
    """A folder with two collections."""
    with connect(tmp_path / "from") as client:
        make_plain(client, "photos", 12)
        make_plain(client, "scans", 3)
    return tmp_path / "from"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "to"


def test_migrates_a_folder_and_says_so_as_lines(folder, target):
    result = run(folder, target)
    assert (result.exit_code, result.stdout) == (0, "photos\t12\t12\t0\t0\t0\t0\tyes\nscans\t3\t3\t0\t0\t0\t0\tyes\n")
    assert result.stderr == f"Source: {folder}\nTarget: {target}\n"
    with connect(target) as client:
        assert client.count("photos").count == 12


def test_the_same_again_as_json_for_one_collection(folder, target):
    run(folder, target)
    result = run(folder, target, "-c", "photos", "--json", "--batch-size", 5)
    (report,) = json.loads(result.stdout)
    counts = {"points": 12, "copied": 0, "already_there": 12, "missing": 0, "differing": 0, "extra": 0}
    assert counts.items() <= report.items()
    assert (report["collection"], report["verified"], len(report["checksum"])) == ("photos", True, 64)


def test_a_copy_that_is_not_verified_has_an_exit_code_and_a_cure(folder, target):
    run(folder, target)
    with connect(target) as client:
        client.upsert("photos", [plain_point(3).model_copy(update={"payload": {"n": "other"}})])
    with connect(folder) as client:
        client.update_collection_aliases([alias("photos", "now")])
    result = run(folder, target, "--json")
    assert result.exit_code == 1
    assert [one["verified"] for one in json.loads(result.stdout)] == [False, True]
    assert "1 are otherwise there (such as 3). They were left as they are; --overwrite replaces them" in result.stderr
    assert "Not as in the source, collection 'photos': alias 'now' does not lead to it" in result.stderr
    result = run(folder, target, "--overwrite")
    assert (result.exit_code, result.stdout.split("\t")[1:4]) == (0, ["12", "1", "11"])


def test_a_folder_of_local_mode_is_a_source_after_a_warning(tmp_path, target):
    old = QdrantClient(path=str(tmp_path / "old"))
    make_plain(old, "photos", 4)
    locked = run(tmp_path / "old", target)
    assert locked.exit_code == 1
    assert "in use by process" in locked.stderr
    old.close()
    result = run(tmp_path / "old", target)
    assert (result.exit_code, result.stdout) == (0, "photos\t4\t4\t0\t0\t0\t0\tyes\n")
    assert "migrate only folders that you trust" in result.stderr


def test_a_locked_folder_is_said_with_the_holder(folder, target):
    with connect(folder):
        code = "from clip_qdrant.cli.app import main; main()"
        command = [sys.executable, "-c", code, "migrate", str(folder), str(target)]
        other = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert other.returncode == 1
    assert "is in use by process" in other.stderr
    assert not target.exists()


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("nowhere", "to", "There is no folder 'nowhere' to migrate from"),
        ("pictures", "to", "The folder 'pictures' was not written by clip-qdrant or qdrant-client"),
        (":memory:", "to", "':memory:' ends with the command"),
        ("from", ":memory:", "':memory:' ends with the command"),
        ("from", "./pictures/../from", "A folder is not migrated in place: give a new one"),
        ("http://me:secret@one.test", "http://ONE.test/", "Source and target are the same, 'http://one.test'"),
        ("from", "ftp://one.test", "unknown scheme 'ftp'"),
    ],
)
def test_locations_that_cannot_be_are_refused_and_nothing_is_made(
    folder, tmp_path, monkeypatch, source, target, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    result = run(source, target)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert "secret" not in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"from", "pictures"}
    assert list((tmp_path / "pictures").iterdir()) == []


def test_a_missing_collection_names_those_there_are(folder, target):
    result = run(folder, target, "-c", "pictures")
    assert result.exit_code == 1
    assert "The source has no collection 'pictures'; it has 'photos', 'scans'." in result.stderr


def test_an_interruption_has_its_own_exit_code_and_the_command_goes_on(folder, target, monkeypatch):
    from clip_qdrant.storage.edge.client import EmbeddedQdrantClient

    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(EmbeddedQdrantClient, "flush", interrupt)
    result = run(folder, target)
    assert result.exit_code == 130
    assert "the same command goes on from there" in result.stderr
    monkeypatch.undo()
    assert run(folder, target).stdout.startswith("photos\t12\t0\t12\t")


class KeyLog(BaseHTTPRequestHandler):
    """A server with no collections that notes the keys it is sent."""

    def do_GET(self):
        self.server.keys.append(self.headers.get("api-key"))
        body = b'{"result": {"collections": []}, "status": "ok", "time": 0.0}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        pass


@pytest.fixture
def serve():
    servers = []

    def start():
        server = ThreadingHTTPServer(("127.0.0.1", 0), KeyLog)
        server.keys = []
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        servers.append(server)
        return server, f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_key_goes_to_the_one_server_and_is_not_shown(serve, target, caplog):
    caplog.set_level(logging.DEBUG)
    server, url = serve()
    result = run(url, target, QDRANT_API_KEY="hidden")
    assert (result.exit_code, server.keys) == (0, ["hidden"])
    assert "The API key goes over http, unencrypted" in result.stderr
    assert "hidden" not in result.output
    assert "hidden" not in caplog.text
    assert run(url, target, QDRANT_API_KEY="hidden", QDRANT_SOURCE_API_KEY="own").exit_code == 0
    assert server.keys == ["hidden", "own"]


def test_two_servers_are_sent_their_own_keys_only(serve):
    (old, old_url), (new, new_url) = serve(), serve()
    result = run(old_url, new_url, QDRANT_API_KEY="common", QDRANT_SOURCE_API_KEY="own")
    assert result.exit_code == 0
    assert "QDRANT_API_KEY is not sent to two servers; set QDRANT_TARGET_API_KEY for the target" in result.stderr
    assert (old.keys, new.keys) == (["own"], [])
    run(new_url, old_url, QDRANT_API_KEY="common", QDRANT_TARGET_API_KEY="second")
    run(new_url, old_url, QDRANT_SOURCE_API_KEY="first", QDRANT_TARGET_API_KEY="second")
    assert new.keys == [None, "first"]


def test_an_empty_source_is_fine(tmp_path, target):
    connect(tmp_path / "from").close()
    result = run(tmp_path / "from", target)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No collections" in result.stderr


def test_help_has_an_example():
    assert "clip-qdrant migrate ./.clip_qdrant http://localhost:6333" in " ".join(run("--help").stdout.split())
