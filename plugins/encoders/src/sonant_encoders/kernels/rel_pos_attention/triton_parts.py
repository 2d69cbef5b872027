"""What the Triton programs of `rel_pos_attention` share: rows of a matrix, products of them, and who sees whom."""

# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

CAN_GATHER = hasattr(tl, "gather")
"""Whether this Triton can take elements of a row by number, as early ones cannot."""


@triton.jit
def read(pointer, index, first, stop, stride, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Rows `index` of a matrix `(…, WIDTH)`, zeros outside `[first, stop)` and right of WIDTH."""
    column = tl.arange(0, PADDED)
    there = ((index >= first) & (index < stop))[:, None]
    if PADDED != WIDTH:
        there = there & (column < WIDTH)[None, :]
    return tl.load(pointer + index[:, None] * stride + column[None, :], mask=there, other=0.0)


@triton.jit
def write(pointer, index, stop, stride, value, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Rows `index` of a matrix `(stop, WIDTH)`, those that exist."""
    column = tl.arange(0, PADDED)
    there = (index < stop)[:, None] & (column < WIDTH)[None, :]
    tl.store(pointer + index[:, None] * stride + column[None, :], value.to(pointer.dtype.element_ty), mask=there)


@triton.jit
def numbers(pointer, index, stop, other):
    """Elements `index` of a vector `(stop,)`, `other` where there are none."""
    return tl.load(pointer + index, mask=(index >= 0) & (index < stop), other=other)


@triton.jit
def products(x, y, PRECISION: tl.constexpr):
    """Of each row of one with each row of the other."""
    return tl.dot(x, tl.trans(y), input_precision=PRECISION)


@triton.jit
def valid(keys, b, batch, known):
    """The valid keys of recording `b`, [first, stop)."""
    first = tl.zeros((), tl.int32)
    stop = first + known
    if keys is not None:
        first = tl.minimum(tl.maximum(tl.load(keys + b), 0), known).to(tl.int32)
        stop = tl.minimum(tl.maximum(tl.load(keys + batch + b), 0), known).to(tl.int32)
    return first, stop


@triton.jit
def seen(rows, n, queries, first, stop):
    """For each query the keys it sees, [low, high), of the valid ones; none for a query that does not exist."""
    there = (n >= 0) & (n < queries)
    low = tl.zeros_like(n) + first
    high = tl.where(there, stop, 0)
    if rows is not None:
        low = tl.maximum(low, tl.minimum(tl.load(rows + n, mask=there, other=0), stop).to(tl.int32))
        high = tl.minimum(high, tl.maximum(tl.load(rows + queries + n, mask=there, other=0), 0).to(tl.int32))
    return low, high
