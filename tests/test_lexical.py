"""Words as sparse vectors: what a word is, what it weighs, and what a search for it finds."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import models

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.lexical import document_vectors, query_vectors, words
from clip_qdrant.storage.schema import CollectionSchema
from clip_qdrant.storage.vectors import VectorCollection


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A brown Bear, 2 cubs!", ["a", "brown", "bear", "2", "cubs"]),
        ("snake_case don't x-ray", ["snake", "case", "don", "t", "x", "ray"]),
        ("Straße STRASSE ﬁsh Ｆｉｓｈ", ["strasse", "strasse", "fish", "fish"]),
        ("Cafe\u0301 café", ["café", "café"]),
        ("東京都の cat 犬", ["東京", "京都", "都の", "cat", "犬"]),
        ("Медведь и ΑΡΚΟΎΔΑ", ["медведь", "и", "αρκούδα"]),
        (" \n…🐻 ", []),
        ("", []),
    ],
)
def test_words(text, expected):
    assert list(words(text)) == expected


@given(st.text(max_size=60))
def test_words_do_not_depend_on_case(text):
    assert list(words(text)) == list(words(text.casefold()))


def test_a_words_weight_is_that_of_bm25():
    (vector,) = document_vectors(["cat cat dog"])
    norm = 1.2 * (0.25 + 0.75 * 3 / 256)
    assert sorted(vector.values) == pytest.approx(sorted([2 * 2.2 / (2 + norm), 2.2 / (1 + norm)]))
    assert query_vectors(["cat cat dog"])[0].values == [1.0, 1.0]


def test_a_words_dimension_is_the_same_in_every_process():
    code = "from clip_qdrant.storage.lexical import query_vectors; print(query_vectors(['bear'])[0].indices[0])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(found) == query_vectors(["BEAR"])[0].indices[0] == 658898489


def test_ten_thousand_words_have_ten_thousand_dimensions():
    (vector,) = query_vectors([" ".join(f"word{number}" for number in range(10_000))])
    assert len(vector.indices) == len(set(vector.indices)) == 10_000


def test_a_text_without_words_is_an_empty_vector():
    empty = models.SparseVector(indices=[], values=[])
    assert document_vectors(["", "…"]) == query_vectors(["", "…"]) == [empty, empty]
    assert document_vectors([]) == query_vectors([]) == []


@pytest.mark.parametrize("vectors", [document_vectors, query_vectors])
def test_a_str_is_not_a_list_of_texts(vectors):
    with pytest.raises(ConfigError, match="must be a list, got the str 'cat'"):
        vectors("cat")


def test_a_search_ranks_by_rarity_frequency_and_length(client, name):
    texts = ["the cat", "the cat and the zebra", "the dog", "the zebra zebra", "the " + "long " * 300 + "zebra"]
    vectors = VectorCollection(client, name, CollectionSchema(dim=2, lexical=True))
    vectors.upsert(
        [
            models.PointStruct(id=number, vector={"text": [1.0, 0.5], "lexical": lexical})
            for number, lexical in enumerate(document_vectors(texts))
        ]
    )

    def search(text):
        found = client.query_points(name, query=query_vectors([text])[0], using="lexical", limit=10).points
        return {point.id: point.score for point in found}

    assert list(search("Zebra")) == [3, 1, 4]
    assert list(search("cat")) == [0, 1]
    # One of the five has "dog": ln(1 + (5 - 1 + 0.5) / (1 + 0.5)), times what the word weighs in a text of two words.
    weight = 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / 256))
    assert search("dog") == {2: pytest.approx(weight * math.log(1 + 4.5 / 1.5), rel=1e-5)}
