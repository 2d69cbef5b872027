"""What everything that streams promises: pieces of any size, in any company, give what the whole gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sonant.testing import compare, samples
from sonant.testing.check import Skipped, require

Rounds = Sequence[Mapping[int, int]]
"""How much each of some streams is fed, round by round; a stream ends with the last round that it takes part in."""


def equal_offline(built: Any, values: Sequence[Tensor], sizes: Sequence[int], unit: int) -> None:
    """Hold a component to its promises on `values` `(T, …)`, one each for as many streams.

    Args:
        built: a `StreamingPreprocessor` or `StreamingEncoder`.
        values: the inputs, of different lengths, the first the longest.
        sizes: of the pieces that the first is fed in.
        unit: about how much input gives a frame.

    Raises:
        Skipped: it does not stream.
    """
    if not getattr(built, "streams", False):
        raise Skipped("does not stream")
    whole = [built(row[None], torch.tensor([len(row)])) for row in values]
    wanted = [rows[0, : int(count)] for rows, count in whole]
    for size in sizes:
        _alone(built, values[0], wanted[0], size)
    _alone(built, values[0][:0], _offline(built, values[0][:0]), 1)
    _together(built, values, wanted, unit)
    _needs(built, values[0], built.chunk() if hasattr(built, "chunk") else None)


def _offline(built: Any, row: Tensor) -> Tensor:
    rows, count = built(row[None], torch.tensor([len(row)]))
    return rows[0, : int(count[0])]


def _alone(built: Any, row: Tensor, wanted: Tensor, size: int) -> None:
    """Its last piece full, and empty."""
    for flush in (False, True):
        rounds = [{0: min(size, len(row) - start)} for start in range(0, len(row), size)] + [{0: 0}] * (flush or not len(row))
        (found,) = _fed(built, [row], rounds)
        what = f"{len(row)} of the input streamed in pieces of {size}" + (" and an empty last one" if flush else "")
        require(len(found) == len(wanted), f"{what} give {len(found)} frames, and as a whole {len(wanted)}")
        compare.close(found, wanted, f"{what} give other frames than as a whole")


def _together(built: Any, values: Sequence[Tensor], wanted: Sequence[Tensor], unit: int) -> None:
    """Each stream begins a round after the one before, takes pieces of its own size, and pauses now and then."""
    left, rounds, turn = [len(row) for row in values], [], 0
    while any(left):
        sizes = {}
        for n in range(min(turn + 1, len(values))):
            if left[n] and (turn + n) % 4 != 3:
                sizes[n] = min(left[n], (n + 1) * unit + 3 * n * (turn % 3))
                left[n] -= sizes[n]
        rounds.append(sizes)
        turn += 1
    for n, (found, alone) in enumerate(zip(_fed(built, values, rounds), wanted, strict=True)):
        what = f"stream {n + 1} of {len(values)} that begin and end at different times and share batches"
        require(len(found) == len(alone), f"{what} gives {len(found)} frames, and its recording as a whole {len(alone)}")
        compare.close(found, alone, f"{what} gives other frames than its recording as a whole")


def _needs(built: Any, row: Tensor, chunk: int | None) -> None:
    """One less than it says it needs gives nothing, and that one then gives something; from then on it takes a chunk."""
    state, at = built.init_state(), 0
    while True:
        more = built.needs(state)
        require(type(more) is int and more > 0, f"needs says {more!r}, not a whole number of at least 1")
        if at + more > len(row):
            return
        for size in (more // 2, more - more // 2 - 1, 1):
            said = built.needs(state)
            _, count, (state,) = built.step(row[None, at : at + size], torch.tensor([size]), [state], last=[False])
            right = (size >= said) == (int(count[0]) > 0)
            require(right, f"needs says {said} more give a frame, and {size} more give {int(count[0])}")
            at += size
        then = built.needs(state)
        require(chunk is None or then == chunk, f"it needs {then} more from one frame to the next, and chunk says {chunk}")


def _fed(built: Any, values: Sequence[Tensor], rounds: Rounds) -> list[Tensor]:
    """What comes out for each stream, with poison behind every piece that is shorter than others of its batch."""
    states = [built.init_state() for _ in values]
    at = [0] * len(values)
    found: list[list[Tensor]] = [[] for _ in values]
    final = {n: turn for turn, sizes in enumerate(rounds) for n in sizes}
    for turn, sizes in enumerate(rounds):
        if not sizes:
            continue
        pieces = [values[n][at[n] : at[n] + size] for n, size in sizes.items()]
        lens = torch.tensor([len(piece) for piece in pieces])
        batch = samples.poisoned(torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True, padding_value=1.0), lens)
        own, last = [states[n] for n in sizes], [final[n] == turn for n in sizes]
        out, counts, following = built.step(batch, lens, own, last=last)
        compare.lengths(counts, len(sizes), out.shape[1])
        if turn == len(rounds) // 2:
            again, _, _ = built.step(batch, lens, own, last=last)
            compare.close(again, out, "a state that has been used once gives something else the second time: it was written into")
        for n, rows, count, state in zip(sizes, out, counts.tolist(), following, strict=True):
            found[n].append(rows[:count])
            states[n], at[n] = state, at[n] + sizes[n]
    return [torch.cat(pieces) for pieces in found]
