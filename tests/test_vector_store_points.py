"""Which points of a collection a store means by ids of nodes and documents, and what it deletes."""

import pytest
from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilters, VectorStoreQuery
from qdrant_client import QdrantClient, models

from clip_qdrant import connect
from clip_qdrant.errors import ConfigError, FilterError, InvalidPointError
from clip_qdrant.llamaindex.metadata_filters import MetadataFilter
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from clip_qdrant.llamaindex.vector_store_points import upload

LARGEST = 2**64 - 1


def node(id, *, doc=None, **metadata):
    relationships = {} if doc is None else {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=doc)}
    return TextNode(id_=id, text=id, embedding=[1.0, 0.5], metadata=metadata, relationships=relationships)


def ids(store):
    return sorted(each.node_id for each in store.get_nodes())


@pytest.fixture
def foreign(client, name):
    """A store of a collection of whole numbers, made by something else."""
    client.create_collection(name, vectors_config=models.VectorParams(size=2, distance=models.Distance.COSINE))
    client.upsert(
        name, [models.PointStruct(id=id, vector=[1.0, id / 2], payload={"n": id}) for id in (0, 1, 7)], wait=True
    )
    return ClipQdrantVectorStore(name, client=client)


def test_points_of_whole_numbers_are_got_queried_and_deleted_by_id(foreign):
    assert ids(foreign) == ["0", "1", "7"]
    assert [each.metadata["n"] for each in foreign.get_nodes(["7"])] == [7]
    query = VectorStoreQuery(query_embedding=[1.0, 0.0], node_ids=["0", "7"], similarity_top_k=9)
    assert foreign.query(query).ids == ["0", "7"]
    foreign.delete_nodes(["7", "07", "0.0", "-1", "²", "٧", "99", str(LARGEST + 1)])
    assert ids(foreign) == ["0", "1"]


def test_integers_are_ids_too(foreign):
    assert [each.node_id for each in foreign.get_nodes([7])] == ["7"]
    foreign.delete_nodes([0, 7])
    assert ids(foreign) == ["1"]


def test_a_node_of_digits_does_not_write_over_a_foreign_point(foreign, client, name):
    foreign.add([node("7")])
    assert client.retrieve(name, [7])[0].payload == {"n": 7}
    assert [each.node_id for each in foreign.get_nodes(["7"])] == ["7", "7"]
    foreign.delete_nodes(["7"])
    assert ids(foreign) == ["0", "1"]


@pytest.fixture
def store():
    with connect(":memory:") as client:
        store = ClipQdrantVectorStore("c", client=client)
        store.add([node("a", doc="d", n=1), node("b", n=2), node("c", n=3)])
        yield store


WRONG_IDS = ["a", b"a", 7, [None], [1.5], [True], [["a"]]]


@pytest.mark.parametrize("wrong", WRONG_IDS, ids=repr)
def test_ids_are_a_list_and_a_word_is_not_its_letters(store, wrong):
    for asking in (store.delete_nodes, store.get_nodes):
        with pytest.raises(ConfigError, match="node_ids is a list of ids"):
            asking(wrong)
    for field in ("node_ids", "doc_ids"):
        with pytest.raises(ConfigError, match=f"{field} is a list of ids"):
            store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], **{field: wrong}))
    assert ids(store) == ["a", "b", "c"]


@pytest.mark.parametrize("wrong", ["", "None", None, 7], ids=repr)
def test_no_document_is_none_to_delete(store, wrong):
    with pytest.raises(ConfigError, match="delete needs the id of a document, got "):
        store.delete(wrong)
    assert ids(store) == ["a", "b", "c"]
    store.delete("d")
    assert ids(store) == ["b", "c"]


def flat(operator, value, key="n"):
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=FilterOperator(operator))])


NEVER = flat("in", [])
ALWAYS = {
    "nothing": MetadataFilters(filters=[]),
    "nin []": flat("nin", []),
    "nin of no text": flat("nin", ""),
    "not in []": MetadataFilters(filters=[NEVER], condition=FilterCondition.NOT),
    "nin [] or more": MetadataFilters(filters=[flat("nin", []), flat("==", 1)], condition=FilterCondition.OR),
    "nin [] and nin []": MetadataFilters(filters=[flat("nin", []), flat("nin", [], "m")]),
    "mapping": {"n": {"not_in": []}},
    "qdrant, empty": models.Filter(),
    "qdrant, not in an empty group": models.Filter(must_not=[models.HasIdCondition(has_id=[])]),
    "qdrant, any of []": models.Filter(must_not=models.FieldCondition(key="n", match=models.MatchAny(any=[]))),
    "qdrant, one at least": models.Filter(min_should=models.MinShould(conditions=[models.Filter()], min_count=1)),
}


@pytest.mark.parametrize("filters", ALWAYS.values(), ids=ALWAYS)
def test_filters_that_leave_nothing_out_delete_nothing(store, filters):
    with pytest.raises(ConfigError, match=r"delete_nodes needs node_ids or filters .*To delete all, use clear\(\)"):
        store.delete_nodes(filters=filters)
    assert ids(store) == ["a", "b", "c"]
    store.delete_nodes(["b"], filters=filters)
    assert ids(store) == ["a", "c"], "of nodes that are named such a filter leaves nothing out either"


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        (NEVER, ["a", "b", "c"]),
        (flat("in", ""), ["a", "b", "c"]),
        (flat("nin", [1]), ["a"]),
        (flat("!=", 1), ["a"]),
        (MetadataFilters(filters=[flat("nin", []), flat("==", 1)]), ["b", "c"]),
        (MetadataFilters(filters=[NEVER, flat("==", 1)], condition=FilterCondition.OR), ["b", "c"]),
        (models.Filter(should=models.FieldCondition(key="n", match=models.MatchValue(value=3))), ["a", "b"]),
        (models.Filter(must_not=models.Filter(must=[models.HasIdCondition(has_id=[])],
                                              should=[models.Filter()])), None),
    ],
)  # fmt: skip
def test_filters_that_say_what_delete_that(store, filters, left):
    if left is None:
        with pytest.raises(ConfigError):
            store.delete_nodes(filters=filters)
    else:
        store.delete_nodes(filters=filters)
        assert ids(store) == left


def test_what_metadata_calls_its_modality_picks_no_vector(client, name):
    picture = ImageNode(
        id_="p", image_url="https://example.org/a.png", embedding=[1.0, 0.0], metadata={"modality": "text"}
    )
    text = TextNode(id_="t", text="red", embedding=[0.0, 1.0], metadata={"modality": "image"})
    store = ClipQdrantVectorStore(name, client=client)
    store.add([picture, text])
    for point in client.scroll(name, with_vectors=True)[0]:  # each has the vector of the other kind, too
        client.update_vectors(
            name, [models.PointVectors(id=point.id, vector={"image": [1.0, 0.0], "text": [0.0, 1.0]})], wait=True
        )
    found = {each.node_id: each for each in store.get_nodes()}
    assert {id: (type(each), each.embedding) for id, each in found.items()} == {
        "p": (ImageNode, [1.0, 0.0]), "t": (TextNode, [0.0, 1.0])
    }  # fmt: skip
    assert [each.metadata["modality"] for each in (found["p"], found["t"])] == ["text", "image"]


def test_a_generator_of_nodes_is_written(client, name):
    store = ClipQdrantVectorStore(name, client=client, batch_size=2)
    assert store.add(node(id) for id in "abc") == ["a", "b", "c"]
    assert ids(store) == ["a", "b", "c"]
    assert store.add(iter(())) == []


@pytest.mark.parametrize("wrong", [node("x"), ["x"], [None], [node("x"), "y"]], ids=["node", "str", "None", "mixed"])
def test_what_is_no_node_is_refused(store, wrong):
    with pytest.raises(InvalidPointError, match="Nothing was written: nodes are a list of nodes, got "):
        store.add(wrong)
    assert ids(store) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("query", "options", "error", "message"),
    [
        ({"similarity_top_k": "3"}, {}, ConfigError, "similarity_top_k must be .*, got '3'"),
        ({"similarity_top_k": None}, {}, ConfigError, "similarity_top_k must be .*, got None"),
        ({"mode": "mmr", "mmr_threshold": "x"}, {}, ConfigError, "mmr_threshold must be from 0 to 1, got 'x'"),
        ({"mode": "mmr"}, {"mmr_prefetch_k": "x"}, ConfigError, "mmr_prefetch_k must be .*, got 'x'"),
        ({"mode": "hybrid", "alpha": "x"}, {}, ConfigError, "alpha must be from 0 to 1, got 'x'"),
        ({"filters": 7}, {}, FilterError, "7"),
        ({}, {"search_params": {"hnsw": 7}}, ConfigError, "search_params are Qdrant's SearchParams, .*hnsw_ef"),
        ({}, {"search_params": {"hnsw_ef": "x"}}, ConfigError, "search_params are .*, got {'hnsw_ef': 'x'}"),
        ({}, {"search_params": 7}, ConfigError, "search_params are .*, got 7"),
        ({}, {"search_params": "exact"}, ConfigError, "search_params are .*, got 'exact'"),
    ],
)
def test_queries_of_the_wrong_types_are_refused(store, query, options, error, message):
    with pytest.raises(error, match=message):
        store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], **query), **options)


@pytest.mark.parametrize("limit", ["3", -1, 1.5])
def test_limits_that_are_none_are_refused(store, limit):
    with pytest.raises(ConfigError, match="limit must be at least 0"):
        store.get_nodes(limit=limit)
    assert store.get_nodes(limit=0) == []


def test_a_server_gets_the_points_as_they_are_made_with_its_own_ways(monkeypatch):
    client = QdrantClient(url="http://localhost:1", check_compatibility=False)
    asked, made = [], []

    def batches():
        for number in range(3):
            made.append(number)
            yield [models.PointStruct(id=number, vector={})]

    def upload_points(collection, points, **options):
        asked.append((collection, [(point.id, len(made)) for point in points], options))

    monkeypatch.setattr(client, "upload_points", upload_points)
    upload(client, "c", batches(), 2, 3, 4)
    options = {"batch_size": 2, "parallel": 3, "max_retries": 4, "wait": True}
    assert asked == [("c", [(0, 1), (1, 2), (2, 3)], options)]
