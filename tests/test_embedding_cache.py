"""`ClipEmbedding` and what stands around it: events, callbacks, the embeddings cache, the rate limiter, progress."""

import asyncio
import shutil
from threading import Barrier

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.storage.kvstore import SimpleKVStore
from PIL import Image

from clip_qdrant import ClipEmbedding
from clip_qdrant.errors import ImageDecodeError, ImageNotFoundError
from clip_qdrant.testing import FakeEncoder
from tests.embeddings import Counting, Stock


def sync(embedding, what, items):
    return getattr(embedding, f"get_{what}_embedding_batch")(items)


def in_threads(embedding, what, items):
    return asyncio.run(getattr(embedding, f"aget_{what}_embedding_batch")(items))


def one_by_one(embedding, what, items):
    return [getattr(embedding, f"get_{what}_embedding")(item) for item in items]


def one_by_one_in_threads(embedding, what, items):
    return [asyncio.run(getattr(embedding, f"aget_{what}_embedding")(item)) for item in items]


ways = pytest.mark.parametrize("way", [sync, in_threads, one_by_one, one_by_one_in_threads])


class Recorder(BaseEventHandler):
    """Keeps the embedding events, in order."""

    events: list = []  # noqa: RUF012 - pydantic copies it for each instance

    def handle(self, event, **kwargs):
        if isinstance(event, EmbeddingStartEvent | EmbeddingEndEvent):
            self.events.append(event)


@pytest.fixture
def events():
    recorder = Recorder()
    root = get_dispatcher()
    root.add_event_handler(recorder)
    yield recorder.events
    root.event_handlers.remove(recorder)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Stock, id="stock", marks=pytest.mark.xfail(strict=True)),
        pytest.param(lambda **kwargs: ClipEmbedding(encoder=FakeEncoder(), **kwargs), id="ours"),
    ],
)
@ways
def test_defect_07_images_have_events_as_texts_have(make, way, swatches, events):
    path = str(swatches / "red.png")
    vectors = way(make(embed_batch_size=1), "image", [path, path])
    assert [type(event) for event in events] == [EmbeddingStartEvent, EmbeddingEndEvent] * 2
    assert [event.chunks for event in events[1::2]] == [[path], [path]]
    assert [event.embeddings for event in events[1::2]] == [[vector] for vector in vectors]


@ways
def test_texts_and_queries_have_events(way, events):
    embedding = ClipEmbedding(encoder=FakeEncoder(), query_instruction="find: ")
    (red,) = way(embedding, "text", ["red"])
    query = embedding.get_query_embedding("blue")
    asyncio.run(embedding.aget_query_embedding("blue"))
    assert [event.model_dict["model_name"] for event in events[::2]] == ["fake"] * 3
    assert [(event.chunks, event.embeddings) for event in events[1::2]] == [
        (["red"], [red]),
        (["blue"], [query]),
        (["blue"], [query]),
    ]


def test_an_event_names_pixels_and_does_not_show_them(events):
    ClipEmbedding(encoder=FakeEncoder()).get_image_embedding(Image.new("RGB", (8, 8), "red"))
    assert events[1].chunks == ["PIL image 8x8 RGB"]


def test_callbacks_hear_of_images_too(swatches):
    class Handler(BaseCallbackHandler):
        def __init__(self):
            super().__init__([], [])
            self.ends = []

        def on_event_start(self, event_type, payload=None, event_id="", parent_id="", **kwargs):
            return event_id

        def on_event_end(self, event_type, payload=None, event_id="", **kwargs):
            self.ends.append((event_type, payload[EventPayload.CHUNKS]))

        def start_trace(self, trace_id=None):
            pass

        def end_trace(self, trace_id=None, trace_map=None):
            pass

    handler = Handler()
    embedding = ClipEmbedding(encoder=FakeEncoder(), callback_manager=CallbackManager([handler]))
    embedding.get_image_embedding(str(swatches / "red.png"))
    asyncio.run(embedding.aget_text_embedding("red"))
    assert handler.ends == [(CBEventType.EMBEDDING, [str(swatches / "red.png")]), (CBEventType.EMBEDDING, ["red"])]


@pytest.mark.parametrize("make", [pytest.param(Stock, marks=pytest.mark.xfail(strict=True)), ClipEmbedding])
def test_defect_07_the_cache_serves_images(make, swatches):
    cache = SimpleKVStore()
    embedding = make(embeddings_cache=cache, **({} if make is Stock else {"encoder": FakeEncoder()}))
    embedding.get_image_embedding(swatches / "red.png")
    assert len(cache.get_all(collection="embeddings")) == 1


@ways
def test_only_what_is_new_is_embedded_and_the_order_stays(way, swatches):
    encoder = Counting()
    embedding = ClipEmbedding(encoder=encoder, embeddings_cache=SimpleKVStore(), embed_batch_size=10)
    red, green, blue = (swatches / f"{colour}.png" for colour in ("red", "green", "blue"))
    (first,) = way(embedding, "image", [green])
    vectors = way(embedding, "image", [red, green, blue, red])
    assert [item for batch in encoder.image_batches for item in batch] == [green, red, blue]
    assert vectors == FakeEncoder().embed_images([red, green, blue, red]).tolist()
    assert vectors[1] == first
    assert way(embedding, "text", ["red", "blue", "red"]) == FakeEncoder().embed_texts(["red", "blue", "red"]).tolist()
    assert [item for batch in encoder.text_batches for item in batch] == ["red", "blue"]


def test_an_image_is_known_by_its_content(swatches, tmp_path):
    encoder = Counting()
    embedding = ClipEmbedding(encoder=encoder, embeddings_cache=SimpleKVStore())
    red = swatches / "red.png"
    copy = shutil.copy(red, tmp_path / "copy.png")
    vectors = embedding.get_image_embedding_batch([red, copy, red.read_bytes()])
    assert len(encoder.image_batches[0]) == 1 and vectors[0] == vectors[1] == vectors[2]
    shutil.copy(swatches / "blue.png", copy)
    assert embedding.get_image_embedding(copy) != vectors[0]


def test_what_is_changed_by_its_owner_stays_in_the_cache():
    embedding = ClipEmbedding(encoder=FakeEncoder(), embeddings_cache=SimpleKVStore())
    twice = embedding.get_text_embedding_batch(["red", "red"])
    twice[0][0] = 9.0
    assert embedding.get_text_embedding("red") == twice[1] == FakeEncoder().embed_texts(["red"])[0].tolist()


def test_one_cache_serves_several_models_and_kinds(swatches):
    cache = SimpleKVStore()
    red = swatches / "red.png"
    one, other = (ClipEmbedding(encoder=FakeEncoder(name=name), embeddings_cache=cache) for name in ("one", "other"))
    assert one.get_text_embedding("red") != other.get_text_embedding("red")
    assert one.get_image_embedding(red) != other.get_image_embedding(red)
    as_text = one.get_text_embedding(red.read_bytes().decode("latin-1"))
    assert as_text != one.get_image_embedding(red)
    asking = ClipEmbedding(encoder=FakeEncoder(name="one"), embeddings_cache=cache, query_instruction="blue ")
    assert asking.get_query_embedding("red") != one.get_query_embedding("red") == one.get_text_embedding("red")


def test_what_decides_a_texts_vector_is_part_of_its_key():
    cache = SimpleKVStore()
    for policy in ("truncate", "pool"):
        encoder = Counting()
        encoder.text_policy = policy
        ClipEmbedding(encoder=encoder, embeddings_cache=cache).get_text_embedding("red")
        assert encoder.text_batches == [["red"]]


@ways
def test_a_missing_image_is_an_error_with_a_cache_too(way, swatches):
    cache = SimpleKVStore()
    embedding = ClipEmbedding(encoder=FakeEncoder(), embeddings_cache=cache)
    with pytest.raises(ImageNotFoundError, match=r"nowhere\.png"):
        way(embedding, "image", ["nowhere.png"])
    assert cache.get_all(collection="embeddings") == {}


@ways
def test_the_rate_limiter_is_asked_for_every_batch_that_is_embedded(way, swatches):
    class Limiter:
        asked = 0

        def acquire(self):
            self.asked += 1

        async def async_acquire(self):
            self.asked += 1

    limiter = Limiter()
    cached = ClipEmbedding(encoder=FakeEncoder(), embeddings_cache=SimpleKVStore(), rate_limiter=limiter)
    way(cached, "image", [swatches / "red.png"])
    way(cached, "image", [swatches / "red.png"])
    way(ClipEmbedding(encoder=FakeEncoder(), rate_limiter=limiter), "text", ["red"])
    assert limiter.asked == 2


def test_workers_share_the_batches(swatches):
    class Meeting(FakeEncoder):
        """Embeds when two batches are there at once."""

        both = Barrier(2, timeout=10)

        def embed_images(self, images):
            self.both.wait()
            return super().embed_images(images)

    embedding = ClipEmbedding(encoder=Meeting(), embed_batch_size=1, num_workers=2)
    paths = [swatches / f"{colour}.png" for colour in ("red", "green", "blue", "yellow")]
    assert asyncio.run(embedding.aget_image_embedding_batch(paths)) == FakeEncoder().embed_images(paths).tolist()


@pytest.mark.parametrize("arguments", [{"show_progress": True}, {}], ids=["asked", "field"])
def test_progress_is_shown_where_it_is_asked_for(arguments, capsys):
    embedding = ClipEmbedding(encoder=FakeEncoder(), show_progress_bar=not arguments, embed_batch_size=2)
    embedding.get_text_embedding_batch(["red"] * 2, **arguments)
    assert capsys.readouterr().err == "", "one batch needs no bar"
    embedding.get_text_embedding_batch(["red"] * 4, **arguments)
    shown = capsys.readouterr()
    assert shown.err.count("Generating embeddings: 100%") == 1 and shown.out == ""
    ClipEmbedding(encoder=FakeEncoder(), embed_batch_size=1).get_text_embedding_batch(["red"] * 4)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("way", [sync, in_threads])
def test_what_was_embedded_before_a_failure_is_not_embedded_again(way, swatches):
    encoder = Counting()
    embedding = ClipEmbedding(encoder=encoder, embeddings_cache=SimpleKVStore(), embed_batch_size=2)
    paths = [swatches / f"{colour}.png" for colour in ("red", "green", "blue", "yellow")]
    whole = paths[3].read_bytes()
    paths[3].write_bytes(whole[:20])
    with pytest.raises(ImageDecodeError, match=r"yellow\.png"):
        way(embedding, "image", paths)
    paths[3].write_bytes(whole)
    encoder.image_batches.clear()
    assert way(embedding, "image", paths) == FakeEncoder().embed_images(paths).tolist()
    assert encoder.image_batches == [paths[2:]]
