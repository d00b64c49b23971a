"""A collection of vectors, asked in every way over every backend, and numpy's answers beside."""

import numpy as np
import pytest
from qdrant_client import models

from clip_qdrant.errors import CollectionMismatchError, ConfigError, InvalidPointError
from clip_qdrant.storage.schema import CollectionSchema
from clip_qdrant.storage.vectors import Fusion, Group, VectorCollection
from tests import vectors_data as data
from tests.vectors_data import NO_FIELDS, best, id_of, numbers, sources

NEAR_CAT = np.array([1.0, 0.1, 0.0], np.float32)


@pytest.fixture
def collection(client, name):
    return data.small(client, name)


def test_ranks_as_numpy_does(client, name):
    collection, images, texts, rng = data.random(client, name)
    query = 3 * data.unit(rng, 8)
    for leg, vectors in (("image", images), ("text", texts)):
        hits = collection.search(query, using=leg, limit=20)
        cosines = vectors @ (query / 3)
        assert numbers(hits) == best(cosines, 20)
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(cosines)[::-1][:20], atol=1e-5)


def test_pages_follow_each_other(client, name):
    collection, images, _, rng = data.random(client, name)
    query = data.unit(rng, 8)
    read = [hit for offset in (0, 25, 50, 75) for hit in collection.search(query, limit=25, offset=offset)]
    assert numbers(read) == best(images @ query, 60)


def test_a_large_batch_is_asked_in_parts(collection, client, monkeypatch):
    asked, ask = [], client.query_batch_points
    monkeypatch.setattr(
        client, "query_batch_points", lambda *args, **rest: asked.append(len(rest["requests"])) or ask(*args, **rest)
    )
    assert len(collection.search_batch([NEAR_CAT] * 230)) == 230
    assert asked == [100, 100, 30]


def test_a_batch_answers_each_of_its_vectors(client, name):
    collection, _, texts, rng = data.random(client, name)
    queries = data.unit(rng, 230, 8)
    found = collection.search_batch(queries, limit=3, using="text", where={"year": 1})
    ones = np.arange(60) % 3 == 1
    expected = [best(np.where(ones, texts @ query, -2.0), 3) for query in queries]
    assert [numbers(hits) for hits in found] == expected
    assert collection.search_batch([]) == []
    fused = collection.search_batch(queries[:2], using="both", limit=4)
    assert fused == [collection.search(query, using="both", limit=4) for query in queries[:2]]


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.7, 1.0])
def test_diverse_answers_are_those_of_maximal_marginal_relevance(client, name, diversity):
    collection, images, texts, rng = data.random(client, name)
    query = data.unit(rng, 8)
    for leg, vectors in (("image", images), ("text", texts)):
        hits = collection.search(query, using=leg, limit=6, diversity=diversity)
        assert numbers(hits) == data.mmr(vectors, query, 24, diversity, 6)
        np.testing.assert_allclose([hit.score for hit in hits], [vectors[n] @ query for n in numbers(hits)], atol=1e-5)


def test_diversity_passes_over_what_is_alike(collection):
    assert sources(collection.search(NEAR_CAT, limit=2)) == ["cat", "dog"]
    assert sources(collection.search(NEAR_CAT, limit=2, diversity=0.6)) == ["cat", "owl"]


def test_diversity_keeps_filter_and_pages(client, name):
    collection, images, _, rng = data.random(client, name)
    query = data.unit(rng, 8)
    zeros = np.arange(60) % 3 == 0
    among = data.mmr(np.where(zeros[:, None], images, -query), query, 20, 0.5, 5)
    hits = collection.search(query, limit=5, diversity=0.5, where={"year": 0})
    assert numbers(hits) == among
    assert numbers(collection.search(query, limit=2, offset=3, diversity=0.5, where={"year": 0})) == among[3:]
    far = collection.search(query, limit=2, offset=10, diversity=0.5)
    assert numbers(far) == data.mmr(images, query, 48, 0.5, 12)[10:]


def legs_of(images, texts, query, limits):
    return [best(vectors @ query, limit) for vectors, limit in zip((images, texts), limits, strict=True)]


@pytest.mark.parametrize(
    ("using", "weights", "k", "limits"),
    [
        ("both", (1, 1), 2, (20, 20)),
        (Fusion(), (1, 1), 2, (20, 20)),
        (Fusion(k=60), (1, 1), 60, (20, 20)),
        (Fusion(weights={"text": 3.0}), (1, 3), 2, (20, 20)),
        (Fusion(weights={"image": 0.5, "text": 2.0}, k=10, candidates=7), (0.5, 2), 10, (7, 7)),
        (Fusion(candidates={"text": 3}), (1, 1), 2, (20, 3)),
    ],
)
def test_reciprocal_ranks_are_fused_by_hand(client, name, using, weights, k, limits):
    collection, images, texts, rng = data.random(client, name)
    query = data.unit(rng, 8)
    expected = data.rrf(legs_of(images, texts, query, limits), (weights[0], 0.9999 * weights[1]), k)
    hits = collection.search(query, using=using, limit=5)
    np.testing.assert_allclose([hit.score for hit in hits], sorted(expected.values(), reverse=True)[:5], rtol=1e-5)
    np.testing.assert_allclose([hit.score for hit in hits], [expected[n] for n in numbers(hits)], rtol=1e-5)


@pytest.mark.parametrize("k", [None, 60])
def test_equal_ranks_are_in_the_same_order_every_time(client, name, k):
    collection, images, texts, rng = data.random(client, name)
    query = data.unit(rng, 8)
    best_image, best_text = best(images @ query, 1) + best(texts @ query, 1)
    for _ in range(8):
        assert numbers(collection.search(query, using=Fusion(k=k, candidates=1))) == [best_image, best_text]
    whole = collection.search(query, using=Fusion(k=k, candidates=30), limit=20)
    pages = [
        hit
        for offset in range(0, 20, 4)
        for hit in collection.search(query, using=Fusion(k=k, candidates=30), limit=4, offset=offset)
    ]
    assert numbers(pages) == numbers(whole)
    assert len(collection.search(query, using=Fusion(k=k), limit=1, offset=8)) == 1


def test_scores_are_fused_by_their_distribution(client, name):
    collection, images, texts, rng = data.random(client, name)
    query = data.unit(rng, 8)
    legs = [{n: float(vectors[n] @ query) for n in best(vectors @ query, 12)} for vectors in (images, texts)]
    expected = data.dbsf(legs)
    hits = collection.search(query, using=Fusion("dbsf", candidates=12), limit=5)
    assert numbers(hits) == sorted(expected, key=expected.get, reverse=True)[:5]
    np.testing.assert_allclose([hit.score for hit in hits], [expected[n] for n in numbers(hits)], rtol=1e-4)


def test_each_kind_is_searched_with_a_vector_of_its_own(collection):
    by_leg = {"image": [0.0, 0.1, 1.0], "text": np.array([1.0, 0.1, 0.0])}
    hits = collection.search(by_leg, using="both", limit=4)
    assert set(sources(hits)[:2]) == {"owl", "dog"}
    assert sources(collection.search({"text": [0.0, 1.0, 0.1]}, using="both")) == ["cat", "note", "dog"]
    assert sources(collection.search(by_leg, using=Fusion(weights={"text": 0.1}), limit=1)) == ["owl"]
    assert sources(collection.search(by_leg, using=Fusion(weights={"image": 0.1}), limit=1)) == ["dog"]


def test_fused_answers_come_in_pages_and_filtered(collection):
    read = [hit for offset in (0, 2, 4) for hit in collection.search(NEAR_CAT, using="both", limit=2, offset=offset)]
    assert sorted(sources(read)) == sorted(data.ROWS)
    assert [hit.score for hit in read] == sorted((hit.score for hit in read), reverse=True)
    assert set(sources(collection.search(NEAR_CAT, using="both", where={"doc_id": "wild"}))) == {"fox", "owl"}


def test_groups_share_a_value_and_come_best_first(collection):
    groups = collection.search_groups(NEAR_CAT, limit=2, group_size=2)
    assert [(group.key, sources(group.hits)) for group in groups] == [
        ("home", ["cat", "dog"]),
        ("wild", ["fox", "owl"]),
    ]
    (only,) = collection.search_groups(NEAR_CAT, limit=1, group_size=1, by="year", where="year >= 2022")
    assert (only.key, sources(only.hits)) == (2022, ["fox"])
    assert collection.search_groups(NEAR_CAT, by="nothing") == []
    (near,) = collection.search_groups(NEAR_CAT, min_score=0.7, with_vectors=True)
    assert sources(near.hits) == ["cat", "dog"]
    np.testing.assert_allclose(near.hits[1].vector, [0.8, 0.6, 0.0], atol=1e-6)


def test_groups_are_those_that_numpy_makes(client, name):
    collection, _, texts, rng = data.random(client, name)
    query = data.unit(rng, 8)
    ranked = best(texts @ query, 60)
    keys = list(dict.fromkeys(number % 7 for number in ranked))
    expected = [Group(f"doc {key}", tuple(n for n in ranked if n % 7 == key)[:4]) for key in keys[:5]]
    groups = collection.search_groups(query, using="text", limit=5, group_size=4)
    assert [Group(group.key, tuple(numbers(group.hits))) for group in groups] == expected


def test_groups_of_fused_answers(collection):
    groups = collection.search_groups(NEAR_CAT, using="both", limit=5, group_size=3)
    assert {group.key: set(sources(group.hits)) for group in groups} == {
        "home": {"cat", "dog", "note"},
        "wild": {"fox", "owl"},
    }


def test_min_score_cuts_off_alone_and_with_diversity(collection):
    assert sources(collection.search(NEAR_CAT, min_score=0.7)) == ["cat", "dog"]
    assert collection.search(NEAR_CAT, min_score=1.1) == []
    assert sources(collection.search(NEAR_CAT, min_score=0.7, diversity=0.9)) == ["cat", "dog"]


def test_vectors_and_limits_that_cannot_be_are_refused(collection):
    def refused(error, message, vector=NEAR_CAT, **options):
        with pytest.raises(error, match=message):
            collection.search(vector, **options)

    refused(
        CollectionMismatchError, rf"{collection.name!r} holds 3-d vectors as 'image', but the query is 4-d", np.ones(4)
    )
    refused(CollectionMismatchError, "3-d vectors as 'text', but the query is 2-d", np.ones(2), using="text")
    refused(InvalidPointError, r"one vector of numbers, shape \(dim,\), got one of shape \(1, 3\)", np.ones((1, 3)))
    refused(InvalidPointError, "got one 'a cat'", "a cat")
    for vector in ([0, 0, 0], [1, np.nan, 0], [np.inf, 0, 0], [1e39, 0, 0]):
        refused(InvalidPointError, "zero or has a NaN", vector)
    for limit in (0, -1, 2.5, True, "3", 2**32):
        refused(
            ConfigError, f"limit must be at least 1, at most 4294967295, and a whole number, got {limit!r}", limit=limit
        )
    refused(ConfigError, "offset must be at least 0", offset=-1)
    refused(ConfigError, "min_score must be a number, got nan", min_score=float("nan"))
    refused(ConfigError, r"diversity must be from 0 to 1, got 1\.5", diversity=1.5)
    refused(ConfigError, r"diversity must be from 0 to 1, got -0\.1", diversity=-0.1)
    refused(ConfigError, "diversity must be from 0 to 1, got nan", diversity=float("nan"))
    refused(ConfigError, "one kind of vector, but using='both' has two", diversity=0.5, using="both")
    refused(ConfigError, "min_score compares cosines", min_score=0.5, using=Fusion("dbsf"))
    refused(ConfigError, "using must be 'image', 'text' or 'both', or a Fusion, got 'sound'", using="sound")
    refused(ConfigError, "Vectors by kind are fused", {"image": NEAR_CAT})
    refused(ConfigError, "no vector to search with", {}, using="both")
    refused(ConfigError, r"none for \['sound'\]", {"sound": NEAR_CAT}, using="both")
    with pytest.raises(InvalidPointError, match="one vector of numbers"):
        collection.search_batch(NEAR_CAT)
    with pytest.raises(ConfigError, match="group_size must be at least 1"):
        collection.search_groups(NEAR_CAT, group_size=0)
    for field in NO_FIELDS:
        with pytest.raises(ConfigError, match="by takes the name of a field"):
            collection.search_groups(NEAR_CAT, by=field)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "max"}, "method must be 'rrf' or 'dbsf', got 'max'"),
        ({"method": "dbsf", "k": 3}, "'dbsf' has neither"),
        ({"method": "dbsf", "weights": {"text": 2.0}}, "'dbsf' has neither"),
        ({"weights": {"sound": 1.0}}, r"none for \['sound'\]"),
        ({"weights": {"text": 0.0}}, "positive numbers"),
        ({"weights": {"text": float("nan")}}, "positive numbers"),
        ({"k": 0}, "k must be at least 1"),
        ({"candidates": 0}, "candidates must be at least 1"),
        ({"candidates": {"text": 0}}, "candidates must be at least 1"),
        ({"candidates": {"sound": 5}}, r"none for \['sound'\]"),
    ],
)
def test_a_fusion_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Fusion(**arguments)


def test_the_message_names_the_model(client, name):
    from clip_qdrant.testing import FakeEncoder

    fake = FakeEncoder()
    collection = VectorCollection(client, name, CollectionSchema(dim=fake.dim, fingerprint=fake.fingerprint))
    with pytest.raises(CollectionMismatchError, match=f"{fake.dim}-d vectors of {fake.fingerprint.model!r} as 'image'"):
        collection.search(np.ones(5))


def test_a_kind_that_the_collection_does_not_have_is_named(client, name):
    client.create_collection(
        name, vectors_config={"image": models.VectorParams(size=3, distance=models.Distance.COSINE)}
    )
    collection = VectorCollection(client, name)
    assert collection.search(NEAR_CAT) == []
    with pytest.raises(CollectionMismatchError, match=r"has no vectors 'text' but \['image'\]"):
        collection.search(NEAR_CAT, using="both")


@pytest.mark.parametrize("options", [{}, {"using": "both"}, {"diversity": 0.5}])
def test_asking_for_more_than_there_is_gives_all(collection, options):
    hits = collection.search(NEAR_CAT, limit=2**32 - 1, **options)
    assert set(sources(hits)) == set(data.ROWS) - (set() if options.get("using") else {"note"})


def test_an_empty_collection_answers_with_nothing(client, name):
    collection = VectorCollection(client, name, CollectionSchema(dim=3))
    assert collection.search(NEAR_CAT, diversity=0.5) == []
    assert collection.search_batch([NEAR_CAT, NEAR_CAT], using=Fusion("dbsf")) == [[], []]
    assert collection.search_groups(NEAR_CAT) == []
    assert collection.recommend([NEAR_CAT]) == []
    assert collection.discover([(NEAR_CAT, -NEAR_CAT)]) == []
    assert collection.facet("doc_id") == {}
    assert list(collection.scan()) == []


def test_a_quantised_collection_is_rescored(tmp_path):
    from clip_qdrant import connect

    rng = np.random.default_rng(5)
    images = data.unit(rng, 400, 64)
    with connect(tmp_path) as client:
        collection = VectorCollection(client, "c", CollectionSchema(dim=64, quantization="turbo"))
        collection.upsert(
            [models.PointStruct(id=n, vector={"image": row.tolist()}, payload={}) for n, row in enumerate(images)]
        )
        client.optimize("c")
        for query in data.unit(rng, 10, 64):
            assert numbers(collection.search(query, limit=10)) == best(images @ query, 10)


def test_what_is_found_is_named_by_its_id(collection):
    (hit,) = collection.search(NEAR_CAT, limit=1)
    assert (hit.id, hit.source, hit.metadata["year"]) == (id_of("cat"), "cat", 2020)
