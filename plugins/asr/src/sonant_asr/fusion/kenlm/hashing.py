"""How KenLM turns words and n-grams into numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MASK = 0xFFFFFFFFFFFFFFFF
_MIX = 0xC6A4A7935BD1E995
_OLDER, _WORD = np.uint64(8978948897894561157), np.uint64(17894857484156487943)


def word_hash(word: bytes) -> int:
    """MurmurHash64A of a word (Appleby), with seed 0."""
    found = (len(word) * _MIX) & _MASK
    whole = len(word) // 8 * 8
    for at in range(0, whole, 8):
        found = ((found ^ _mixed(int.from_bytes(word[at : at + 8], "little"))) * _MIX) & _MASK
    if whole < len(word):
        found = ((found ^ int.from_bytes(word[whole:], "little")) * _MIX) & _MASK
    found = ((found ^ (found >> 47)) * _MIX) & _MASK
    return found ^ (found >> 47)


def _mixed(block: int) -> int:
    block = (block * _MIX) & _MASK
    return ((block ^ (block >> 47)) * _MIX) & _MASK


def combine(key: NDArray[np.uint64], word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The key of an n-gram with `word` put before it. A single word's key is its number."""
    return (key * _OLDER) ^ ((word + np.uint64(1)) * _WORD)
