"""The gradients of `rel_pos_attention` on a GPU, written in Triton. `triton.py` beside it starts these programs.

Tiles as in `triton_forward.py`, computed anew from the norms kept. Each program owns what it writes, and none adds to what
another wrote: a gradient comes out the same each time.
"""

# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

from sonant_encoders.kernels.rel_pos_attention.triton_parts import numbers, products, read, seen, valid, write


@triton.jit
def of_queries(
    q,
    k,
    v,
    p,
    by_key,
    by_place,
    rows,
    keys,
    norms,
    out,
    of_out,
    shares,
    of_q,
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
    unscaled,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    SPAN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradient of a block of queries; and for the other programs `shares`, each query's outputs times their gradients.

    A step gives half the gradient of `upper` and half that of `lower`. The next step's `lower` is this one's `upper` and gives
    the other half, so here too a step takes one product for the positions.
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
    line = (b * heads + h) * queries
    space = (b * queries * heads + h) * WIDTH
    given = read(of_out + space, n, 0, queries, heads * WIDTH, WIDTH, PADDED)
    output = read(out + space, n, 0, queries, heads * WIDTH, WIDTH, PADDED)
    share = tl.sum(given.to(tl.float32) * output.to(tl.float32), 1)
    tl.store(shares + line + n, share, mask=n < queries)
    norm = numbers(norms + line, n, queries, float("inf"))
    first, stop = valid(keys, b, batch, known)
    low, high = seen(rows, n, queries, first, stop)
    nearest = tl.min(tl.where(low < high, low, known))
    farthest = tl.max(tl.where(low < high, high, 0))
    r = before - (known - queries + start) + nearest - SPAN + c
    is_upper = a[:, None] + c[None, :] < SPAN
    is_last = a[:, None] + c[None, :] >= BLOCK
    turn = (c[None, :] - a[:, None]) & (SPAN - 1)
    back = (c[None, :] + a[:, None]) & (SPAN - 1)
    lower = products(query, read(p, r, 0, positions, p_m, WIDTH, PADDED), PRECISION)
    lower += numbers(by_place, r, positions, 0.0)[None, :]
    if SPAN < BLOCK:
        former = lower
        lowest = products(query, read(p, r - SPAN, 0, positions, p_m, WIDTH, PADDED), PRECISION)
        lowest += numbers(by_place, r - SPAN, positions, 0.0)[None, :]
        lower = tl.where(is_last, lowest, lower)
    of_lower = tl.zeros((BLOCK, SPAN), query.dtype)
    of_former = of_lower
    found = tl.zeros((BLOCK, PADDED), tl.float32)
    for start_j in range(nearest, farthest, SPAN):
        j = start_j + c
        r += SPAN
        upper = products(query, read(p, r, 0, positions, p_m, WIDTH, PADDED), PRECISION)
        upper += numbers(by_place, r, positions, 0.0)[None, :]
        score = tl.gather(tl.where(is_upper, upper, lower), turn, 1)
        if SPAN < BLOCK:
            lower = tl.where(is_last, former, upper)
            former = upper
        else:
            lower = upper
        key = read(k, j, first, stop, k_t, WIDTH, PADDED)
        score += products(query, key, PRECISION) + numbers(by_key, j, stop, 0.0)[None, :]
        sees = (j[None, :] >= low[:, None]) & (j[None, :] < high[:, None])
        weight = tl.where(sees, tl.exp2(score * scale - norm[:, None]), 0.0)
        of_weight = products(given, read(v, j, first, stop, k_t, WIDTH, PADDED), PRECISION)
        of_score = (weight * (of_weight - share[:, None])).to(query.dtype)
        found = tl.dot(of_score, key, found, input_precision=PRECISION)
        of_upper = tl.gather(of_score, back, 1)
        of_last = tl.where(is_last, of_upper, of_lower)
        found = tl.dot(of_last, read(p, r - BLOCK, 0, positions, p_m, WIDTH, PADDED), found, input_precision=PRECISION)
        if SPAN < BLOCK:
            of_lower = tl.where(is_upper, of_former, of_upper)
            of_former = of_upper
        else:
            of_lower = of_upper
    r += SPAN
    of_last = tl.where(is_last, tl.zeros_like(of_lower), of_lower)
    found = tl.dot(of_last, read(p, r - BLOCK, 0, positions, p_m, WIDTH, PADDED), found, input_precision=PRECISION)
    if SPAN < BLOCK:
        of_last = tl.where(is_upper, of_former, tl.zeros_like(of_lower))
        found = tl.dot(of_last, read(p, r - SPAN, 0, positions, p_m, WIDTH, PADDED), found, input_precision=PRECISION)
    write(of_q + space, n, queries, heads * WIDTH, found * unscaled, WIDTH, PADDED)


@triton.jit
def of_keys(
    q,
    k,
    v,
    p,
    u,
    by_key,
    by_place,
    rows,
    keys,
    norms,
    of_out,
    shares,
    of_k,
    of_v,
    of_u,
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
    unscaled,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    SPAN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradients of a block of keys and values, and the share that their scores have in the gradient of `u`."""
    blocks = tl.cdiv(known, BLOCK)
    program = tl.program_id(0)
    start = program % blocks * BLOCK
    h = (program // blocks % heads).to(tl.int64)
    b = (program // blocks // heads).to(tl.int64)
    a = tl.arange(0, BLOCK)
    column = tl.arange(0, PADDED)
    c = tl.arange(0, SPAN)
    j = start + a
    first, stop = valid(keys, b, batch, known)
    key = read(k + b * k_b + h * k_h, j, first, stop, k_t, WIDTH, PADDED)
    value = read(v + b * k_b + h * k_h, j, first, stop, k_t, WIDTH, PADDED)
    q += b * q_b + h * q_h
    p += h * p_h
    by_place += h * positions
    line = (b * heads + h) * queries
    of_out += (b * queries * heads + h) * WIDTH
    by_u = numbers(by_key + (b * heads + h) * known, j, stop, 0.0)
    earlier = known - queries
    nearest = tl.maximum(start - (positions - 1 - before) - earlier, 0)
    farthest = tl.minimum(start + BLOCK + before - earlier, queries)
    farthest = tl.where((start < stop) & (start + BLOCK > first), farthest, 0)
    is_upper = a[:, None] + c[None, :] < BLOCK
    turn = (a[:, None] - c[None, :]) & (BLOCK - 1)
    found_k = tl.zeros((BLOCK, PADDED), tl.float32)
    found_v = tl.zeros((BLOCK, PADDED), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for start_n in range(nearest, farthest, SPAN):
        n = start_n + c
        low, high = seen(rows, n, queries, first, stop)
        query = read(q, n, 0, queries, q_t, WIDTH, PADDED)
        r = before - (earlier + start_n) + start + a
        upper = products(read(p, r, 0, positions, p_m, WIDTH, PADDED), query, PRECISION)
        upper += numbers(by_place, r, positions, 0.0)[:, None]
        lower = products(read(p, r - BLOCK, 0, positions, p_m, WIDTH, PADDED), query, PRECISION)
        lower += numbers(by_place, r - BLOCK, positions, 0.0)[:, None]
        score = tl.gather(tl.where(is_upper, upper, lower), turn, 0)
        score += products(key, query, PRECISION) + by_u[:, None]
        norm = numbers(norms + line, n, queries, float("inf"))
        sees = (j[:, None] >= low[None, :]) & (j[:, None] < high[None, :])
        weight = tl.where(sees, tl.exp2(score * scale - norm[None, :]), 0.0)
        given = read(of_out, n, 0, queries, heads * WIDTH, WIDTH, PADDED)
        found_v = tl.dot(weight.to(given.dtype), given, found_v, input_precision=PRECISION)
        share = numbers(shares + line, n, queries, 0.0)
        of_score = weight * (products(value, given, PRECISION) - share[None, :])
        total += tl.sum(of_score, 1)
        found_k = tl.dot(of_score.to(query.dtype), query, found_k, input_precision=PRECISION)
    bias = numbers(u + h * WIDTH, column, WIDTH, 0.0).to(tl.float32)
    found_k += total[:, None] * bias[None, :]
    space = (b * known * heads + h) * WIDTH
    write(of_k + space, j, known, heads * WIDTH, found_k * unscaled, WIDTH, PADDED)
    write(of_v + space, j, known, heads * WIDTH, found_v, WIDTH, PADDED)
    sums = tl.sum(total[:, None] * key.to(tl.float32), 0) * unscaled
    tl.store(of_u + ((b * blocks + program % blocks) * heads + h) * WIDTH + column, sums, mask=column < WIDTH)


@triton.jit
def of_positions(
    q,
    k,
    v,
    p,
    v_bias,
    by_key,
    by_place,
    rows,
    keys,
    norms,
    of_out,
    shares,
    of_p,
    of_v_bias,
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
    parts,
    scale,
    unscaled,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    SPAN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradient of a block of rows of `p` from every `parts`-th recording, and the share of their scores in `v_bias`'s.

    A tile is queries by rows of `p`, and is kept turned: its column x has for query a the row (x - a) mod BLOCK of the block. The
    keys are those of two blocks in a row, key x of the first where x >= a and of the second elsewhere.
    """
    blocks = tl.cdiv(positions, BLOCK)
    program = tl.program_id(0)
    start = program % blocks * BLOCK
    h = (program // blocks % heads).to(tl.int64)
    part = program // blocks // heads
    a = tl.arange(0, BLOCK)
    c = tl.arange(0, SPAN)
    column = tl.arange(0, PADDED)
    place = read(p + h * p_h, start + a, 0, positions, p_m, WIDTH, PADDED)
    by_bias = numbers(by_place + h * positions, start + a, positions, 0.0)
    gap = known - queries - before  # query n and row r meet at key n + r + gap
    is_first = a[:, None] >= c[None, :]
    turn = (a[:, None] - c[None, :]) & (BLOCK - 1)
    back = (a[:, None] + c[None, :]) & (BLOCK - 1)
    found = tl.zeros((BLOCK, PADDED), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for recording in range(part, batch, parts):
        b = tl.zeros((), tl.int64) + recording
        first, stop = valid(keys, b, batch, known)
        of_q = q + b * q_b + h * q_h
        of_k = k + b * k_b + h * k_h
        of_v = v + b * k_b + h * k_h
        by_u = by_key + (b * heads + h) * known
        line = (b * heads + h) * queries
        answers = of_out + (b * queries * heads + h) * WIDTH
        nearest = tl.maximum(first - gap - (start + BLOCK - 1), 0)
        farthest = tl.minimum(stop - gap - start, queries)
        for start_n in range(nearest, farthest, SPAN):
            n = start_n + c
            j = start_n + start + gap + a
            low, high = seen(rows, n, queries, first, stop)
            query = read(of_q, n, 0, queries, q_t, WIDTH, PADDED)
            one = products(read(of_k, j, first, stop, k_t, WIDTH, PADDED), query, PRECISION)
            one += numbers(by_u, j, stop, 0.0)[:, None]
            other = products(read(of_k, j + BLOCK, first, stop, k_t, WIDTH, PADDED), query, PRECISION)
            other += numbers(by_u, j + BLOCK, stop, 0.0)[:, None]
            by_distance = products(place, query, PRECISION) + by_bias[:, None]
            score = tl.gather(by_distance, turn, 0) + tl.where(is_first, one, other)
            at = tl.where(is_first, j[:, None], j[:, None] + BLOCK)
            sees = (at >= low[None, :]) & (at < high[None, :])
            norm = numbers(norms + line, n, queries, float("inf"))
            weight = tl.where(sees, tl.exp2(score * scale - norm[None, :]), 0.0)
            given = read(answers, n, 0, queries, heads * WIDTH, WIDTH, PADDED)
            one = products(read(of_v, j, first, stop, k_t, WIDTH, PADDED), given, PRECISION)
            other = products(read(of_v, j + BLOCK, first, stop, k_t, WIDTH, PADDED), given, PRECISION)
            share = numbers(shares + line, n, queries, 0.0)
            of_score = weight * (tl.where(is_first, one, other) - share[None, :])
            of_score = tl.gather(of_score.to(query.dtype), back, 0)
            total += tl.sum(of_score.to(tl.float32), 1)
            found = tl.dot(of_score, query, found, input_precision=PRECISION)
    bias = numbers(v_bias + h * WIDTH, column, WIDTH, 0.0).to(tl.float32)
    found += total[:, None] * bias[None, :]
    space = (part * positions * heads + h) * WIDTH
    write(of_p + space, start + a, positions, heads * WIDTH, found * unscaled, WIDTH, PADDED)
    sums = tl.sum(total[:, None] * place.to(tl.float32), 0) * unscaled
    tl.store(of_v_bias + ((part * blocks + program % blocks) * heads + h) * WIDTH + column, sums, mask=column < WIDTH)
