"""What LlamaIndex's own index and embedding model get wrong, by number: each test fails on them and passes on ours.

Defects 1 to 4 are of `llama-index-embeddings-clip`, which cannot be had here: it needs a package that is not on PyPI.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from io import BytesIO
from threading import current_thread, main_thread
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pytest
from llama_index.core import QueryBundle, StorageContext, VectorStoreIndex
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.schema import ImageDocument, ImageNode, MediaResource, Node, TextNode
from llama_index.embeddings.huggingface import HuggingFaceEmbedding

from clip_qdrant import ClipCollection, ClipEmbedding, connect
from clip_qdrant.llamaindex.index import ClipIndex
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from clip_qdrant.testing import FakeEncoder
from tests.checkpoints import make_clip, make_sentence_transformer
from tests.embeddings import Stock

pytestmark = [
    pytest.mark.usefixtures("event_loop_of_the_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:llama_index"),
]


def fails(*errors):
    """A mark: it is a defect of the stock class, and shows by these."""
    return pytest.mark.xfail(strict=True, raises=(AssertionError, *errors), reason="a defect of the stock class")


def both(*errors):
    """Run a test on the stock index, where it fails so, and on ours."""
    routes = [pytest.param("stock", marks=fails(*errors)), "ours"]
    return pytest.mark.parametrize("index_of", routes, indirect=True)


# Embedding ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoint")
    return str(make_sentence_transformer(root / "sentence", make_clip(root / "clip")))


@pytest.fixture
def embedding(request, checkpoint, monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    if request.param == "ours":
        return ClipEmbedding(checkpoint, device="cpu")
    monkeypatch.setattr(HuggingFaceEmbedding._embed_with_retry.retry, "sleep", lambda seconds: None)
    return HuggingFaceEmbedding(checkpoint, device="cpu")


STOCK_FAILS = pytest.param("stock", marks=fails(TypeError, ValueError))


@pytest.mark.parametrize("embedding", [STOCK_FAILS, "ours"], indirect=True)
def test_defect_05_a_picture_in_memory_is_embedded(embedding, swatches):
    path = swatches / "red.png"
    assert embedding.get_image_embedding(BytesIO(path.read_bytes())) == embedding.get_image_embedding(str(path))


def raises(call, *arguments):
    """Whether a call raises that there is no such file."""
    try:
        call(*arguments)
    except FileNotFoundError:
        return True
    return False


@pytest.mark.parametrize("embedding", [STOCK_FAILS, "ours"], indirect=True)
def test_defect_06_a_missing_picture_is_an_error(embedding):
    assert raises(embedding.get_image_embedding, "nowhere/red.png")


@pytest.mark.parametrize("embedding", [STOCK_FAILS, "ours"], indirect=True)
def test_defect_07_an_awaited_picture_does_not_hold_up_the_loop(embedding, swatches, monkeypatch):
    threads = []
    model, name = (embedding, "_embed") if isinstance(embedding, ClipEmbedding) else (embedding._model, "encode")
    run = getattr(model, name)
    monkeypatch.setattr(
        type(model), name, lambda self, *given, **options: threads.append(current_thread()) or run(*given, **options)
    )
    asyncio.run(embedding._aget_image_embedding(str(swatches / "red.png")))
    assert threads and main_thread() not in threads


def complaint(call, *arguments):
    """What a call says is wrong, or nothing."""
    try:
        call(*arguments)
    except ValueError as error:
        return str(error)
    return ""


def stock_of_unknown():
    return Stock(device="cuda:7", embed_batch=3)


def ours_of_unknown():
    return ClipEmbedding("pocket", device="cpu", embed_batch=3)


@pytest.mark.parametrize("make", [pytest.param(stock_of_unknown, marks=fails(), id="stock"), ours_of_unknown])
def test_defect_07_an_unknown_argument_is_refused(make):
    assert "has no argument 'embed_batch'" in complaint(make)


@pytest.mark.parametrize("embedding", [STOCK_FAILS, "ours"], indirect=True)
@pytest.mark.parametrize("form", ["path", "data URI"])
def test_defect_33_a_query_that_looks_like_a_picture_opens_none(embedding, form, swatches):
    path = swatches / "red.png"
    query = str(path) if form == "path" else f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}"
    cosine = np.dot(embedding.get_query_embedding(query), embedding.get_image_embedding(str(path)))
    assert cosine < 0.999


# Index ----------------------------------------------------------------------------------------------------------------


def stock_index(nodes):
    return MultiModalVectorStoreIndex(nodes, embed_model=Stock(), image_embed_model=Stock())


@pytest.fixture
def index_of(request):
    """Makes an index of nodes."""
    if request.param == "stock":
        yield stock_index
        return
    with connect(":memory:") as client:

        def our_index(nodes):
            index = ClipIndex.from_collection(ClipCollection(client, "c", FakeEncoder()))
            index.insert_nodes(nodes)
            return index

        yield our_index


def id_of(name):
    return str(uuid5(NAMESPACE_URL, name))


def picture(swatches, colour, **fields):
    return ImageNode(id_=id_of(colour), image_path=str(swatches / f"{colour}.png"), **fields)


def note(colour):
    return TextNode(id_=id_of(f"{colour} note"), text=f"a {colour} note")


def pictures(index, query):
    """The ids of the pictures that a text finds."""
    retriever = index.as_retriever(similarity_top_k=9, image_similarity_top_k=9)
    return [found.node_id for found in retriever.text_to_image_retrieve(query)]


def texts(index, query):
    return [found.node_id for found in index.as_retriever(similarity_top_k=9).text_retrieve(query)]


@both(KeyError)
def test_defect_08_a_new_index_has_pictures_without_words(index_of, swatches):
    assert pictures(index_of([picture(swatches, "red")]), "red") == [id_of("red")]


@both(KeyError)
@pytest.mark.parametrize("form", ["ImageDocument", "Node"])
def test_defect_09_a_picture_of_another_class_is_a_picture(index_of, swatches, form):
    path = str(swatches / "red.png")
    given = {
        "ImageDocument": ImageDocument(id_=id_of("red"), image_path=path),
        "Node": Node(id_=id_of("red"), image_resource=MediaResource(path=path)),
    }
    assert pictures(index_of([given[form]]), "red") == [id_of("red")]


@both()
def test_defect_10_texts_do_not_hide_pictures(index_of, swatches):
    index = index_of([picture(swatches, "red", text="a poem"), note("blue")])
    index.insert_nodes([note("green")])
    found = index.as_retriever(similarity_top_k=9, image_similarity_top_k=9).retrieve("red")
    assert id_of("red") in [one.node_id for one in found if isinstance(one.node, ImageNode) and one.score is not None]
    assert len(pictures(index, "red")) == 1


@both()
def test_defect_10_pictures_do_not_hide_texts(index_of, swatches):
    index = index_of([note("blue"), picture(swatches, "red", text="a poem")])
    index.insert_nodes([picture(swatches, "green")])
    assert id_of("blue note") in texts(index, "blue")


@both()
def test_defect_11_a_deleted_picture_is_gone(index_of, swatches):
    index = index_of([picture(swatches, "red", text="a poem"), picture(swatches, "blue", text="a song")])
    index.delete_nodes([id_of("red")])
    assert pictures(index, "red") == [id_of("blue")]


def stored_pictures(index):
    """How many vectors of pictures there are, found or not."""
    if isinstance(index, ClipIndex):
        return index.collection.vectors.count(where={"modality": "image"})
    return len(index.image_vector_store.data.embedding_dict)


@both()
def test_defect_11_a_document_deleted_asynchronously_leaves_no_picture(index_of, swatches):
    index = index_of([])
    for colour in ("red", "blue"):
        path = str(swatches / f"{colour}.png")
        index.insert(ImageDocument(id_=id_of(colour), image_path=path, text=f"{colour} words"))
    assert stored_pictures(index) == 2
    asyncio.run(index.adelete_ref_doc(id_of("red")))
    assert stored_pictures(index) == 1


@both()
def test_defect_12_a_query_bundle_is_only_read(index_of, swatches):
    bundle = QueryBundle("red")
    index_of([picture(swatches, "red", text="a poem"), note("blue")]).as_retriever().retrieve(bundle)
    assert bundle.embedding is None


@both(TypeError, ValueError, AttributeError)
@pytest.mark.parametrize("how", ["sync", "async"])
def test_defect_13_a_bundle_of_a_picture_is_a_query(index_of, swatches, how):
    index = index_of([picture(swatches, "red", text="a poem"), picture(swatches, "blue", text="a song")])
    retriever = index.as_retriever(similarity_top_k=1, image_similarity_top_k=1)
    bundle = QueryBundle("", image_path=str(swatches / "blue.png"))
    found = retriever.retrieve(bundle) if how == "sync" else asyncio.run(retriever.aretrieve(bundle))
    assert found[0].node_id == id_of("blue")


def plain_index(nodes):
    return VectorStoreIndex(nodes, embed_model=Stock())


def clip_index(nodes):
    store = ClipQdrantVectorStore("c", client=connect(":memory:"), encoder=FakeEncoder())
    context = StorageContext.from_defaults(vector_store=store)
    return ClipIndex(nodes, storage_context=context, embed_model=ClipEmbedding(encoder=FakeEncoder()))


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("make", [pytest.param(plain_index, marks=fails(TypeError), id="stock"), clip_index])
def test_defect_13_a_retriever_by_query_modes_takes_a_picture(make, swatches, how):
    index = make([note("red"), note("blue")])
    retriever = index.as_retriever(similarity_top_k=1, vector_store_query_mode="default")
    bundle = QueryBundle("", image_path=str(swatches / "blue.png"))
    found = retriever.retrieve(bundle) if how == "sync" else asyncio.run(retriever.aretrieve(bundle))
    assert found[0].node_id == id_of("blue note")
    assert bundle.embedding is None


@pytest.mark.parametrize("make", [pytest.param(plain_index, marks=fails(), id="stock"), clip_index])
def test_defect_14_a_picture_is_embedded_and_not_its_caption(make, swatches):
    index = make([picture(swatches, "red", text="blue words"), note("yellow")])
    found = index.as_retriever(similarity_top_k=1, vector_store_query_mode="default").retrieve("red")
    assert found[0].node_id == id_of("red") and found[0].score > 0.9


@pytest.mark.parametrize("make", [pytest.param(plain_index, marks=fails(), id="stock"), clip_index])
def test_defect_16_a_picture_that_lost_its_bytes_is_said_to_be_lost(make, swatches):
    content = (swatches / "red.png").read_bytes()
    node = ImageNode(id_=id_of("red"), text="a poem", image_resource=MediaResource(data=content))
    assert f"{id_of('red')}' has no picture" in complaint(make, [node])
