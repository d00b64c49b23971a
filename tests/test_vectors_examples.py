"""Recommending and discovering by stored points and by vectors, over every backend, with numpy's answers beside."""

import uuid

import numpy as np
import pytest

from clip_qdrant.errors import CollectionMismatchError, ConfigError, InvalidPointError
from tests import vectors_data as data
from tests.vectors_data import best, id_of, numbers, sources


@pytest.fixture
def collection(client, name):
    return data.small(client, name)


def expected_scores(vectors, positive, negative, strategy):
    """Something that ranks as the strategy does."""
    liked, disliked = vectors @ np.array(positive).T, vectors @ np.array(negative).T
    if strategy == "average_vector":
        return 2 * liked.mean(axis=1) - disliked.mean(axis=1)
    if strategy == "sum_scores":
        return liked.sum(axis=1) - disliked.sum(axis=1)
    nearest, worst = liked.max(axis=1), disliked.max(axis=1)
    return np.where(nearest > worst, 10 + nearest, -worst)


@pytest.mark.parametrize("strategy", ["average_vector", "best_score", "sum_scores"])
@pytest.mark.parametrize("leg", ["image", "text"])
def test_recommends_as_numpy_does(client, name, strategy, leg):
    collection, images, texts, _ = data.random(client, name)
    vectors = images if leg == "image" else texts
    positive, negative = [3, 17, 20], [5, 41]
    scores = expected_scores(vectors, vectors[positive], vectors[negative], strategy)
    scores[[*positive, *negative]] = -np.inf
    options = {"strategy": strategy, "using": leg, "limit": 12}
    named = collection.recommend([str(n) for n in positive], negative=negative, **options)
    assert numbers(named) == best(scores, 12)
    assert numbers(collection.recommend(positive, negative=negative, **{**options, "limit": 4}, offset=8)) == numbers(
        named[8:]
    )


@pytest.mark.parametrize("strategy", ["average_vector", "best_score", "sum_scores"])
def test_recommends_by_vectors_that_are_not_stored(client, name, strategy):
    collection, images, _, rng = data.random(client, name)
    positive, negative = data.unit(rng, 2, 8), data.unit(rng, 1, 8)
    expected = best(expected_scores(images, positive, negative, strategy), 7)
    assert numbers(collection.recommend(positive, negative=negative, strategy=strategy, limit=7)) == expected
    mixed = collection.recommend([positive[0], 30], negative=negative, strategy=strategy, limit=7)
    scores = expected_scores(images, [positive[0], images[30]], negative, strategy)
    scores[30] = -np.inf
    assert numbers(mixed) == best(scores, 7)


def test_recommends_among_what_is_asked_for(collection):
    assert sources(collection.recommend([id_of("cat")])) == ["dog", "fox", "owl"]
    assert sources(collection.recommend([id_of("cat")], where={"doc_id": "wild"})) == ["fox", "owl"]
    assert sources(collection.recommend([id_of("dog")], using="text")) == ["note", "cat"]
    (hit,) = collection.recommend([id_of("dog")], using="text", limit=1, with_vectors=True)
    np.testing.assert_allclose(hit.vector, [0.6, 0.0, 0.8], atol=1e-6)


def test_what_is_unlike_needs_no_positive(collection):
    assert sources(collection.recommend(negative=[id_of("cat")], strategy="best_score", limit=1)) == ["owl"]
    assert sources(collection.recommend(negative=[id_of("cat")], strategy="sum_scores", limit=3)) == [
        "owl",
        "fox",
        "dog",
    ]


def test_discovers_on_the_positive_side_of_pairs(collection):
    cat, dog, fox, owl = (id_of(name) for name in ("cat", "dog", "fox", "owl"))
    # dog is nearer to fox than to cat; owl is as far from both.
    assert sources(collection.discover([(fox, cat)])) == ["dog", "owl"]
    assert sources(collection.discover([(cat, fox)], target=owl)) == ["dog"]
    assert sources(collection.discover([(cat, owl)], target=dog)) == ["fox"]
    assert sources(collection.discover([(cat, owl)], target=dog, where={"year": 2022})) == ["fox"]


def test_discovers_what_no_pair_speaks_against(client, name):
    collection, images, _, rng = data.random(client, name)
    pairs = [tuple(data.unit(rng, 2, 8)) for _ in range(3)]
    sides = np.array([images @ positive > images @ negative for positive, negative in pairs]).sum(axis=0)
    found = collection.discover(pairs, limit=int((sides == 3).sum()))
    assert set(numbers(found)) == set(np.flatnonzero(sides == 3).tolist())
    assert max(abs(hit.score) for hit in found) < 1e-5
    target = data.unit(rng, 8)
    ranked = best(sides * 10 + images @ target, 20)
    assert numbers(collection.discover(pairs, target=target, limit=20)) == ranked
    assert numbers(collection.discover(pairs, target=target, limit=5, offset=5)) == ranked[5:10]


@pytest.mark.parametrize(
    ("positive", "options", "error", "message"),
    [
        ([], {}, ConfigError, "at least one positive example for strategy='average_vector'"),
        ([], {"negative": [id_of("cat")]}, ConfigError, "at least one positive example"),
        ([], {"strategy": "sum_scores"}, ConfigError, "at least one positive example for strategy='sum_scores'"),
        ([id_of("no one")], {}, ConfigError, f"There is no point '{id_of('no one')}' with a vector 'image'"),
        ([id_of("cat")], {"negative": [7]}, ConfigError, "There is no point '7' with a vector 'image'"),
        ([id_of("note")], {}, ConfigError, f"There is no point '{id_of('note')}' with a vector 'image'"),
        ([id_of("fox")], {"using": "text"}, ConfigError, f"There is no point '{id_of('fox')}' with a vector 'text'"),
        (["a cat"], {}, InvalidPointError, "The id 'a cat' is neither a UUID nor"),
        ([-1], {}, InvalidPointError, "The id -1 is neither"),
        ([np.zeros(3)], {}, InvalidPointError, "zero or has a NaN"),
        ([np.ones(5)], {}, CollectionMismatchError, "3-d vectors as 'image', but the query is 5-d"),
        ([id_of("cat")], {"using": "both"}, ConfigError, "one kind of vector: using must be 'image' or 'text'"),
        ([id_of("cat")], {"strategy": "median"}, ConfigError, "got 'median'"),
        ([id_of("cat")], {"limit": 0}, ConfigError, "limit must be at least 1"),
    ],
)
def test_examples_that_cannot_be_are_refused(collection, positive, options, error, message):
    with pytest.raises(error, match=message):
        collection.recommend(positive, **options)


def test_pairs_that_cannot_be_are_refused(collection):
    with pytest.raises(ConfigError, match="at least one pair"):
        collection.discover([])
    with pytest.raises(ConfigError, match="There is no point '7' with a vector 'text'"):
        collection.discover([(id_of("cat"), 7)], using="text")
    with pytest.raises(InvalidPointError, match="The id 'dog'"):
        collection.discover([(id_of("cat"), id_of("owl"))], target="dog")


def test_an_id_has_many_spellings(collection):
    cat = uuid.UUID(id_of("cat"))
    for spelling in (str(cat), cat.hex, str(cat).upper(), cat.urn):
        assert sources(collection.recommend([spelling], limit=1)) == ["dog"]
        assert sources(collection.get([spelling])) == ["cat"]


def test_recommends_by_a_great_many(client, name):
    collection, images, _, _ = data.random(client, name, count=1_500)
    liked = list(range(1_400))
    scores = images @ images[liked].mean(axis=0)
    scores[liked] = -np.inf
    assert numbers(collection.recommend(liked, limit=5)) == best(scores, 5)
