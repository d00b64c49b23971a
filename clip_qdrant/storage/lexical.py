"""Texts -> sparse vectors of their words, for a collection with `lexical=True`. Needs no model and no corpus.

The score is BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009), divided as
Qdrant's documentation has it: a document's vector holds each word's saturated, length-normalised frequency; a query's
vector holds ones; and Qdrant multiplies by the inverse document frequency when it searches (`Modifier.IDF`), from the
points that are there at that moment.

A word's dimension is a hash of it, so that there is no vocabulary to keep: among 100,000 words about one pair falls on
one dimension. The average length of a text is a constant for the same reason; what is written is never out of date.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from qdrant_client import models

_SATURATION = 1.2
_LENGTH_PENALTY = 0.75
_AVERAGE_LENGTH = 256
"""k1, b and the average length, in words, as Qdrant's own BM25 has them."""

# Scripts that put no space between words: of these each pair of neighbours is a word, as in Lucene's CJK analysis.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_RUN = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|[^\W_{_UNSPACED}]+")


def words(text: str) -> Iterator[str]:
    """The words of a text, without case and compatibility forms: letters and digits in a row."""
    # After folding a letter may be one that would compose otherwise, hence once more.
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    for run in _RUN.finditer(plain):
        if run["unspaced"] is None or len(run[0]) == 1:
            yield run[0]
        else:
            yield from (run[0][start : start + 2] for start in range(len(run[0]) - 1))


def document_vectors(texts: Sequence[str]) -> list[models.SparseVector]:
    """What to store for each text; of a text without words an empty vector.

    Raises:
        ConfigError: a str instead of a list of them.
    """
    return [_document(text) for text in _listed(texts)]


def query_vectors(texts: Sequence[str]) -> list[models.SparseVector]:
    """What to search for each text; of a text without words an empty vector, which finds nothing.

    Raises:
        ConfigError: a str instead of a list of them.
    """
    return [_sparse(dict.fromkeys(map(_dimension, words(text)), 1.0)) for text in _listed(texts)]


def _listed(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str):
        raise ConfigError(f"texts must be a list, got the str {texts!r}. Write [text]")
    return texts


def _document(text: str) -> models.SparseVector:
    counts = Counter(map(_dimension, words(text)))
    norm = _SATURATION * (1 - _LENGTH_PENALTY + _LENGTH_PENALTY * counts.total() / _AVERAGE_LENGTH)
    return _sparse({key: count * (_SATURATION + 1) / (count + norm) for key, count in counts.items()})


def _dimension(word: str) -> int:
    """The same in every process and on every machine, which Python's own hash is not."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big")


def _sparse(weights: dict[int, float]) -> models.SparseVector:
    from qdrant_client import models

    return models.SparseVector(indices=list(weights), values=list(weights.values()))
