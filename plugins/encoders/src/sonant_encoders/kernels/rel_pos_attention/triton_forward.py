"""The outputs of `rel_pos_attention` on a GPU, written in Triton. `triton.py` beside it starts these programs.

They work on tiles of scores, BLOCK queries `n` by SPAN keys `j`. Query n is frame i = known - queries + n, and its distance to
key j is row r = before - i + j of `p`: one further down for the next key, one further up for the next query. With `corner` the
row of the tile's first query and first key, element (a, b) needs row corner - a + b. So the tile needs BLOCK + SPAN - 1 rows of
`p` in a row, and SPAN at a time, element (a, b) is

    column (b - a) mod SPAN of   upper  = q p[corner : corner + SPAN]^T          where b >= a
                                 last   = q p[corner - SPAN : corner]^T          where SPAN > a - b > 0
                                 lowest = q p[corner - 2 SPAN : corner - SPAN]^T elsewhere, if BLOCK is 2 SPAN

That is a selection, the same for every tile, and then a rotation of each row. For the next keys `upper` is `last`, and `last` is
`lowest`: a step along the keys takes one product for the positions, and none of it is in vain. `lower` is what the next step will
need of the former ones.

What `u` adds to the scores is a number for each key, what `v_bias` adds one for each row of `p`: `add_up` computes them before.
Sums are float32 whatever the inputs are. Strides of rows are constants, which spares registers.
"""

# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

from sonant_encoders.kernels.rel_pos_attention.triton_parts import numbers, products, read, seen, valid, write


@triton.jit
def add_up(
    k,
    p,
    u,
    v_bias,
    by_key,
    by_place,
    k_b,
    k_t: tl.constexpr,
    k_h,
    p_m: tl.constexpr,
    p_h,
    batch,
    heads: tl.constexpr,
    known,
    positions,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The products of `u` with all keys and of `v_bias` with all rows of `p`, of a block of these at a time."""
    column = tl.arange(0, PADDED)
    program = tl.program_id(0)
    blocks = tl.cdiv(known, BLOCK)
    if program < blocks * batch * heads:
        h = (program // blocks % heads).to(tl.int64)
        b = (program // blocks // heads).to(tl.int64)
        index = program % blocks * BLOCK + tl.arange(0, BLOCK)
        x = read(k + b * k_b + h * k_h, index, 0, known, k_t, WIDTH, PADDED)
        bias = numbers(u + h * WIDTH, column, WIDTH, 0.0)
        found = tl.sum(x.to(tl.float32) * bias.to(tl.float32)[None, :], 1)
        tl.store(by_key + (b * heads + h) * known + index, found, mask=index < known)
    else:
        program -= blocks * batch * heads
        h = (program % heads).to(tl.int64)
        index = program // heads * BLOCK + tl.arange(0, BLOCK)
        x = read(p + h * p_h, index, 0, positions, p_m, WIDTH, PADDED)
        bias = numbers(v_bias + h * WIDTH, column, WIDTH, 0.0)
        found = tl.sum(x.to(tl.float32) * bias.to(tl.float32)[None, :], 1)
        tl.store(by_place + h * positions + index, found, mask=index < positions)


@triton.jit
def attend(
    q,
    k,
    v,
    p,
    by_key,
    by_place,
    rows,
    keys,
    out,
    norms,
    q_b,
    q_t: tl.constexpr,
    q_h,
    k_b,
    k_t: tl.constexpr,
    k_h,
    p_m: tl.constexpr,
    p_h,
    batch,
    heads: tl.constexpr,
    queries,
    known,
    before,
    positions,
    scale,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    SPAN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A block of queries of one head: the outputs, and the logarithms to base 2 of what the exponentials of the scores sum to.

    `scale` is that of the scores, times the logarithm of e to base 2.
    """
    blocks = tl.cdiv(queries, BLOCK)
    program = tl.program_id(0)
    start = program % blocks * BLOCK
    h = (program // blocks % heads).to(tl.int64)
    b = (program // blocks // heads).to(tl.int64)
    a = tl.arange(0, BLOCK)
    c = tl.arange(0, SPAN)
    n = start + a
    query = read(q + b * q_b + h * q_h, n, 0, queries, q_t, WIDTH, PADDED)
    k += b * k_b + h * k_h
    v += b * k_b + h * k_h
    p += h * p_h
    by_key += (b * heads + h) * known
    by_place += h * positions
    first, stop = valid(keys, b, batch, known)
    low, high = seen(rows, n, queries, first, stop)
    nearest = tl.min(tl.where(low < high, low, known))
    farthest = tl.max(tl.where(low < high, high, 0))
    r = before - (known - queries + start) + nearest - SPAN + c
    is_upper = a[:, None] + c[None, :] < SPAN
    is_last = a[:, None] + c[None, :] >= BLOCK
    lower = products(query, read(p, r, 0, positions, p_m, WIDTH, PADDED), PRECISION)
    lower += numbers(by_place, r, positions, 0.0)[None, :]
    if SPAN < BLOCK:
        last = lower
        lowest = products(query, read(p, r - SPAN, 0, positions, p_m, WIDTH, PADDED), PRECISION)
        lowest += numbers(by_place, r - SPAN, positions, 0.0)[None, :]
        lower = tl.where(is_last, lowest, lower)
    turn = (c[None, :] - a[:, None]) & (SPAN - 1)
    top = tl.full((BLOCK,), -1e30, tl.float32)  # finite, so that no difference is undefined
    total = tl.zeros((BLOCK,), tl.float32)
    found = tl.zeros((BLOCK, PADDED), tl.float32)
    for start_j in range(nearest, farthest, SPAN):
        j = start_j + c
        r += SPAN
        upper = products(query, read(p, r, 0, positions, p_m, WIDTH, PADDED), PRECISION)
        upper += numbers(by_place, r, positions, 0.0)[None, :]
        score = tl.gather(tl.where(is_upper, upper, lower), turn, 1)
        if SPAN < BLOCK:
            lower = tl.where(is_last, last, upper)
            last = upper
        else:
            lower = upper
        score += products(query, read(k, j, first, stop, k_t, WIDTH, PADDED), PRECISION)
        score += numbers(by_key, j, stop, 0.0)[None, :]
        sees = (j[None, :] >= low[:, None]) & (j[None, :] < high[:, None])
        score = tl.where(sees, score * scale, -1e30)
        higher = tl.maximum(top, tl.max(score, 1))
        weight = tl.where(sees, tl.exp2(score - higher[:, None]), 0.0)
        shrink = tl.exp2(top - higher)
        top = higher
        total = total * shrink + tl.sum(weight, 1)
        value = read(v, j, first, stop, k_t, WIDTH, PADDED)
        found = tl.dot(weight.to(value.dtype), value, found * shrink[:, None], input_precision=PRECISION)
    found /= tl.where(total > 0, total, 1.0)[:, None]  # zeros where nothing is seen
    write(out + (b * queries * heads + h) * WIDTH, n, queries, heads * WIDTH, found, WIDTH, PADDED)
    norm = tl.where(total > 0, top + tl.log2(tl.where(total > 0, total, 1.0)), float("inf"))
    tl.store(norms + (b * heads + h) * queries + n, norm, mask=n < queries)
