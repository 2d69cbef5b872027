"""Language models in the ARPA text format."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from sonant_asr.fusion.automaton import Floats
from sonant_asr.fusion.ngram import Order, checked
from sonant_asr.fusion.trie import Ints

_CHUNK = 100_000  # lines taken apart at a time
_MAX_ORDER = 20  # as of KenLM's files; what is in use has 3 to 10


def read(data: bytes, symbols_of: Callable[[list[bytes]], Mapping[bytes, int]]) -> list[Order]:
    """N-grams of 1, 2, … words.

    Args:
        data: the file. Words are separated by spaces or tabs of ASCII, and may hold any other character.
        symbols_of: the words of the 1-grams to the number of each.

    Raises:
        ValueError: it is not such a file, or is cut off, or has numbers that are not probabilities.
    """
    lines = data.split(b"\n")
    at, counts = _header(lines)
    numbers: Mapping[bytes, int] = {}
    orders = []
    for n, count in enumerate(counts, 1):
        at = _skip(lines, at)
        if lines[at].strip() != b"\\%d-grams:" % n:
            raise ValueError(f"line {at + 1} must be \\{n}-grams:")
        section = [line for line in lines[at + 1 : at + 1 + count] if line.strip() and not line.startswith(b"\\")]
        if len(section) < count:
            raise ValueError(f"it declares {count} {n}-grams and has {len(section)}: it is cut off or damaged")
        if n == 1:
            numbers = symbols_of([line.split()[1] if len(line.split()) > 1 else b"" for line in section])
        orders.append(_order(section, n, numbers))
        at += 1 + count
    at = _skip(lines, at)
    if lines[at].strip() != b"\\end\\":
        raise ValueError(f"line {at + 1} must be \\end\\")
    return orders


def _skip(lines: list[bytes], at: int) -> int:
    """The next line that is not empty."""
    while at < len(lines) and not lines[at].strip():
        at += 1
    if at == len(lines):
        raise ValueError("it ends before its \\end\\: it is cut off")
    return at


def _header(lines: list[bytes]) -> tuple[int, list[int]]:
    """The line behind the header, and how many n-grams it declares of each length."""
    at = next((at for at, line in enumerate(lines) if line.strip() == b"\\data\\"), None)
    if at is None:
        raise ValueError("it has no \\data\\ line")
    counts: list[int] = []
    for at in range(at + 1, len(lines)):  # noqa: B020  # goes on from there
        line = lines[at].strip()
        found = re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", line)
        if found is None:
            break
        if int(found[1]) != len(counts) + 1:
            raise ValueError(f"line {at + 1} must declare the {len(counts) + 1}-grams, not {line.decode('utf-8', 'replace')!r}")
        counts.append(int(found[2]))
    if len(counts) > _MAX_ORDER:
        raise ValueError(f"it declares n-grams of up to {len(counts)} words; at most {_MAX_ORDER} are read")
    if not counts:
        raise ValueError("its \\data\\ section declares no n-grams")
    return at, counts


def _order(section: list[bytes], n: int, numbers: Mapping[bytes, int]) -> Order:
    parts = list(_rows(section, n, numbers))
    symbols, scores, backoffs = (np.concatenate(column) for column in zip(*parts, strict=True)) if parts else _nothing(n)
    return checked(symbols, scores, backoffs)


def _nothing(n: int) -> tuple[Ints, Floats, Floats]:
    return np.zeros((0, n), np.int64), np.zeros(0), np.zeros(0)


def _rows(section: list[bytes], n: int, numbers: Mapping[bytes, int]) -> Iterator[tuple[Ints, Floats, Floats]]:
    """Chunks of the section: symbols, and logarithms to base 10 of probabilities and backoff weights."""
    for begin in range(0, len(section), _CHUNK):
        rows = [line.split() for line in section[begin : begin + _CHUNK]]
        if any(len(row) not in (n + 1, n + 2) for row in rows):
            wrong = next(row for row in rows if len(row) not in (n + 1, n + 2))
            raise ValueError(f"the line {b' '.join(wrong).decode('utf-8', 'replace')[:80]!r} is not one of {n} words")
        try:
            symbols = np.array([[numbers[word] for word in row[1 : n + 1]] for row in rows], np.int64)
        except KeyError as error:
            word = error.args[0].decode("utf-8", "replace")
            raise ValueError(f"the word {word!r} of a {n}-gram is not among the 1-grams") from None
        scores = _floats([row[0] for row in rows], n)
        backoffs = _floats([row[n + 1] if len(row) > n + 1 else b"0" for row in rows], n)
        yield symbols.reshape(len(rows), n), scores, backoffs


def _floats(words: list[bytes], n: int) -> Floats:
    try:
        return np.fromiter(map(float, words), np.float64, len(words))  # an array of texts has room for the longest in each place
    except ValueError:
        raise ValueError(f"its {n}-grams have numbers that cannot be read") from None
