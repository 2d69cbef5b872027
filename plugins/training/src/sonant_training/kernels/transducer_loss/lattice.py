"""All paths through the lattice of a transducer, along its diagonals, forwards and backwards at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor


@frozen(eq=False)
class Lattice:
    """The arcs of a batch.

    `blank` `(K, B, T, U + 1)` are logarithms of the weights of the arcs from (t, u) to (t + `blank_steps`[k], u), `label`
    `(L, B, T, U + 1)` of those to (t + `label_steps`[l], u + 1). Those of arcs that lead beyond the end are not looked at.
    """

    blank: Tensor
    label: Tensor
    blank_steps: Sequence[int]
    label_steps: Sequence[int]
    lens: Tensor
    label_lens: Tensor


def likelihoods(lattice: Lattice) -> Tensor:
    """The logarithm of the weight of all paths, `(B,)`."""
    blank, label = _within(lattice)
    table = _scan(_before(blank, label, lattice), lattice)
    return _at_end(table, lattice)


def posteriors(lattice: Lattice) -> tuple[Tensor, Tensor, Tensor]:
    """The same, and the share of each arc in it: that of the paths through it, in the shapes of `blank` and `label`."""
    blank, label = _within(lattice)
    batch = blank.shape[1]
    table = _scan(torch.cat([_before(blank, label, lattice), _behind(blank, label, lattice)], dim=2), lattice)
    total = _at_end(table, lattice)
    alpha, beta = _upright(table, batch, lattice)
    start = alpha - total.masked_fill(total.isinf(), 0.0)[:, None, None]
    frames = blank.shape[2]
    moved = torch.stack([beta[:, step : step + frames] for step in lattice.blank_steps])
    written = torch.stack([beta[:, step : step + frames] for step in lattice.label_steps])
    written = torch.nn.functional.pad(written[..., 1:], (0, 1), value=-torch.inf)
    return total, (start + blank + moved).exp_(), (start + label + written).exp_()


def _within(lattice: Lattice) -> tuple[Tensor, Tensor]:
    """The weights, with those of arcs that cannot be taken removed."""
    _, _, frames, positions = lattice.blank.shape
    device = lattice.blank.device
    u, t = torch.arange(positions, device=device), torch.arange(frames, device=device)[:, None]
    lens, label_lens = lattice.lens[:, None, None], lattice.label_lens[:, None, None]
    moved = t + torch.tensor(lattice.blank_steps, device=device)[:, None, None, None]
    written = t + torch.tensor(lattice.label_steps, device=device)[:, None, None, None]
    can_move = (u <= label_lens) & ((moved < lens) | (moved == lens) & (u == label_lens))
    can_write = (u < label_lens) & (written < lens)
    return lattice.blank.masked_fill(~can_move, -torch.inf), lattice.label.masked_fill(~can_write, -torch.inf)


def _diagonals(lattice: Lattice) -> tuple[Tensor, Tensor]:
    """The frame `(N, U + 1)`, also outside of those there are, and the position `(U + 1,)` of each cell of each diagonal."""
    _, _, frames, positions = lattice.blank.shape
    u = torch.arange(positions, device=lattice.blank.device)
    return torch.arange(frames + positions, device=lattice.blank.device)[:, None] - u, u


def _before(blank: Tensor, label: Tensor, lattice: Lattice) -> Tensor:
    """The weights of the arcs that lead to each cell, by diagonals: `(N, K + L, B, U + 1)`."""
    t, u = _diagonals(lattice)
    found = [_pick(w, t - step, u) for w, step in zip(blank, lattice.blank_steps, strict=True)]
    found += [_pick(w, t - step, u - 1) for w, step in zip(label, lattice.label_steps, strict=True)]
    return torch.stack(found, dim=1)


def _behind(blank: Tensor, label: Tensor, lattice: Lattice) -> Tensor:
    """The weights of the arcs that lead from each cell, by diagonals from the end of each utterance: `(N, K + L, B, U + 1)`."""
    t, u = _diagonals(lattice)
    t, u = lattice.lens[:, None, None] - t, lattice.label_lens[:, None, None] - u
    return torch.stack([_pick(w, t, u) for w in (*blank, *label)], dim=1)


def _pick(weights: Tensor, t: Tensor, u: Tensor) -> Tensor:
    """From `(B, T, U + 1)` those at `t` and `u`, `(N, U + 1)` or `(B, N, U + 1)`, as `(N, B, U + 1)`; -inf if there is none."""
    batch, frames, positions = weights.shape
    outside = (t < 0) | (t >= frames) | (u < 0)
    index = torch.where(outside, frames * positions, t * positions + u)
    padded = torch.nn.functional.pad(weights.flatten(1), (0, 1), value=-torch.inf)
    picked = padded.gather(1, index.expand(batch, *index.shape[-2:]).flatten(1))
    return picked.unflatten(1, index.shape[-2:]).transpose(0, 1)


def _reach(lattice: Lattice) -> int:
    return max(*lattice.blank_steps, *lattice.label_steps) + 1


def _scan(arcs: Tensor, lattice: Lattice) -> Tensor:
    """Weights `(N, K + L, R, U + 1)` to the logarithm of what arrives at each cell, `(reach + N, R, 1 + U + 1)`: before the first
    diagonal and the first position there is nothing."""
    diagonals, _, rows, positions = arcs.shape
    reach = _reach(lattice)
    table = arcs.new_full((reach + diagonals, rows, positions + 1), -torch.inf)
    table[reach, :, 1] = 0.0
    if tuple(lattice.blank_steps) == (1,) and tuple(lattice.label_steps) == (0,):
        for n in range(1, diagonals):
            last = table[reach + n - 1]
            torch.logaddexp(last[:, 1:] + arcs[n, 0], last[:, :-1] + arcs[n, 1], out=table[reach + n, :, 1:])
        return table
    steps = [*lattice.blank_steps, *(step + 1 for step in lattice.label_steps)]
    # (row, shift, R, U + 1): with shift 0 the cells one position before
    windows = table.as_strided((reach + diagonals, 2, rows, positions), (table.stride(0), 1, positions + 1, 1))
    back = reach - torch.tensor(steps, device=arcs.device)
    shift = torch.tensor([1] * len(lattice.blank_steps) + [0] * len(lattice.label_steps), device=arcs.device)
    for n in range(1, diagonals):
        table[reach + n, :, 1:] = (windows[back + n, shift] + arcs[n]).logsumexp(0)
    return table


def _at_end(table: Tensor, lattice: Lattice) -> Tensor:
    rows = torch.arange(len(lattice.lens), device=table.device)
    found = table[_reach(lattice) + lattice.lens + lattice.label_lens, rows, lattice.label_lens + 1]
    return found.masked_fill(lattice.lens == 0, -torch.inf)


def _upright(table: Tensor, batch: int, lattice: Lattice) -> tuple[Tensor, Tensor]:
    """From diagonals to alpha `(B, T, U + 1)` and beta `(B, T + reach, U + 1)`."""
    _, _, frames, positions = lattice.blank.shape
    reach = _reach(lattice)
    b = torch.arange(batch, device=table.device)[:, None, None]
    t, u = torch.arange(frames + reach, device=table.device)[:, None], torch.arange(positions, device=table.device)
    alpha = table[reach + t[:frames] + u, b, u + 1]
    left, unwritten = lattice.lens[:, None, None] - t, lattice.label_lens[:, None, None] - u
    exists = (left >= 0) & (unwritten >= 0)
    beta = table[reach + torch.where(exists, left + unwritten, -1), batch + b, torch.where(exists, unwritten, -1) + 1]
    return alpha, beta
