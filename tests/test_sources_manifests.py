"""Pictures that a manifest lists: COCO, JSON, JSONL, CSV; and what hostile or broken ones say."""

import json
import logging
import os
from itertools import islice

import pytest
from PIL import Image

from clip_qdrant import ClipCollection, connect, open_image, records_in
from clip_qdrant.errors import ConfigError, ImageNotFoundError
from clip_qdrant.sources import records_from, rows
from clip_qdrant.testing import FakeEncoder

FACTS = ("file_name", "folder", "file_type", "file_size", "modified", "year", "width", "height")


@pytest.fixture
def folder(tmp_path):
    """Three pictures, one in a folder of its own."""
    (tmp_path / "sub").mkdir()
    for name, colour in {"a.png": "red", "b.png": "blue", "sub/c.png": "green"}.items():
        Image.new("RGB", (8, 6), colour).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def read(folder):
    """Write a manifest; its records as (path, text, metadata that it says), and the problems as lines."""

    def write_and_read(name, content, **options):
        if not isinstance(content, (str, bytes)):
            content = json.dumps(content)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        problems = []
        records = list(records_from(folder / name, **options, on_problem=problems.append))
        return [
            (
                os.path.relpath(record.source, folder),
                record.text,
                {key: value for key, value in record.metadata.items() if key not in FACTS},
            )
            for record in records
        ], list(map(str, problems))

    return write_and_read


COCO = {
    "info": {"year": 2017},
    "images": [
        {"id": 2, "file_name": "b.png", "license": 4, "coco_url": "http://images.cocodataset.org/b.png"},
        {"id": 1, "file_name": "a.png", "license": 3, "date_captured": "2013-11-14 11:18:45"},
        {"id": 3, "file_name": "sub/c.png"},
    ],
    "annotations": [
        {"image_id": 1, "id": 10, "caption": "a red square"},
        {"image_id": 2, "id": 11, "caption": "a blue square"},
        {"image_id": 1, "id": 12, "caption": "red "},
    ],
}


def test_coco_captions(read):
    assert read("captions.json", COCO) == (
        [
            ("b.png", "a blue square", {"id": 2, "license": 4, "coco_url": "http://images.cocodataset.org/b.png"}),
            (
                "a.png",
                "a red square",
                {"id": 1, "license": 3, "date_captured": "2013-11-14 11:18:45", "captions": ["a red square", "red"]},
            ),
            ("sub/c.png", None, {"id": 3}),
        ],
        [],
    )


def test_coco_without_captions_and_with_captions_of_nothing(read):
    assert read("i.json", {"images": [{"id": 1, "file_name": "a.png"}]}) == ([("a.png", None, {"id": 1})], [])
    instances = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}
    assert read("i.json", instances) == ([("a.png", None, {"id": 1})], [])
    lost = {"images": [], "annotations": [{"image_id": 7, "caption": "a"}, {"image_id": [], "caption": "b"}, 3]}
    assert read("i.json", lost) == ([], ["i.json: it has captions of 1 images that it does not list: [7], …"])


def test_a_list_of_objects(read):
    rows = [
        {"file": "a.png", "captions": ["red", "a red square"], "source": "http://x/a", "score": 0.5, "box": {"x": 1}},
        {"file": "b.png", "captions": "blue", "kind": None},
    ]
    assert read("list.json", rows) == (
        [
            ("a.png", "red", {"source_": "http://x/a", "score": 0.5, "captions": ["red", "a red square"]}),
            ("b.png", "blue", {}),
        ],
        [],
    )


def test_a_line_an_object_with_its_types(read):
    lines = '\ufeff{"image": "a.png", "caption": "red", "n": 1, "code": "007", "ok": true}\r\n\n{"image": "b.png"}'
    assert read("m.jsonl", lines) == (
        [("a.png", "red", {"n": 1, "code": "007", "ok": True}), ("b.png", None, {})],
        [],
    )


def test_a_table_with_its_numbers(read):
    table = (
        "\ufeffimage,caption,n,x,code,sci,ok,day,big,empty,source\r\n"
        'a.png,"red, and\r\n""round""",12,-3.50,007,1e5,True,2024-01-31,9999999999999999999,,web\r\n'
        "\r\n"
        "b.png,42,-0,0.0,A7,1.5e3,false,x,9223372036854775807, ,\r\n"
    )
    first = {"n": 12, "x": -3.5, "code": "007", "sci": "1e5", "ok": True, "day": "2024-01-31"}
    first |= {"big": "9999999999999999999", "source_": "web"}
    second = {"n": 0, "x": 0.0, "code": "A7", "sci": 1500.0, "ok": False, "day": "x", "big": 2**63 - 1}
    found, problems = read("m.csv", table)
    assert found == [("a.png", 'red, and\r\n"round"', first), ("b.png", "42", second)]
    assert [type(found[1][2][key]) for key in ("n", "x", "ok")] == [int, float, bool]
    assert problems == []
    untyped, _ = read("m.csv", table, typed=False)
    assert untyped[0][2]["n"] == "12"


@pytest.mark.parametrize(("name", "delimiter"), [("m.csv", ","), ("m.csv", ";"), ("m.csv", "\t"), ("m.tsv", "\t")])
def test_a_table_by_its_header(read, name, delimiter):
    table = f'file{delimiter} text {delimiter}n\na.png{delimiter} "red{delimiter}"{delimiter}1\n'
    assert read(name, table) == ([("a.png", f"red{delimiter}".strip(), {"n": 1})], [])


def test_columns_by_any_name(read):
    table = "caption,img,title,path\nnot this,a.png,red,elsewhere\n"
    assert read("m.csv", table, image_column="img", caption_column="title") == (
        [("a.png", "red", {"caption": "not this", "path": "elsewhere"})],
        [],
    )


def test_a_row_a_caption(read):
    """As in Flickr8k: what follows each other with the same picture is one record."""
    table = "image,caption,n\na.png,red,1\n./a.png,a red square,2\nsub/../a.png,,3\nb.png,blue,4\na.png,again,5\n"
    assert read("m.csv", table) == (
        [
            ("a.png", "red", {"n": 1, "captions": ["red", "a red square"]}),
            ("b.png", "blue", {"n": 4}),
            ("a.png", "again", {"n": 5}),
        ],
        [],
    )


def test_its_records_are_those_of_the_folder(folder, monkeypatch):
    """The same sources and facts, so that a folder that was indexed without captions gets them in place."""
    (folder / "m.csv").write_text("image,caption\na.png,red\nsub/c.png,green\nb.png,blue\n")
    monkeypatch.chdir(folder.parent)
    there = {record.source: record.metadata for record in records_in(folder)}
    for manifest, images in ((folder / "m.csv", None), (os.path.join(folder.name, "m.csv"), folder.name)):
        assert {record.source: record.metadata for record in records_from(manifest, images=images)} == there
    with connect(":memory:") as client:
        collection = ClipCollection(client, "squares", FakeEncoder())
        collection.add(records_in(folder))
        assert collection.add(records_from(folder / "m.csv")).embedded == 3
        assert (collection.count(), collection.search("green", using="text", limit=1)[0].text) == (3, "green")


def test_what_the_manifest_says_counts_before_the_file(folder):
    (folder / "m.jsonl").write_text('{"image": "a.png", "width": 640, "year": 1999, "file_name": "x"}')
    (record,) = records_from(folder / "m.jsonl", scope="tenant", image_column="image")
    assert {key: record.metadata[key] for key in ("width", "height", "year", "file_name")} == {
        "width": 640, "height": 6, "year": 1999, "file_name": "x"
    }  # fmt: skip
    assert record.scope == "tenant"


def test_a_picture_that_is_not_there_is_a_record(folder):
    (folder / "m.csv").write_text("image,caption\ngone.png,red\n")
    (record,) = records_from(folder / "m.csv")
    assert record.metadata == {"file_name": "gone.png", "folder": ".", "file_type": "image/png"}
    with pytest.raises(ImageNotFoundError):
        open_image(record.image)


OUTSIDE = "leads out of"
IMPOSSIBLE = "is not a possible file name"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("../secret.png", OUTSIDE),
        ("sub/../../secret.png", OUTSIDE),
        ("/etc/passwd", OUTSIDE),
        ("//etc/passwd", OUTSIDE),
        ("..", OUTSIDE),
        ("../images-of-others/a.png", OUTSIDE),
        ("http://169.254.169.254/a.png", "is a URL. Download it"),
        ("data:image/png;base64,AAAA", "is a URL. Download it"),
        ("FILE:///etc/passwd", "is a URL. Download it"),
        ("a\0.png", IMPOSSIBLE),
        ("\ud800.png", IMPOSSIBLE),
        ("", "is '', not a path"),
        (None, "is None, not a path"),
        (285, "is 285, not a path"),
        (["a.png"], "is ['a.png'], not a path"),
    ],
)
def test_a_path_that_is_none_or_leads_out_is_left_out(folder, read, value, reason):
    (folder / "images").mkdir()
    found, [problem] = read("m.jsonl", json.dumps({"image": value}) + '\n{"image": "b.png"}', images=folder / "images")
    assert [path for path, *_ in found] == [os.path.join("images", "b.png")]
    assert problem.startswith("m.jsonl, line 1: its image ")
    assert reason in problem


def test_a_path_outside_is_taken_when_asked(folder):
    (folder / "sub" / "m.jsonl").write_text(
        json.dumps({"image": "../a.png"}) + "\n" + json.dumps({"image": str(folder / "b.png")})
    )
    records = list(records_from(folder / "sub" / "m.jsonl", allow_outside=True))
    assert [(record.source, record.metadata["folder"]) for record in records] == [
        (str(folder / "a.png"), ".."),
        (str(folder / "b.png"), ".."),
    ]


def test_an_absolute_path_in_the_folder_leads_nowhere_else(folder, read):
    assert read("m.jsonl", {"image": str(folder / "sub" / "c.png")}) == ([("sub/c.png", None, {})], [])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "img,title\na.png,red\n", r"no column 'image' or 'image_path' or .* It has \['img', 'title'\]"),
        ("m.jsonl", '{"img": "a.png"}\n{"title": "x"}', r"It has \['img', 'title'\]. Name the right one as image_col"),
        ("m.json", [{"img": "a.png"}], r"It has \['img'\]"),
        ("m.csv", "", "has no header of column names"),
        ("m.csv", ",,\n", "has no header of column names"),
        ("m.csv", "image,caption\n".encode("utf-16"), "has no header of column names, as UTF-8"),
        ("m.csv", 'image,"caption\n', "The header of .* is not CSV: unexpected end of data"),
        ("m.csv", "image,n,n\na.png,1,2\n", r"columns of the same name: \['n'\]"),
        ("m.json", "", "line 1 is not JSON: Expecting value"),
        ("m.json", '[{"image": "a.png"},\n{"image": }]', "m.json, line 2 is not JSON: Expecting value"),
        ("m.json", "[" * 200_000, "is not JSON"),
        ("m.json", b'["\xff"]', "is not JSON"),
        ("m.json", {"a.png": "red"}, "neither a list of objects nor COCO captions"),
        ("m.json", "3", "neither a list of objects nor COCO captions"),
        ("m.json", {"images": [], "annotations": {}}, "The 'annotations' .* are a dict, not a list"),
        ("m.xlsx", "image\n", "is of no known format. Name it .json, .jsonl, .ndjson, .csv, .tsv"),
    ],
)
def test_a_manifest_that_is_none_is_refused_at_the_call(folder, name, content, message):
    content = content if isinstance(content, (str, bytes)) else json.dumps(content)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message):
        records_from(folder / name)


def test_what_is_not_there_is_refused_at_the_call(folder):
    for name in ("gone.json", "gone.csv", "gone.jsonl"):
        with pytest.raises(ConfigError, match="cannot be read: No such file"):
            records_from(folder / name)
    (folder / "m.csv").write_text("image,caption\na.png,red\n")
    with pytest.raises(ConfigError, match=r"There is no folder .*nowhere"):
        records_from(folder / "m.csv", images=folder / "nowhere")
    with pytest.raises(ConfigError, match=r"no column 'title'. It has \['image', 'caption'\]. .* as caption_column"):
        records_from(folder / "m.csv", caption_column="title")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", "image,caption\n"),
        ("m.jsonl", ""),
        ("m.jsonl", "\n\n"),
        ("m.json", "[]"),
        ("m.json", '{"images": []}'),
    ],
)
def test_an_empty_manifest_has_no_records(read, name, content):
    assert read(name, content) == ([], [])


def test_broken_lines_cost_themselves_and_are_named(read):
    lines = [
        b'{"image": "a.png"}',
        b"",
        b"{",
        b"[1]",
        b'{"img": 1}',
        b'{"image": "b.png", "caption": 3}',
        b'{"image": "\xff"}',
    ]
    found, problems = read("m.jsonl", b"\n".join([*lines, b"[" * 100_000, b'{"image": "sub/c.png"}']))
    assert [path for path, *_ in found] == ["a.png", "sub/c.png"]
    assert [problem.partition(" Save")[0] for problem in problems[:-1]] == [
        "m.jsonl, line 3: it is not JSON: Expecting property name enclosed in double quotes: line 2 column 1 (char 2)",
        "m.jsonl, line 4: it is a JSON list, not an object",
        "m.jsonl, line 5: it has no 'image', only ['img']. The row is left out.",
        "m.jsonl, line 6: its 'caption' is 3, neither a text nor a list of texts. The row is left out.",
        "m.jsonl, line 7: it is not UTF-8.",
    ]
    assert problems[-1].startswith("m.jsonl, line 8: it is not JSON: ")


def test_broken_rows_cost_themselves_and_are_named(read):
    table = [
        b"image,caption", b'a.png,"two', b'lines"', b"b.png", b'b.png,"x"y', b"b.png,ein B\xe4r", b"b.png,1,2",
        b"b.png," + b"x" * 200_000, b"sub/c.png,green", b'b.png,"never closed', b"",
    ]  # fmt: skip
    found, problems = read("m.csv", b"\n".join(table))
    assert [(path, text) for path, text, _ in found] == [("a.png", "two\nlines"), ("sub/c.png", "green")]
    assert problems == [
        "m.csv, line 4: it has 1 cells, and the header has 2 columns",
        "m.csv, line 5: it is not CSV: ',' expected after '\"'",
        "m.csv, line 6: it is not UTF-8. Save the manifest as UTF-8",
        "m.csv, line 7: it has 3 cells, and the header has 2 columns",
        "m.csv, line 8: it is not CSV: field larger than field limit (131072)",
        "m.csv, line 10: it is not CSV: unexpected end of data",
    ]


def test_a_line_without_end_is_refused(folder, monkeypatch):
    monkeypatch.setattr(rows, "MAX_LINE", 100)
    (folder / "m.jsonl").write_text('{"image": "a.png"}\n' + " " * 101)
    with pytest.raises(ConfigError, match=r"m\.jsonl, line 2 has more than 100 characters"):
        records_from(folder / "m.jsonl")


def test_problems_are_logged_unless_someone_wants_them(folder, caplog):
    (folder / "m.jsonl").write_text('{"image": "../a.png"}\n{"image": "b.png"}')
    with caplog.at_level(logging.WARNING):
        assert len(list(records_from(folder / "m.jsonl"))) == 1
    (message,) = caplog.messages
    assert message.startswith("m.jsonl, line 1: its image '../a.png' leads out of ")
    assert message.endswith("or pass allow_outside=True. The row is left out.")


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_a_million_rows_are_not_read_before_they_are_asked_for(folder, name, monkeypatch):
    """What is read ahead is a hundred rows, by which its columns are known."""
    row = {"m.csv": "a{}.png,red\n", "m.jsonl": '{{"image": "a{}.png"}}\n'}[name]
    with open(folder / name, "w") as file:
        file.write("image,caption\n" if name == "m.csv" else "")
        file.writelines(row.format(number) for number in range(100_000))
    read, lines = [], rows._lines
    monkeypatch.setattr(rows, "_lines", lambda *args: (read.append(line) or line for line in lines(*args)))
    records = records_from(folder / name)
    assert len(list(islice(records, 1000))) == 1000
    assert len(read) <= 1002
    records.close()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="tells open files by /proc")
def test_who_stops_in_the_middle_leaves_no_file_open(folder):
    (folder / "m.csv").write_text("image,caption\n" + "a.png,red\nb.png,blue\n" * 200)
    before = os.listdir("/proc/self/fd")
    records = records_from(folder / "m.csv")
    next(records)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    del records
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_the_sample_photos_by_their_manifest(photos):
    records = list(records_from(photos / "manifest.json"))
    assert [record.source for record in records] == [record.source for record in records_in(photos)]
    assert {len(record.metadata["captions"]) for record in records} == {5}
    assert {record.text == record.metadata["captions"][0] for record in records} == {True}
    assert records[0].text == "A big burly grizzly bear is show with grass in the background."
    assert records[0].metadata["license"] == "CC-BY-2.0"
    assert records[0].metadata["source_"].startswith("http://")
