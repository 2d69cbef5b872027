"""KenLM's tries, which hold n-grams from their last word to their first, packed into bits."""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from sonant_asr.fusion.automaton import Floats
from sonant_asr.fusion.kenlm.header import Header, Parts
from sonant_asr.fusion.ngram import Order
from sonant_asr.fusion.trie import Ints

_UNIGRAM = np.dtype([("prob", "<f4"), ("backoff", "<f4"), ("next", "<u8")])
_PROB_BITS, _BACKOFF_BITS = 31, 32  # of what is not quantized: logarithms of probabilities lack their sign
_CHUNK = 1 << 20
_DAMAGED = "it is a KenLM file whose trie is damaged"


def read_vocabulary(parts: Parts, header: Header) -> dict[int, int]:
    """The number of every word, by its hash; without `<unk>`, which is 0.

    Raises:
        ValueError: the file is damaged.
    """
    count = int(parts.take(np.dtype("<u8"), 1)[0])
    hashes = parts.take(np.dtype("<u8"), header.counts[0])[:count]
    if count > header.counts[0] or (hashes[1:] <= hashes[:-1]).any():
        raise ValueError("it is a KenLM file whose vocabulary is damaged")
    return {word: number for number, word in enumerate(hashes.tolist(), 1)}


def read_orders(parts: Parts, header: Header, words: int) -> list[Order]:
    """The n-grams over the numbers of `words` words, `<unk>` among them; logarithms are to base 10.

    Raises:
        ValueError: the file is damaged.
    """
    if words > header.counts[0]:
        raise ValueError("it is a KenLM file with more words than 1-grams")
    tables = _Tables(parts, header) if header.is_quantized else None
    unigrams = parts.take(_UNIGRAM, header.counts[0] + 2)
    orders = [
        Order(
            np.arange(words)[:, None],
            unigrams["prob"][:words].astype(np.float64),
            unigrams["backoff"][:words].astype(np.float64),
        )
    ]
    nexts = unigrams["next"][: words + 1].astype(np.int64)
    for n, count in enumerate(header.counts[1:], 2):
        level, longer = _read_level(parts, header, n, tables)
        # The bounds first: differences of what is far outside them could overflow, and pass for small ones.
        if nexts.min() < 0 or nexts.max() > count or nexts[0] != 0 or nexts[-1] != count or (np.diff(nexts) < 0).any():
            raise ValueError(_DAMAGED)
        if (level.words >= words).any():
            raise ValueError(_DAMAGED)
        behind = np.repeat(orders[-1].symbols, np.diff(nexts), axis=0)
        orders.append(Order(np.concatenate([level.words[:, None], behind], 1), level.scores, level.backoffs))
        nexts = longer
    return orders


@frozen(eq=False)
class _Level:
    """Of the n-grams of one length, the first words, and the numbers."""

    words: Ints
    scores: Floats
    backoffs: Floats


def _read_level(parts: Parts, header: Header, n: int, tables: _Tables | None) -> tuple[_Level, Ints]:
    """The n-grams, and where in the next level those that end with each of them begin, with the end of all at the end."""
    count, is_longest = header.counts[n - 1], n == len(header.counts)
    word_bits = header.counts[0].bit_length()
    value_bits = tables.widths(is_longest) if tables else (_PROB_BITS, 0 if is_longest else _BACKOFF_BITS)
    highs, pointer_bits = None, 0
    if not is_longest:
        pointer_bits = header.counts[n].bit_length()
        if header.is_compressed:
            highs, pointer_bits = _read_highs(parts, header, n)
    width = word_bits + sum(value_bits) + pointer_bits
    packed = np.frombuffer(parts.skip(((1 + count) * width + 7) // 8 + 8), np.uint8)
    starts = np.arange(count + 1) * width
    words = _bits(packed, starts[:-1], word_bits).astype(np.int64)
    scores, backoffs = _values(packed, starts[:-1] + word_bits, n, is_longest, tables)
    nexts = _bits(packed, starts + (width - pointer_bits), pointer_bits).astype(np.int64)
    if highs is not None:
        above = np.searchsorted(highs, np.arange(count + 1), side="right") - 1
        nexts |= above << pointer_bits
    return _Level(words, scores, backoffs), nexts


def _values(packed: NDArray[np.uint8], starts: Ints, n: int, is_longest: bool, tables: _Tables | None) -> tuple[Floats, Floats]:
    nothing = np.zeros(len(starts))
    if tables is not None:
        prob_bits, backoff_bits = tables.widths(is_longest)
        scores = tables.probs[n - 2][_bits(packed, starts + backoff_bits, prob_bits)]
        return scores, nothing if is_longest else tables.backoffs[n - 2][_bits(packed, starts, backoff_bits)]
    signed = _bits(packed, starts, _PROB_BITS).astype(np.uint32) | np.uint32(1 << 31)
    scores = signed.view(np.float32).astype(np.float64)
    if is_longest:
        return scores, nothing
    backoffs = _bits(packed, starts + _PROB_BITS, _BACKOFF_BITS).astype(np.uint32).view(np.float32)
    return scores, backoffs.astype(np.float64)


def _bits(packed: NDArray[np.uint8], starts: Ints, count: int) -> NDArray[np.uint64]:
    """`count` bits, at most 57, from each of `starts` on, the lowest first."""
    found = np.zeros(len(starts), np.uint64)
    if not count:
        return found
    mask = np.uint64((1 << count) - 1)
    for begin in range(0, len(starts), _CHUNK):
        some = starts[begin : begin + _CHUNK]
        wide = packed[(some >> 3)[:, None] + np.arange(8)].view("<u8")[:, 0]
        found[begin : begin + _CHUNK] = (wide >> (some & 7).astype(np.uint64)) & mask
    return found


class _Tables:
    """What the indices of a quantized trie stand for, for n-grams of 2, 3, … words."""

    def __init__(self, parts: Parts, header: Header) -> None:
        version, *bits = parts.skip(8)[:3].tolist()
        if version != 2 or not all(1 <= b <= 25 for b in bits):
            raise ValueError("it is a KenLM file whose quantization is of another version, or damaged")
        self._bits = bits
        self.probs: list[Floats] = []
        self.backoffs: list[Floats] = []
        for n in range(2, len(header.counts) + 1):
            self.probs.append(parts.take(np.dtype("<f4"), 1 << bits[0]).astype(np.float64))
            if n < len(header.counts):
                self.backoffs.append(parts.take(np.dtype("<f4"), 1 << bits[1]).astype(np.float64))

    def widths(self, is_longest: bool) -> tuple[int, int]:
        """Bits of a probability's index and of a backoff weight's, which the longest n-grams lack."""
        return self._bits[0], 0 if is_longest else self._bits[1]


def _read_highs(parts: Parts, header: Header, n: int) -> tuple[Ints, int]:
    """The first entry whose pointer has each value above the bits that stand beside it, and how many those are."""
    entries, largest = header.counts[n - 1] + 1, header.counts[n]
    required = largest.bit_length()
    begin = parts.at
    version, configured = parts.skip(8)[:2].tolist()
    if version != 0:
        raise ValueError("it is a KenLM file whose pointers are compressed in another version")
    chopped = min(range(min(required, configured) + 1), key=lambda chop: (largest >> (required - chop)) * 64 - entries * chop)
    count = (largest >> (required - chopped)) + 1
    aligned = np.frombuffer(parts.skip(8 * count + 7), np.uint8)[-begin % 8 :][: 8 * count]
    return aligned.view("<u8").astype(np.int64), required - chopped
