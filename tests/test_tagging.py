"""Tags in the payload of every point: written once, kept by an indexing, counted where they change."""

import numpy as np
import pytest
from PIL import Image
from qdrant_client import models

from clip_qdrant import ClipCollection, CollectionSchema
from clip_qdrant.collection import tagging
from clip_qdrant.collection.labels import LabelCollection
from clip_qdrant.collection.tagging import tag, untag
from clip_qdrant.errors import CollectionMismatchError, ConfigError, FilterError
from clip_qdrant.models.zero_shot import Calibration, ZeroShotClassifier
from clip_qdrant.testing import PALETTE, FakeEncoder
from clip_qdrant.types import Record

COLOURS = ["red", "green", "blue"]


class Counting(FakeEncoder):
    images = texts = 0

    def embed_images(self, images):
        images = list(images)
        self.images += len(images)
        return super().embed_images(images)

    def embed_texts(self, texts):
        self.texts += len(texts)
        return super().embed_texts(texts)


@pytest.fixture
def encoder():
    return Counting()


@pytest.fixture
def collection(client, name, encoder):
    """Two pictures and a text of each colour."""
    found = ClipCollection(client, name, encoder)
    found.add(records())
    encoder.images = encoder.texts = 0
    return found


def records(**metadata):
    for colour in COLOURS:
        for shade in range(2):
            rgb = tuple(max(0, value - 3 * shade) for value in PALETTE[colour])
            yield Record(f"{colour}-{shade}", Image.new("RGB", (8, 8), rgb), metadata=metadata)
        yield Record(f"{colour}-text", text=f"a {colour} page", metadata=metadata)


@pytest.fixture
def writes(monkeypatch):
    """The ids of the points that each call writes tags to."""
    calls = []
    real = tagging.write_tags

    def write(client, name, field, digest, changes):
        calls.append([id for id, *_ in changes])
        real(client, name, field, digest, changes)

    monkeypatch.setattr(tagging, "write_tags", write)
    return calls


def tags(collection, key="kind"):
    return {hit.source: hit.payload.get(key, "absent") for hit in collection.vectors.scan()}


def test_pictures_and_texts_get_their_label_by_their_stored_vectors(collection, encoder):
    report = tag(collection, COLOURS)
    assert (report.written, report.unchanged, report.skipped, report.total) == (9, 0, 0, 9)
    assert all(kind == source.split("-")[0] for source, kind in tags(collection).items())
    assert encoder.images == 0
    assert collection.vectors.facet("kind") == {"red": 3, "green": 3, "blue": 3}
    found = collection.search("anything", where={"kind": "red", "kind_confidence": {"gt": 0.5}})
    assert {hit.source for hit in found} == {"red-0", "red-1"}
    assert all(0.5 < sure <= 1 for sure in tags(collection, "kind_confidence").values())
    assert "_tags" not in collection.get([found[0].id])[0].metadata and found[0].metadata["kind"] == "red"


def test_the_same_labels_again_write_nothing(collection, writes):
    tag(collection, COLOURS)
    writes.clear()
    report = tag(collection, COLOURS)
    assert (report.written, report.unchanged, writes) == (0, 9, [])
    collection.add([Record("new", Image.new("RGB", (8, 8), PALETTE["green"]))])
    report = tag(collection, COLOURS)
    assert (report.written, report.unchanged) == (1, 9) and [len(call) for call in writes] == [1]
    assert tags(collection)["new"] == "green"


def test_other_labels_write_only_what_they_change(collection, writes):
    tag(collection, COLOURS)
    before = tags(collection, "kind_confidence")
    writes.clear()
    report = tag(collection, ["green", "red", "purple"])
    changed = {hit.id for hit in collection.vectors.scan() if hit.source.startswith("blue")}
    assert set(writes[0]) == changed and (report.written, report.unchanged) == (3, 6)
    after = tags(collection, "kind_confidence")
    assert all(abs(after[source] - before[source]) < 0.01 for source in after if not source.startswith("blue"))
    writes.clear()
    assert tag(collection, COLOURS).written == 3  # back again: those alone
    assert tags(collection) == {source: source.split("-")[0] for source in before}


def test_of_many_points_only_those_that_change_are_written(client, name, encoder, monkeypatch):
    """Counted at the client, not by our own report."""
    monkeypatch.setattr(tagging, "PAGE", 100)
    collection = ClipCollection(client, name, encoder)
    vectors = dict(zip(COLOURS, encoder.embed_texts(COLOURS).tolist(), strict=True))
    points = [models.PointStruct(id=at, vector={"text": vectors[COLOURS[at % 3]]}, payload={}) for at in range(900)]
    collection.vectors.upsert(points)
    requests, real = [], client.batch_update_points

    def batch_update_points(name, update_operations, **options):
        requests.append([id for one in update_operations for id in one.set_payload.points])
        return real(name, update_operations=update_operations, **options)

    monkeypatch.setattr(client, "batch_update_points", batch_update_points)
    for other in ("upsert", "set_payload", "overwrite_payload", "delete_payload", "update_vectors"):
        monkeypatch.setattr(client, other, None)
    read, scroll = [], client.scroll

    def counted(*given, **options):
        found = scroll(*given, **options)
        read.extend(found[0])
        return found

    monkeypatch.setattr(client, "scroll", counted)
    blue, others = set(range(2, 900, 3)), ["red", "green", "purple"]
    for labels, expected, looked_at in (
        (COLOURS, set(range(900)), 900),
        (COLOURS, set(), 0),
        (others, blue, 900),
        (others, set(), 600),
        (COLOURS, blue, 300),
    ):
        requests.clear()
        read.clear()
        report = tag(collection, labels)
        assert len(read) == looked_at
        written = [id for request in requests for id in request]
        assert set(written) == expected and len(written) == len(expected) == report.written
        assert report.unchanged == 900 - len(expected) and len(requests) <= 9


def test_a_confidence_that_moves_is_written(collection):
    tag(collection, COLOURS)
    sharp = tags(collection, "kind_confidence")
    soft = ZeroShotClassifier(collection.encoder, COLOURS, calibration=Calibration(temperature=60))
    assert tag(collection, soft).written == 9
    assert all(sure < sharp[source] for source, sure in tags(collection, "kind_confidence").items())


def test_an_interruption_loses_a_page_at_most(collection, monkeypatch, writes):
    monkeypatch.setattr(tagging, "PAGE", 2)
    seen = []

    def stop(report):
        seen.append(report.total)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tag(collection, COLOURS, on_progress=stop)
    assert seen == [2, 4] and sum(kind != "absent" for kind in tags(collection).values()) == 4
    writes.clear()
    report = tag(collection, COLOURS)
    assert (report.written, report.unchanged) == (5, 4) and max(map(len, writes)) == 2
    assert "absent" not in tags(collection).values()


def test_an_indexing_keeps_tags_and_embeds_nothing(collection, encoder):
    tag(collection, COLOURS)
    before = tags(collection)
    report = collection.add(records())
    assert report.unchanged == 9 and tags(collection) == before
    report = collection.add(records(year=2024))
    assert report.updated == 9 and encoder.images == 0
    assert tags(collection) == before and set(tags(collection, "year").values()) == {2024}
    assert tag(collection, COLOURS).written == 0


def test_what_has_another_content_is_tagged_anew(collection):
    tag(collection, COLOURS)
    collection.add([Record("red-0", Image.new("RGB", (8, 8), PALETTE["blue"]))])
    assert tags(collection)["red-0"] == "absent"
    report = tag(collection, COLOURS)
    assert (report.written, report.unchanged) == (1, 8) and tags(collection)["red-0"] == "blue"


def test_a_copy_is_tagged_for_itself(collection, encoder):
    tag(collection, COLOURS)
    report = collection.add([Record("copy", Image.new("RGB", (8, 8), PALETTE["red"]), scope="another owner")])
    assert report.copied == 1 and tags(collection)["copy"] == "absent"
    assert tag(collection, COLOURS).written == 1 and encoder.images == 0


def test_metadata_of_the_same_name_is_not_overwritten(collection):
    collection.add([Record("own", text="a red page", metadata={"kind": "invoice"})])
    with pytest.raises(ConfigError, match="has a 'kind' already, 'invoice', which is no tag"):
        tag(collection, COLOURS)
    assert tags(collection)["own"] == "invoice"
    assert tag(collection, COLOURS, where={"kind": None}).written == 9
    assert tag(collection, COLOURS, field="colour").written == 10


def test_metadata_that_comes_later_takes_the_place_of_the_tag(collection):
    tag(collection, COLOURS)
    collection.add([Record("red-text", text="a red page", metadata={"kind": "invoice"})])
    hit = next(hit for hit in collection.vectors.scan() if hit.source == "red-text")
    assert hit.payload["kind"] == "invoice" and not {"kind_confidence", "_tags"} & hit.payload.keys()
    with pytest.raises(ConfigError, match="is no tag"):
        tag(collection, ["red", "green"])


@pytest.mark.parametrize(
    "field", ["source", "modality", "text", "synthetic", "_tags", "doc_id", "a.b", "", "two words", 7]
)
def test_fields_that_cannot_be_tags(collection, encoder, field):
    with pytest.raises(ConfigError, match=r"payload key of clip-qdrant's own|plain name"):
        tag(collection, COLOURS, field=field)
    assert encoder.texts == 0


def test_a_field_with_an_index_of_another_kind_is_refused(client, name, encoder):
    collection = ClipCollection(client, name, encoder, schema=CollectionSchema(indexes={"year": "integer"}))
    if not client.get_collection(name).payload_schema:
        pytest.skip("local mode has no payload indexes")
    with pytest.raises(ConfigError, match=r"'year' of .* has an index for integer"):
        tag(collection, COLOURS, field="year")


def test_two_fields_live_side_by_side_and_can_be_removed(collection):
    tag(collection, COLOURS)
    tag(collection, ["red", "green"], field="warmth")
    assert tag(collection, COLOURS).written == tag(collection, ["red", "green"], field="warmth").written == 0
    assert untag(collection, "warmth") == 9 and untag(collection, "warmth") == 0
    assert set(tags(collection, "warmth").values()) == set(tags(collection, "warmth_confidence").values()) == {"absent"}
    assert collection.vectors.facet("kind") == {"red": 3, "green": 3, "blue": 3}
    assert tag(collection, COLOURS).written == 0
    assert tag(collection, COLOURS, field="warmth").written == 9


def test_none_of_these_has_no_label_and_is_found_as_that(collection):
    collection.add([Record("odd", Image.new("RGB", (8, 8), PALETTE["yellow"]))])
    sure = ZeroShotClassifier(collection.encoder, COLOURS, templates="name", calibration=Calibration(least_cosine=0.5))
    tag(collection, sure)
    assert tags(collection)["odd"] == tags(collection, "kind_confidence")["odd"] == "absent"
    assert [hit.source for hit in collection.vectors.scan(where={"kind": None})] == ["odd"]
    assert collection.vectors.facet("kind") == {"red": 3, "green": 3, "blue": 3}
    assert tag(collection, sure).written == 0
    assert tag(collection, COLOURS).written == 1  # none of these no more
    assert tag(collection, sure).written == 1 and tags(collection)["odd"] == "absent"


def test_many_labels_are_a_list(collection):
    two = Image.new("RGB", (16, 8), PALETTE["red"])
    two.paste(PALETTE["blue"], (8, 0, 16, 8))
    collection.add([Record("two", two), Record("none", Image.new("RGB", (8, 8), PALETTE["yellow"]))])
    limits = Calibration(least_cosine=0.4)
    many = ZeroShotClassifier(collection.encoder, COLOURS, multi_label=True, templates="name", calibration=limits)
    tag(collection, many)
    assert set(tags(collection)["two"]) == {"red", "blue"} and len(tags(collection, "kind_confidence")["two"]) == 2
    assert tags(collection)["none"] == [] and tag(collection, many).written == 0
    assert {hit.source for hit in collection.vectors.scan(where={"kind": "blue"})} == {
        "two", "blue-0", "blue-1", "blue-text",
    }  # fmt: skip
    assert tag(collection, COLOURS).written == 11  # one label is no list


def test_a_tree_writes_the_way_down(collection):
    tree = {"warm": ["red", "yellow"], "cold": ["green", "blue"]}
    tag(collection, tree)
    assert tags(collection)["blue-0"] == "blue" and tags(collection, "kind_path")["blue-0"] == ["cold", "blue"]
    assert collection.vectors.facet("kind_path") == {"cold": 6, "warm": 3, "red": 3, "green": 3, "blue": 3}
    tag(collection, COLOURS)  # no tree any more
    assert tags(collection, "kind_path")["blue-0"] == "absent"
    assert tag(collection, tree).written == 9


def test_labels_that_live_in_a_collection(collection, client, name):
    labels = LabelCollection(client, f"{name}-labels", collection.encoder)
    labels.add(["red", "green", "purple"])
    tag(collection, labels)
    assert set(tags(collection).values()) <= {"red", "green", "purple"}
    labels.add(["blue"])
    assert tag(collection, labels).written == 3 and tags(collection)["blue-0"] == "blue"
    assert tag(collection, labels).written == tag(collection, labels.classifier()).written == 0


def test_a_filter_says_which_points(collection):
    report = tag(collection, COLOURS, where="modality == text")
    assert (report.written, report.total) == (3, 3)
    assert sum(kind == "absent" for kind in tags(collection).values()) == 6
    with pytest.raises(FilterError):
        tag(collection, COLOURS, where="modality ==")


def test_points_of_others_without_a_vector_are_counted(collection):
    client = collection.vectors.client
    client.upsert(collection.name, [models.PointStruct(id=7, vector={}, payload={"a": 1})])
    report = tag(collection, COLOURS)
    assert (report.written, report.skipped, report.total) == (9, 1, 10)


def test_nothing_to_tag(client, name, encoder):
    report = tag(ClipCollection(client, name, encoder), COLOURS)
    assert report.total == 0


def test_a_classifier_of_another_model_is_refused(collection):
    other = ZeroShotClassifier(FakeEncoder(name="other"), COLOURS)
    with pytest.raises(CollectionMismatchError, match=r"of 'other'.* are of 'fake'"):
        tag(collection, other)
    with pytest.raises(ConfigError, match="no labels"):
        tag(collection, [])


def test_strict_mode_takes_tags(client, name, encoder):
    collection = ClipCollection(client, name, encoder, schema=CollectionSchema(strict=True))
    collection.add(records())
    assert tag(collection, COLOURS).written == 9 and tag(collection, COLOURS).written == 0
    assert collection.count(where={"kind": "red", "kind_confidence": {"gt": 0.5}}) == 3


def test_many_pages(client, name, encoder, monkeypatch):
    monkeypatch.setattr(tagging, "PAGE", 400)
    collection = ClipCollection(client, name, encoder)
    shown = np.random.default_rng(0).integers(0, 3, 1_000)
    vectors = encoder.embed_texts(COLOURS)
    collection.vectors.upsert(
        [
            models.PointStruct(id=at, vector={"text": vectors[which].tolist()}, payload={})
            for at, which in enumerate(shown)
        ]
    )
    done = []
    tag(collection, COLOURS, on_progress=lambda report: done.append(report.total))
    assert done == [400, 800, 1_000]
    counts = collection.vectors.facet("kind")
    assert [counts[colour] for colour in COLOURS] == np.bincount(shown).tolist()
