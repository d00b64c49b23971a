"""What a ClipIndex makes of LlamaIndex's arguments: it maps them, or refuses them, and changes nothing it is given."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from llama_index.core import Document, QueryBundle, StorageContext
from llama_index.core.schema import IndexNode
from PIL import Image

from clip_qdrant import ClipCollection, ClipEmbedding, ClipRetriever, connect
from clip_qdrant.errors import ConfigError
from clip_qdrant.llamaindex.budget import ImageBudget
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
def test_query_modes_only_read_the_bundle(client, swatches, mode):
    store = ClipQdrantVectorStore("c", client=client, enable_hybrid=True)
    index = ClipIndex.from_vector_store(store, embed_model=ClipEmbedding(encoder=FakeEncoder()))
    index.insert_nodes(index._nodes_of([*ClipReader().load_data(swatches), Document(text="a blue note")]))
    retriever = index.as_retriever(vector_store_query_mode=mode, similarity_top_k=2)
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


def test_a_multimodal_engine_shows_pictures_within_a_budget(index, swatches):
    Image.new("RGB", (3000, 1000), "blue").save(swatches / "blue.png")
    llm = ScriptedLLM("it is blue")
    engine = index.as_query_engine(llm, multimodal=True, using="image", similarity_top_k=1)
    answer = engine.query("blue")
    assert str(answer) == "it is blue" and llm.images == [(1024, 341)] and "[image blue.png]" in llm.text
    own = index.as_query_engine(
        llm, multimodal=True, using="image", similarity_top_k=1, node_postprocessors=[ImageBudget(max_side=300)]
    )
    own.query("blue")
    assert llm.images == [(300, 100)]
    plain = index.as_query_engine(llm, using="image", similarity_top_k=1)
    plain.query("blue")
    assert llm.images == []


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


def test_updates_at_a_time_leave_one_version(index):
    async def update_all():
        await asyncio.gather(
            *(index.aupdate_ref_doc(Document(id_="note", text=f"a green note {n}")) for n in range(12))
        )

    asyncio.run(update_all())
    assert len([hit for hit in index.collection.vectors.scan() if hit.payload["doc_id"] == "note"]) == 1


def test_the_assistant_says_what_it_lacks():
    script = Path(__file__).parents[1] / "examples" / "06_assistant.py"
    code = (
        "import sys, runpy; sys.modules['llama_index.llms.openai_like'] = None; "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=script.parent, check=False)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "pip install llama-index-llms-openai-like" in ended.stderr
