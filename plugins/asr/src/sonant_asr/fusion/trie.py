"""A tree of label sequences in one sorted array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@frozen
class Trie:
    """Sequences of labels `0 … width - 1` that share their beginnings. Node 0 is the empty sequence.

    `keys` are `parent * width + label` of nodes 1, 2, …, ascending; nodes are numbered by depth, so that a parent comes before
    its children, and the children of a node stand side by side. `levels[d]` is the first node of depth `d + 1`; the last entry is
    the number of nodes.
    """

    width: int
    keys: Ints
    levels: tuple[int, ...]

    @property
    def parents(self) -> Ints:
        """Of nodes 1, 2, …"""
        return self.keys // self.width

    @property
    def labels(self) -> Ints:
        """The last label of nodes 1, 2, …"""
        return self.keys % self.width

    def find(self, nodes: Ints, labels: Ints) -> Ints:
        """The child of each node by a label, -1 where there is none."""
        wanted = nodes * self.width + labels
        at = np.searchsorted(self.keys, wanted)
        there = np.append(self.keys, -1)[at] == wanted
        return np.where(there & (nodes >= 0), at + 1, -1)

    def walk(self, sequences: Ints) -> Ints:
        """The node of each row of `(N, n)`, -1 where there is none."""
        nodes = np.zeros(len(sequences), np.int64)
        for column in sequences.T:
            nodes = self.find(nodes, column)
        return nodes

    def failures(self) -> Ints:
        """The node of the longest proper suffix of every node's sequence (Aho and Corasick, 1975)."""
        found = np.zeros(self.levels[-1], np.int64)
        for first, end in zip(self.levels[1:], self.levels[2:], strict=False):  # depth 1 fails to the root
            nodes = np.arange(first, end)
            shorter = found[self.keys[nodes - 1] // self.width]
            while len(nodes):
                target = self.find(shorter, self.keys[nodes - 1] % self.width)
                found[nodes] = np.maximum(target, 0)
                open_ = (target < 0) & (shorter > 0)
                nodes, shorter = nodes[open_], found[shorter[open_]]
        return found


def plant(sequences: Sequence[Sequence[int]], width: int) -> tuple[Trie, Ints]:
    """The tree of `sequences`, none of them empty, and the node of each."""
    sizes = np.fromiter(map(len, sequences), np.int64, len(sequences))
    flat = np.fromiter((label for sequence in sequences for label in sequence), np.int64, int(sizes.sum()))
    starts = np.cumsum(sizes) - sizes
    nodes = np.zeros(len(sequences), np.int64)
    keys: list[Ints] = []
    levels = [1]
    for depth in range(int(sizes.max(initial=0))):
        longer = np.flatnonzero(sizes > depth)
        level, which = np.unique(nodes[longer] * width + flat[starts[longer] + depth], return_inverse=True)
        nodes[longer] = levels[-1] + which
        keys.append(level)
        levels.append(levels[-1] + len(level))
    return Trie(width, np.concatenate([np.zeros(0, np.int64), *keys]), tuple(levels)), nodes
