"""What LlamaIndex's own store gets wrong, by number: each test fails on the stock class and passes on ours."""

from __future__ import annotations

import asyncio
import base64
import json
from io import BytesIO

import pytest
from llama_index.core.schema import ImageDocument, ImageNode, MediaResource, Node, TextNode
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilters, VectorStoreQuery
from llama_index.core.vector_stores import MetadataFilter as CoreMetadataFilter
from llama_index.core.vector_stores.types import VectorStoreQueryMode as Mode
from llama_index.vector_stores.qdrant import QdrantVectorStore
from PIL import Image
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from clip_qdrant.images import content_hash
from clip_qdrant.llamaindex.metadata_filters import MetadataFilter
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")

FAILS = pytest.mark.xfail(strict=True, reason="a defect of the stock class")
ID = "00000000-0000-0000-0000-00000000000{}"
QUERY = VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=9)


@pytest.fixture
def client():
    client = QdrantClient(":memory:")
    yield client
    client.close()


@pytest.fixture(params=[pytest.param(QdrantVectorStore, marks=FAILS, id="stock"), ClipQdrantVectorStore])
def store_class(request):
    return request.param


@pytest.fixture
def store(store_class, client):
    return store_class("c", client=client)


def node(number, vector=(1.0, 0.5), **metadata):
    return TextNode(id_=ID.format(number), text=f"text {number}", embedding=list(vector), metadata=metadata)


def where(*filters, condition=FilterCondition.AND):
    made = [CoreMetadataFilter.model_construct(key=key, operator=op, value=value) for key, op, value in filters]
    return MetadataFilters(filters=made, condition=condition)


def numbers(nodes):
    return sorted(int(each.node_id[-1]) for each in nodes)


def png(size=8, noise=0):
    file = BytesIO()
    (Image.effect_noise((size, size), noise) if noise else Image.new("RGB", (size, size), "red")).save(file, "PNG")
    return file.getvalue()


def test_defect_17_of_a_picture_of_bytes_it_is_known_which_it_was(store, client):
    store.add([Node(id_=ID.format(1), embedding=[1.0, 0.5], image_resource=MediaResource(data=png()))])
    payload = client.scroll("c")[0][0].payload
    assert (payload["modality"], payload["content_hash"]) == ("image", content_hash(png()))


@pytest.mark.parametrize("text", ["a caption", ""])
def test_defect_18_an_image_document_comes_back_as_a_picture(store, tmp_path, text):
    path = tmp_path / "red.png"
    path.write_bytes(png())
    document = ImageDocument(id_=ID.format(1), image_path=str(path), text=text, embedding=[1.0, 0.5])
    store.add([document])
    (found,) = store.query(QUERY).nodes
    assert (type(found), found.node_id, found.text, found.image_path) == (ImageNode, ID.format(1), text, str(path))


@pytest.mark.parametrize("filter_class", [pytest.param(CoreMetadataFilter, marks=FAILS, id="stock"), MetadataFilter])
def test_defect_19_filters_take_true_and_false(filter_class, client):
    store = ClipQdrantVectorStore("c", client=client)
    store.add([node(1, seen=True), node(2, seen=False), node(3)])
    filters = MetadataFilters(filters=[filter_class(key="seen", value=True)])
    assert numbers(store.get_nodes(filters=filters)) == [1]


def test_defect_19_filters_made_past_the_check_work_too(store):
    store.add([node(1, seen=True), node(2, seen=False), node(3), node(4, seen=1)])
    assert numbers(store.get_nodes(filters=where(("seen", FilterOperator.NE, True)))) == [2, 3, 4]


def test_defect_20_a_dense_vector_has_the_name_that_was_asked_for(store_class, client):
    store = store_class("c", client=client, dense_vector_name="clip")
    store.add([node(1)])
    assert list(client.get_collection("c").config.params.vectors) == ["clip"]
    assert numbers(store.query(QUERY).nodes) == [1]


@pytest.mark.parametrize("stock", [pytest.param(True, marks=FAILS, id="stock"), False])
def test_defect_21_an_async_query_asks_for_the_answer_alone(stock, monkeypatch):
    asked = []

    async def run():
        if stock:
            client = AsyncQdrantClient(":memory:")
            vector = models.VectorParams(size=2, distance=models.Distance.COSINE)
            await client.create_collection("c", vectors_config={"text-dense": vector})
            store = QdrantVectorStore("c", aclient=client)
        else:
            client = QdrantClient(":memory:")
            store = ClipQdrantVectorStore("c", client=client)
        await store.async_add([node(1)])
        await store.aquery(QUERY)
        for name in ("get_collection", "collection_exists"):
            method = getattr(client, name)
            monkeypatch.setattr(
                client, name, lambda *args, _method=method, **kw: asked.append(1) or _method(*args, **kw)
            )
        assert [numbers((await store.aquery(QUERY)).nodes) for _ in range(3)] == [[1]] * 3

    asyncio.run(run())
    assert asked == []


@pytest.mark.parametrize("stock", [pytest.param(True, marks=FAILS, id="stock"), False])
def test_defect_22_alpha_0_is_words_alone(stock):
    def words(texts):
        return [[int(text[-1])] for text in texts], [[1.0] for _ in texts]

    async def run():
        options = {"enable_hybrid": True, "sparse_doc_fn": words, "sparse_query_fn": words}
        if stock:
            store = QdrantVectorStore("c", aclient=AsyncQdrantClient(":memory:"), **options)
        else:
            store = ClipQdrantVectorStore("c", client=QdrantClient(":memory:"), **options)
        await store.async_add([node(1, [1.0, 0.0]), node(2, [0.0, 1.0]), node(3, [0.1, 1.0])])
        query = VectorStoreQuery(
            query_embedding=[1.0, 0.0], query_str="text 2", mode=Mode.HYBRID, alpha=0, similarity_top_k=1
        )
        return (await store.aquery(query)).ids

    assert asyncio.run(run()) == [ID.format(2)]


def test_defect_23_ids_and_filters_together_delete_what_is_in_both(store):
    store.add([node(number, year=2020 + number) for number in range(5)])
    either = where(("year", "==", 2021), ("year", "==", 2022), condition=FilterCondition.OR)
    store.delete_nodes([ID.format(2), ID.format(3)], either)
    assert numbers(store.get_nodes()) == [0, 1, 3, 4]
    assert numbers(store.get_nodes([ID.format(3), ID.format(1)], either)) == [1]


@pytest.mark.parametrize("arguments", [{}, {"filters": MetadataFilters(filters=[])}])
def test_defect_23_deleting_without_saying_what_is_refused(store, arguments):
    store.add([node(1)])
    with pytest.raises(ValueError, match=r"delete_nodes needs node_ids or filters.*clear"):
        store.delete_nodes(**arguments)
    assert numbers(store.get_nodes()) == [1]


@pytest.mark.parametrize("payload", [{"foreign": 1}, None, {"_node_content": "{broken"}, {"text": 5}])
def test_defect_24_a_point_of_something_else_does_not_break_queries(store, client, payload):
    store.add([node(1)])
    named = isinstance(client.get_collection("c").config.params.vectors, dict)
    vector = [1.0, 0.5]
    client.upsert("c", [models.PointStruct(id=7, vector={"text": vector} if named else vector, payload=payload)])
    found = store.query(QUERY)
    assert sorted(found.ids) == sorted([ID.format(1), "7"])
    assert len(store.get_nodes()) == 2


def test_defect_25_not_equal_finds_what_has_no_value(store):
    store.add([node(1, animal="cat"), node(2, animal="dog"), node(3)])
    assert numbers(store.get_nodes(filters=where(("animal", "!=", "cat")))) == [2, 3]
    assert numbers(store.get_nodes(filters=where(("animal", "nin", ["cat", "dog"])))) == [3]


def test_defect_26_a_query_without_an_embedding_is_an_error(store):
    store.add([node(1)])
    with pytest.raises(ValueError, match="needs a query_embedding, got None"):
        store.query(VectorStoreQuery(query_str="text 1", similarity_top_k=2))


def test_defect_27_all_nodes_are_all_nodes(store):
    nodes = [TextNode(text="x", embedding=[1.0, 0.5]) for _ in range(10_050)]
    store.add(nodes)
    assert len(store.get_nodes()) == 10_050


def test_defect_28_a_payload_has_neither_base64_nor_vectors(store, client):
    image = base64.b64encode(png(300, noise=60)).decode()
    store.add([ImageNode(id_=ID.format(1), image=image, text_embedding=[0.25] * 500, embedding=[1.0, 0.5])])
    payload = client.scroll("c")[0][0].payload
    assert len(image) > 50_000
    assert len(json.dumps(payload)) < 2_000


FILTERS = {
    "date": (("day", ">=", "2024-05-01"), [2]),
    "float in": (("score", "in", [0.5, 2.5]), [1]),
    "any": (("tags", "any", ["a", "z"]), [1]),
    "all": (("tags", "all", ["a", "b"]), [1]),
    "contains": (("tags", "contains", "b"), [1, 2]),
}


@pytest.mark.parametrize("case", FILTERS)
def test_also_filters_of_every_type(store, case):
    asked, expected = FILTERS[case]
    store.add(
        [
            node(1, seen=True, day="2023-12-31T10:00:00Z", score=0.5, tags=["a", "b"]),
            node(2, seen=False, day="2024-05-01T10:00:00Z", score=1.5, tags=["b"]),
            node(3),
        ]
    )
    assert numbers(store.get_nodes(filters=where(asked))) == expected


def test_also_mmr_is_not_a_plain_search(store):
    store.add([node(1, [1.0, 0.1]), node(2, [1.0, 0.11]), node(3, [0.6, -0.8])])
    query = VectorStoreQuery(query_embedding=[1.0, 0.1], similarity_top_k=2, mode=Mode.MMR, mmr_threshold=0.3)
    assert store.query(query).ids == [ID.format(1), ID.format(3)]


def test_also_an_id_need_not_be_a_uuid(store):
    assert store.add([TextNode(id_="chapter 1", text="x", embedding=[1.0, 0.5])]) == ["chapter 1"]
    assert store.query(QUERY).ids == ["chapter 1"]


def test_also_one_client_in_memory_serves_async_too(store):
    async def run():
        await store.async_add([node(1), node(2)])
        await store.adelete_nodes([ID.format(2)])
        return numbers((await store.aquery(QUERY)).nodes), numbers(await store.aget_nodes())

    assert asyncio.run(run()) == ([1], [1])
    assert numbers(store.query(QUERY).nodes) == [1]
