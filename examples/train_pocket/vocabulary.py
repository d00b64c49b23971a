"""Byte pair encoding learnt in an order that never varies.

The trainer of `tokenizers` breaks ties by an order that differs between processes. A resumed run would then give the
token numbers other meanings than the weights were trained with.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
Pair = tuple[str, str]


def build_tokenizer(texts: Iterable[str], size: int, max_tokens: int) -> CLIPTokenizer:
    """A byte-level BPE of CLIP's kind, learnt from texts.

    Every byte is a token both inside and at the end of a word. Without that an unseen letter would become the
    unknown token, which is the end token, and the text would end there.

    Args:
        texts: what to learn from.
        size: tokens in all, at most.
        max_tokens: the longest text the model takes; longer ones are cut.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    merges = learn_merges(_count_words(texts), size - len(tokens) - 2)
    tokens = list(dict.fromkeys([*tokens, *(left + right for left, right in merges), START, END]))
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=merges,
        model_max_length=max_tokens,
        padding_side="right",
    )


def _count_words(texts: Iterable[str]) -> Counter[str]:
    """Words in byte-level letters, cut as CLIP's own tokenizer cuts them."""
    cutter = CLIPTokenizer().backend_tokenizer
    words: Counter[str] = Counter()
    for text in texts:
        normal = cutter.normalizer.normalize_str(text)
        words.update(word for word, _ in cutter.pre_tokenizer.pre_tokenize_str(normal))
    return words


def learn_merges(words: Counter[str], count: int) -> list[Pair]:
    """The `count` most frequent merges, one after the other; of equally frequent pairs the first by alphabet.

    Stops early when no pair occurs twice.
    """
    spelt = [([*word[:-1], word[-1] + "</w>"], times) for word, times in words.items()]
    counts: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, (pieces, times) in enumerate(spelt):
        for pair in pairwise(pieces):
            counts[pair] += times
            places[pair].add(index)
    merges: list[Pair] = []
    while counts and len(merges) < count:
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        if counts[best] < 2:
            break
        merges.append(best)
        for index in places.pop(best):
            pieces, times = spelt[index]
            for pair in pairwise(pieces):
                counts[pair] -= times
            pieces[:] = _merged(pieces, best)
            for pair in pairwise(pieces):
                counts[pair] += times
                places[pair].add(index)
        counts = +counts
    return merges


def _merged(pieces: list[str], pair: Pair) -> list[str]:
    joined: list[str] = []
    for piece in pieces:
        # A piece just joined is longer than the left half, so it is never joined again in the same pass.
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined
