"""Indexing: what is embedded, what is not, and what happens when something goes wrong."""

import numpy as np
import pytest
from PIL import Image

from clip_qdrant import ClipCollection, Record, connect, records_in
from clip_qdrant.collection.ingest import Failure
from clip_qdrant.testing import FakeEncoder


class Counting(FakeEncoder):
    """Counts what goes through the model, and may break after so many calls."""

    def __init__(self):
        super().__init__()
        self.images, self.texts, self.calls_left = 0, 0, 10**9

    def embed_images(self, images):
        vectors = super().embed_images(images)
        self.images += len(vectors)
        self._count()
        return vectors

    def embed_texts(self, texts):
        self.texts += len(texts)
        return super().embed_texts(texts)

    def _count(self):
        self.calls_left -= 1
        if self.calls_left < 0:
            raise KeyboardInterrupt


@pytest.fixture
def encoder():
    return Counting()


@pytest.fixture
def collection(encoder):
    with connect(":memory:") as client:
        yield ClipCollection(client, "c", encoder)


def counts(report):
    return (report.embedded, report.copied, report.updated, report.unchanged, len(report.failed))


def test_a_second_run_embeds_nothing(collection, encoder, swatches):
    assert counts(collection.add(records_in(swatches))) == (4, 0, 0, 0, 0)
    assert counts(collection.add(records_in(swatches))) == (0, 0, 0, 4, 0)
    assert encoder.images == 4


def test_a_changed_picture_is_embedded_again(collection, encoder, swatches):
    collection.add(records_in(swatches))
    Image.new("RGB", (16, 16), "purple").save(swatches / "red.png")
    assert counts(collection.add(records_in(swatches))) == (1, 0, 0, 3, 0)
    assert collection.search("purple", limit=1)[0].metadata["file_name"] == "red.png"
    assert collection.count() == 4


def test_changed_metadata_needs_no_model(collection, encoder, swatches):
    picture = swatches / "red.png"
    collection.add([Record("r", picture, metadata={"year": 2023})])
    assert counts(collection.add([Record("r", picture, metadata={"year": 2024})])) == (0, 0, 1, 0, 0)
    assert encoder.images == 1
    (hit,) = collection.search("red", where={"year": 2024})
    assert hit.score > 0.9
    assert collection.count(where={"year": 2023}) == 0


def test_a_copy_and_a_rename_take_the_vector_along(collection, encoder, swatches):
    collection.add(records_in(swatches))
    (swatches / "red.png").rename(swatches / "crimson.png")
    (swatches / "copy.png").write_bytes((swatches / "blue.png").read_bytes())
    assert counts(collection.add(records_in(swatches))) == (0, 2, 0, 3, 0)
    assert encoder.images == 4
    names = {hit.metadata["file_name"] for hit in collection.search("blue", limit=2)}
    assert names == {"blue.png", "copy.png"}


def test_a_changed_caption_is_embedded(collection, encoder, swatches):
    collection.add([Record("r", swatches / "red.png", text="one")])
    assert counts(collection.add([Record("r", swatches / "red.png", text="two")])) == (1, 0, 0, 0, 0)
    assert encoder.texts == 2
    assert collection.search("two", using="text", limit=1)[0].text == "two"


def test_a_broken_picture_costs_one_record(collection, swatches):
    (swatches / "broken.png").write_bytes((swatches / "red.png").read_bytes()[:40])
    (swatches / "empty.jpg").touch()
    report = collection.add([*records_in(swatches), Record("gone", swatches / "gone.png")])
    assert counts(report) == (4, 0, 0, 0, 3)
    reasons = {failure.source.rpartition("/")[2]: failure.reason for failure in report.failed}
    assert reasons["broken.png"] == "the PNG data is broken or cut short"
    assert reasons["empty.jpg"] == "it is empty (0 bytes)"
    assert "no such file" in reasons["gone"].lower()
    assert report.total == 7


def test_what_cannot_be_a_point_is_a_failure(collection):
    report = collection.add(
        [
            Record("reserved", text="a", metadata={"source": "b"}),
            Record("nan", text="a", metadata={"value": float("nan")}),
            Record("id", text="a", id="seven"),
            Record("nothing"),
            Record("good", text="a"),
        ]
    )
    assert counts(report) == (1, 0, 0, 0, 4)
    assert Failure("nothing", "it has neither an image nor a text") in report.failed


def test_an_interruption_keeps_what_was_written(collection, encoder):
    records = [Record(f"{i}", Image.new("RGB", (8, 8), (i, 2 * i % 256, 99))) for i in range(200)]
    encoder.calls_left = 2
    with pytest.raises(KeyboardInterrupt):
        collection.add(records)
    assert collection.count() == 128
    encoder.calls_left, encoder.images = 10**9, 0
    assert counts(collection.add(records)) == (72, 0, 0, 128, 0)
    assert encoder.images == 72


def test_an_error_of_the_source_comes_through_after_whole_batches(collection):
    def records():
        yield from (Record(f"{i}", text=f"{i}") for i in range(70))
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        collection.add(records())
    assert collection.count() == 64


def test_nothing_to_index(collection):
    report = collection.add([])
    assert (counts(report), report.total) == ((0, 0, 0, 0, 0), 0)


def test_of_two_records_of_one_identity_the_later_counts(collection):
    collection.add([Record("s", text="first"), Record("s", text="second")])
    (hit,) = collection.vectors.scan()
    assert hit.text == "second"


def test_two_scopes_keep_the_same_source_apart(collection):
    collection.add([Record("s", text="one", scope="a"), Record("s", text="one", scope="b")])
    assert collection.count() == 2
    assert collection.count(where={"scope": "a"}) == 1


def test_pages_of_one_source_may_be_arrays(collection):
    pages = [Record("book", np.full((8, 8, 3), 80 * n, np.uint8), fragment=f"{n}") for n in range(4)]
    assert counts(collection.add(pages)) == (4, 0, 0, 0, 0)
    assert counts(collection.add(pages)) == (0, 0, 0, 4, 0)


def test_a_thousand_copies_cost_one_lookup_each(tmp_path):
    with connect(tmp_path) as client:
        encoder = Counting()
        collection = ClipCollection(client, "c", encoder)
        report = collection.add(Record(f"{i}", text="the same") for i in range(1_000))
        assert counts(report) == (64, 936, 0, 0, 0)
        assert list(collection.vectors.with_content(["unknown"])) == []


def test_progress_is_reported_batch_by_batch(collection):
    totals = []
    collection.add((Record(f"{i}", text=f"{i}") for i in range(150)), on_progress=lambda r: totals.append(r.total))
    assert totals == [64, 128, 150]


def test_many_records_stay_in_order_and_whole(tmp_path):
    with connect(tmp_path) as client:
        collection = ClipCollection(client, "c", FakeEncoder(batch_size=500))
        report = collection.add(Record(f"{i}", text=f"note {i}", metadata={"n": i}) for i in range(5_000))
        assert counts(report) == (5_000, 0, 0, 0, 0)
        for i in (0, 499, 500, 4_999):
            assert collection.search(f"note {i}", using="text", limit=1)[0].metadata["n"] == i
