"""Strict mode on the embedded client, and the one warning without it."""

import logging

import pytest
from qdrant_client import models

from clip_qdrant import connect
from clip_qdrant.errors import ConfigError, FilterError
from clip_qdrant.storage.edge import strict
from tests.edge_data import UNIT, VECTORS, fill

M = models
KIND = M.Filter(must=[M.FieldCondition(key="kind", match=M.MatchValue(value="cat"))])
VECTOR = VECTORS[0]


@pytest.fixture
def client(tmp_path):
    with connect(tmp_path) as client:
        yield fill(client)


def be_strict(client, **limits):
    client.update_collection("c", strict_mode_config=M.StrictModeConfig(enabled=True, **limits))


def field(key, **test):
    return M.Filter(must=[M.FieldCondition(key=key, **test)])


READS = {
    "query": lambda client, given: client.query_points("c", query=VECTOR, query_filter=given),
    "prefetch": lambda client, given: client.query_points(
        "c", query=VECTOR, prefetch=M.Prefetch(query=VECTOR, filter=given)
    ),
    "scroll": lambda client, given: client.scroll("c", scroll_filter=given),
    "count": lambda client, given: client.count("c", count_filter=given),
    "groups": lambda client, given: client.query_points_groups("c", "kind", query=VECTOR, query_filter=given),
    "matrix": lambda client, given: client.search_matrix_pairs("c", query_filter=given),
    "batch": lambda client, given: client.query_batch_points("c", [M.QueryRequest(query=VECTOR, filter=given)]),
}
UPDATES = {
    "delete": lambda client, given: client.delete("c", given),
    "set_payload": lambda client, given: client.set_payload("c", {"a": 1}, given),
    "upsert": lambda client, given: client.upsert("c", [M.PointStruct(id=1, vector=VECTOR)], update_filter=given),
    "batch": lambda client, given: client.batch_update_points(
        "c", [M.ClearPayloadOperation(clear_payload=M.FilterSelector(filter=given))]
    ),
}


@pytest.mark.parametrize("read", READS)
def test_a_read_by_a_field_without_an_index_is_refused_until_there_is_one(client, read):
    be_strict(client, unindexed_filtering_retrieve=False)
    cure = r"client.create_payload_index\('c', 'kind', field_schema='keyword'\)"
    with pytest.raises(FilterError, match=f"'c' allows no filter on 'kind' without an index.*{cure}"):
        READS[read](client, KIND)
    client.create_payload_index("c", "kind", "keyword")
    READS[read](client, KIND)


@pytest.mark.parametrize("update", UPDATES)
def test_an_update_by_a_field_without_an_index_is_refused_and_changes_nothing(client, update):
    be_strict(client, unindexed_filtering_update=False)
    before = client.scroll("c")
    with pytest.raises(FilterError, match="'kind'"):
        UPDATES[update](client, KIND)
    assert client.scroll("c") == before
    READS["count"](client, KIND)  # reading is another rule
    client.create_payload_index("c", "kind", "keyword")
    UPDATES[update](client, KIND)
    assert client.scroll("c") != before


@pytest.mark.parametrize(
    ("given", "needs", "useless"),
    [
        (field("f", match=M.MatchValue(value="x")), "keyword", "integer"),
        (field("f", match=M.MatchAny(any=["x"])), "keyword", "text"),
        (field("f", match=M.MatchPrefix(prefix="x")), "keyword", "text"),
        (field("f", match=M.MatchValue(value=1)), "integer", "keyword"),
        (field("f", match=M.MatchExcept(**{"except": [1]})), "integer", "float"),
        (field("f", match=M.MatchValue(value=True)), "bool", "integer"),
        (field("f", match=M.MatchText(text="x")), "text", "keyword"),
        (field("f", match=M.MatchPhrase(phrase="x")), "text", "keyword"),
        (field("f", range=M.Range(gt=1)), "float", "keyword"),
        (field("f", range=M.Range(gt=1)), "integer", "datetime"),
        (field("f", range=M.DatetimeRange(gt="2024-01-01T00:00:00Z")), "datetime", "integer"),
        (field("f", geo_radius=M.GeoRadius(center=M.GeoPoint(lat=0, lon=0), radius=1)), "geo", "float"),
        (field("f", values_count=M.ValuesCount(gt=1)), "keyword", None),
        (M.Filter(must=[M.IsEmptyCondition(is_empty=M.PayloadField(key="f"))]), "text", None),
        (M.Filter(must_not=M.IsNullCondition(is_null=M.PayloadField(key="f"))), "geo", None),
        (M.Filter(should=[M.Filter(must_not=[M.Filter(must=field("f", range=M.Range(gt=1)))])]), "float", "bool"),
        (M.Filter(min_should=M.MinShould(min_count=1, conditions=[field("f[]", range=M.Range(gt=1))])), "float", None),
    ],
)
def test_the_index_must_serve_the_condition(client, given, needs, useless):
    be_strict(client, unindexed_filtering_retrieve=False)
    if useless is not None:
        client.create_payload_index("c", "f", useless)
    with pytest.raises(FilterError, match=r"'f(\[\])?'"):
        client.count("c", given)
    client.create_payload_index("c", "f", needs)
    client.count("c", given)


def test_a_nested_field_needs_its_own_index(client):
    be_strict(client, unindexed_filtering_retrieve=False)
    nested = M.NestedCondition(nested=M.Nested(key="parts", filter=field("n", range=M.Range(gt=1))))
    client.create_payload_index("c", "n", "integer")
    with pytest.raises(FilterError, match=r"'parts\[\].n'"):
        client.count("c", M.Filter(must=[nested]))
    client.create_payload_index("c", "parts[].n", "integer")
    client.count("c", M.Filter(must=[nested]))


def test_conditions_that_read_no_payload_need_no_index(client):
    be_strict(client, unindexed_filtering_retrieve=False)
    free = M.Filter(must=[M.HasIdCondition(has_id=[1, 2])], must_not=[M.HasVectorCondition(has_vector="other")])
    assert client.count("c", free).count == 2


LIMITS = {
    "max_query_limit": (4, lambda client, n: client.query_points("c", query=VECTOR, limit=n)),
    "search_max_hnsw_ef": (
        64,
        lambda client, n: client.query_points("c", query=VECTOR, search_params=M.SearchParams(hnsw_ef=n)),
    ),
    "search_max_oversampling": (
        2,
        lambda client, n: client.query_points(
            "c",
            query=VECTOR,
            search_params=M.SearchParams(quantization=M.QuantizationSearchParams(oversampling=n)),
        ),
    ),
    "search_max_batchsize": (
        2,
        lambda client, n: client.query_batch_points("c", [M.QueryRequest(query=VECTOR)] * n),
    ),
    "upsert_max_batchsize": (
        2,
        lambda client, n: client.upsert("c", [M.PointStruct(id=9 + i, vector=VECTOR) for i in range(n)]),
    ),
    "filter_max_conditions": (3, lambda client, n: client.count("c", M.Filter(must=[*KIND.must] * n))),
    "condition_max_size": (
        3,
        lambda client, n: client.count("c", M.Filter(must=[M.HasIdCondition(has_id=[*range(n)])])),
    ),
    "max_points_count": (6, lambda client, n: client.upsert("c", [M.PointStruct(id=90 + n, vector=VECTOR)])),
    "max_payload_index_count": (1, lambda client, n: client.create_payload_index("c", f"field{n}", "keyword")),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_allows_its_value_and_no_more(client, limit):
    most, act = LIMITS[limit]
    act(client, most + 1)  # not strict yet
    client.delete_collection("c")
    fill(client)
    be_strict(client, **{limit: most})
    act(client, most)
    with pytest.raises(ConfigError, match=f"'c' allows {most}.* got {most + 1}"):
        act(client, most + 1)


def test_exact_search_can_be_forbidden(client):
    be_strict(client, search_allow_exact=False)
    client.query_points("c", query=VECTOR)
    with pytest.raises(ConfigError, match="no exact search"):
        client.query_points("c", query=VECTOR, search_params=M.SearchParams(exact=True))


def test_large_sparse_vectors_and_multivectors_can_be_forbidden(client):
    client.create_collection(
        "d",
        vectors_config={"rows": M.VectorParams(size=2, distance="Dot", multivector_config={"comparator": "max_sim"})},
        sparse_vectors_config={"words": M.SparseVectorParams()},
        strict_mode_config=M.StrictModeConfig(
            enabled=True,
            multivector_config={"rows": M.StrictModeMultivector(max_vectors=2)},
            sparse_config={"words": M.StrictModeSparse(max_length=2)},
        ),
    )

    def put(rows, words):
        sparse = M.SparseVector(indices=list(range(words)), values=[1.0] * words)
        client.upsert("d", [M.PointStruct(id=1, vector={"rows": [[1.0, 1.0]] * rows, "words": sparse})])

    put(2, 2)
    with pytest.raises(ConfigError, match="allows 2 vectors in the multivector 'rows', got 3"):
        put(3, 2)
    with pytest.raises(ConfigError, match="allows 2 values in the sparse vector 'words', got 3"):
        put(2, 3)


def test_an_upload_keeps_to_the_batch_limit(client):
    be_strict(client, upsert_max_batchsize=2)
    client.upload_points("c", [M.PointStruct(id=10 + i, vector=VECTOR) for i in range(5)])
    assert client.count("c").count == 10


def test_strict_mode_survives_reopening_is_shown_and_can_be_turned_off(client, tmp_path):
    be_strict(client, unindexed_filtering_retrieve=False)
    client.close()
    with connect(tmp_path) as again:
        assert again.get_collection("c").config.strict_mode_config.unindexed_filtering_retrieve is False
        with pytest.raises(FilterError):
            again.count("c", KIND)
        again.update_collection("c", strict_mode_config=M.StrictModeConfig(enabled=False))
        assert again.count("c", KIND).count == 2


def test_without_strict_mode_one_warning_says_how_to_add_the_index(tmp_path, caplog):
    with connect(tmp_path) as client, caplog.at_level(logging.WARNING):
        client.create_collection("c", vectors_config=UNIT)
        points = [M.PointStruct(id=i, vector=VECTOR, payload={"kind": "cat"}) for i in range(strict.WARN_FROM_POINTS)]
        client.upsert("c", points[1:])
        client.count("c", KIND)
        assert caplog.messages == []  # so few are read in no time
        client.upsert("c", points[:1])
        client.count("c", KIND)
        client.scroll("c", scroll_filter=KIND)
        assert len(caplog.messages) == 1
        assert "client.create_payload_index('c', 'kind', field_schema='keyword')" in caplog.messages[0]
        client.create_payload_index("c", "kind", "keyword")
        client.count("c", KIND)
        client.count("c", field("other", range=M.Range(gt=1)))
        client.create_payload_index("c", "third", "keyword")  # which must not make it forget what it said
        client.count("c", field("other", range=M.Range(gt=1)))
        assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    "formula, field, kind",
    [
        ("n", "n", "float or integer"),
        (M.SumExpression(sum=["$score", M.NegExpression(neg="n")]), "n", "float or integer"),
        (M.DivExpression(div=M.DivParams(left=1.0, right="n")), "n", "float or integer"),
        (M.ExpDecayExpression(exp_decay=M.DecayParamsExpression(x="n", target=1.0)), "n", "float or integer"),
        (M.MultExpression(mult=[2.0, KIND.must[0]]), "kind", "keyword or uuid"),
        (M.MultExpression(mult=[2.0, KIND]), "kind", "keyword or uuid"),
        (M.DatetimeKeyExpression(datetime_key="at"), "at", "datetime"),
        (M.GeoDistance(geo_distance=M.GeoDistanceParams(origin=M.GeoPoint(lat=0, lon=0), to="at")), "at", "geo"),
    ],
)
def test_a_formula_reads_indexed_fields_only(client, formula, field, kind):
    query = M.FormulaQuery(formula=formula, defaults={"n": 1.0, "at": "2024-01-01T00:00:00Z"})
    asked = {"prefetch": M.Prefetch(query=VECTOR), "query": query}
    be_strict(client, unindexed_filtering_retrieve=False)
    with pytest.raises(FilterError, match=rf"no formula that reads '{field}' without an index \({kind}\)\. Add one"):
        client.query_points("c", **asked)


def test_a_formula_of_indexed_fields_and_scores_is_allowed(client):
    be_strict(client, unindexed_filtering_retrieve=False)
    client.create_payload_index("c", "n", "integer")
    moment = M.DatetimeExpression(datetime="2024-01-01T00:00:00Z")
    formula = M.SumExpression(sum=["$score", "n", 1.0, M.HasIdCondition(has_id=[1]), moment])
    found = client.query_points("c", prefetch=M.Prefetch(query=VECTOR), query=M.FormulaQuery(formula=formula)).points
    assert len(found) == 5
