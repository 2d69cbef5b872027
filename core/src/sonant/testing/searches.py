"""What a search promises that takes streams: a recording in pieces gives what it gives at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from sonant.protocols import Hypothesis, StreamingSearch
from sonant.testing import samples
from sonant.testing.check import Skipped, require
from sonant.testing.pairing import SPREADS, decoder_for, utterances
from sonant.testing.subject import Subject

_SIZES: Final = ((1,), (2, 0, 5), (3, 1), (16,))  # of the pieces, in turn
_ENOUGH: Final = 1e-3  # scores add up in another order


@torch.no_grad()
def streaming_equals_one_pass(subject: Subject) -> None:
    """Fed in pieces of any size, among streams at other positions, a recording gives what it gives at once."""
    search = subject.build()
    if not isinstance(search, StreamingSearch):
        raise Skipped("does not stream")
    decoder = decoder_for(subject)
    if decoder is None:
        raise Skipped("no installed decoder can be read by it")
    for spread in SPREADS:
        enc, lens = utterances(spread=spread)
        wanted = search(decoder, enc, lens)
        for sizes in _SIZES:
            for pieces, whole in zip(_fed(search, decoder, enc, lens, sizes), wanted, strict=True):
                _compare(pieces, whole, f"a recording in pieces of {', '.join(map(str, sizes))} frames")


def _fed(search: StreamingSearch, decoder: Any, enc: Tensor, lens: Tensor, sizes: Sequence[int]) -> list[list[Hypothesis]]:
    """What is found in each recording piece by piece. Each begins a turn after the one before it, and has other pieces."""
    rows: list[list[Hypothesis]] = [[] for _ in lens]
    states = [search.init_state(decoder) for _ in lens]
    places, ends = [0] * len(lens), lens.tolist()
    turn = 0
    while places != ends:
        open_ = [row for row, (place, end) in enumerate(zip(places, ends, strict=True)) if row <= turn and place < end]
        counts = [min(sizes[(turn + row) % len(sizes)], ends[row] - places[row]) for row in open_]
        piece, valid = _padded([enc[row, places[row] :][:count] for row, count in zip(open_, counts, strict=True)])
        before = [states[row] for row in open_]
        search.step(decoder, -piece, valid, before)  # what a state is used for leaves no trace in it
        found, after = search.step(decoder, piece, valid, before)
        for row, count, hypothesis, state in zip(open_, counts, found, after, strict=True):
            rows[row].append(hypothesis)
            states[row], places[row] = state, places[row] + count
        turn += 1
    return rows


def _padded(pieces: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """A batch of pieces `(T, D)`, with poison behind the shorter ones."""
    padded = torch.nn.utils.rnn.pad_sequence(list(pieces), batch_first=True, padding_value=samples.POISON)
    return padded, torch.tensor([len(piece) for piece in pieces])


def _compare(pieces: Sequence[Hypothesis], whole: Hypothesis, what: str) -> None:
    for name in ("tokens", "starts", "ends"):
        found = sum((getattr(piece, name) for piece in pieces), ())
        wanted = getattr(whole, name)
        require(found == wanted, f"{what} gives the {name} {found}, and at once {wanted}")
    score = sum(piece.score for piece in pieces)
    close = abs(score - whole.score) <= _ENOUGH * max(1.0, abs(whole.score))
    require(close, f"{what} has scores that add up to {score:.6g}, and at once {whole.score:.6g}")


CHECKS = (streaming_equals_one_pass,)
