"""What is read of a picture's EXIF, and that nothing in it can hurt."""

import json
import struct
import zlib
from datetime import datetime, timezone
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clip_qdrant import ClipCollection, open_image, records_in
from clip_qdrant.errors import ImageDecodeError
from clip_qdrant.sources import read_exif
from clip_qdrant.sources.tiff_tags import TagReader
from clip_qdrant.testing import FakeEncoder
from tests.exif_data import (
    ASCII,
    BYTE,
    GPS,
    LENS,
    LONG,
    MAKE,
    MODEL,
    OFFSET,
    ORIENTATION,
    SHORT,
    SIGNED,
    TAKEN,
    UNDEFINED,
    UTF8,
    ascii_tag,
    block,
    position,
    rationals,
    save,
    whole,
)

TYPICAL = block(
    [ascii_tag(MAKE, "Canon"), ascii_tag(MODEL, "Canon EOS 5D")],
    [ascii_tag(TAKEN, "2021:12:31 23:30:00"), ascii_tag(OFFSET, "-05:00"), ascii_tag(LENS, "EF 24-70mm f/2.8L")],
    position("S", (33, 51, 24), "W", (70, 30, 36)),
)
SIZE = {"width": 8, "height": 6}


@pytest.fixture
def exif(tmp_path):
    """What is read of a picture with this block, beside its size."""

    def read(data):
        found = read_exif(save(tmp_path / "a.jpg", data))
        assert {key: found.pop(key) for key in SIZE} == SIZE
        return found

    return read


def test_reads_camera_lens_moment_and_place(exif):
    assert exif(TYPICAL) == {
        "camera": "Canon EOS 5D",
        "lens": "EF 24-70mm f/2.8L",
        "taken": "2021-12-31T23:30:00-05:00",
        "location": {"lat": -33.8566667, "lon": -70.51},
    }


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "avif"])
def test_reads_every_format_that_has_it(tmp_path, suffix):
    written = Image.Exif()
    written[MAKE], written[MODEL] = "Apple", "iPhone 15"
    written.get_ifd(0x8769)[TAKEN] = "2024:02:29 08:00:00"
    written.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 18.0), 3: "E", 4: (13.0, 24.0, 0.0)})
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (8, 6)).save(path, exif=written.tobytes())
    assert read_exif(path) == {
        **SIZE,
        "camera": "Apple iPhone 15",
        "taken": "2024-02-29T08:00:00",
        "location": {"lat": 52.505, "lon": 13.4},
    }


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "avif"])
@pytest.mark.parametrize("orientation", range(10))
def test_its_size_is_that_of_the_opened_picture(tmp_path, suffix, orientation):
    written = Image.Exif()
    written[ORIENTATION] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (8, 6)).save(path, exif=written)
    found = read_exif(path)
    assert (found["width"], found["height"]) == open_image(path).size


@pytest.mark.parametrize("tag", [None, 1, 3, 8])
@pytest.mark.parametrize("xmp", [1, 6])
def test_the_size_of_a_tiff_with_two_opinions(tmp_path, tag, xmp):
    info = {700: b'<x tiff:Orientation="%d"/>' % xmp} | ({ORIENTATION: tag} if tag else {})
    Image.new("RGB", (8, 6)).save(tmp_path / "a.tiff", tiffinfo=info)
    found = read_exif(tmp_path / "a.tiff")
    assert (found["width"], found["height"]) == open_image(tmp_path / "a.tiff").size


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D70", "NIKON D70"),
        ("Apple", "iPhone 15", "Apple iPhone 15"),
        ("SONY", "", "SONY"),
        ("", "DSC-RX100", "DSC-RX100"),
        ("  SAMSUNG  ", " SM-G991B\n", "SAMSUNG SM-G991B"),
        ("Xiaomi", "小米 14", "Xiaomi 小米 14"),
        (b"Caf\xe9\0", "1", "Café 1"),
        (b"Leica\0Camera\0\0", "M\x07 11", "Leica M 11"),
        ("x" * 201, "M11", "M11"),
        ("x" * 5000, "M11", "M11"),
        ("\0", "\0\0\0\0\0", None),
    ],
)
def test_names_the_maker_once(exif, make, model, camera):
    assert exif(block([ascii_tag(MAKE, make), ascii_tag(MODEL, model)])).get("camera") == camera


def test_a_utf_8_tag_is_a_text_too(exif):
    name = "ライカ M11".encode()
    assert exif(block([(MODEL, UTF8, len(name), name)])) == {"camera": "ライカ M11"}


@pytest.mark.parametrize(
    ("taken", "offset", "moment"),
    [
        ("2023:07:01 12:30:00", "+02:00", "2023-07-01T12:30:00+02:00"),
        ("2023:07:01 12:30:00", "Z", "2023-07-01T12:30:00+00:00"),
        ("2023:07:01 12:30:00", "-00:30", "2023-07-01T12:30:00-00:30"),
        ("2023:07:01 12:30:00", "", "2023-07-01T12:30:00"),
        ("2023:07:01 12:30:00", "+25:00", "2023-07-01T12:30:00"),
        ("2023:07:01 12:30:00", "   :  ", "2023-07-01T12:30:00"),
        ("2023-07-01 12:30:00.123", "", "2023-07-01T12:30:00"),
        ("0001:01:01 00:00:00", "", "0001-01-01T00:00:00"),
        ("0000:00:00 00:00:00", "+02:00", None),
        ("    :  :     :  :  ", "", None),
        ("2023:02:29 12:30:00", "", None),
        ("2023:07:01 24:00:00", "", None),
        ("2023:07:01", "", None),
        ("٢٠٢٣:07:01 12:30:00", "", None),
    ],
)
def test_a_moment_has_the_offset_that_the_camera_wrote_or_none(exif, taken, offset, moment):
    assert exif(block([], [ascii_tag(TAKEN, taken), ascii_tag(OFFSET, offset)])).get("taken") == moment


def test_a_directory_may_be_pointed_to_as_one(exif):
    data = bytearray(TYPICAL)
    pointer = data.index(struct.pack("<HH", 0x8769, LONG))
    data[pointer + 2] = 13
    assert exif(bytes(data)) == exif(TYPICAL)


def test_no_more_is_read_than_a_value_can_have():
    class Counted(BytesIO):
        most = 0

        def read(self, size=-1):
            self.most = max(self.most, size)
            return super().read(size)

    file = Counted(block([(MAKE, ASCII, 2**32 - 1, struct.pack("<I", 8)), ascii_tag(MODEL, "x" * 100)]))
    reader = TagReader(file)
    assert reader.directory(reader.first, (MAKE, MODEL)) == {MODEL: "x" * 100}
    assert file.most <= 101


@pytest.mark.parametrize(
    "gps",
    [
        position("N", (91, 0, 0)),
        position("N", (90, 0, 1)),
        position(lon=(180, 1, 0)),
        position("X"),
        position(east_west=""),
        position("N", (0, 0, 0), "E", (0, 0, 0)),
        position("N", (52, 30, 0), "E", (13, 24, 0), ascii_tag(9, "V")),
        position()[1:],
        position()[:3],
        [*position()[:1], whole(2, 52), *position()[2:]],
        [*position()[:1], rationals(2, (0, 0), (0, 0), (0, 0)), *position()[2:]],
        [*position()[:1], rationals(2, (52, 1), (30, 0), (0, 1)), *position()[2:]],
        [*position()[:1], rationals(2, (52, 1), (-30, 1), (0, 1), kind=SIGNED), *position()[2:]],
        [*position()[:1], rationals(2, (-(2**31), -1), (2, 1), (0, 1), kind=SIGNED), *position()[2:]],
        [*position()[:1], ascii_tag(2, "52.5"), *position()[2:]],
        [(1, SHORT, 1, b"N\0"), *position()[1:]],
    ],
)
def test_a_place_that_is_none_is_left_out(exif, gps):
    assert exif(block([], [], gps)) == {}


def test_places_at_the_edges_and_with_zeros(exif):
    assert exif(block([], [], position("S", (90, 0, 0), "W", (180, 0, 0))))["location"] == {"lat": -90, "lon": -180}
    assert exif(block([], [], position("S", (0, 0, 0), "E", (6, 30, 0))))["location"] == {"lat": 0, "lon": 6.5}
    assert exif(block([], [], position("N", (0, 0, 36), "W", (0, 0, 0))))["location"] == {"lat": 0.01, "lon": 0}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\0\0\0\0",
        b"MM\0*\0\0\0\x08\xff\xff",
        b"no EXIF at all",
        struct.pack("<2sHIH", b"II", 42, 8, 65535),
        TYPICAL[:60],
        block([(MAKE, ASCII, 2**32 - 1, b"\0\0\0\0\0")]),
        block([(MAKE, ASCII, 0, b"")]),
        block([(MAKE, 99, 4, b"abcd")]),
        block([(MAKE, UNDEFINED, 4, b"abcd")]),
        block([(MAKE, SHORT, 2, b"abcd")]),
        block([(MAKE, ASCII, 100, struct.pack("<I", 2**32 - 1))]),
        block([(0x8769, LONG, 1, struct.pack("<I", 8)), (GPS, LONG, 1, struct.pack("<I", 8))]),
        block([(0x8769, ASCII, 4, b"8\0\0\0"), (GPS, BYTE, 4, b"\x08\0\0\0")]),
        block([], [(TAKEN, SHORT, 1, b"\1\0"), (LENS, LONG, 1, b"\1\0\0\0")]),
    ],
)
def test_a_block_that_is_broken_says_nothing(exif, data):
    assert exif(data) == {}


@given(st.data())
def test_no_bytes_can_make_it_raise_or_say_what_json_cannot(tmp_path_factory, data):
    broken = bytearray(TYPICAL)
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(TYPICAL) - 1), st.integers(0, 255)))):
        broken[place] = value
    found = read_exif(
        save(tmp_path_factory.getbasetemp() / "broken.jpg", bytes(broken[: data.draw(st.integers(0, 400))]))
    )
    assert found["width"] * found["height"] == 48
    json.dumps(found, allow_nan=False).encode()
    assert found.keys() <= {"width", "height", "camera", "lens", "taken", "location"}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "gif", "avif"])
@given(cut=st.integers(0, 700), place=st.integers(0, 700), value=st.integers(0, 255))
def test_a_file_that_is_broken_anywhere_is_no_error(tmp_path_factory, suffix, cut, place, value):
    file = BytesIO()
    Image.new("RGB", (8, 6), "red").save(file, {"jpg": "JPEG"}.get(suffix, suffix), exif=b"Exif\0\0" + TYPICAL)
    data = bytearray(file.getvalue())
    data[min(place, len(data) - 1)] = value
    path = tmp_path_factory.getbasetemp() / f"cut.{suffix}"
    path.write_bytes(data[: len(data) - cut])
    json.dumps(read_exif(path), allow_nan=False)


def test_no_pixel_is_decoded(tmp_path):
    """Of a picture whose pixels are missing everything is known, and of one too large to decode the size."""
    path = save(tmp_path / "a.jpg", TYPICAL, size=(512, 512))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ImageDecodeError):
        open_image(path)
    assert read_exif(path)["camera"] == "Canon EOS 5D"
    header = struct.pack(">I4sIIBBBBB", 13, b"IHDR", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(header[4:]))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + crc + struct.pack(">I4s", 0, b"IDAT") + b"\x35\xaf\x06\x1e")
    assert read_exif(path) == {"width": 2**31 - 1, "height": 2**31 - 1}


def test_an_icon_is_not_opened_since_that_decodes_it(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.ico")
    assert read_exif(tmp_path / "a.ico") == {}


def test_what_is_no_picture_says_nothing(tmp_path):
    (tmp_path / "notes.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    for name in ("notes.jpg", "empty.jpg", "gone.jpg", "."):
        assert read_exif(tmp_path / name) == {}


def test_the_year_is_that_of_the_picture_and_else_of_the_file(tmp_path):
    """The camera's year: on New Year's Eve in New York it is next year in UTC already."""
    save(tmp_path / "a.jpg", TYPICAL)
    save(tmp_path / "b.jpg", block([], [ascii_tag(TAKEN, "0000:00:00 00:00:00")]))
    this_year = datetime.fromtimestamp((tmp_path / "b.jpg").stat().st_mtime, tz=timezone.utc).year
    assert [record.metadata["year"] for record in records_in(tmp_path)] == [2021, this_year]
    assert [record.metadata["year"] for record in records_in(tmp_path, exif=False)] == [this_year] * 2


def test_without_exif_no_file_is_opened(tmp_path):
    save(tmp_path / "a.jpg", TYPICAL)
    (record,) = records_in(tmp_path, exif=False)
    assert record.metadata.keys() == {"file_name", "folder", "file_type", "file_size", "modified", "year"}


def test_files_are_opened_when_it_is_their_turn(tmp_path):
    records = records_in(tmp_path)
    save(tmp_path / "a.jpg", TYPICAL)
    save(tmp_path / "b.jpg")
    assert next(records).metadata["camera"] == "Canon EOS 5D"
    save(tmp_path / "b.jpg", block([ascii_tag(MODEL, "late")]))
    assert next(records).metadata["camera"] == "late"


def test_filters_find_it_by_place_moment_and_camera(client, name, tmp_path):
    save(tmp_path / "south.jpg", TYPICAL, colour="red")
    noon = [ascii_tag(TAKEN, "2022:06:01 12:00:00")]
    save(tmp_path / "berlin.jpg", block([ascii_tag(MODEL, "M11")], noon, position()), colour="blue")
    save(tmp_path / "plain.jpg", colour="green")
    collection = ClipCollection(client, name, FakeEncoder())
    assert collection.add(records_in(tmp_path)).embedded == 3

    def found(where):
        return sorted(hit.metadata["file_name"] for hit in collection.search("red", where=where))

    assert found({"location": {"near": {"lat": 52.52, "lon": 13.4, "km": 5}}}) == ["berlin.jpg"]
    assert found({"taken": {"gte": "2022-01-01T04:30:00Z"}}) == ["berlin.jpg", "south.jpg"]
    assert found({"taken": {"gte": "2022-01-01T04:30:01Z"}}) == ["berlin.jpg"]
    assert found({"taken": {"gte": "2022-06-01T12:00:00Z", "lte": "2022-06-01T12:00:00Z"}}) == ["berlin.jpg"]
    assert found({"camera": "Canon EOS 5D", "year": 2021, "width": {"gte": 8}}) == ["south.jpg"]
    assert found({"camera": None}) == ["plain.jpg"]


def test_the_sample_photos_all_tell_their_size(photos):
    found = {path: read_exif(path) for path in photos.glob("*.jpg")}
    assert len(found) == 111
    for path, metadata in found.items():
        with Image.open(path) as picture:
            assert metadata == {"width": picture.width, "height": picture.height}
