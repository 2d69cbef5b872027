"""KenLM's hash tables, which hold n-grams by keys and not by words.

The words are found again from the bottom up: an n-gram can only be there if its first `n - 1` words and its last `n - 1` are, so
that n-grams are looked for where two shorter ones overlap.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from sonant_asr.fusion.automaton import Floats
from sonant_asr.fusion.kenlm.hashing import combine
from sonant_asr.fusion.kenlm.header import Header, Parts
from sonant_asr.fusion.ngram import Order
from sonant_asr.fusion.trie import Ints

_VOCABULARY = np.dtype([("key", "<u8"), ("value", "<u4")])
_UNIGRAM = np.dtype([("prob", "<f4"), ("backoff", "<f4")])
_MIDDLE = np.dtype([("key", "<u8"), ("prob", "<f4"), ("backoff", "<f4")])
_LONGEST = np.dtype([("key", "<u8"), ("prob", "<f4")])
_CANDIDATES = 1 << 22  # looked up at a time


def read_vocabulary(parts: Parts, header: Header) -> dict[int, int]:
    """The number of every word, by its hash; without `<unk>`, which is 0.

    Raises:
        ValueError: the file is damaged.
    """
    version, bound = (int(n) for n in parts.take(np.dtype("<u4"), 2))
    table = parts.take(_VOCABULARY, _buckets(header.counts[0], header.multiplier))
    table = table[table["key"] != 0]
    if version != 0 or bound != len(table) + 1 or sorted(table["value"].tolist()) != list(range(1, bound)):
        raise ValueError("it is a KenLM file whose vocabulary is damaged")
    return dict(zip(table["key"].tolist(), table["value"].tolist(), strict=True))


def read_orders(parts: Parts, header: Header, words: int) -> list[Order]:
    """The n-grams over the numbers of `words` words, `<unk>` among them; logarithms are to base 10.

    Raises:
        ValueError: the file is damaged.
    """
    unigrams = parts.take(_UNIGRAM, header.counts[0] + 1)[:words]
    if len(unigrams) < words:
        raise ValueError("it is a KenLM file with more words than 1-grams")
    orders = [Order(np.arange(words)[:, None], _negative(unigrams["prob"]), unigrams["backoff"].astype(np.float64))]
    known = None
    for n, count in enumerate(header.counts[1:], 2):
        table = parts.take(_MIDDLE if n < len(header.counts) else _LONGEST, _buckets(count, header.multiplier))
        table = np.sort(table[table["key"] != 0], order="key")
        known, rows = _find(table["key"], known, words)
        if len(known.keys) < len(table):
            raise ValueError(f"it is a KenLM file with {len(table) - len(known.keys)} {n}-grams that no words make")
        symbols = np.concatenate([orders[-1].symbols[known.heads], orders[-1].symbols[known.tails][:, -1:]], 1)
        found = table[rows]
        backoffs = found["backoff"].astype(np.float64) if n < len(header.counts) else np.zeros(len(found))
        orders.append(Order(symbols, _negative(found["prob"]), backoffs))
    return orders


@frozen(eq=False)
class _Grams:
    """N-grams: their keys, their first words, and which (n-1)-grams their first and their last words are."""

    keys: NDArray[np.uint64]
    words: Ints
    heads: Ints
    tails: Ints

    def at(self, rows: Ints) -> _Grams:
        """Some of them."""
        return _Grams(self.keys[rows], self.words[rows], self.heads[rows], self.tails[rows])


def _find(table: NDArray[np.uint64], shorter: _Grams | None, words: int) -> tuple[_Grams, Ints]:
    """The n-grams whose keys stand in a sorted table, and in which of its rows."""
    grams, places = [], [np.zeros(0, np.int64)]
    for candidates in _pairs(words) if shorter is None else _overlaps(shorter):
        rows = np.searchsorted(table, candidates.keys)
        there = np.flatnonzero(np.append(table, np.uint64(0))[rows] == candidates.keys)
        grams.append(candidates.at(there))
        places.append(rows[there])
    names = ("keys", "words", "heads", "tails")
    columns = {name: np.concatenate([np.zeros(0, np.int64), *(getattr(g, name) for g in grams)]) for name in names[1:]}
    return _Grams(np.concatenate([table[:0], *(g.keys for g in grams)]), **columns), np.concatenate(places)


def _pairs(words: int) -> Iterator[_Grams]:
    """All pairs of words."""
    step = max(1, _CANDIDATES // words)
    for begin in range(0, words, step):
        heads = np.repeat(np.arange(begin, min(begin + step, words)), words)
        tails = np.tile(np.arange(words), len(heads) // words)
        yield _Grams(combine(tails.astype(np.uint64), heads.astype(np.uint64)), heads, heads, tails)


def _overlaps(shorter: _Grams) -> Iterator[_Grams]:
    """All pairs of n-grams where the second begins with what ends the first."""
    sorting = np.argsort(shorter.heads, kind="stable")
    heads = shorter.heads[sorting]
    begins, ends = np.searchsorted(heads, shorter.tails), np.searchsorted(heads, shorter.tails, side="right")
    totals = np.cumsum(ends - begins)
    begin = 0
    while begin < len(totals):
        done = totals[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(totals, done + _CANDIDATES, side="right")))
        counts = (ends - begins)[begin:end]
        first = np.repeat(np.arange(begin, end), counts)
        within = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        second = sorting[begins[first] + within]
        words = shorter.words[first]
        yield _Grams(combine(shorter.keys[second], words.astype(np.uint64)), words, first, second)
        begin = end


def _buckets(count: int, multiplier: float) -> int:
    return max(count + 1, int(np.float32(multiplier) * np.float32(count)))


def _negative(probabilities: NDArray[np.float32]) -> Floats:
    """A sign is stored for another purpose: logarithms of probabilities are never above 0."""
    return -np.abs(probabilities.astype(np.float64))
