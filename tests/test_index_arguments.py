"""What a ClipIndex makes of LlamaIndex's arguments: it maps them, or refuses them, and changes nothing it is given."""

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from llama_index.core import Document, QueryBundle, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.schema import ImageDocument, ImageNode, IndexNode, TextNode
from PIL import Image

from clip_qdrant import ClipCollection, ClipEmbedding, ClipRetriever, connect
from clip_qdrant.errors import ConfigError
from clip_qdrant.llamaindex.index import ClipIndex
from clip_qdrant.llamaindex.queries import ImageQueryBundle
from clip_qdrant.llamaindex.reader import ClipReader
from clip_qdrant.llamaindex.store_retriever import StoreRetriever
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from clip_qdrant.testing import FakeEncoder
from tests.scripted_llm import ScriptedLLM

pytestmark = pytest.mark.usefixtures("event_loop_of_the_thread")


@pytest.fixture
def client():
    with connect(":memory:") as client:
        yield client


@pytest.fixture
def index(client, swatches):
    index = ClipIndex.from_collection(ClipCollection(client, "c", FakeEncoder()))
    index.insert_nodes(index._nodes_of(ClipReader().load_data(swatches)))
    index.insert(Document(id_="note", text="a blue note"))
    return index


@pytest.mark.parametrize("mode", ["default", "hybrid", "mmr", "text_search", "sparse"])
def test_query_modes_only_read_the_bundle(hybrid, mode):
    retriever = hybrid.as_retriever(vector_store_query_mode=mode, similarity_top_k=2)
    assert isinstance(retriever, StoreRetriever)
    bundle = QueryBundle("blue")
    found = retriever.retrieve(bundle)
    assert found and bundle.embedding is None
    again = asyncio.run(retriever.aretrieve(bundle))
    assert [node.node_id for node in again] == [node.node_id for node in found]
    assert bundle.embedding is None


def test_a_query_mode_takes_a_picture(index):
    retriever = index.as_retriever(vector_store_query_mode="default", similarity_top_k=1)
    picture = ImageQueryBundle("", image=Image.new("RGB", (8, 8), "blue"))
    assert retriever.retrieve(picture)[0].metadata["file_name"] == "blue.png"
    assert asyncio.run(retriever.aretrieve(picture))[0].metadata["file_name"] == "blue.png"
    assert picture.embedding is None


@pytest.fixture
def hybrid(client, swatches):
    store = ClipQdrantVectorStore("c", client=client, enable_hybrid=True)
    index = ClipIndex.from_vector_store(store, embed_model=ClipEmbedding(encoder=FakeEncoder()))
    index.insert_nodes(index._nodes_of([*ClipReader().load_data(swatches), Document(text="a blue note")]))
    return index


def names(nodes):
    return [node.metadata.get("file_name", node.text) for node in nodes]


@pytest.mark.parametrize("mode", ["default", "mmr", "hybrid"])
def test_query_modes_have_the_four_ways(hybrid, swatches, mode):
    retriever = hybrid.as_retriever(vector_store_query_mode=mode, similarity_top_k=1)
    picture = str(swatches / "blue.png")
    bundle = QueryBundle("", image_path=picture)
    ways = [
        ("text_retrieve", "blue", ["a blue note"]),
        ("text_to_image_retrieve", "blue", ["blue.png"]),
        ("image_to_image_retrieve", picture, ["blue.png"]),
        ("image_to_text_retrieve", picture, ["a blue note"]),
        ("image_to_image_retrieve", bundle, ["blue.png"]),
    ]
    for way, query, expected in ways:
        assert names(getattr(retriever, way)(query)) == expected
        assert names(asyncio.run(getattr(retriever, f"a{way}")(query))) == expected
    assert bundle.embedding is None


def test_by_words_pictures_are_found_by_their_captions(hybrid, swatches):
    hybrid.insert(ImageDocument(image_path=str(swatches / "red.png"), text="a blue poem", metadata={"file_name": "r"}))
    words = hybrid.as_retriever(vector_store_query_mode="text_search", similarity_top_k=9)
    assert sorted(names(words.retrieve("blue"))) == ["a blue note", "r"]
    assert names(words.text_to_image_retrieve("blue")) == ["r"]
    narrow = {"vector_store_query_mode": "text_search", "vector_store_kwargs": {"where": {"file_name": "other"}}}
    assert hybrid.as_retriever(**narrow).text_to_image_retrieve("blue") == []


def test_a_picture_cannot_be_asked_for_by_words(hybrid, swatches):
    words = hybrid.as_retriever(vector_store_query_mode="text_search")
    with pytest.raises(ConfigError, match="Mode 'text_search' searches words, but the query has a picture"):
        words.retrieve(swatches / "red.png")


def test_the_store_is_asked_what_the_retriever_was(hybrid):
    mmr = {"vector_store_query_mode": "mmr", "similarity_top_k": 9}
    assert names(hybrid.as_retriever(**mmr, using="text").retrieve("red")) == ["a blue note"]
    assert "a blue note" not in names(hybrid.as_retriever(**mmr, using="image").retrieve("blue"))
    assert names(hybrid.as_retriever(**mmr, filters={"file_name": "red.png"}).retrieve("blue")) == ["red.png"]
    by_words = {"vector_store_query_mode": "hybrid", "hybrid_top_k": 1}
    assert names(hybrid.as_retriever(**by_words, alpha=0).retrieve("note")) == ["a blue note"]
    assert names(hybrid.as_retriever(**by_words, alpha=1, using="image").retrieve("red note")) == ["red.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.3}, "alpha=0.3 means nothing in mode 'default'. Use vector_store_query_mode='hybrid'"),
        ({"hybrid_top_k": 3, "vector_store_query_mode": "mmr"}, "hybrid_top_k=3 means nothing in mode 'mmr'"),
        ({"sparse_top_k": 3}, "sparse_top_k=3 means nothing in mode 'default'"),
        ({"vector_store_query_mode": "fancy"}, "must be one of 'default', .*, got 'fancy'"),
        ({"vector_store_kwargs": {"bogus": 1}}, "no option 'bogus'"),
        (
            {"vector_store_query_mode": "mmr", "similarity_cutoff": 0.5},
            "together with vector_store_query_mode",
        ),
        ({"vector_store_query_mode": "mmr", "fusion": "rank"}, "fusion='rank' cannot be had"),
        ({"vector_store_query_mode": "mmr", "using": "audio"}, "using must be 'image', 'text' or 'both', got 'audio'"),
        ({"node_ids": "abc"}, "node_ids is a list of ids"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_can(hybrid, arguments, message):
    with pytest.raises(ConfigError, match=message):
        hybrid.as_retriever(**arguments)


@pytest.mark.parametrize("arguments", [{}, {"similarity_top_k": None, "filters": None}])
def test_without_a_number_two_of_each_kind_are_found(index, arguments):
    """What a model is shown of a question costs as much as with LlamaIndex's own index."""
    index.insert_nodes([TextNode(text=f"a blue note {number}") for number in range(3)])
    of_both = index.as_retriever(**arguments).retrieve("blue")
    assert Counter(type(found.node) for found in of_both) == {ImageNode: 2, TextNode: 2}
    assert len(index.as_retriever(using="text", **arguments).retrieve("blue")) == 2


def test_arguments_that_are_none_are_as_left_out(index):
    none = dict.fromkeys(["vector_store_query_mode", "alpha", "sparse_top_k", "hybrid_top_k", "vector_store_kwargs"])
    assert isinstance(index.as_retriever(**none), ClipRetriever)


def test_a_collection_of_one_vector_is_asked_in_the_four_ways(client, swatches):
    encoder = FakeEncoder()
    store = ClipQdrantVectorStore("one", client=client, encoder=encoder, dense_vector_name="dense")
    index = ClipIndex.from_vector_store(store, embed_model=ClipEmbedding(encoder=encoder))
    index.insert_nodes(index._nodes_of([*ClipReader().load_data(swatches), Document(text="a blue note")]))
    retriever = index.as_retriever(similarity_top_k=9)
    assert sorted(names(retriever.text_to_image_retrieve("blue"))) == sorted(path.name for path in swatches.iterdir())
    with pytest.raises(ConfigError, match="one vector for pictures and texts alike"):
        index.as_retriever(image_similarity_top_k=3)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ({"similarity_topk": 3}, "similarity_top_k"),
        ({"similarity_top_ks": 3}, "similarity_top_k"),
        ({"filter": None}, "filters"),
        ({"similarty_cutoff": 0.5}, "similarity_cutoff"),
        ({"vector_store_query_modes": "mmr"}, "vector_store_query_mode"),
    ],
)
def test_a_misspelt_argument_is_refused(index, wrong, meant):
    with pytest.raises(ConfigError, match=f"Did you mean '{meant}'"):
        index.as_retriever(**wrong)


def test_what_an_engine_takes_is_left_to_it(index):
    given = {"response_mode": "compact", "streaming": False, "text_qa_template": None, "node_postprocessors": []}
    assert isinstance(index.as_retriever(**given), ClipRetriever)
    engine = index.as_query_engine(ScriptedLLM("blue"), similarity_top_k=1, response_mode="compact")
    assert str(engine.query("blue")) == "blue"


def test_an_index_takes_no_arguments_that_there_are_not(client):
    with pytest.raises(ConfigError, match="takes no argument 'bogus'"):
        ClipIndex.from_collection(ClipCollection(client, "c", FakeEncoder()), bogus=3)
    store = ClipQdrantVectorStore("c", client=client, encoder=FakeEncoder())
    context = StorageContext.from_defaults(vector_store=store)
    fine = ClipIndex(
        storage_context=context, embed_model=ClipEmbedding(encoder=FakeEncoder()), insert_batch_size=3, use_async=False
    )
    assert fine._insert_batch_size == 3


def test_the_instruction_of_the_embedding_is_put_before_a_query(client, swatches):
    asked = []

    class Listening(FakeEncoder):
        def embed_texts(self, texts):
            asked.extend(texts)
            return super().embed_texts(texts)

    store = ClipQdrantVectorStore("c", client=client)
    model = ClipEmbedding(encoder=Listening(), query_instruction="find: ", text_instruction="about: ")
    index = ClipIndex.from_vector_store(store, embed_model=model)
    index.insert(Document(text="a red note"))
    asked.clear()
    index.as_retriever().retrieve("red")
    index.as_retriever(vector_store_query_mode="default").retrieve("red")
    assert asked == ["find: red", "find: red"]
    own = index.as_retriever(query_instruction="show: ")
    own.retrieve("red")
    assert asked[-1] == "show: red"


def test_an_index_node_given_keeps_its_object(index):
    engine = index.as_query_engine(ScriptedLLM())
    node = IndexNode(text="a red engine", index_id="engine", obj=engine)
    index.insert_nodes([node])
    assert node.obj is engine and node.embedding is None


def test_objects_of_a_new_index_are_left_as_they_are(client, index):
    engine = index.as_query_engine(ScriptedLLM("of the engine"))
    node = IndexNode(text="a green engine", index_id="engine", obj=engine)
    store = ClipQdrantVectorStore("objects", client=client, encoder=FakeEncoder())
    made = ClipIndex(
        [],
        objects=[node],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=ClipEmbedding(encoder=FakeEncoder()),
    )
    assert node.obj is engine
    assert [found.text for found in made.as_retriever().retrieve("green")] == ["of the engine"]


def test_a_stored_index_is_loaded_as_what_it_is(client, tmp_path, index):
    store, model = index.vector_store, ClipEmbedding(encoder=FakeEncoder())
    index.storage_context.persist(tmp_path)
    context = StorageContext.from_defaults(persist_dir=str(tmp_path), vector_store=store)
    loaded = load_index_from_storage(context, embed_model=model)
    assert type(loaded) is ClipIndex and loaded.index_id == index.index_id
    assert names(loaded.as_retriever(similarity_top_k=1).retrieve("green")) == ["green.png"]
    plain = VectorStoreIndex([], storage_context=StorageContext.from_defaults(), embed_model=model)
    plain.storage_context.persist(tmp_path / "plain")
    context = StorageContext.from_defaults(persist_dir=str(tmp_path / "plain"))
    assert type(load_index_from_storage(context, embed_model=model)) is VectorStoreIndex


def test_a_stored_index_without_its_store_is_refused(tmp_path, index):
    index.storage_context.persist(tmp_path)
    context = StorageContext.from_defaults(persist_dir=str(tmp_path))
    with pytest.raises(ConfigError, match="ClipIndex needs a ClipQdrantVectorStore"):
        load_index_from_storage(context, embed_model=ClipEmbedding(encoder=FakeEncoder()))


def test_updates_at_a_time_leave_one_version(index):
    async def update_all():
        await asyncio.gather(
            *(index.aupdate_ref_doc(Document(id_="note", text=f"a green note {n}")) for n in range(12))
        )

    asyncio.run(update_all())
    assert len([hit for hit in index.collection.vectors.scan() if hit.payload["doc_id"] == "note"]) == 1


def test_two_indices_over_one_collection_leave_one_version(index, monkeypatch):
    """As a web service has them, which makes one for each request."""
    other = ClipIndex.from_collection(index.collection)
    second = threading.Thread(target=other.update_ref_doc, args=(Document(id_="note", text="a red note"),))
    insert = index.insert_nodes

    def insert_while_the_other_tries(nodes, **options):
        second.start()
        second.join(0.2)
        insert(nodes, **options)

    monkeypatch.setattr(index, "insert_nodes", insert_while_the_other_tries)
    index.update_ref_doc(Document(id_="note", text="a green note"))
    second.join()
    assert [hit.text for hit in index.collection.vectors.scan() if hit.payload["doc_id"] == "note"] == ["a red note"]


@pytest.mark.parametrize("wrong", ["a note", TextNode(text="a note"), [{"text": "a note"}]])
@pytest.mark.parametrize("method", ["insert_nodes", "refresh_ref_docs", "from_documents"])
def test_what_is_no_list_of_nodes_is_refused(index, method, wrong):
    call = {
        "from_documents": lambda given: ClipIndex.from_documents(
            given, storage_context=index.storage_context, embed_model=ClipEmbedding(encoder=FakeEncoder())
        )
    }.get(method, getattr(index, method))
    with pytest.raises(ConfigError, match="given as a list of them, got"):
        call(wrong)


@pytest.mark.parametrize("method", ["insert", "update_ref_doc"])
def test_what_is_no_document_is_refused(index, method):
    with pytest.raises(ConfigError, match="given as a list of them, got str in it"):
        getattr(index, method)("a note")


def test_the_assistant_says_what_it_lacks():
    script = Path(__file__).parents[1] / "examples" / "06_assistant.py"
    code = (
        "import sys, runpy; sys.modules['llama_index.llms.openai_like'] = None; "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=script.parent, check=False)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "pip install llama-index-llms-openai-like" in ended.stderr
