"""The command line, from arguments to what is printed and the exit code."""

import json
import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from clip_qdrant import ClipCollection, connect
from clip_qdrant.cli import session
from clip_qdrant.cli.app import app
from clip_qdrant.testing import FakeEncoder

ANYWHERE = {"QDRANT_URL": None, "QDRANT_API_KEY": None}


@pytest.fixture
def location(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def cli(location, monkeypatch):
    """Run a command at the location with the fake encoder."""
    monkeypatch.setattr(session, "open_encoder", lambda model: FakeEncoder(name=model))

    def run(*arguments, at=location, stdin=None):
        return CliRunner(env=ANYWHERE).invoke(app, [*map(str, arguments), "--location", str(at)], input=stdin)

    return run


@pytest.fixture
def indexed(cli, swatches):
    assert cli("index", swatches, "--model", "fake").exit_code == 0
    return cli


def sources(result):
    return [hit["metadata"]["file_name"] for hit in json.loads(result.stdout)["hits"]]


def test_indexes_and_finds_by_words(indexed):
    assert sources(indexed("search", "something red", "-n", 1, "--json")) == ["red.png"]


def test_a_second_index_embeds_nothing(indexed, swatches):
    result = indexed("index", swatches)
    assert result.stdout.startswith("0 embedded, 0 copied, 0 updated, 4 unchanged, 0 failed")


def test_a_path_is_a_picture_unless_told_otherwise(indexed, swatches):
    path = swatches / "blue.png"
    assert sources(indexed("search", path, "-n", 1, "--json")) == ["blue.png"]
    as_text = json.loads(indexed("search", path, "-n", 1, "--as", "text", "--json").stdout)
    assert as_text["hits"][0]["score"] < 0.9
    missing = indexed("search", swatches / "missing.png")
    assert missing.exit_code == 1 and "There is no picture" in missing.stderr


@pytest.mark.parametrize("words", ["red " * 200, "~nobody's red"])
def test_what_cannot_be_a_path_is_words(indexed, words):
    assert len(sources(indexed("search", words, "-n", 2, "--json"))) == 2


def test_where_and_negative_narrow(indexed):
    assert sources(indexed("search", "red", "--where", 'file_name == "green.png"', "--json")) == ["green.png"]
    assert sources(indexed("search", "red", "--negative", "red", "-n", 4, "--json"))[0] == "red.png"
    assert sources(indexed("search", "blue", "--negative", "red", "-n", 4, "--json"))[-1] == "red.png"


def test_in_a_pipe_an_answer_is_a_line(indexed, swatches):
    result = indexed("search", "red", "-n", 2)
    first = result.stdout.splitlines()[0].split("\t")
    assert first[1] == str(swatches / "red.png")
    assert len(result.stdout.splitlines()) == 2


def test_bad_files_are_named_and_the_others_go_in(cli, swatches):
    (swatches / "broken.jpg").write_bytes(b"no picture")
    (swatches / "empty.png").touch()
    result = cli("index", swatches, "--model", "fake")
    assert result.exit_code == 0
    assert "4 embedded" in result.stdout
    assert "2 failed" in result.stdout
    assert "broken.jpg\tits first bytes" in result.stderr
    assert "empty.png\tit is empty (0 bytes)" in result.stderr
    assert cli("index", swatches, "--strict").exit_code == 1


def test_the_report_as_json_is_one_document(cli, swatches):
    (swatches / "empty.png").touch()
    report = json.loads(cli("index", swatches, "--model", "fake", "--json").stdout)
    assert (report["embedded"], len(report["failed"])) == (4, 1)


def test_info_lists_collections(indexed):
    (one,) = json.loads(indexed("info", "--json").stdout)
    assert (one["collection"], one["points"], one["model"], one["dimension"]) == ("images", 4, "fake", 32)
    assert "content_hash" in one["indexes"]
    assert indexed("info").stdout.startswith("images\t4\tfake\t32\t")


def test_the_model_of_a_collection_is_remembered(indexed, monkeypatch):
    opened = []
    monkeypatch.setattr(session, "open_encoder", lambda model: opened.append(model) or FakeEncoder(name=model))
    indexed("search", "red")
    assert opened == ["fake"]


def test_another_model_is_refused(indexed):
    result = indexed("search", "red", "--model", "other")
    assert result.exit_code == 1
    assert result.stderr.endswith(
        "Error: Collection 'images' holds 32-d vectors of 'fake', but 'other' makes 32-d of another space. "
        "Use another collection, or the model that this one was made with.\n"
    )


def test_deletes_by_filter_after_asking(indexed):
    refused = indexed("delete", "--where", 'file_name == "red.png"', stdin="n\n")
    assert refused.exit_code != 0
    assert "Delete 1 points of 'images'?" in refused.stderr
    assert indexed("delete", "--where", 'file_name == "red.png"', stdin="y\n").stdout.endswith("1 deleted\n")
    assert json.loads(indexed("info", "--json").stdout)[0]["points"] == 3


def test_deletes_by_id_and_all(indexed):
    hit = json.loads(indexed("search", "red", "--json").stdout)["hits"][0]
    assert indexed("delete", "--id", hit["id"], "--yes").stdout == "1 deleted\n"
    assert indexed("delete", "--all", "--yes").stdout == "3 deleted\n"
    assert json.loads(indexed("info", "--json").stdout) == []


@pytest.mark.parametrize("arguments", [[], ["--all", "--where", "year > 1"]])
def test_delete_wants_one_selection(indexed, arguments):
    result = indexed("delete", "--yes", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Give one of --where, --id and --all." in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "red"], "There is nothing at"),
        (["info"], "There is nothing at"),
        (["index", "nowhere"], "There is no folder or file 'nowhere'"),
        (["demo", "--sheet", "."], "'.' is a folder"),
    ],
)
def test_what_is_not_there_is_one_line(cli, location, arguments, message):
    result = cli(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert not location.exists()


def test_an_empty_folder_is_an_error(cli, tmp_path):
    empty = tmp_path / "none"
    empty.mkdir()
    assert "There are no pictures in" in cli("index", empty).stderr


def test_a_missing_collection_names_those_there_are(indexed):
    result = indexed("search", "red", "--collection", "pictures")
    assert "There is no collection 'pictures'; there is 'images'." in result.stderr


def test_a_filter_that_cannot_be_read_says_where(indexed):
    result = indexed("search", "red", "--where", "year >=")
    assert result.exit_code == 1
    assert "needs a value where it has its end" in result.stderr


def test_a_traceback_only_with_debug(indexed):
    assert "Traceback" not in indexed("search", "red", "--where", "year >=").output
    assert indexed("search", "red", "--where", "year >=", "--debug").exception.args[0].startswith("The filter")


def test_an_interruption_has_its_own_exit_code(indexed, swatches, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(ClipCollection, "add", interrupt)
    result = indexed("index", swatches)
    assert result.exit_code == 130
    assert "the same command goes on from there" in result.stderr


def test_a_locked_folder_is_said_with_the_holder(indexed, location):
    with connect(location):
        code = "from clip_qdrant.cli.app import main; main()"
        arguments = ["info", "-l", str(location)]
        other = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert other.returncode == 1
    assert "Error: " in other.stderr
    assert "process" in other.stderr


def test_the_default_model_without_a_network_names_the_ways_out(location, swatches):
    result = CliRunner(env=ANYWHERE).invoke(app, ["index", str(swatches), "-l", str(location)])
    assert result.exit_code == 1
    assert "Model: laion/CLIP-ViT-B-32-laion2B-s34B-b79K (of unknown size to download)" in result.stderr
    assert "--model pocket" in result.stderr
    assert "path of a folder" in result.stderr


def test_credentials_in_a_url_are_not_printed():
    result = CliRunner(env=ANYWHERE).invoke(
        app, ["info", "-l", "http://someone:secret@127.0.0.1:1"], env={"QDRANT_API_KEY": "hidden"}
    )
    assert result.exit_code == 1
    assert "Location: http://127.0.0.1:1" in result.stderr
    assert "secret" not in result.output
    assert "hidden" not in result.output
    assert "The API key goes over http, unencrypted" in result.stderr
    assert "UserWarning" not in result.output


@pytest.mark.parametrize("command", ["index", "search", "info", "delete", "demo"])
def test_every_command_has_help_with_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"clip-qdrant {command}" in result.stdout


def test_photos_index_whole(cli, photos):
    report = json.loads(cli("index", photos, "--model", "pocket", "--json").stdout)
    assert (report["embedded"], report["failed"]) == (111, [])


def test_a_file_name_neither_breaks_lines_nor_commands_the_terminal(cli, swatches):
    Image.new("RGB", (8, 8), "purple").save(swatches / "two\nlines \x1b[31m.png")
    cli("index", swatches, "--model", "fake")
    lines = cli("search", "purple", "-n", 5).stdout.splitlines()
    assert len(lines) == 5
    assert lines[0].endswith("two\\nlines \\x1b[31m.png\t")


def test_without_a_network_the_download_is_of_unknown_size(monkeypatch):
    import httpx2
    from huggingface_hub import HfApi, constants

    def fail(*_args, **_kwargs):
        raise httpx2.ConnectError("no route")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "model_info", fail)
    assert session.download_size("owner/not-here") is None
