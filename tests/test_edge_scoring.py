"""Formulas, feedback, text queries, groups and matrices: the embedded client against local mode."""

import random
import warnings

import pytest
from qdrant_client import QdrantClient, models

from clip_qdrant import connect
from clip_qdrant.errors import ConfigError, FilterError, InvalidPointError
from clip_qdrant.storage.edge import groups

M = models
QUERY = [1.0, 0.0, 0.2, 0.5]


def points(count=40):
    rng = random.Random(7)
    return [
        M.PointStruct(
            id=i,
            vector=[rng.gauss(0, 1) for _ in range(4)],
            payload={
                "n": i + 1,
                "tag": rng.choice(["x", "y", "z"]),
                "when": f"2024-01-{i % 28 + 1:02d}T00:00:00Z",
                "where": {"lat": 50 + i / 10, "lon": 8.0},
                "tags": rng.sample(["a", "b", "c", "d"], 2),
                "text": " ".join(rng.sample(["brown", "bear", "wood", "cat", "sleeps", "runs"], 3)),
            },
        )
        for i in range(count)
    ]


@pytest.fixture
def both(tmp_path):
    """The embedded client and local mode, with the same points."""
    clients = [connect(tmp_path), QdrantClient(":memory:")]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Payload indexes have no effect", UserWarning)
        for client in clients:
            client.create_collection("c", vectors_config=M.VectorParams(size=4, distance="Cosine"))
            client.upsert("c", points())
            for field, kind in (("n", "integer"), ("when", "datetime"), ("where", "geo"), ("tag", "keyword")):
                client.create_payload_index("c", field, kind)
            client.create_payload_index("c", "text", M.TextIndexParams(type="text", scoring=True))
    yield clients
    for client in clients:
        client.close()


def scored(response):
    return [(point.id, pytest.approx(point.score, rel=1e-4, abs=1e-5)) for point in response.points]


def by_formula(client, expression, **defaults):
    return client.query_points(
        "c",
        prefetch=M.Prefetch(query=QUERY, limit=40),
        query=M.FormulaQuery(formula=expression, defaults=defaults),
        limit=40,
    )


def decay(**more):
    start = M.DatetimeExpression(datetime="2024-01-05T00:00:00Z")
    hours = M.MultExpression(mult=[M.DatetimeKeyExpression(datetime_key="when"), 1.0])
    return M.DecayParamsExpression(x=hours, target=start, scale=250_000.0, **more)


TO_BERLIN = M.GeoDistance(geo_distance=M.GeoDistanceParams(origin=M.GeoPoint(lat=52.5, lon=13.4), to="where"))
FORMULAS = {
    "score": "$score",
    "variable": "n",
    "condition": M.SumExpression(sum=["$score", M.FieldCondition(key="tag", match=M.MatchValue(value="x")), "n"]),
    "mult": M.MultExpression(mult=[0.5, "n", "$score"]),
    "neg": M.NegExpression(neg="n"),
    "abs": M.AbsExpression(abs="$score"),
    "div": M.DivExpression(div=M.DivParams(left="$score", right="n")),
    "div by zero": M.DivExpression(div=M.DivParams(left="n", right=0.0, by_zero_default=3.0)),
    "sqrt": M.SqrtExpression(sqrt="n"),
    "pow": M.PowExpression(pow=M.PowParams(base="n", exponent=1.5)),
    "exp": M.ExpExpression(exp="$score"),
    "log10": M.Log10Expression(log10="n"),
    "ln": M.LnExpression(ln="n"),
    "max": M.MaxExpression(max=["$score", 0.25]),
    "min": M.MinExpression(min=["n", M.NegExpression(neg="$score")]),
    "acosh": M.AcoshExpression(acosh="n"),
    "distance": M.SumExpression(sum=[M.NegExpression(neg=TO_BERLIN), "n"]),
    "lin": M.SumExpression(sum=[M.LinDecayExpression(lin_decay=decay(midpoint=0.3)), "n"]),
    "exp decay": M.SumExpression(sum=[M.ExpDecayExpression(exp_decay=decay()), "n"]),
    "gauss": M.SumExpression(sum=[M.GaussDecayExpression(gauss_decay=decay(midpoint=0.6)), "n"]),
    "default": M.SumExpression(sum=["missing", "n"]),
}


def without_ties(pairs):
    """Formulas may tie; then ids may come in any order."""
    return sorted(pairs, key=lambda pair: (-round(pair[1].expected, 3), pair[0]))


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_formula_scores_as_in_local_mode(both, formula):
    ours, theirs = (without_ties(scored(by_formula(client, FORMULAS[formula], missing=4.0))) for client in both)
    assert len(ours) == 40
    assert ours == theirs


@pytest.mark.parametrize(
    "expression", ["missing", M.LnExpression(ln=-1.0), M.SqrtExpression(sqrt=M.NegExpression(neg="n"))]
)
def test_a_formula_without_a_value_is_refused_and_says_why(both, expression):
    with pytest.raises(ValueError, match=r"no value in a payload nor in `defaults`, or a result is not finite"):
        by_formula(both[0], expression)
    with pytest.raises(ValueError):
        by_formula(both[1], expression)


def test_what_is_no_expression_is_refused(both):
    with pytest.raises((ConfigError, FilterError)):
        by_formula(both[0], M.MultExpression.model_construct(mult=[object()]))


def test_feedback_ranks_as_in_local_mode_and_leaves_out_what_it_names(both):
    weights = M.NaiveFeedbackStrategy(naive=M.NaiveFeedbackStrategyParams(a=0.5, b=1.0, c=0.7))
    feedback = [M.FeedbackItem(example=3, score=0.9), M.FeedbackItem(example=QUERY[::-1], score=0.1)]
    query = M.RelevanceFeedbackQuery(
        relevance_feedback=M.RelevanceFeedbackInput(target=8, feedback=feedback, strategy=weights)
    )
    ours, theirs = (scored(client.query_points("c", query=query, limit=20)) for client in both)
    assert ours == theirs
    assert not {3, 8} & {point_id for point_id, _ in ours}


@pytest.mark.parametrize("scoring", [None, M.Bm25Scoring(bm25=M.Bm25Params(k=2.0, b=0.1))])
def test_a_text_query_scores_as_in_local_mode(both, scoring):
    query = M.TextQuery(text=M.TextQueryInput(query="brown bear", scoring=scoring))
    answers = [scored(client.query_points("c", query=query, using="text", limit=40)) for client in both]
    ours, theirs = map(without_ties, answers)
    assert ours == theirs
    assert both[0].query_points("c", query=M.TextQuery(text="nowhere"), using="text").points == []


@pytest.mark.parametrize("using", [None, "tag", "nothing"])
def test_a_text_query_needs_a_text_index(both, using):
    for client in both:
        with pytest.raises(ValueError, match="text"):
            client.query_points("c", query=M.TextQuery(text="bear"), using=using)


def grouped(response):
    return [(group.id, [hit.id for hit in group.hits]) for group in response.groups]


@pytest.mark.parametrize("by", ["tag", "n", "tags", "tags[]", "text", "nothing"])
@pytest.mark.parametrize(("limit", "size"), [(1, 1), (2, 3), (5, 2), (50, 50)])
@pytest.mark.parametrize("growth", [2, 8])
def test_groups_are_those_of_local_mode(both, monkeypatch, by, limit, size, growth):
    monkeypatch.setattr(groups, "_FIRST_READ", 1)
    monkeypatch.setattr(groups, "_GROWTH", growth)
    ours, theirs = (
        grouped(client.query_points_groups("c", by, query=QUERY, limit=limit, group_size=size)) for client in both
    )
    assert ours == theirs


def test_groups_of_a_few_good_points_do_not_read_them_all(both, monkeypatch):
    asked = []
    client = both[0]._client
    query = client._query

    def watch(name, requests, **kwargs):
        asked.extend(request.limit for request in requests)
        return query(name, requests, **kwargs)

    monkeypatch.setattr(client, "_query", watch)
    both[0].query_points_groups("c", "n", query=QUERY, limit=2, group_size=1)
    assert asked == [8]


def test_groups_of_fused_and_diverse_queries_are_those_of_local_mode(both):
    tag = M.Filter(must=[M.FieldCondition(key="tag", match=M.MatchValue(value="x"))])
    fused = {
        "prefetch": [M.Prefetch(query=QUERY, limit=1), M.Prefetch(query=QUERY[::-1], filter=tag, limit=1)],
        "query": M.FusionQuery(fusion=M.Fusion.RRF),
    }
    diverse = {"query": M.NearestQuery(nearest=QUERY, mmr=M.Mmr(diversity=0.5, candidates_limit=40))}
    for query in (fused, diverse):
        answers = [client.query_points_groups("c", "tag", group_size=2, **query).groups for client in both]
        # Fused points tie, and ties come in any order: their scores are compared, those of the others with their ids.
        ours, theirs = (
            {
                group.id: [
                    (None if query is fused else hit.id, pytest.approx(hit.score, abs=1e-5)) for hit in group.hits
                ]
                for group in answer
            }
            for answer in answers
        )
        assert set(ours) == {"x", "y", "z"}
        assert ours == theirs


@pytest.mark.parametrize("sample", [5, 40, 100])
def test_a_matrix_of_all_points_is_that_of_local_mode(both, sample):
    ours, theirs = (client.search_matrix_pairs("c", limit=3, sample=sample).pairs for client in both)
    if sample >= 40:
        assert [(pair.a, pair.b) for pair in ours] == [(pair.a, pair.b) for pair in theirs]
        assert [pair.score for pair in ours] == pytest.approx([pair.score for pair in theirs], abs=1e-5)
        rows, expected = (client.search_matrix_offsets("c", limit=3, sample=sample) for client in both)
        assert rows.ids == expected.ids
        assert (rows.offsets_row, rows.offsets_col) == (expected.offsets_row, expected.offsets_col)
        assert rows.scores == pytest.approx(expected.scores, abs=1e-5)
    assert len(ours) == 3 * min(sample, 40)
    assert all(pair.a != pair.b for pair in ours)


def test_a_matrix_keeps_to_its_filter(both):
    tag = M.Filter(must=[M.FieldCondition(key="tag", match=M.MatchValue(value="x"))])
    members = {record.id for record in both[0].scroll("c", scroll_filter=tag, limit=40)[0]}
    pairs = both[0].search_matrix_pairs("c", query_filter=tag, limit=2, sample=40).pairs
    assert {pair.a for pair in pairs} == members
    assert {pair.b for pair in pairs} <= members


def test_a_matrix_of_fewer_than_two_points_is_empty(both):
    one = M.Filter(must=[M.HasIdCondition(has_id=[1])])
    for client in both:
        assert client.search_matrix_pairs("c", query_filter=one).pairs == []
        assert client.search_matrix_offsets("c", query_filter=one).ids == []


def test_a_matrix_that_cannot_be_is_refused(both):
    with pytest.raises(ConfigError, match="sample must be at least 2"):
        both[0].search_matrix_pairs("c", sample=1)
    with pytest.raises(InvalidPointError, match="'other'"):
        both[0].search_matrix_offsets("c", using="other")


def test_a_batch_answers_each_request_and_one_bad_one_fails_it(both):
    requests = [
        M.QueryRequest(query=QUERY, limit=2, with_payload=["n"]),
        M.QueryRequest(query=4, limit=3, with_vector=True),
        M.QueryRequest(limit=1),
        M.QueryRequest(query=M.OrderByQuery(order_by="n"), limit=2),
    ]
    answers = [client.query_batch_points("c", requests) for client in both]
    for ours, theirs in zip(*answers, strict=True):
        assert [point.id for point in ours.points] == [point.id for point in theirs.points]
        assert [point.payload for point in ours.points] == [point.payload for point in theirs.points]
    assert both[0].query_batch_points("c", []) == []
    with pytest.raises(ConfigError, match="limit"):
        both[0].query_batch_points("c", [*requests, M.QueryRequest(limit=0)])
