"""A backoff automaton: what n-gram models and phrase trees are, to be walked by many rows at once."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import torch
from attrs import field, frozen
from numpy.typing import NDArray
from torch import Tensor

from sonant_asr.fusion.trie import Ints, Trie

Floats = NDArray[np.float64]


@frozen(eq=False)
class Automaton:
    """States with scored arcs, and an arc to a shorter state for the labels they have none for.

    State 0, the root, has an arc for every label. The score of a label in a state is that of its arc, or else the state's
    `backoff` plus the label's score in the state `backoff_to`. With Katz backoff (1987) as with the failure links of Aho and
    Corasick (1975).

    Shapes: `S` states, `A` arcs of states other than the root, `V` labels.
    """

    root_scores: Tensor
    """`(V,)`"""
    root_targets: Tensor
    """`(V,)` the state behind each label"""
    first: Tensor
    """`(S + 1,)` arcs `first[s]` to `first[s + 1]` are those of state `s`; the root has none here"""
    labels: Tensor
    """`(A,)`"""
    scores: Tensor
    """`(A,)`"""
    targets: Tensor
    """`(A,)`"""
    backoff_to: Tensor
    """`(S,)`; the root's is itself"""
    backoff: Tensor
    """`(S,)`; the root's is 0"""
    finals: Tensor
    """`(S,)` the score of ending there"""
    initial: int = 0
    _elsewhere: dict[torch.device, Automaton] = field(factory=dict, init=False, repr=False)

    @property
    def size(self) -> int:
        """The number of states."""
        return len(self.backoff)

    def on(self, device: torch.device | str) -> Automaton:
        """The same on a device. The copy is kept."""
        device = torch.device(device)
        if device == self.backoff.device:
            return self
        if device not in self._elsewhere:
            names = [a.name for a in attrs.fields(Automaton) if a.init and a.name != "initial"]
            moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in names}
            self._elsewhere[device] = Automaton(**moved, initial=self.initial)
        return self._elsewhere[device]

    def times(self, weight: float) -> Automaton:
        """All scores multiplied by `weight`."""
        names = ("root_scores", "scores", "backoff", "finals")
        return attrs.evolve(self, **{name: getattr(self, name) * weight for name in names})

    def advance(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States `(R,)` to the scores `(R, V)` of every label and the states `(R, V)` behind them."""
        levels = self._backoffs(states)
        scores = levels[0][1][:, None] + self.root_scores  # (R, V)
        targets = self.root_targets.repeat(len(states), 1)
        if len(levels) == 1:
            return scores, targets
        at, totals = (torch.cat(column) for column in zip(*levels[1:], strict=True))
        begin = self.first[at]
        counts = self.first[at + 1] - begin
        which = torch.repeat_interleave(counts)
        order = torch.arange(len(which), device=which.device)
        arcs = order + (begin - (counts.cumsum(0) - counts))[which]
        places = which % len(states) * scores.shape[1] + self.labels[arcs]
        # Longer states come last, and what they know comes over what shorter ones do.
        last = torch.full((scores.numel(),), -1, device=which.device).scatter_reduce(0, places, order, "amax")
        known = (last >= 0).nonzero().squeeze(1)
        chosen = last[known]
        scores.view(-1)[known] = totals[which[chosen]] + self.scores[arcs[chosen]]
        targets.view(-1)[known] = self.targets[arcs[chosen]]
        return scores, targets

    def _backoffs(self, states: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The states `(R,)` that backing off leads to, from the root on, and what has been added on the way there."""
        at, total = states, torch.zeros_like(states, dtype=self.backoff.dtype)
        levels = [(at, total)]
        while bool((at != 0).any()):
            total = total + self.backoff[at]
            at = self.backoff_to[at]
            levels.append((at, total))
        return levels[::-1]


def from_trie(
    trie: Trie,
    scores: Floats,
    backoffs: Floats,
    finals: Floats,
    failures: Ints,
    *,
    vocab_size: int,
    unknown: float,
    initial: int = 0,
) -> Automaton:
    """The automaton of a tree whose first nodes are states.

    Args:
        trie: of labels, of which those from `vocab_size` on have no arc from the root.
        scores: `(N,)` of the arc to each node; the root's is not looked at.
        backoffs: `(S,)` of the first `S` nodes, which become states. An arc to another leads to where that node fails to.
        finals: `(S,)`.
        failures: `(N,)`, as of `trie.failures`.
        vocab_size: labels without the blank.
        unknown: score of labels that no sequence begins with.
        initial: the node to start at.
    """
    nodes, states = np.arange(len(trie.keys) + 1), len(backoffs)
    targets = np.where(nodes < states, nodes, failures)
    second = trie.levels[1] if len(trie.levels) > 1 else 1  # the first node of depth 2
    root_scores, root_targets = np.full(vocab_size, unknown), np.zeros(vocab_size, np.int64)
    known = trie.keys[: second - 1] < vocab_size  # at depth 1 a key is a label
    labels = trie.keys[: second - 1][known]
    root_scores[labels], root_targets[labels] = scores[1:second][known], targets[1:second][known]
    first = np.searchsorted(trie.keys[second - 1 :], np.arange(states + 1) * trie.width)
    return Automaton(
        root_scores=torch.from_numpy(root_scores.astype(np.float32)),
        root_targets=torch.from_numpy(root_targets),
        first=torch.from_numpy(first),
        labels=torch.from_numpy(trie.keys[second - 1 :] % trie.width),
        scores=torch.from_numpy(scores[second:].astype(np.float32)),
        targets=torch.from_numpy(targets[second:]),
        backoff_to=torch.from_numpy(failures[:states]),
        backoff=torch.from_numpy(backoffs.astype(np.float32)),
        finals=torch.from_numpy(finals.astype(np.float32)),
        initial=int(targets[initial]),
    )
