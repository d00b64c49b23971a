"""`clip-qdrant classify` and `clip-qdrant tag`: labels in, tables and JSON out."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from clip_qdrant import ClipCollection, connect
from clip_qdrant.cli import session
from clip_qdrant.cli.app import app
from clip_qdrant.testing import FakeEncoder
from clip_qdrant.types import Record


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(session, "open_encoder", lambda model: FakeEncoder(name=model))
    return lambda *arguments: CliRunner(env={"QDRANT_URL": None}).invoke(app, [*map(str, arguments)])


@pytest.fixture
def store(tmp_path, swatches):
    place = tmp_path / "store"
    with connect(place) as client:
        clip = ClipCollection(client, "images", FakeEncoder(name="fake"))
        clip.add(Record(str(path), path, None, {"file": path.stem}) for path in sorted(swatches.iterdir()))
        clip.add([Record("note", text="a red note", metadata={"file": "note"})])
    return place


@pytest.fixture
def tag(run, store):
    return lambda *arguments: run("tag", "--location", store, *arguments)


def kinds(store, field="kind"):
    with connect(store) as client:
        hits = ClipCollection(client, "images", FakeEncoder(name="fake")).vectors.scan()
        return {hit.metadata["file"]: hit.metadata.get(field) for hit in hits}


def test_pictures_get_labels(run, swatches):
    result = run("classify", swatches / "red.png", swatches / "blue.png", "--labels", "red, blue,green")
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [(row[0], row[1]) for row in rows] == [(str(swatches / f"{one}.png"), one) for one in ("red", "blue")]
    assert rows[0][2].startswith("red 100.0%, ") and rows[0][2].count("%") == 3
    assert result.exit_code == 0


def test_labels_may_be_longer_than_a_file_name_can_be(run, swatches):
    labels = ",".join(["red", *(f"thing number {number}" for number in range(60))])
    result = run("classify", swatches / "red.png", "--labels", labels, "--json")
    assert result.exit_code == 0, result.output


def test_a_folder_stands_for_its_pictures_and_json_has_all(run, swatches):
    found = json.loads(run("classify", swatches, "--labels", "red,blue", "-k", 1, "--json").stdout)
    labels = {one["image"].rpartition("/")[2]: one["labels"] for one in found}
    assert labels["red.png"] == ["red"] and labels["blue.png"] == ["blue"] and len(found) == 4
    assert set(found[0]) == {"image", "labels", "margin", "scores"} and len(found[0]["scores"]) == 1
    assert set(found[0]["scores"][0]) == {"label", "probability", "cosine"}


def test_none_of_these(run, swatches):
    result = run("classify", swatches / "yellow.png", "--labels", "red,blue", "--template", "{}", "--least-cosine", 0.5)
    assert result.stdout.split("\t")[1] == "(none of these)" and result.exit_code == 0
    for limit in (("--threshold", 0.99), ("--least-margin", 0.99)):
        many = run("classify", swatches / "yellow.png", "--labels", "red,blue,green", "--temperature", 90, *limit)
        assert "(none of these)" in many.stdout


def test_many_labels_of_one_picture(run, tmp_path):
    two = Image.new("RGB", (16, 8), "red")
    two.paste("blue", (8, 0, 16, 8))
    two.save(tmp_path / "two.png")
    given = ("--labels", "red,blue,green", "--multi-label", "--template", "name", "--least-cosine", 0.4)
    assert set(json.loads(run("classify", tmp_path / "two.png", *given, "--json").stdout)[0]["labels"]) == {
        "red",
        "blue",
    }


def test_a_tree_of_labels_is_json(run, swatches, tmp_path):
    (tmp_path / "tree.json").write_text(json.dumps({"warm": ["red", "yellow"], "cold": ["green", "blue"]}))
    result = run("classify", swatches / "blue.png", "--labels-file", tmp_path / "tree.json")
    assert result.stdout.split("\t")[1] == "cold/blue"


def test_what_cannot_be_opened_is_listed_and_the_rest_goes_on(run, swatches):
    (swatches / "broken.png").write_bytes(b"no picture")
    given = ("classify", swatches / "gone.png", swatches / "red.png", swatches / "broken.png", "--labels", "red,blue")
    result = run(*given)
    assert result.exit_code == 1 and len(result.stdout.splitlines()) == 1
    assert "gone.png\tno such file" in result.stderr.lower() and "broken.png\t" in result.stderr
    found = json.loads(run(*given, "--json").stdout)
    assert sorted(found[0]) == ["error", "image"] and found[1]["labels"] == ["red"]


def test_a_collection_is_tagged_and_counted(tag, store):
    result = tag("--labels", "red,green,blue,yellow")
    assert dict(line.split("\t") for line in result.stdout.splitlines()) == {
        "red": "2", "green": "1", "blue": "1", "yellow": "1",
    }  # fmt: skip
    assert "5 written, 0 unchanged" in result.stderr
    assert kinds(store) == {"red": "red", "green": "green", "blue": "blue", "yellow": "yellow", "note": "red"}


def test_tags_can_be_searched_by_and_are_written_once(tag, run, store):
    tag("--field", "colour", "--labels", "red,blue")
    again = json.loads(tag("--field", "colour", "--labels", "red,blue", "--json").stdout)
    assert (again["written"], again["unchanged"], again["field"]) == (0, 5, "colour")
    assert sum(again["counts"].values()) == 5
    found = run("search", "anything", "--location", store, "--where", "colour == blue", "--json")
    assert "blue" in {hit["metadata"]["file"] for hit in json.loads(found.stdout)["hits"]}


def test_a_part_is_tagged_and_tags_are_removed(tag, store):
    tag("--labels", "red,blue", "--where", "modality == text")
    assert [name for name, kind in kinds(store).items() if kind] == ["note"]
    assert tag("--remove").stdout == "1 without kind\n"
    assert not any(kinds(store).values())
    assert "takes no labels" in tag("--remove", "--labels", "red,blue").stderr


def test_indexing_again_keeps_tags(tag, run, store, swatches):
    with connect(store) as client:
        ClipCollection(client, "folder", FakeEncoder(name="fake"))
    run("index", swatches, "--location", store, "-c", "folder", "--model", "fake")
    tag("-c", "folder", "--labels", "red,blue")
    result = run("index", swatches, "--location", store, "-c", "folder")
    assert "0 updated, 4 unchanged" in result.stdout
    assert "0 written, 4 unchanged" in tag("-c", "folder", "--labels", "red,blue").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of --labels and --labels-file"),
        (["--labels", "red", "--labels-file", "x"], "one of --labels and --labels-file"),
        (["--labels-file", "nowhere.txt"], "no file 'nowhere.txt' with labels"),
        (["--labels", " , "], "There are no labels"),
        (["--labels", "red"], "'red' alone"),
        (["--labels", "red,blue", "--template", "photo"], "no templates 'photo'"),
        (["--labels", "red,blue", "--template", "name", "--template", "icons"], "where the label goes"),
        (["--labels", "red,blue", "--threshold", "2"], "threshold must be a number from 0 to 1"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(run, tag, swatches, arguments, message):
    for result in (run("classify", swatches / "red.png", *arguments), tag(*arguments)):
        assert result.exit_code == 1 and message in result.stderr and "Traceback" not in result.stderr


def test_bad_json_fields_and_collections(run, tag, tmp_path):
    (tmp_path / "labels.json").write_text("[")
    assert "cannot be read" in tag("--labels-file", tmp_path / "labels.json").stderr
    assert "payload key of clip-qdrant's own" in tag("--labels", "red,blue", "--field", "source").stderr
    assert "'file' already" in tag("--labels", "red,blue", "--field", "file").stderr
    assert "no collection 'nobody'" in tag("--labels", "red,blue", "-c", "nobody").stderr
    (tmp_path / "none").mkdir()
    assert "no pictures in" in run("classify", tmp_path / "none", "--labels", "red,blue").stderr
