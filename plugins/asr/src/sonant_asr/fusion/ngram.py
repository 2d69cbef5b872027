"""N-gram language models as token scorers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

from sonant_asr.fusion.automaton import Automaton, Floats, from_trie
from sonant_asr.fusion.trie import Ints, Trie

_LN10 = np.log(10.0)
UNKNOWN = -100.0 * _LN10
"""Of tokens that a model without `<unk>` does not know; where KenLM puts them."""


@frozen(eq=False)
class Order:
    """The n-grams of one length: `symbols (N, n)`, natural logarithms of probabilities `(N,)` and of backoff weights `(N,)`."""

    symbols: Ints
    scores: Floats
    backoffs: Floats


def checked(symbols: Ints, scores: Floats, backoffs: Floats) -> Order:
    """N-grams with logarithms to base 10, as files hold them; below -100 they count as -100.

    Raises:
        ValueError: they are not logarithms of probabilities.
    """
    if np.isnan(scores).any() or np.isnan(backoffs).any() or (scores > 0).any() or np.isposinf(backoffs).any():
        raise ValueError(f"its {symbols.shape[1]}-grams have numbers that are not logarithms of probabilities")
    return Order(symbols, np.maximum(scores, -100.0) * _LN10, np.maximum(backoffs, -100.0) * _LN10)


@frozen
class Symbols:
    """What the numbers in n-grams mean: `0 … vocab_size - 1` are tokens, and three more follow."""

    vocab_size: int

    @property
    def begin(self) -> int:
        """`<s>`"""
        return self.vocab_size

    @property
    def end(self) -> int:
        """`</s>`"""
        return self.vocab_size + 1

    @property
    def unknown(self) -> int:
        """`<unk>`"""
        return self.vocab_size + 2

    @property
    def count(self) -> int:
        """Of all."""
        return self.vocab_size + 3


class NgramModel:
    """An n-gram model with backoff (Katz, 1987) over tokens. A `TokenScorer`.

    The score of a token is the natural logarithm of its probability after the tokens before, from the beginning of the text on.
    What `<unk>` gets is shared out evenly among the tokens that the model does not know, so that probabilities add up to 1; after
    one of them the model starts afresh. Longer n-grams with `<unk>` are left out.

    Args:
        orders: n-grams of 1, 2, … symbols.
        vocab_size: labels without the blank.
        weight: all scores are multiplied with it.

    Raises:
        ValueError: the n-grams contradict each other.
    """

    def __init__(self, orders: Sequence[Order], *, vocab_size: int, weight: float) -> None:
        self.order = len(orders)
        self.automaton = _automaton(orders, Symbols(vocab_size)).times(weight)

    def start(self, batch: int, device: torch.device | str) -> Tensor:
        """Behind `<s>`."""
        return torch.full((batch,), self.automaton.initial, dtype=torch.int64, device=device)

    def advance(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States `(R,)` to weighted log-probabilities `(R, V)` and next states `(R, V)`."""
        return self.automaton.on(states.device).advance(states)

    def final(self, states: Tensor) -> Tensor:
        """The weighted log-probability of `</s>`; 0 for a model without it."""
        return self.automaton.on(states.device).finals[states]

    def eos(self, states: Tensor, scores: Tensor) -> Tensor:
        """The same as `final`."""
        return self.final(states)


def _automaton(orders: Sequence[Order], symbols: Symbols) -> Automaton:
    trie = Trie(symbols.count, np.zeros(0, np.int64), (1,))
    scores, backoffs = [np.zeros(1)], [np.zeros(1)]
    ends: list[tuple[Ints, Floats]] = []  # contexts and what ending there scores
    unknown = UNKNOWN
    for n, order in enumerate(orders, 1):
        order, dropped = _without_unknown(order, symbols)
        if n == 1 and len(dropped.scores):
            unknown = float(dropped.scores[0])
        _check_marks(order, symbols)
        is_end = order.symbols[:, -1] == symbols.end
        prefixes = trie.walk(order.symbols[:, :-1])
        if (prefixes < 0).any():
            raise ValueError(f"a {n}-gram has a beginning that is not among the {n - 1}-grams")
        ends.append((prefixes[is_end], order.scores[is_end]))
        keys = (prefixes * symbols.count + order.symbols[:, -1])[~is_end]
        sorting = np.argsort(keys)
        keys = keys[sorting]
        if (keys[1:] == keys[:-1]).any():
            raise ValueError(f"a {n}-gram occurs twice")
        trie = Trie(symbols.count, np.concatenate([trie.keys, keys]), (*trie.levels, trie.levels[-1] + len(keys)))
        scores.append(order.scores[~is_end][sorting])
        backoffs.append(order.backoffs[~is_end][sorting])
    failures = trie.failures()
    states = trie.levels[-2] if len(orders) > 1 else 1  # the longest n-grams lead to where they fail to
    behind = np.concatenate(backoffs)[:states]
    known = int(((trie.keys[: trie.levels[1] - 1]) < symbols.vocab_size).sum())
    return from_trie(
        trie,
        np.concatenate(scores),
        behind,
        _finals(trie, ends, behind, failures[:states]),
        failures,
        vocab_size=symbols.vocab_size,
        unknown=unknown - np.log(max(1, symbols.vocab_size - known)),
        initial=max(0, int(trie.walk(np.array([[symbols.begin]]))[0])),
    )


def _without_unknown(order: Order, symbols: Symbols) -> tuple[Order, Order]:
    has = (order.symbols == symbols.unknown).any(1)
    parts = [Order(order.symbols[rows], order.scores[rows], order.backoffs[rows]) for rows in (~has, has)]
    return parts[0], parts[1]


def _check_marks(order: Order, symbols: Symbols) -> None:
    """`<s>` begins an n-gram or is not in it, and `</s>` ends it."""
    if (order.symbols[:, 1:] == symbols.begin).any() or (order.symbols[:, :-1] == symbols.end).any():
        raise ValueError("<s> stands behind another word, or </s> before one")


def _finals(trie: Trie, ends: Sequence[tuple[Ints, Floats]], backoffs: Floats, failures: Ints) -> Floats:
    """What ending scores in every state: what its context says, or else what backing off from it says."""
    found = np.full(len(backoffs), np.nan)
    for contexts, scores in ends:
        found[contexts] = scores
    if np.isnan(found[0]):
        found[0] = 0.0
    for first, end in zip(trie.levels, trie.levels[1:], strict=False):
        nodes = np.arange(first, min(end, len(found)))
        open_ = nodes[np.isnan(found[nodes])]
        found[open_] = backoffs[open_] + found[failures[open_]]
    return found
