"""Which files of a folder become records, and what is known of them."""

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest
from PIL import Image

from clip_qdrant import open_image, records_in
from clip_qdrant.errors import ConfigError, ImageNotFoundError
from clip_qdrant.sources.pictures import _modified


@pytest.fixture
def folder(tmp_path):
    """Pictures in a folder within a folder, and much that is no picture."""
    for name in ("b.png", "A.JPG", "sub/deep/c.webp", ".hidden.png", ".cache/d.png", "ünïcödé 图.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), "red").save(path)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def names(records):
    return [Path(record.source).name for record in records]


def test_takes_pictures_in_order_and_leaves_the_hidden_out(folder):
    assert names(records_in(folder)) == ["A.JPG", "b.png", "ünïcödé 图.png", "c.webp"]
    assert names(records_in(folder, recursive=False)) == ["A.JPG", "b.png", "ünïcödé 图.png"]


def test_knows_what_to_filter_on(folder):
    moment = datetime(2023, 7, 1, 12, 30, tzinfo=timezone.utc)
    path = folder / "sub" / "deep" / "c.webp"
    os.utime(path, (moment.timestamp(), moment.timestamp()))
    record = next(record for record in records_in(folder) if record.source == str(path))
    assert record.metadata == {
        "file_name": "c.webp",
        "folder": os.path.join("sub", "deep"),
        "file_type": "image/webp",
        "file_size": path.stat().st_size,
        "modified": "2023-07-01T12:30:00+00:00",
        "year": 2023,
        "width": 4,
        "height": 4,
    }


def test_a_time_that_no_date_can_hold_is_left_out():
    """File systems know years beyond 9999; the one that this test runs on may not."""
    assert [_modified(seconds) for seconds in (1e12, 1e30, -1e15)] == [{}] * 3


def test_a_picture_is_a_folder_of_one(folder):
    (record,) = records_in(folder / "b.png", scope="tenant")
    assert (record.source, record.metadata["folder"], record.scope) == (str(folder / "b.png"), ".", "tenant")


def test_sources_are_absolute_wherever_one_stands(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert [r.source for r in records_in(".")] == [r.source for r in records_in(folder)]


def test_links_in_circles_and_into_nothing(folder):
    (folder / "loop").symlink_to(folder)
    (folder / "dangling.png").symlink_to(folder / "gone.png")
    records = {Path(record.source).name: record for record in records_in(folder)}
    assert len(records) == 5
    assert "file_size" not in records["dangling.png"].metadata
    with pytest.raises(ImageNotFoundError):
        open_image(records["dangling.png"].image)


def test_a_name_that_is_no_text_is_escaped_and_opens(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    try:
        with open(path, "wb") as file:
            Image.new("RGB", (4, 4), "red").save(file, "PNG")
    except OSError:
        pytest.skip("this file system takes no such name")
    (record,) = records_in(tmp_path)
    assert record.metadata["file_name"] == "caf\\xe9.png"
    assert open_image(record.image).size == (4, 4)


def test_a_place_that_is_not_there_is_refused_at_once():
    with pytest.raises(ConfigError, match="There is no folder or file 'nowhere'"):
        records_in("nowhere")


def test_an_empty_folder_has_no_records(tmp_path):
    assert list(records_in(tmp_path)) == []
