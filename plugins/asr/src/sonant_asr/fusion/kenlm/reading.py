"""Language models in KenLM's binary format (Heafield, 2011), read without KenLM.

Version 5 of the format: hash tables, and tries with or without quantized numbers and compressed pointers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sonant_asr.fusion.kenlm import probing, trie
from sonant_asr.fusion.kenlm.hashing import word_hash
from sonant_asr.fusion.kenlm.header import Parts, read_header
from sonant_asr.fusion.ngram import Order, checked
from sonant_asr.fusion.tokens import MARKS


def read(data: bytes, choose: Callable[[Callable[[dict[bytes, int]], str]], dict[bytes, int]]) -> list[Order]:
    """N-grams of 1, 2, … words.

    Args:
        data: the file. Its words are hashed, and only told by comparing.
        choose: is given a function that tells which of some words are missing, or "", and gives the number of each word.

    Raises:
        ValueError: it is of another version or type, or damaged.
    """
    header = read_header(data)
    parts = Parts(data, header.size)
    layout = trie if header.is_trie else probing
    vocabulary = layout.read_vocabulary(parts, header)

    def strangers(known: dict[bytes, int]) -> str:
        lost = len(vocabulary.keys() - set(map(word_hash, known)))
        return f"{lost} others among its {len(vocabulary)} words" if lost else ""

    numbers = choose(strangers)
    symbols = np.full(len(vocabulary) + 1, numbers[MARKS[2]])
    for word, number in numbers.items():
        place = vocabulary.get(word_hash(word))
        if place is not None:
            symbols[place] = number
    with np.errstate(invalid="ignore"):  # what is no number is refused below
        orders = layout.read_orders(parts, header, len(symbols))
    return [checked(symbols[order.symbols], order.scores, order.backoffs) for order in orders]
