"""`rel_pos_attention` on a GPU: no scores in memory, neither by key nor by distance, in either direction.

`triton_forward.py` and `triton_backward.py` hold the programs. Beside outputs and gradients there are only some numbers for each
query, key and position, and sums over blocks of the gradients of `p` and the biases. Work grows with the length times the reach.
"""

from __future__ import annotations

import contextlib
import math
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sonant_encoders.kernels.rel_pos_attention import triton_backward, triton_forward
from sonant_encoders.kernels.rel_pos_attention.tiles import Tile, tile
from sonant_encoders.kernels.rel_pos_attention.triton_parts import CAN_GATHER

_WIDEST: Final = 128  # head
_FARTHEST: Final = 2**31 - 1  # element of a recording
_PARTS: Final = 512  # programs for the gradient of `p`, if there are recordings enough: a sum for each of a few parts of them


def refuses(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    p: Tensor,
    u: Tensor,
    v_bias: Tensor,
    *,
    rows: Tensor | None = None,
    keys: Tensor | None = None,
    reach: tuple[int, int] | None = None,
    extra: tuple[Tensor, Tensor] | None = None,
) -> str | None:
    """Why it does not take these inputs, or None if it does."""
    if torch.compiler.is_compiling():
        return "it is not compiled into graphs"
    if extra is not None:
        return "it has no keys out of order (global tokens)"
    if _dtype(q, k, v, p) not in (torch.float32, torch.bfloat16, torch.float16):
        return f"it computes float32, bfloat16 and float16, not {_dtype(q, k, v, p)}"
    if q.shape[-1] > _WIDEST:
        return f"its heads are at most {_WIDEST} wide, not {q.shape[-1]}"
    if min(q.numel(), k.numel(), p.numel()) == 0:
        return "there is nothing to attend to"
    if max(_extent(one) for one in (q, k, v, p)) > _FARTHEST:
        return "a recording has more than 2^31 elements"
    return _lacks(q.device)


def rel_pos_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    p: Tensor,
    u: Tensor,
    v_bias: Tensor,
    *,
    rows: Tensor | None = None,
    keys: Tensor | None = None,
    reach: tuple[int, int] | None = None,
    extra: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """See the package's docstring, and for `extra` and other inputs that it does not take `refuses`."""
    assert extra is None
    dtype = _dtype(q, k, v, p)
    q, k, v, p = (_by_rows(one.to(dtype)) for one in (q, k, v, p))
    if k.stride() != v.stride():
        k, v = k.contiguous(), v.contiguous()
    rows, keys = (None if one is None else one.contiguous() for one in (rows, keys))
    before = k.shape[1] - 1 if reach is None else reach[0]
    out: Tensor = _Attention.apply(q, k, v, p, u.contiguous(), v_bias.contiguous(), rows, keys, before)  # type: ignore[no-untyped-call]
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        p: Tensor,
        u: Tensor,
        v_bias: Tensor,
        rows: Tensor | None,
        keys: Tensor | None,
        before: int,
    ) -> Tensor:
        batch, queries, heads, width = q.shape
        known, positions = k.shape[1], p.shape[0]
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        by_key = torch.empty(batch, heads, known, dtype=torch.float32, device=q.device)
        by_place = torch.empty(heads, positions, dtype=torch.float32, device=q.device)
        norms = torch.empty(batch, heads, queries, dtype=torch.float32, device=q.device)
        sizes = *k.stride()[:3], *p.stride()[:2], batch, heads
        widths = {"WIDTH": width, "PADDED": _padded(width)}
        block = 64
        with _on(q.device):
            grid = (-(-known // block) * batch * heads + -(-positions // block) * heads,)
            triton_forward.add_up[grid](k, p, u, v_bias, by_key, by_place, *sizes, known, positions, **widths, BLOCK=block)
            cut = _cut("attend", q)
            triton_forward.attend[(-(-queries // cut["BLOCK"]) * batch * heads,)](
                q, k, v, p, by_key, by_place, rows, keys, out, norms, *_sizes(q, k, p, before), _scale(width), **widths, **cut
            )
        ctx.save_for_backward(q, k, v, p, u, v_bias, rows, keys, by_key, by_place, norms, out)
        ctx.before = before
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, p, u, v_bias, rows, keys, by_key, by_place, norms, out = ctx.saved_tensors
        batch, queries, heads, width = q.shape
        known, positions = k.shape[1], p.shape[0]
        of_out = of_out.contiguous()
        shares = torch.empty_like(norms)
        of_q = torch.empty_like(out)
        of_k, of_v = torch.empty(2, batch, known, heads, width, dtype=k.dtype, device=k.device)
        sizes, scales = _sizes(q, k, p, ctx.before), (_scale(width), width**-0.5)
        widths = {"WIDTH": width, "PADDED": _padded(width)}
        seen = by_key, by_place, rows, keys, norms
        with _on(q.device):
            cut = _cut("of_queries", q)
            triton_backward.of_queries[(-(-queries // cut["BLOCK"]) * batch * heads,)](
                q, k, v, p, *seen, out, of_out, shares, of_q, *sizes, *scales, **widths, **cut
            )
            cut = _cut("of_keys", q)
            blocks = -(-known // cut["BLOCK"])
            of_u = torch.empty(batch * blocks, heads, width, dtype=torch.float32, device=q.device)
            triton_backward.of_keys[(blocks * batch * heads,)](
                q, k, v, p, u, *seen, of_out, shares, of_k, of_v, of_u, *sizes, *scales, **widths, **cut
            )
            if not (ctx.needs_input_grad[3] or ctx.needs_input_grad[5]):
                return of_q, of_k, of_v, None, of_u.sum(0).to(u.dtype), None, None, None, None
            cut = _cut("of_positions", q)
            blocks = -(-positions // cut["BLOCK"])
            parts = min(batch, -(-_PARTS // (blocks * heads)))
            of_p = torch.empty(parts, *p.shape, dtype=p.dtype if parts == 1 else torch.float32, device=q.device)
            of_v_bias = torch.empty(parts * blocks, heads, width, dtype=torch.float32, device=q.device)
            triton_backward.of_positions[(blocks * heads * parts,)](
                q, k, v, p, v_bias, *seen, of_out, shares, of_p, of_v_bias, *sizes, parts, *scales, **widths, **cut
            )
        of_p = of_p[0] if parts == 1 else of_p.sum(0).to(p.dtype)
        return of_q, of_k, of_v, of_p, of_u.sum(0).to(u.dtype), of_v_bias.sum(0).to(v_bias.dtype), None, None, None


def _sizes(q: Tensor, k: Tensor, p: Tensor, before: int) -> tuple[int, ...]:
    """What all programs but the first are told of their inputs."""
    strides = *q.stride()[:3], *k.stride()[:3], *p.stride()[:2]
    return *strides, q.shape[0], q.shape[2], q.shape[1], k.shape[1], before, p.shape[0]


def _cut(program: str, q: Tensor) -> dict[str, Any]:
    """How a program is started."""
    capability = torch.cuda.get_device_capability(q.device) if q.device.type == "cuda" else (0, 0)
    how: Tile = tile(program, _padded(q.shape[-1]), q.element_size(), capability)
    return {"BLOCK": how.block, "SPAN": how.span, "num_warps": how.warps, "num_stages": how.stages, "PRECISION": _precision()}


def _precision() -> str:
    """How float32 is multiplied: as PyTorch's matrix products are."""
    products = torch.backends.cuda.matmul
    return "tf32" if products.fp32_precision == "tf32" else "tf32x3"


def _dtype(q: Tensor, k: Tensor, v: Tensor, p: Tensor) -> torch.dtype:
    """What it computes in: the inputs' own, under autocast that of autocast."""
    if torch.is_autocast_enabled(q.device.type):
        return torch.get_autocast_dtype(q.device.type)
    first, second = torch.promote_types(q.dtype, k.dtype), torch.promote_types(v.dtype, p.dtype)
    return torch.promote_types(first, second)


def _by_rows(x: Tensor) -> Tensor:
    """With the numbers of a head side by side."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _extent(x: Tensor) -> int:
    """From the first element of a recording to its last, and at least their number."""
    return max(math.prod(x.shape[-3:]), (x.shape[-3] - 1) * x.stride(-3))


def _padded(width: int) -> int:
    return max(16, 1 << (width - 1).bit_length())


def _scale(width: int) -> float:
    """Of scores whose exponentials have base 2."""
    return width**-0.5 / math.log(2)


def _on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Programs are started on the current GPU, whichever holds their inputs."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


@cache
def _lacks(device: torch.device) -> str | None:
    """What a device or the Triton that is installed lack."""
    if not CAN_GATHER:
        return "this version of Triton has no gather"
    if device.type == "cuda" and (torch.version.hip is not None or torch.cuda.get_device_capability(device) < (8, 0)):
        return "it needs an NVIDIA GPU of compute capability 8.0 or more"
    return None
