"""ClipIndex: pictures and texts, in and out, changed and deleted, by every way that LlamaIndex has."""

import asyncio
import logging

import pytest
from llama_index.core import Document, StorageContext
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import ImageDocument, ImageNode, MediaResource, Node, TextNode
from llama_index.vector_stores.qdrant import QdrantVectorStore
from PIL import Image

from clip_qdrant import ClipCollection, ClipEmbedding, ClipRetriever, connect
from clip_qdrant.errors import CollectionMismatchError, ConfigError, ImageDecodeError
from clip_qdrant.llamaindex.index import ClipIndex
from clip_qdrant.llamaindex.reader import ClipReader
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from clip_qdrant.testing import FakeEncoder

pytestmark = pytest.mark.usefixtures("event_loop_of_the_thread")


@pytest.fixture(params=["memory", "embedded"])
def client(request, tmp_path):
    with connect(":memory:" if request.param == "memory" else tmp_path / "qdrant") as client:
        yield client


@pytest.fixture
def collection(client):
    return ClipCollection(client, "c", FakeEncoder())


@pytest.fixture
def documents(swatches):
    """A picture and a passage for each colour."""
    pictures = ClipReader().load_data(swatches)
    texts = [Document(id_=f"{colour}.txt", text=f"a {colour} note") for colour in ("red", "green", "blue")]
    return [*pictures, *texts]


def found(index, query, **arguments):
    """What comes back, as file names and texts."""
    nodes = index.as_retriever(**arguments).retrieve(query)
    return [node.metadata.get("file_name", node.text) for node in nodes]


def ids(index):
    return sorted(hit.id for hit in index.collection.vectors.scan())


def built(collection, documents):
    store = ClipQdrantVectorStore(collection.name, client=collection.vectors.client, encoder=collection.encoder)
    return ClipIndex.from_documents(
        documents,
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=ClipEmbedding(encoder=collection.encoder),
        transformations=[SentenceSplitter()],
    )


# In -------------------------------------------------------------------------------------------------------------------


def test_pictures_and_texts_are_found_in_one_collection(collection, documents):
    index = built(collection, documents)
    assert found(index, "red", similarity_top_k=2) == ["red.png", "a red note"]
    assert found(index, "red", using="text", similarity_top_k=1) == ["a red note"]


def test_a_folder_goes_in_once(collection, swatches):
    index = ClipIndex.from_folder(swatches, collection)
    count = collection.count()
    assert count == len(list(swatches.iterdir()))
    assert (
        ClipIndex.from_folder(swatches, collection).refresh_ref_docs(ClipReader().load_data(swatches))
        == [False] * count
    )
    assert found(index, "blue", using="image", similarity_top_k=1) == ["blue.png"]


def test_what_the_collection_wrote_is_not_embedded_again(collection, swatches):
    from clip_qdrant import records_in

    collection.add(records_in(swatches))
    before = {hit.id for hit in collection.vectors.scan()}
    index = ClipIndex.from_folder(swatches, collection)
    assert {hit.id for hit in collection.vectors.scan()} == before
    assert found(index, "blue", using="image", similarity_top_k=1) == ["blue.png"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_defect_8_and_9_a_picture_without_words_is_kept(collection, swatches, asynchronous):
    path = str(swatches / "red.png")
    nodes = [
        ImageNode(id_="node", image_path=path),
        ImageDocument(id_="document", image_path=path),
        Node(id_="resource", image_resource=MediaResource(path=path)),
    ]
    store = ClipQdrantVectorStore("c", client=collection.vectors.client, encoder=collection.encoder)
    context = StorageContext.from_defaults(vector_store=store)
    index = ClipIndex(
        nodes, storage_context=context, embed_model=ClipEmbedding(encoder=FakeEncoder()), use_async=asynchronous
    )
    assert collection.count() == 3
    (more,) = [ImageNode(id_="more", image_path=path)]
    if asynchronous:
        asyncio.run(index.ainsert_nodes([more]))
    else:
        index.insert_nodes([more])
    assert collection.count() == 4


def test_defect_10_texts_and_pictures_do_not_hide_each_other(collection, documents):
    index = ClipIndex.from_collection(collection)
    pictures = [document for document in documents if isinstance(document, ImageDocument)]
    texts = [document for document in documents if not isinstance(document, ImageDocument)]
    for document in [*texts, *pictures]:
        index.insert(document)
    assert set(found(index, "green", similarity_top_k=2)) == {"green.png", "a green note"}
    index.insert(Document(text="one more red note"))
    index.insert(pictures[0])
    assert set(found(index, "green", similarity_top_k=2)) == {"green.png", "a green note"}


def test_a_picture_is_one_node_whatever_its_caption(collection, swatches):
    caption = "a long sentence about red things. " * 200
    document = ImageDocument(id_="d", image_path=str(swatches / "red.png"), text=caption)
    built(collection, [document])
    (hit,) = collection.vectors.scan(with_vectors=True)
    assert hit.metadata["modality"] == "image"


def test_a_long_text_is_split(collection):
    index = built(collection, [Document(id_="long", text="a red sentence. " * 2_000)])
    assert collection.count() > 3
    index.delete_ref_doc("long")
    assert collection.count() == 0


def test_a_picture_as_bytes_is_embedded(collection, swatches):
    encoded = (swatches / "blue.png").read_bytes()
    built(collection, [Document(id_="d", image_resource=MediaResource(data=encoded))])
    (hit,) = collection.search("blue")
    assert hit.score > 0.9


def test_nodes_without_content_are_left_out_and_named(collection, caplog):
    index = ClipIndex.from_collection(collection)
    with caplog.at_level(logging.WARNING):
        index.insert_nodes([TextNode(id_="empty", text="  "), TextNode(id_="full", text="red")])
    assert "1 nodes have neither a picture nor a text" in caplog.text
    assert "empty" in caplog.text
    assert collection.count() == 1


def test_the_callers_nodes_are_left_as_they_are(collection):
    node = TextNode(text="red")
    ClipIndex.from_collection(collection).insert_nodes([node])
    assert node.embedding is None


def test_a_vector_that_a_node_brings_is_kept(collection):
    vector = FakeEncoder().embed_texts(["blue"])[0].tolist()
    ClipIndex.from_collection(collection).insert_nodes([TextNode(text="red", embedding=vector)])
    assert [hit.text for hit in collection.search("blue", using="text", min_score=0.9)] == ["red"]


# Changes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_defect_11_deletion_reaches_both_kinds(collection, documents, asynchronous):
    index = built(collection, documents)
    picture = next(document for document in documents if document.metadata.get("file_name") == "red.png")
    total = collection.count()
    if asynchronous:
        asyncio.run(index.adelete_ref_doc(picture.id_))
        asyncio.run(index.adelete_ref_doc("red.txt"))
    else:
        index.delete_nodes([picture.id_])
        index.delete_ref_doc("red.txt")
    assert collection.count() == total - 2
    assert not {"red.png", "a red note"} & set(found(index, "red", similarity_top_k=20))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_update_replaces_all_that_a_document_was(collection, asynchronous):
    index = built(collection, [Document(id_="d", text="a red sentence. " * 2_000)])
    changed = Document(id_="d", text="now blue")
    if asynchronous:
        asyncio.run(index.aupdate_ref_doc(changed))
    else:
        index.update_ref_doc(changed)
    assert found(index, "blue", using="text", similarity_top_k=9) == ["now blue"]


def test_an_update_that_fails_leaves_what_was_there(collection, swatches, tmp_path):
    index = built(collection, [ImageDocument(id_="d", image_path=str(swatches / "red.png"))])
    broken = tmp_path / "broken.png"
    broken.write_bytes((swatches / "red.png").read_bytes()[:40])
    with pytest.raises(ImageDecodeError, match=r"broken\.png"):
        index.update_ref_doc(Document(id_="d", image_resource=MediaResource(path=broken)))
    assert len(collection.search("red", min_score=0.9)) == 1


def test_refresh_touches_only_what_has_changed(collection, documents, swatches):
    index = built(collection, documents)
    kept = {hit.id: hit for hit in collection.vectors.scan()}
    Image.new("RGB", (8, 8), "purple").save(swatches / "red.png")
    changed = ClipReader().load_data(swatches)
    texts = [Document(id_="red.txt", text="a red note"), Document(id_="new.txt", text="a new note")]
    expected = [document.metadata["file_name"] == "red.png" for document in changed] + [False, True]
    assert index.refresh_ref_docs([*changed, *texts]) == expected
    assert asyncio.run(index.arefresh_ref_docs([*changed, *texts])) == [False] * len(expected)
    assert found(index, "purple", using="image", similarity_top_k=1) == ["red.png"]
    assert len(kept) + 1 == collection.count()


def test_an_index_opened_again_knows_its_documents(tmp_path, documents):
    with connect(tmp_path / "q") as client:
        built(ClipCollection(client, "c", FakeEncoder()), documents).storage_context.persist(tmp_path / "context")
    with connect(tmp_path / "q") as client:
        index = ClipIndex.from_collection(ClipCollection(client, "c", FakeEncoder()))
        assert index.refresh_ref_docs(documents) == [False] * len(documents)
        assert found(index, "red", similarity_top_k=2) == ["red.png", "a red note"]
        store = ClipQdrantVectorStore("c", client=client, encoder=FakeEncoder())
        context = StorageContext.from_defaults(persist_dir=str(tmp_path / "context"), vector_store=store)
        loaded = ClipIndex.from_vector_store(store, embed_model=ClipEmbedding(encoder=FakeEncoder()))
        assert context.docstore.get_document_hash("red.txt") is None
        assert found(loaded, "red", similarity_top_k=2) == ["red.png", "a red note"]


# Out ------------------------------------------------------------------------------------------------------------------


def test_retrievers_of_both_makes(collection, documents):
    index = built(collection, documents)
    assert isinstance(index.as_retriever(), ClipRetriever)
    stock = index.as_retriever(vector_store_query_mode="mmr", similarity_top_k=2)
    assert not isinstance(stock, ClipRetriever)
    assert len(stock.retrieve("red")) == 2


def test_ids_narrow_what_is_retrieved(collection, documents):
    index = built(collection, documents)
    two = found(index, "red", similarity_top_k=9, doc_ids=["blue.txt", "green.txt"])
    assert sorted(two) == ["a blue note", "a green note"]
    picture = next(document for document in documents if document.metadata.get("file_name") == "blue.png")
    assert found(index, "red", node_ids=[picture.id_]) == ["blue.png"]
    assert found(index, "red", doc_ids=[picture.id_], filters={"file_name": "red.png"}) == []
    engine = index.as_query_engine(llm=MockLLM(), doc_ids=["blue.txt"])
    assert [node.text for node in engine.query("red").source_nodes] == ["a blue note"]


def test_the_store_takes_the_encoder_of_the_index(client, swatches):
    store = ClipQdrantVectorStore("c", client=client)
    index = ClipIndex.from_vector_store(store, embed_model=ClipEmbedding(encoder=FakeEncoder()))
    index.insert(ImageDocument(image_path=str(swatches / "red.png"), text="a blue poem"))
    assert len(index.as_retriever(using="text", similarity_cutoff=0.5).retrieve("blue")) == 1
    other = ClipEmbedding(encoder=FakeEncoder(name="other"))
    for opened in (store, ClipQdrantVectorStore("c", client=client)):
        with pytest.raises(CollectionMismatchError):
            ClipIndex.from_vector_store(opened, embed_model=other)


def test_an_insertion_that_was_interrupted_is_done_again(collection, monkeypatch):
    index = built(collection, [Document(id_="d", text="an old sentence. " * 1_000)])
    index._insert_batch_size = 2
    changed = Document(id_="d", text="a new sentence. " * 2_000)
    fresh = Document(id_="fresh", text="a red sentence. " * 2_000)
    for document in (changed, fresh):
        calls = []

        def add(self, nodes, calls=calls, write=ClipQdrantVectorStore.add, **options):
            calls.append(nodes)
            if len(calls) == 2:
                raise ConnectionError("gone")
            return write(self, nodes, **options)

        with monkeypatch.context() as patched:
            patched.setattr(ClipQdrantVectorStore, "add", add)
            with pytest.raises(ConnectionError):
                index.refresh_ref_docs([document])
        assert index.refresh_ref_docs([document]) == [True]
        assert index.refresh_ref_docs([document]) == [False]
    assert not any("old" in hit.text for hit in collection.vectors.scan())


def test_a_broken_picture_of_a_folder_costs_itself(collection, swatches, caplog):
    count = len(list(swatches.iterdir()))
    (swatches / "broken.png").write_bytes((swatches / "red.png").read_bytes()[:40])
    with caplog.at_level(logging.WARNING):
        ClipIndex.from_folder(swatches, collection)
    assert collection.count() == count
    assert "broken.png" in caplog.text


def test_of_two_documents_with_one_id_the_later_counts(collection):
    index = ClipIndex.from_collection(collection)
    index.refresh_ref_docs([Document(id_="d", text="red old"), Document(id_="d", text="red new")])
    assert [hit.text for hit in collection.vectors.scan()] == ["red new"]


def test_a_second_store_that_holds_something_is_refused(collection):
    client = collection.vectors.client
    stores = {name: ClipQdrantVectorStore(name, client=client, encoder=FakeEncoder()) for name in ("texts", "images")}
    context = StorageContext.from_defaults(vector_store=stores["texts"], image_store=stores["images"])
    ClipIndex(storage_context=context, embed_model=ClipEmbedding(encoder=FakeEncoder()))
    stores["images"].add([TextNode(text="red", embedding=FakeEncoder().embed_texts(["red"])[0].tolist())])
    with pytest.raises(ConfigError, match="image store 'images' holds points"):
        ClipIndex(storage_context=context, embed_model=ClipEmbedding(encoder=FakeEncoder()))


def test_a_collection_of_the_stock_store_is_read_and_added_to(client):
    encoder = FakeEncoder()
    old = [TextNode(text=text, embedding=encoder.embed_texts([text])[0].tolist()) for text in ("a red note", "blue")]
    QdrantVectorStore("old", client=client).add(old)
    store = ClipQdrantVectorStore("old", client=client, encoder=encoder)
    index = ClipIndex.from_vector_store(store, embed_model=ClipEmbedding(encoder=encoder))
    index.insert_nodes([TextNode(text="a green note")])
    retriever = index.as_retriever(similarity_top_k=1)
    assert [retriever.retrieve(query)[0].text for query in ("red", "green")] == ["a red note", "a green note"]


def test_an_index_that_is_asked_before_it_is_filled_gets_the_stores_schema(client):
    store = ClipQdrantVectorStore("new", client=client, encoder=FakeEncoder(), enable_hybrid=True)
    index = ClipIndex.from_vector_store(store, embed_model=ClipEmbedding(encoder=FakeEncoder()))
    assert index.as_retriever().retrieve("red") == []
    index.insert_nodes([TextNode(text="a red note")])
    hybrid = index.as_retriever(vector_store_query_mode="hybrid")
    assert [node.text for node in hybrid.retrieve("note")] == ["a red note"]


def test_engines(collection, documents):
    index = built(collection, documents)
    response = index.as_query_engine(llm=MockLLM(), similarity_top_k=2, response_mode="compact").query("red")
    assert [node.metadata.get("file_name", node.text) for node in response.source_nodes] == ["red.png", "a red note"]
    chat = index.as_chat_engine(
        chat_mode="context", llm=MockLLM(), similarity_top_k=1, memory=ChatMemoryBuffer.from_defaults()
    )
    assert len(chat.chat("blue").source_nodes) == 1


def test_other_parts_are_refused_with_what_to_use(collection):
    with pytest.raises(ConfigError, match="needs a ClipQdrantVectorStore"):
        ClipIndex([])
    store = ClipQdrantVectorStore("c", client=collection.vectors.client)
    from llama_index.core import MockEmbedding

    with pytest.raises(ConfigError, match="needs a ClipEmbedding"):
        ClipIndex(
            storage_context=StorageContext.from_defaults(vector_store=store), embed_model=MockEmbedding(embed_dim=32)
        )


def test_defect_14_a_plain_index_embeds_the_picture(collection, swatches):
    store = ClipQdrantVectorStore("c", client=collection.vectors.client, encoder=collection.encoder)
    node = ImageNode(image_path=str(swatches / "red.png"), text="blue words")
    ClipIndex(
        [node],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=ClipEmbedding(encoder=FakeEncoder()),
    )
    assert len(collection.search("red", min_score=0.9)) == 1
    assert len(collection.search("blue", using="text", min_score=0.5)) == 1
