"""What runs on the GPU for the transducer loss, written in Triton. `triton.py` beside it starts these and says what they do."""

# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _both(a, b):
    """The logarithm of the sum of two exponentials, also of none."""
    high = tl.maximum(a, b)
    base = tl.where(high == -float("inf"), 0.0, high)
    return base + tl.log(tl.exp(a - base) + tl.exp(b - base))


@triton.jit
def normalize(
    logits,
    labels,
    lens,
    label_lens,
    norms,
    blanks,
    label_scores,
    spans,
    sigma,
    frames,
    positions,
    outputs,
    classes,
    DURATIONS: tl.constexpr,
    WIDTH: tl.constexpr,
    SPANS: tl.constexpr,
):
    """One cell (t, u) of the lattice: the logarithms of the softmax's sum and of the probabilities of blank, label, durations."""
    cell = tl.program_id(0).to(tl.int64)
    u = cell % positions
    t = (cell // positions) % frames
    b = cell // positions // frames
    size = tl.load(label_lens + b)
    if (t < tl.load(lens + b)) & (u <= size):
        row = logits + cell * outputs
        dtype = norms.dtype.element_ty
        high = tl.full((WIDTH,), -float("inf"), dtype)
        total = tl.zeros((WIDTH,), dtype)
        for start in range(0, classes, WIDTH):
            v = start + tl.arange(0, WIDTH)
            x = tl.load(row + v, mask=v < classes, other=-float("inf")).to(dtype)
            higher = tl.maximum(high, x)
            base = tl.where(higher == -float("inf"), 0.0, higher)
            total = total * tl.exp(high - base) + tl.exp(x - base)
            high = higher
        most = tl.max(high, axis=0)
        norm = most + tl.log(tl.sum(total * tl.exp(high - most), axis=0))
        tl.store(norms + cell, norm)
        tl.store(blanks + cell, tl.load(row + classes - 1).to(dtype) - norm - sigma)
        if u < size:
            label = tl.load(labels + b * (positions - 1) + u)
            tl.store(label_scores + cell, tl.load(row + label).to(dtype) - norm - sigma)
        if DURATIONS > 0:
            k = tl.arange(0, SPANS)
            x = tl.load(row + classes + k, mask=k < DURATIONS, other=-float("inf")).to(dtype)
            x -= tl.max(x, axis=0)
            x -= tl.log(tl.sum(tl.exp(x), axis=0))
            tl.store(spans + cell * DURATIONS + k, x, mask=k < DURATIONS)


@triton.jit
def sum_paths(
    blanks,
    label_scores,
    spans,
    steps,
    lens,
    label_lens,
    alphas,
    betas,
    frames,
    positions,
    STEPS: tl.constexpr,
    DURATIONS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """What all paths to each cell of an utterance weigh together, in a second program what those from it do; by diagonals."""
    b = tl.program_id(0).to(tl.int64)
    length = tl.load(lens + b)
    size = tl.load(label_lens + b)
    u = tl.arange(0, WIDTH).to(tl.int64)
    arcs = b * frames * positions
    nodes = b * (frames + 1) * positions
    stop = length + (u == size).to(tl.int64)  # the end itself is behind the last label alone
    if tl.program_id(1) == 0:
        for n in range(length + size + 1):
            t = n - u
            exists = (u <= size) & (t >= 0) & (t < stop)
            found = tl.where((t == 0) & (u == 0), 0.0, -float("inf")).to(alphas.dtype.element_ty)
            for k in tl.static_range(STEPS):
                step = tl.load(steps + k)
                come = exists & (t - step < t) & (t >= step)
                at = (t - step) * positions + u
                value = tl.load(alphas + nodes + at, mask=come, other=-float("inf"))
                value += tl.load(blanks + arcs + at, mask=come, other=0.0)
                if DURATIONS > 0:
                    value += tl.load(spans + (arcs + at) * DURATIONS + k, mask=come, other=0.0)
                found = _both(found, value)
                step = tl.load(steps + STEPS + k)
                come = exists & (u > 0) & (t < length) & (t >= step)
                at = (t - step) * positions + u - 1
                value = tl.load(alphas + nodes + at, mask=come, other=-float("inf"))
                value += tl.load(label_scores + arcs + at, mask=come, other=0.0)
                if DURATIONS > 0:
                    value += tl.load(spans + (arcs + at) * DURATIONS + k, mask=come, other=0.0)
                found = _both(found, value)
            tl.store(alphas + nodes + t * positions + u, found, mask=exists)
            tl.debug_barrier()  # the next diagonal reads what other threads have written
    else:
        for back in range(length + size + 1):
            t = length + size - back - u
            exists = (u <= size) & (t >= 0) & (t < stop)
            found = tl.where((t == length) & (u == size), 0.0, -float("inf")).to(betas.dtype.element_ty)
            at = t * positions + u
            for k in tl.static_range(STEPS):
                step = tl.load(steps + k)
                go = exists & (t + step > t) & (t + step < stop)
                value = tl.load(betas + nodes + at + step * positions, mask=go, other=-float("inf"))
                value += tl.load(blanks + arcs + at, mask=go, other=0.0)
                if DURATIONS > 0:
                    value += tl.load(spans + (arcs + at) * DURATIONS + k, mask=go, other=0.0)
                found = _both(found, value)
                step = tl.load(steps + STEPS + k)
                go = exists & (u < size) & (t + step < length)
                value = tl.load(betas + nodes + at + step * positions + 1, mask=go, other=-float("inf"))
                value += tl.load(label_scores + arcs + at, mask=go, other=0.0)
                if DURATIONS > 0:
                    value += tl.load(spans + (arcs + at) * DURATIONS + k, mask=go, other=0.0)
                found = _both(found, value)
            tl.store(betas + nodes + at, found, mask=exists)
            tl.debug_barrier()


@triton.jit
def write_gradients(
    grads,
    logits,
    labels,
    lens,
    label_lens,
    norms,
    blanks,
    label_scores,
    spans,
    steps,
    alphas,
    betas,
    totals,
    grad_losses,
    emphasis,
    frames,
    positions,
    outputs,
    classes,
    STEPS: tl.constexpr,
    DURATIONS: tl.constexpr,
    WIDTH: tl.constexpr,
    SPANS: tl.constexpr,
):
    """One cell: of each logit its probability times the share of all paths that come by, without those that take it."""
    cell = tl.program_id(0).to(tl.int64)
    u = cell % positions
    t = (cell // positions) % frames
    b = cell // positions // frames
    length = tl.load(lens + b)
    size = tl.load(label_lens + b)
    dtype = norms.dtype.element_ty
    total = tl.load(totals + b)
    k = tl.arange(0, SPANS)
    if (t < length) & (u <= size) & (total > -float("inf")):
        node = (b * (frames + 1) + t) * positions + u
        start = tl.load(alphas + node) - total
        moves = tl.load(steps + k, mask=k < STEPS, other=0)
        writes = tl.load(steps + STEPS + k, mask=k < STEPS, other=0)
        go = (k < STEPS) & (moves > 0) & (t + moves < length + (u == size).to(tl.int64))
        say = (k < STEPS) & (t + writes < tl.where(u < size, length, 0))
        span = tl.load(spans + cell * DURATIONS + k, mask=k < DURATIONS, other=0.0)
        blank = tl.load(betas + node + moves * positions, mask=go, other=-float("inf"))
        blank = tl.exp(blank + start + span + tl.load(blanks + cell))
        label = tl.load(betas + node + writes * positions + 1, mask=say, other=-float("inf"))
        label = tl.exp(label + start + span + tl.load(label_scores + cell, mask=u < size, other=0.0))
        scale = tl.load(grad_losses + b)
        if DURATIONS > 0:
            taken = (blank + label) * scale
            of_spans = tl.exp(span) * tl.sum(taken, axis=0) - taken
            tl.store(grads + cell * outputs + classes + k, of_spans, mask=k < DURATIONS)
        of_blank = tl.sum(blank, axis=0) * scale
        of_label = tl.sum(label, axis=0) * scale * emphasis
        target = tl.load(labels + b * (positions - 1) + u, mask=u < size, other=-1)
        norm = tl.load(norms + cell)
        for first in range(0, classes, WIDTH):
            v = first + tl.arange(0, WIDTH)
            x = tl.load(logits + cell * outputs + v, mask=v < classes, other=-float("inf")).to(dtype)
            gradient = tl.exp(x - norm) * (of_blank + of_label)
            gradient -= tl.where(v == classes - 1, of_blank, 0.0) + tl.where(v == target, of_label, 0.0)
            tl.store(grads + cell * outputs + v, gradient, mask=v < classes)
        for first in range(classes + DURATIONS, outputs, WIDTH):
            v = first + tl.arange(0, WIDTH)
            tl.store(grads + cell * outputs + v, tl.zeros((WIDTH,), dtype), mask=v < outputs)
    else:
        for first in range(0, outputs, WIDTH):
            v = first + tl.arange(0, WIDTH)
            tl.store(grads + cell * outputs + v, tl.zeros((WIDTH,), dtype), mask=v < outputs)
