"""Searching a long recording's frames some after others: the scores of all labels at all frames would take gigabytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from sonant.protocols import Hypothesis, Search

_BLOCK = 2048  # frames


def search_in_blocks(search: Search, head: Any, **arguments: Any) -> list[Hypothesis]:
    """What `search(head, **arguments)` finds in one recording. A search that keeps no state of streams reads it at once."""
    if arguments.keys() != {"enc", "lens"} or not (hasattr(search, "init_state") and hasattr(search, "step")):
        return search(head, **arguments)
    return [_joined(list(_found(search, head, arguments["enc"], int(arguments["lens"]))))]


def _found(search: Any, head: Any, enc: Tensor, length: int) -> Iterator[Hypothesis]:
    states = [search.init_state(head)]
    for first in range(0, max(1, length), _BLOCK):
        block = enc[:, first : min(first + _BLOCK, length)]
        lens = torch.tensor([block.shape[1]], device=block.device)  # not by `new_full`: bfloat16 has no number 257
        found, states = search.step(head, block, lens, states)
        yield found[0]


def _joined(pieces: Sequence[Hypothesis]) -> Hypothesis:
    """One behind the other: what has an entry for each label or frame is strung together, scores add up."""
    values: dict[str, Any] = {}
    for field in attrs.fields(Hypothesis):
        parts = [getattr(piece, field.name) for piece in pieces]
        if isinstance(parts[0], tuple):
            values[field.name] = tuple(value for part in parts for value in part)
    return attrs.evolve(pieces[0], score=sum(piece.score for piece in pieces), **values)
