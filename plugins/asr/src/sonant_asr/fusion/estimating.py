"""An n-gram model from text, for those who have no tool of their own for it.

Interpolated Kneser-Ney smoothing (Kneser and Ney, 1995) with one discount a length, `n1 / (n1 + 2 n2)` from how many n-grams
occur once and twice (Chen and Goodman, 1999). In plain Python, for texts of some megabytes; KenLM's `lmplz` takes larger ones.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from sonant.protocols import Tokenizer
from sonant_asr.fusion.tokens import Writing, numbers

Gram = tuple[int, ...]
_BEGIN, _END = -1, -2  # <s> and </s>, which no token is


def arpa_of(
    texts: Iterable[str], tokenizer: Tokenizer, *, order: int = 4, writing: Writing = "pieces", language: str | None = None
) -> str:
    """A language model over a recognizer's tokens, as an ARPA file holds it.

    Args:
        texts: sentences, spelt as the recognizer spells.
        tokenizer: the recognizer's.
        order: of the longest n-grams.
        writing: how tokens are written, as `pieces` or `ids`.
        language: of the texts, where the tokenizer has several.

    Raises:
        ValueError: there is no text, `order` is below 1, or the tokenizer cannot write a text or has no such language.
    """
    pieces = tokenizer.pieces(range(tokenizer.vocab_size))
    known = numbers(tokenizer, writing).items()
    tokens = {number: word.decode("utf-8") for word, number in known if number < len(pieces) and pieces[number] != "<unk>"}
    words = tokens | {_BEGIN: "<s>", _END: "</s>"}
    options = {} if language is None else {"language": language}
    counts = _counts((_encode(text, tokenizer, tokens, options) for text in texts), order)
    probabilities, backoffs = _smooth(counts, [*tokens, _END])
    lines = ["\\data\\", *(f"ngram {n}={len(found)}" for n, found in enumerate(probabilities, 1))]
    for n, found in enumerate(probabilities, 1):
        lines += ["", f"\\{n}-grams:"]
        for gram, probability in found.items():
            behind = f"\t{math.log10(backoffs.get(gram, 1.0)):.7g}" if n < len(probabilities) else ""
            lines.append(f"{math.log10(probability):.7g}\t{' '.join(words[token] for token in gram)}{behind}")
    return "\n".join([*lines, "", "\\end\\", ""])


def _encode(text: str, tokenizer: Tokenizer, tokens: Mapping[int, str], options: Mapping[str, str]) -> list[int]:
    ids = tokenizer.encode(text, **options)
    if not tokens.keys() >= set(ids):
        raise ValueError(f"the text {text[:80]!r} has characters that this model has no token for: leave them out")
    return ids


def _counts(sentences: Iterable[list[int]], order: int) -> list[Counter[Gram]]:
    """How often each n-gram occurs; but for the longest, and those from `<s>` on, behind how many different tokens it does."""
    if order < 1:
        raise ValueError(f"order {order} must be at least 1")
    seen: list[Counter[Gram]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        tokens = (_BEGIN, *sentence, _END)
        for n, counter in enumerate(seen, 1):
            counter.update(tokens[at : at + n] for at in range(len(tokens) - n + 1))
    if not seen[0]:
        raise ValueError("there is no text to make a language model from")
    found = [seen[-1]]
    for shorter, longer in zip(reversed(seen[:-1]), reversed(seen[1:]), strict=True):
        continued = Counter(gram[1:] for gram in longer)
        found.append(Counter({gram: continued[gram] or count for gram, count in shorter.items()}))
    return found[::-1]


def _smooth(counts: list[Counter[Gram]], vocabulary: list[int]) -> tuple[list[dict[Gram, float]], dict[Gram, float]]:
    """Interpolated probabilities of the n-grams of each length, and the backoff weights of contexts."""
    del counts[0][_BEGIN,]
    probabilities: list[dict[Gram, float]] = []
    backoffs: dict[Gram, float] = {}
    shorter: Mapping[Gram, float] = {(): 1 / len(vocabulary)}  # behind the unigrams stands chance
    for n, found in enumerate(counts, 1):
        discount = _discount(found)
        smoothed: dict[Gram, float] = {}
        for context, followers in _by_context(found):
            total = sum(followers.values())
            backoffs[context] = discount * len(followers) / total
            for token in followers if n > 1 else vocabulary:
                gram = (*context, token)
                behind = shorter[gram[1:] if n > 1 else ()]
                smoothed[gram] = max(followers.get(token, 0) - discount, 0.0) / total + backoffs[context] * behind
        probabilities.append(smoothed)
        shorter = smoothed
    probabilities[0][_BEGIN,] = 1e-99  # never asked for
    return probabilities, backoffs


def _discount(found: Counter[Gram]) -> float:
    times = Counter(found.values())
    return times[1] / (times[1] + 2 * times[2]) if times[1] and times[2] else 0.5


def _by_context(found: Counter[Gram]) -> Iterator[tuple[Gram, dict[int, int]]]:
    grouped: dict[Gram, dict[int, int]] = defaultdict(dict)
    for gram, count in found.items():
        grouped[gram[:-1]][gram[-1]] = count
    yield from grouped.items()
