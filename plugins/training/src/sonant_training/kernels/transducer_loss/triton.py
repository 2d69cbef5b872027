"""The transducer loss on a GPU, in three programs that hold no more than a row of logits at a time.

`normalize` reads each logit once and keeps what the lattice needs: a number each for the softmax, the blank and the next label.
`sum_paths` goes over the lattice, one program an utterance and direction. `write_gradients` reads each logit once more and
writes its gradient, in its place where that is allowed. So there is never a second tensor of the size of the logits, and beside
them only some of `(B, T, U + 1)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sonant_training.kernels.transducer_loss import triton_programs as programs
from sonant_training.kernels.transducer_loss.memory import can_be_overwritten

_WIDEST: Final = 4096  # logits in one go


def transducer_loss(
    logits: Tensor,
    labels: Tensor,
    lens: Tensor,
    label_lens: Tensor,
    *,
    durations: Sequence[int] = (),
    ignored: int = 0,
    sigma: float = 0.0,
    fastemit_lambda: float = 0.0,
    reuse_logits: bool = False,
) -> Tensor:
    """See the package. The lattice is computed in float32, of float64 logits in float64."""
    overwrite = reuse_logits and can_be_overwritten(logits)
    given = logits, labels, lens, label_lens
    loss: Tensor = _TransducerLoss.apply(*given, tuple(durations), ignored, sigma, fastemit_lambda, overwrite)  # type: ignore[no-untyped-call]
    return loss


class _TransducerLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Tensor,
        lens: Tensor,
        label_lens: Tensor,
        durations: tuple[int, ...],
        ignored: int,
        sigma: float,
        fastemit: float,
        overwrite: bool,
    ) -> Tensor:
        rows = logits if logits.is_contiguous() else logits.contiguous()
        batch, frames, positions, outputs = rows.shape
        dtype = torch.promote_types(rows.dtype, torch.float32)
        labels, lens, label_lens = (one.to(rows.device, torch.int64).contiguous() for one in (labels, lens, label_lens))
        norms, blank, label = torch.empty(3, batch, frames, positions, dtype=dtype, device=rows.device)
        spans = torch.empty(batch, frames, positions, len(durations), dtype=dtype, device=rows.device)
        steps = _steps(durations, rows.device)
        classes = outputs - len(durations) - ignored
        sizes, width = (frames, positions, outputs, classes), _width(classes)
        kinds = {"DURATIONS": len(durations), "WIDTH": width, "SPANS": _width(len(durations)), "num_warps": _warps(width, 256)}
        given = labels, lens, label_lens
        programs.normalize[(batch * frames * positions,)](rows, *given, norms, blank, label, spans, sigma, *sizes, **kinds)
        needs_gradient = ctx.needs_input_grad[0]
        alpha, beta = torch.empty(2, batch, frames + 1, positions, dtype=dtype, device=rows.device)
        width = 1 << (positions - 1).bit_length()
        shape = {"STEPS": steps.shape[1], "DURATIONS": len(durations), "WIDTH": width, "num_warps": _warps(width, 32)}
        programs.sum_paths[(batch, 2 if needs_gradient else 1)](
            blank, label, spans, steps, lens, label_lens, alpha, beta, frames, positions, **shape
        )
        which = torch.arange(batch, device=rows.device)
        total = torch.where(lens > 0, alpha[which, lens, label_lens], -torch.inf)
        if needs_gradient:
            ctx.save_for_backward(rows, *given, norms, blank, label, spans, steps, alpha, beta, total)
            ctx.overwrite, ctx.fastemit, ctx.durations, ctx.classes = overwrite, fastemit, len(durations), classes
        return -(1 + fastemit) * total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        rows, *given, norms, blank, label, spans, steps, alpha, beta, total = ctx.saved_tensors
        grads = rows.detach() if ctx.overwrite else torch.empty_like(rows)
        batch, frames, positions, outputs = rows.shape
        width = _width(ctx.classes)
        kinds = {"STEPS": steps.shape[1], "DURATIONS": ctx.durations, "WIDTH": width, "SPANS": _width(ctx.durations)}
        programs.write_gradients[(batch * frames * positions,)](
            grads,
            rows,
            *given,
            norms,
            blank,
            label,
            spans,
            steps,
            alpha,
            beta,
            total,
            grad_loss.to(total.dtype).contiguous(),
            1 + ctx.fastemit,
            frames,
            positions,
            outputs,
            ctx.classes,
            **kinds,
            num_warps=_warps(width, 256),
        )
        if ctx.overwrite:
            torch.autograd.graph.increment_version(rows)  # torch does not see what a kernel writes
        return grads, *[None] * 8


def _steps(durations: tuple[int, ...], device: torch.device) -> Tensor:
    """How far a blank and a label move on, `(2, K)`; a blank by 0 does not exist."""
    return torch.tensor([durations, durations] if durations else [[1], [0]], dtype=torch.int32, device=device)


def _width(size: int) -> int:
    """A power of 2, as blocks have to be."""
    return min(_WIDEST, 1 << max(size - 1, 0).bit_length())


def _warps(width: int, of_each: int) -> int:
    """How many groups of 32 threads share a block."""
    return max(1, min(8, width // of_each))
