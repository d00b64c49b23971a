"""`clip-qdrant audit`: labels in, tables, JSON and a plot out."""

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
def run(monkeypatch, tmp_path):
    monkeypatch.setattr(session, "open_encoder", lambda model: FakeEncoder(name=model))

    def run(*arguments):
        at = ("--location", str(tmp_path / "store"))
        return CliRunner(env={"QDRANT_URL": None}).invoke(app, ["audit", *map(str, arguments), *at])

    return run


@pytest.fixture
def photos(tmp_path):
    """Red ones from one camera, blue ones from another."""
    with connect(tmp_path / "store") as client:
        clip = ClipCollection(client, "photos", FakeEncoder(name="fake"))
        clip.add(
            Record(
                f"{camera}{shade}",
                Image.new("RGB", (8, 8), (shade, 0, 0) if camera == "old" else (0, 0, shade)),
                None,
                {"camera": camera},
            )
            for camera in ("old", "new")
            for shade in range(240, 256)
        )


def test_labels_alone_are_compared_with_each_other(run):
    result = run("red,red thing, blue,red", "--json")
    told = json.loads(result.stdout)
    assert told["names"] == ["red", "red thing", "blue"] and told["pictures"] == 0
    assert {told["confusions"][0]["one"], told["confusions"][0]["other"]} == {"red", "red thing"}
    lines = run("red,red thing,blue").stdout.splitlines()
    assert lines[0].split("\t")[:2] == ["red", "red thing"]


def test_labels_come_from_a_file(run, tmp_path):
    (tmp_path / "labels.txt").write_text("# colours\nred\n\nblue \n", encoding="utf-8-sig")
    assert json.loads(run(tmp_path / "labels.txt", "--json").stdout)["names"] == ["red", "blue"]


def test_a_tree_in_json_is_looked_at_by_its_ends(run, tmp_path):
    (tmp_path / "tree.json").write_text('{"warm": ["red", "yellow"],\n "cold": {"water": ["blue"]}, "green": []}')
    found = json.loads(run(tmp_path / "tree.json", "--json").stdout)
    assert set(found["names"]) == {"red", "yellow", "blue", "green"}
    (tmp_path / "tree.json").write_text("[")
    assert "tree.json' cannot be read" in run(tmp_path / "tree.json").stderr


def test_pictures_show_what_labels_draw_and_groups_that_differ(run, photos, tmp_path):
    plot = tmp_path / "audit.png"
    given = ("red,blue,green", "--collection", "photos", "--group-field", "camera", "--plot", plot)
    told = json.loads(run(*given, "--json").stdout)
    assert told["pictures"] == 32
    assert {one["label"]: one["drawn"] for one in told["labels"]} == {"red": 0.5, "blue": 0.5, "green": 0.0}
    assert {(one["group"], one["label"], one["share"]) for one in told["skews"]} == {
        ("old", "red", 1.0), ("old", "blue", 0.0), ("new", "red", 0.0), ("new", "blue", 1.0),
    }  # fmt: skip
    with Image.open(plot) as image:
        assert image.format == "PNG" and len(image.convert("RGB").getcolors(1 << 24)) > 10
    assert json.loads(run(*given[:3], "--limit", 5, "--json").stdout)["pictures"] == 5
    table = run(*given[:5]).stdout
    assert "old\tred\t100.0%\t50.0%\t+" in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["red"], "at least two labels"),
        ([" , "], "There are no labels"),
        (["red,blue", "--group-field", "camera"], "name it with --collection"),
        (["red,blue", "--collection", "photos", "--group-field", "lens"], "has a value of 'lens'"),
        (["red,blue", "--collection", "nobody"], "no collection 'nobody'"),
    ],
)
def test_what_cannot_be_audited_is_said_in_a_line(run, photos, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 1 and message in result.stderr and "Traceback" not in result.stderr


def test_a_collection_without_pictures_is_said(run, tmp_path):
    with connect(tmp_path / "store") as client:
        ClipCollection(client, "notes", FakeEncoder(name="fake")).add([Record("n", None, "words")])
    result = run("red,blue", "--collection", "notes")
    assert result.exit_code == 1 and "has no pictures" in result.stderr
