"""Pairs out of folders, manifests and collections; their split; and captions that are easily taken for theirs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clip_qdrant.collection.clip import ClipCollection
from clip_qdrant.collection.mining import MinedNegatives
from clip_qdrant.collection.pairs import group_near_duplicates, pairs_from_collection, pairs_from_records, split
from clip_qdrant.errors import ConfigError
from clip_qdrant.images import content_hash
from clip_qdrant.models.training_pairs import Pair
from clip_qdrant.sources import records_from, records_in
from clip_qdrant.storage.connect import connect
from clip_qdrant.testing import FakeEncoder
from clip_qdrant.types import Record


@pytest.fixture
def folder(tmp_path):
    """Four pictures: two with captions, one of them twice under two names, one without."""
    place = tmp_path / "art"
    place.mkdir()
    for name, colour in (("a", "red"), ("b", "lime"), ("c", "red"), ("d", "blue")):
        Image.new("RGB", (16, 16), colour).save(place / f"{name}.png")
    (place / "a.txt").write_text("a red one")
    (place / "b.txt").write_text("a green one")
    (place / "c.json").write_text(json.dumps({"captions": ["A red thing", "a red one"], "kind_of": "warm"}))
    return place


def captions(pairs):
    return {Path(pair.image).name: pair.captions for pair in pairs}


def test_a_folder_gives_pairs_by_content(folder, caplog):
    (folder / "e.png").symlink_to(folder / "nowhere.png")
    (folder / "e.txt").write_text("lost")
    pairs = pairs_from_records(records_in(folder, exif=False), concept_field="kind_of")
    assert captions(pairs) == {"a.png": ("a red one", "A red thing"), "b.png": ("a green one",)}
    assert [pair.concept for pair in pairs] == ["warm", ""]
    assert pairs[0].content == content_hash(folder / "c.png")
    assert "left out of training" in caplog.text and "e.png" in caplog.text


def test_a_manifest_gives_all_captions_of_a_picture(folder):
    rows = [{"file_name": "a.png", "captions": ["one", "two"]}, {"file_name": "d.png", "caption": " three "}]
    (folder / "list.json").write_text(json.dumps(rows))
    assert captions(pairs_from_records(records_from(folder / "list.json"))) == {
        "a.png": ("one", "two"),
        "d.png": ("three",),
    }


def test_records_without_picture_or_caption_are_no_pairs():
    image = Image.new("RGB", (8, 8), "red")
    records = [Record("a", None, "words"), Record("b", image, None), Record("c", image, "  "), Record("d", image, "ok")]
    assert [pair.captions for pair in pairs_from_records(records)] == [("ok",)]


def test_a_collection_gives_the_pictures_of_a_folder_and_no_others(folder, tmp_path, caplog):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), "gold").save(secret)
    with connect(":memory:") as client:
        clip = ClipCollection(client, "art", FakeEncoder())
        clip.add(records_in(folder, exif=False))
        clip.add(
            [Record(str(secret), secret, "not yours"), Record(str(folder / ".." / "secret.png"), secret, "nor this")]
        )
        clip.add([Record("note", None, "only words")])
        pairs = pairs_from_collection(clip.vectors, folder)
        assert {frozenset(pair.captions) for pair in pairs} == {
            frozenset({"a red one", "A red thing"}),
            frozenset({"a green one"}),
        }
        assert "2 points of 'art' are left out" in caplog.text
        only = pairs_from_collection(clip.vectors, folder, where={"text": "a green one"})
        assert captions(only) == {"b.png": ("a green one",)}
        named = pairs_from_collection(clip.vectors, folder, caption_field="file_name", concept_field="folder")
        assert {caption for pair in named for caption in pair.captions} == {"a.png", "b.png", "c.png", "d.png"}
        with pytest.raises(ConfigError, match="There is no folder"):
            pairs_from_collection(clip.vectors, folder / "none")


def numbered(count, concepts=0):
    return [Pair(f"{n}.png", ("x",), f"c{n % concepts}" if concepts else "", f"hash {n}") for n in range(count)]


@given(st.integers(0, 1000), st.integers(40, 200), st.integers(0, 30))
def test_no_content_and_no_concept_is_in_two_parts(seed, count, concepts):
    pairs = numbered(count, concepts) * 2
    try:
        parts = split(pairs, test=0.3, judge=0.2, seed=seed)
    except ConfigError as error:
        assert "too few" in str(error)
        return
    keys = [{pair.concept or pair.content for pair in part} for part in parts]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    assert sum(map(len, parts)) == len(pairs)


def test_what_is_added_moves_nothing():
    before, after = split(numbered(500), seed=3), split([*numbered(700)][::-1], seed=3)
    for old, new in zip(before, after, strict=True):
        assert {pair.content for pair in old} <= {pair.content for pair in new}
    assert 40 < len(before.test) < 60 and 40 < len(before.judge) < 60
    assert {pair.content for pair in split(numbered(500), seed=4).test} != {pair.content for pair in before.test}


def test_parts_can_be_empty_when_asked_to_be():
    parts = split(numbered(5), test=0.0, judge=0.0)
    assert len(parts.train) == 5 and not parts.test and not parts.judge


@pytest.mark.parametrize(
    ("pairs", "options", "message"),
    [
        (numbered(50), {"test": 0.6, "judge": 0.4}, "together below 1"),
        (numbered(50), {"test": -0.1}, "from 0"),
        (numbered(2), {"test": 0.5}, "too few"),
        ([], {"test": 0.0, "judge": 0.0}, "Of 0 pairs the part to train got 0"),
        ([Pair("a.png", ("x",))], {}, "neither content nor concept"),
        ([Pair("a.png", ("x",), "c", "h"), Pair("a.png", ("y",), "", "h")], {}, "on two sides"),
    ],
)
def test_splits_that_cannot_be(pairs, options, message):
    with pytest.raises(ConfigError, match=message):
        split(pairs, **options)


def test_pictures_that_look_alike_become_one_concept():
    colours = [("red", ""), ((250, 3, 3), ""), ("lime", "green"), ((2, 250, 2), ""), ("blue", ""), ("white", "green")]
    pairs = [
        Pair(Image.new("RGB", (8, 8), colour), ("x",), concept, str(index))
        for index, (colour, concept) in enumerate(colours)
    ]
    grouped = [pair.concept for pair in group_near_duplicates(pairs, FakeEncoder(), threshold=0.98)]
    assert grouped[0] == grouped[1] != ""
    assert grouped[2] == grouped[3] == grouped[5] == "green"
    assert grouped[4] == ""
    assert group_near_duplicates([], FakeEncoder()) == []
    broken = Pair("none.png", ("x",), content="gone")
    with_broken = [broken, *pairs[:2], broken, *pairs[2:]]
    found = group_near_duplicates(with_broken, FakeEncoder(), threshold=0.98)
    assert [pair.concept for pair in found] == ["", *grouped[:2], "", *grouped[2:]]
    assert group_near_duplicates([broken], FakeEncoder()) == [broken]


def test_the_order_of_pictures_does_not_name_their_group():
    colours = ["red", (250, 3, 3), (253, 2, 1), "lime", (2, 250, 2)]
    pairs = [
        Pair(Image.new("RGB", (8, 8), colour), ("x",), {3: "zebra", 4: "ant"}.get(index, ""), f"{9 - index}")
        for index, colour in enumerate(colours)
    ]
    wanted = {"9": "like 7", "8": "like 7", "7": "like 7", "6": "ant", "5": "ant"}
    for shuffled in (pairs, pairs[::-1], pairs[2:] + pairs[:2]):
        found = group_near_duplicates(shuffled, FakeEncoder(), threshold=0.98)
        assert {pair.content: pair.concept for pair in found} == wanted


class Asked:
    """A collection that counts what it is asked."""

    def __init__(self, vectors):
        self._vectors, self.requests = vectors, []

    def with_content(self, hashes):
        return self._vectors.with_content(hashes)

    def search_batch(self, vectors, **options):
        self.requests.append(len(vectors))
        return self._vectors.search_batch(vectors, **options)


def striped(red):
    """Ten columns, so many of them red and the rest blue."""
    image = Image.new("RGB", (10, 4), "blue")
    image.paste("red", (0, 0, red, 4))
    return image


def test_negatives_are_captions_of_what_is_near_and_another_thing():
    words = {10: "ten", 9: "nine", 7: "seven", 5: "five", 0: "none"}
    with connect(":memory:") as client:
        clip = ClipCollection(client, "stripes", FakeEncoder())
        clip.add(Record(word, striped(red), f"{word} red", {"odd": red % 2}) for red, word in words.items())
        asked = Asked(clip.vectors)
        mined = MinedNegatives(asked, per_pair=1, ceiling=0.95)
        pairs = [Pair(striped(10), ("ten red",), content=content_hash(striped(10)))]
        # Nine of ten are too near to be something else.
        assert mined(pairs) == ["seven red"]
        assert mined(pairs) == ["seven red"] and asked.requests == [1, 0]
        # Its own captions are no wrong answers, whatever picture has them.
        own = [Pair(striped(10), ("x", "Seven Red"), content=content_hash(striped(10)))]
        assert MinedNegatives(clip.vectors, per_pair=1, ceiling=0.95)(own) == ["five red"]
        assert mined([Pair("x.png", ("x",), content="unknown"), Pair("y.png", ("y",))]) == []
        odd = MinedNegatives(clip.vectors, per_pair=5, ceiling=1.0, concept_field="odd")
        seven = [Pair(striped(7), ("seven red",), concept="1", content=content_hash(striped(7)))]
        assert odd(seven) == ["ten red", "none red"]
        few = MinedNegatives(clip.vectors, per_pair=5, ceiling=0.95, where={"odd": 0})
        assert few(pairs) == ["none red"]


def test_a_whole_batch_is_one_request():
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(20)]
    with connect(":memory:") as client:
        clip = ClipCollection(client, "noise", FakeEncoder())
        clip.add(Record(str(n), image, f"noise {n}") for n, image in enumerate(images))
        asked = Asked(clip.vectors)
        pairs = [Pair(image, (f"noise {n}",), content=content_hash(image)) for n, image in enumerate(images)]
        texts = MinedNegatives(asked, per_pair=2, ceiling=1.0)(pairs)
    assert asked.requests == [20] and len(texts) == len(set(texts)) > 2


@pytest.mark.parametrize("wrong", [{"per_pair": 0}, {"ceiling": 1.5}])
def test_negatives_that_cannot_be_mined(wrong):
    with pytest.raises(ConfigError, match="per_pair is at least 1"):
        MinedNegatives(None, **wrong)
