"""Captions in files beside the pictures, and files of those names that are none."""

import json
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clip_qdrant import ClipCollection, Record, connect, records_in
from clip_qdrant.sources import metadata, read_sidecars
from clip_qdrant.sources.sidecars import MAX_BYTES
from clip_qdrant.storage import points
from clip_qdrant.testing import FakeEncoder

SURROGATE = '"\\ud800"'


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "bear.jpg"
    Image.new("RGB", (8, 8), "red").save(path)
    return path


@pytest.fixture
def read(picture):
    """Write files beside the picture; what is read of them, and the reasons why some are not."""

    def write_and_read(**files):
        for name, content in files.items():
            path = picture.with_name(name.replace("__", "."))
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        problems = []
        found = read_sidecars(picture, on_problem=problems.append)
        assert all(Path(problem.place).parent == picture.parent for problem in problems)
        return found.text, found.metadata, [(Path(problem.place).name, problem.reason) for problem in problems]

    return write_and_read


def test_a_text_is_the_caption(read):
    assert read(bear__txt="  a brown bear\n\n") == ("a brown bear", {}, [])


def test_a_text_of_windows_is_read_too(read):
    assert read(bear__txt=b"\xef\xbb\xbfein B\xc3\xa4r\r\nim Wald\r\n") == ("ein Bär\r\nim Wald", {}, [])


@pytest.mark.parametrize("content", ["", " \n", "0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.2 0.2\n"])
def test_a_text_without_a_word_is_no_caption(read, content):
    assert read(bear__txt=content) == (None, {}, [])


@pytest.mark.parametrize("key", ["caption", "captions", "text", "description"])
def test_an_object_has_a_caption_and_metadata(read, key):
    values = {key: "a bear", "year": 1999, "tags": ["wild", "brown"], "zoo": False, "weight": 312.5}
    wanted = {"year": 1999, "tags": ["wild", "brown"], "zoo": False, "weight": 312.5}
    assert read(bear__json=json.dumps(values)) == ("a bear", wanted, [])


def test_of_several_captions_the_first_is_the_text(read):
    wanted = {"captions": ["a bear", "a brown bear"]}
    assert read(bear__json='{"captions": ["a bear", " ", "a brown bear"]}') == ("a bear", wanted, [])
    assert read(bear__json='{"caption": ["a bear"]}') == ("a bear", {}, [])
    assert read(bear__json='{"caption": "", "text": null, "description": "a bear"}')[0] == "a bear"
    assert read(bear__json='{"caption": "a bear", "description": "long"}') == ("a bear", {"description": "long"}, [])


def test_the_nearest_name_counts_first(read):
    files = {"bear__txt": "4", "bear__json": '{"caption": "c", "a": 3, "b": 3}'}
    assert read(**files) == ("c", {"a": 3, "b": 3}, [])
    files = {"bear__jpg__txt": "b", "bear__jpg__json": '{"a": 1}'}
    assert read(**files) == ("b", {"a": 1, "b": 3}, [])
    assert read(bear__jpg__json='{"caption": "a", "a": 1}') == ("a", {"a": 1, "b": 3}, [])


def test_what_no_point_can_hold_is_left_out(read):
    values = (
        '{"caption": "a bear", "box": [[1, 2]], "exif": {"iso": 100}, "none": null, "blank": " ", "empty": [], '
        f'"huge": 99999999999999999999, "far": 1e999, "half": {SURROGATE}, {SURROGATE}: 1, "": 1, "nan": NaN, '
        f'"halves": ["a", {SURROGATE}], "kept": 1}}'
    )
    assert read(bear__json=values) == ("a bear", {"kept": 1}, [])


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        ({"lat": 52.5, "lon": 13}, True),
        ({"lat": 91, "lon": 13}, False),
        ({"lat": 52.5, "lon": True}, False),
        ({"lat": "52.5", "lon": 13}, False),
        ({"lat": float("nan"), "lon": 13}, False),
        ({"lat": 52.5, "lon": 13, "alt": 34}, False),
    ],
)
def test_a_place_on_the_globe_is_kept(read, place, kept):
    assert read(bear__json=json.dumps({"location": place}))[1] == ({"location": place} if kept else {})


def test_reserved_names_get_an_underscore(read):
    values = dict.fromkeys(points._OWN_KEYS, "x") | {"text": "a bear"}
    text, found, problems = read(bear__json=json.dumps(values))
    assert (text, problems) == ("a bear", [])
    assert found == {f"{key}_": "x" for key in points._OWN_KEYS - {"text"}}


def test_the_reserved_names_are_those_of_the_points():
    assert metadata.RESERVED == points._OWN_KEYS


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("bear__txt", b"ein B\xe4r", "it is not UTF-8 at byte 5. Save it as UTF-8"),
        ("bear__txt", b"x" * (MAX_BYTES + 1), "it has more than 1,048,576 bytes, which is no caption"),
        ("bear__json", b"", "it is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("bear__json", b'{"caption": "a bear"', "it is not JSON: Expecting ',' delimiter: line 1 column 21 (char 20)"),
        ("bear__json", b'["a bear"]', 'it is a JSON list, not an object such as {"caption": "a bear"}'),
        ("bear__json", b"3", 'it is a JSON int, not an object such as {"caption": "a bear"}'),
        ("bear__json", b'{"caption": 3}', "its 'caption' is 3, neither a text nor a list of texts"),
        ("bear__json", b'{"caption": {"en": 1}}', "its 'caption' is {'en': 1}, neither a text nor a list of texts"),
        ("bear__json", b'{"caption": ["a", 1]}', "its 'caption' is ['a', 1], neither a text nor a list of texts"),
        ("bear__json", b'{"caption": "\\ud800"}', "its 'caption' is '\\ud800', neither a text nor a list of texts"),
        ("bear__json", b"[" * 200_000, "it is not JSON: "),
        ("bear__json", b'{"a": ' + b"9" * 5000 + b"}", "it is not JSON: "),
    ],
)
def test_a_file_that_cannot_be_used_is_handed_on(read, name, content, reason):
    text, found, [(file, why)] = read(**{name: content})
    assert (text, found, file) == (None, {}, name.replace("__", "."))
    assert why.startswith(reason)
    assert why.endswith(". The picture goes in without it.")


def test_the_next_file_stands_in_for_a_broken_one(read):
    text, found, problems = read(bear__jpg__json="{", bear__json='{"caption": "a bear", "year": 1999}')
    assert (text, found, [name for name, _ in problems]) == ("a bear", {"year": 1999}, ["bear.jpg.json"])


def test_a_folder_or_a_pipe_of_that_name_is_handed_on(picture):
    picture.with_suffix(".txt").mkdir()
    os.mkfifo(picture.with_suffix(".json"))
    picture.with_name("bear.jpg.txt").symlink_to("nowhere")
    problems = []
    assert read_sidecars(picture, on_problem=problems.append).text is None
    assert [(Path(problem.place).name, problem.reason.partition(".")[0]) for problem in problems] == [
        ("bear.jpg.txt", "no such file"),
        ("bear.json", "it is a pipe or a device, not a file"),
        ("bear.txt", "it is a folder"),
    ]


SCALARS = st.none() | st.booleans() | st.floats() | st.integers() | st.text()
KEYS = st.text() | st.sampled_from(["caption", "text"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner))


@given(st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_whatever_it_says_a_point_can_hold_it(tmp_path_factory, content):
    picture = tmp_path_factory.getbasetemp() / "any.jpg"
    picture.with_suffix(".json").write_bytes(content)
    found = read_sidecars(picture, on_problem=lambda problem: None)
    record = Record("any", text=found.text or "a bear", metadata=found.metadata)
    json.dumps(points.payload_of(record, points.text_hash(record.text)), allow_nan=False, ensure_ascii=False).encode()


def test_a_folder_is_read_with_its_captions_and_one_broken_costs_only_itself(picture, caplog):
    for name, content in {
        "bear.txt": b"\xff",
        "bird.json": b'{"caption": "blue", "year": 1999}',
        "cat.txt": b"red",
    }.items():
        (picture.parent / name).write_bytes(content)
        Image.new("RGB", (8, 8), "blue").save(picture.with_name(name).with_suffix(".png"))
    with caplog.at_level(logging.WARNING):
        found = [(record.text, record.metadata["year"] == 1999) for record in records_in(picture.parent)]
    assert found == [(None, False), (None, False), ("blue", True), ("red", False)]
    assert [record.name for record in caplog.records] == ["clip_qdrant.sources.problems"] * 2
    assert caplog.messages[0].startswith(f"{picture.with_suffix('.txt')}: it is not UTF-8 at byte 0.")
    assert [record.text for record in records_in(picture.parent, sidecars=False)] == [None] * 4
    (alone,) = records_in(picture.with_name("bird.png"))
    assert alone.text == "blue"


def test_what_a_problem_raises_ends_the_reading(picture):
    picture.with_suffix(".json").write_text("{")

    def strict(problem):
        raise RuntimeError(str(problem))

    with pytest.raises(RuntimeError, match=r"bear\.json: it is not JSON"):
        list(records_in(picture.parent, on_problem=strict))


def test_a_mended_caption_is_embedded_and_nothing_else_is(picture):
    picture.with_suffix(".json").write_text('{"caption": "yellow", "year": "broken"')
    with connect(":memory:") as client:
        collection = ClipCollection(client, "bears", FakeEncoder())
        add = lambda: collection.add(records_in(picture.parent, on_problem=lambda problem: None))  # noqa: E731
        assert add().embedded == 1
        assert collection.search("yellow", using="text") == []
        picture.with_suffix(".json").write_text('{"caption": "yellow", "year": 1999}')
        assert add().embedded == 1
        (hit,) = collection.search("yellow", using="text", where={"year": 1999})
        assert hit.text == "yellow"
        assert add().unchanged == 1
