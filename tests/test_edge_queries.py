"""Queries: one body over both backends, with the answers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from qdrant_client import models

from clip_qdrant.storage.connect import connect
from tests.edge_data import IDS, UNIT, UUID_ID, VECTORS, fill, fill_named, ids

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")


@pytest.fixture(params=["memory", "embedded"])
def client(request, tmp_path):
    with connect(":memory:" if request.param == "memory" else tmp_path / "db") as opened:
        yield opened


@pytest.fixture
def filled(client):
    return fill(client)


@pytest.fixture
def named(client):
    return fill_named(client)


def scores(response):
    return pytest.approx([point.score for point in response.points], abs=1e-4)


def kind_is(kind):
    return models.Filter(must=[models.FieldCondition(key="kind", match=models.MatchValue(value=kind))])


def cosine(a, b):
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_nearest(filled):
    query = [1.0, 0.2, 0.0]
    answer = filled.query_points("c", query=query, limit=3)
    assert ids(answer) == [2, 1, UUID_ID]
    assert [point.score for point in answer.points] == pytest.approx(
        sorted((cosine(query, vector) for vector in VECTORS), reverse=True)[:3], abs=1e-4
    )
    assert answer.points[2].payload == {"n": 4, "kind": "fish"}
    assert answer.points[0].vector is None
    assert ids(filled.query_points("c", query=query, limit=2, offset=1)) == ids(answer)[1:]
    assert ids(filled.query_points("c", query=query, score_threshold=0.9)) == ids(answer)[:2]
    assert ids(filled.query_points("c", query=query, query_filter=kind_is("dog"))) == [3, 5]
    assert ids(filled.query_points("c", query=np.array(query), limit=1)) == ids(answer)[:1]
    only = filled.query_points("c", query=query, limit=1, with_payload=False, with_vectors=True).points[0]
    assert only.payload is None
    assert np.linalg.norm(only.vector) == pytest.approx(1.0)


def test_nearest_by_id_leaves_the_point_out(filled):
    assert ids(filled.query_points("c", query=1)) == [2, UUID_ID, 5, 3]
    assert ids(filled.query_points("c", query=UUID_ID, query_filter=kind_is("cat"))) == [2, 1]
    with pytest.raises(ValueError, match="not found"):
        filled.query_points("c", query=99)


def test_no_query_lists_points(filled):
    assert ids(filled.query_points("c", limit=2)) == [1, 2]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (None, [2, UUID_ID, 3]),
        (models.RecommendStrategy.AVERAGE_VECTOR, [2, UUID_ID, 3]),
        (models.RecommendStrategy.BEST_SCORE, [2, 3, UUID_ID]),
        (models.RecommendStrategy.SUM_SCORES, [2, UUID_ID, 3]),
    ],
)
def test_recommend(filled, strategy, expected):
    recommend = models.RecommendInput(positive=[1], negative=[5], strategy=strategy)
    assert ids(filled.query_points("c", query=models.RecommendQuery(recommend=recommend))) == expected


def test_recommend_with_vectors_scores(filled):
    recommend = models.RecommendInput(positive=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], negative=[[0.0, 0.0, 1.0]])
    answer = filled.query_points("c", query=models.RecommendQuery(recommend=recommend), limit=2)
    query = np.array([0.5, 0.5, 0.0]) * 2 - [0.0, 0.0, 1.0]
    expected = sorted((cosine(query, vector) for vector in VECTORS), reverse=True)[:2]
    assert scores(answer) == expected


def test_recommend_needs_an_example(filled):
    with pytest.raises(ValueError, match="ositive"):
        filled.query_points("c", query=models.RecommendQuery(recommend=models.RecommendInput(negative=[1])))


def test_discover_and_context(filled):
    pair = models.ContextPair(positive=1, negative=5)
    discover = models.DiscoverQuery(discover=models.DiscoverInput(target=[0.0, 1.0, 0.0], context=[pair]))
    assert ids(filled.query_points("c", query=discover)) == [2, 3, UUID_ID]
    assert set(ids(filled.query_points("c", query=models.ContextQuery(context=[pair])))) == {2, 3, UUID_ID}


def test_mmr(filled):
    for diversity, expected in ((0.0, [1, 2, UUID_ID]), (0.9, [1, 3, 5])):
        mmr = models.Mmr(diversity=diversity, candidates_limit=5)
        answer = filled.query_points("c", query=models.NearestQuery(nearest=[1.0, 0.0, 0.0], mmr=mmr), limit=3)
        assert ids(answer) == expected
        assert answer.points[0].vector is None


def test_sample(filled):
    query = models.SampleQuery(sample=models.Sample.RANDOM)
    found = ids(filled.query_points("c", query=query, limit=5))
    assert sorted(found, key=str) == sorted(IDS, key=str)
    assert len(ids(filled.query_points("c", query=query, limit=2, query_filter=kind_is("fish")))) == 1


def test_named_and_sparse_vectors(named):
    assert ids(named.query_points("c", query=[1.0, 0.0, 0.0], using="image")) == [0, 2, 1]
    text = named.query_points("c", query=[1.0, 1.0], using="text")
    assert [(point.id, point.score) for point in text.points] == [(2, 3.5), (0, 3.0)]
    sparse = named.query_points("c", query=models.SparseVector(indices=[1, 7], values=[1.0, 0.5]), using="lexical")
    assert [(point.id, point.score) for point in sparse.points] == [(0, 2.5), (1, 1.5)]
    stored = named.retrieve("c", [0], with_vectors=True)[0].vector
    assert stored["lexical"] == models.SparseVector(indices=[1, 7], values=[2.0, 1.0])
    assert stored["text"] == [1.0, 2.0]
    assert named.retrieve("c", [1], with_vectors=["text", "image"])[0].vector == {"image": [0.0, 1.0, 0.0]}
    has_text = models.Filter(must=[models.HasVectorCondition(has_vector="text")])
    assert named.count("c", count_filter=has_text).count == 2


@pytest.mark.parametrize("modifier", [None, models.Modifier.IDF])
def test_sparse_only_collections_and_idf(client, modifier):
    client.create_collection(
        "c", vectors_config={}, sparse_vectors_config={"lexical": models.SparseVectorParams(modifier=modifier)}
    )
    rows = [([1, 2], [1.0, 1.0]), ([2], [1.0]), ([2, 3], [1.0, 2.0])]
    client.upsert(
        "c",
        [
            models.PointStruct(id=rank, vector={"lexical": models.SparseVector(indices=indices, values=values)})
            for rank, (indices, values) in enumerate(rows)
        ],
    )
    answer = client.query_points("c", query=models.SparseVector(indices=[1, 3], values=[1.0, 1.0]), using="lexical")
    idf = 1.0 if modifier is None else np.log((3 - 1 + 0.5) / (1 + 0.5) + 1)
    assert [(point.id, point.score) for point in answer.points] == [
        (2, pytest.approx(2 * idf, abs=1e-4)),
        (0, pytest.approx(idf, abs=1e-4)),
    ]


@pytest.mark.parametrize(
    "scope",
    [
        models.IdfScope.GLOBAL,
        models.IdfCorpusParams(corpus=models.Filter(must=[models.HasIdCondition(has_id=[0, 1])])),
    ],
)
def test_the_rarity_of_words_is_of_the_scope_that_is_asked_for(client, scope):
    scores = []
    with connect(":memory:") as memory:
        for each in (client, memory):
            each.create_collection(
                "c", vectors_config={}, sparse_vectors_config={"words": models.SparseVectorParams(modifier="idf")}
            )
            rows = [[1, 2], [2], [2, 3]]
            each.upsert(
                "c",
                [
                    models.PointStruct(
                        id=rank, vector={"words": models.SparseVector(indices=row, values=[1.0] * len(row))}
                    )
                    for rank, row in enumerate(rows)
                ],
            )
            asked = models.SparseVector(indices=[1, 2, 3], values=[1.0, 1.0, 1.0])
            found = each.query_points("c", asked, using="words", search_params=models.SearchParams(idf=scope)).points
            scores.append({point.id: pytest.approx(point.score, abs=1e-4) for point in found})
    assert scores[0] == {id: score.expected for id, score in scores[1].items()}
    assert (scores[0][0] == scores[0][2]) is (scope is models.IdfScope.GLOBAL)


def test_multivectors(client):
    params = models.VectorParams(
        size=2,
        distance=models.Distance.COSINE,
        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
    )
    client.create_collection("c", vectors_config={"pages": params})
    rows = [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0]]]
    client.upsert("c", [models.PointStruct(id=rank, vector={"pages": row}) for rank, row in enumerate(rows)])
    answer = client.query_points("c", query=[[1.0, 0.0], [0.0, 2.0]], using="pages")
    assert [(point.id, point.score) for point in answer.points] == [
        (0, pytest.approx(2.0, abs=1e-4)),
        (1, pytest.approx(2**0.5, abs=1e-4)),
    ]


def hybrid(limit=10):
    return [
        models.Prefetch(query=[1.0, 0.0, 0.0], using="image", limit=limit),
        models.Prefetch(query=models.SparseVector(indices=[7], values=[1.0]), using="lexical", limit=limit),
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (models.FusionQuery(fusion=models.Fusion.RRF), {0: 1 / 2 + 1 / 3, 1: 1 / 4 + 1 / 2, 2: 1 / 3}),
        (models.RrfQuery(rrf=models.Rrf(k=60)), {0: 1 / 60 + 1 / 61, 1: 1 / 62 + 1 / 60, 2: 1 / 61}),
    ],
)
def test_rank_fusion(named, query, expected):
    answer = named.query_points("c", query=query, prefetch=hybrid())
    assert {point.id: point.score for point in answer.points} == pytest.approx(expected, abs=1e-4)
    assert ids(answer) == sorted(expected, key=expected.get, reverse=True)


def spread(given):
    """Scores as their place between three standard deviations below and above their mean."""
    values = list(given.values())
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    return {point_id: (score - mean) / (6 * deviation) + 0.5 for point_id, score in given.items()}


def test_score_fusion(named):
    answer = named.query_points("c", query=models.FusionQuery(fusion=models.Fusion.DBSF), prefetch=hybrid())
    image, lexical = spread({0: 1.0, 1: 0.0, 2: 0.6}), spread({0: 1.0, 1: 3.0})
    expected = [image[0] + lexical[0], image[1] + lexical[1], image[2]]
    assert ids(answer) == [0, 1, 2]
    assert scores(answer) == expected


def test_a_filter_reaches_the_prefetches(named):
    only = models.Filter(must_not=[models.HasIdCondition(has_id=[0])])
    query = models.FusionQuery(fusion=models.Fusion.RRF)
    assert set(ids(named.query_points("c", query=query, prefetch=hybrid(1), query_filter=only))) == {1, 2}


def test_a_prefetch_is_scored_again(named):
    prefetch = models.Prefetch(query=[0.0, 1.0, 0.0], using="image", limit=2)
    assert ids(named.query_points("c", query=[1.0, 0.0, 0.0], using="image", prefetch=prefetch)) == [2, 1]


def test_batches_answer_in_order(filled):
    requests = [
        models.QueryRequest(query=[0.0, 0.0, 1.0], limit=1, with_payload=True),
        models.QueryRequest(query=1, limit=1),
    ]
    first, second = filled.query_batch_points("c", requests)
    assert (ids(first), ids(second)) == ([5], [2])
    assert first.points[0].payload == {"n": 3, "kind": "dog"}
    assert second.points[0].payload is None


def test_groups(filled):
    groups = filled.query_points_groups("c", group_by="kind", query=[1.0, 0.0, 0.0], limit=2, group_size=1).groups
    assert [(group.id, ids(group.hits)) for group in groups] == [("cat", [1]), ("fish", [UUID_ID])]
    assert groups[0].hits[0].payload == {"n": 0, "kind": "cat"}


def test_vectors_from_another_collection(filled):
    filled.create_collection("other", vectors_config={"v": UNIT})
    filled.upsert("other", [models.PointStruct(id=1, vector={"v": [0.0, 0.0, 1.0]})])
    elsewhere = models.LookupLocation(collection="other", vector="v")
    assert ids(filled.query_points("c", query=1, lookup_from=elsewhere, limit=1)) == [5]
