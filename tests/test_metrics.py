"""Rankings judged by hand."""

import numpy as np
import pytest

from clip_qdrant.errors import ConfigError
from clip_qdrant.metrics import mean_reciprocal_rank, ranks, recall_at_k

SCORES = [[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.1, 0.5, 0.9]]
RELEVANT = [[1, 0, 0], [0, 0, 1], [1, 1, 0]]


def test_ranks_recall_and_reciprocal_rank():
    assert ranks(SCORES, RELEVANT).tolist() == [0, 2, 1]
    assert [recall_at_k(SCORES, RELEVANT, k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert mean_reciprocal_rank(SCORES, RELEVANT) == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)


def test_ties_count_against():
    assert ranks(np.zeros((1, 4)), [[0, 1, 0, 0]]).tolist() == [3]
    assert ranks(np.zeros((1, 4)), [[0, 1, 1, 0]]).tolist() == [2]


@pytest.mark.parametrize(
    ("scores", "relevant", "message"),
    [
        ([[1.0]], [[1, 0]], "two matrices of one shape"),
        ([1.0], [1], "two matrices of one shape"),
        ([[np.nan]], [[1]], "similarity has NaN"),
        ([[1.0], [1.0]], [[1], [0]], "query 1 has no relevant item"),
    ],
)
def test_what_is_no_ranking_is_refused(scores, relevant, message):
    with pytest.raises(ConfigError, match=message):
        ranks(scores, relevant)


def test_k_is_positive():
    with pytest.raises(ConfigError, match="k must be at least 1"):
        recall_at_k(SCORES, RELEVANT, 0)
