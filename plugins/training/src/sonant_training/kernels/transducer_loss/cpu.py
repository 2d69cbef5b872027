"""The transducer loss on a CPU: a few frames of one utterance at a time, as much as its cache holds, and all paths at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from attrs import frozen
from torch import Tensor
from torch.autograd.function import once_differentiable

from sonant_training.kernels.transducer_loss.lattice import Lattice, likelihoods, posteriors
from sonant_training.kernels.transducer_loss.memory import can_be_overwritten

_CHUNK: Final = 1 << 17  # logits: half a megabyte


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
    """See the package. The lattice is computed in float64."""
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
        given = _Given(logits, labels, lens, label_lens, logits.shape[-1] - len(durations) - ignored)
        norms, lattice = _lattice(given, durations, sigma)
        if not ctx.needs_input_grad[0]:
            return (-(1 + fastemit) * likelihoods(lattice)).to(norms.dtype)
        total, blank, label = posteriors(lattice)
        spans = _of_durations(blank, label, durations) if durations else None
        ctx.save_for_backward(logits, labels, lens, label_lens, norms, blank.sum(0), (1 + fastemit) * label.sum(0), spans)
        ctx.overwrite, ctx.classes = overwrite, given.classes
        return (-(1 + fastemit) * total).to(norms.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        logits, labels, lens, label_lens, norms, blank, label, spans = ctx.saved_tensors
        scale = grad_loss.to(norms.dtype)[:, None, None]
        grads = logits.detach() if ctx.overwrite else torch.empty_like(logits)
        of_paths = _Shares(scale * blank, scale * label, None if spans is None else scale[..., None] * spans)
        given = _Given(logits, labels, lens, label_lens, ctx.classes)
        _write_gradients(grads, given, norms, of_paths.to(norms.dtype))
        return grads, *[None] * 8


@frozen(eq=False)
class _Given:
    logits: Tensor
    labels: Tensor
    lens: Tensor
    label_lens: Tensor
    classes: int  # labels and the blank

    def sizes(self) -> Iterator[tuple[int, int, int]]:
        """Of each utterance: which it is, frames, positions."""
        for b, (frames, size) in enumerate(zip(self.lens.tolist(), self.label_lens.tolist(), strict=True)):
            yield b, frames, size + 1

    def chunks(self) -> Iterator[tuple[int, slice, int]]:
        """Utterance, frames, and how many positions: all that is no padding, piece by piece."""
        for b, frames, positions in self.sizes():
            step = max(1, _CHUNK // (positions * self.logits.shape[-1]))
            for start in range(0, frames, step):
                yield b, slice(start, min(start + step, frames)), positions


@frozen(eq=False)
class _Shares:
    """The share of the paths that write a blank and the next label at each cell, `(B, T, U + 1)`, and, of a TDT, that take each
    duration, `(B, T, U + 1, D)`."""

    blank: Tensor
    label: Tensor
    spans: Tensor | None

    def to(self, dtype: torch.dtype) -> _Shares:
        return _Shares(self.blank.to(dtype), self.label.to(dtype), None if self.spans is None else self.spans.to(dtype))


def _lattice(given: _Given, durations: tuple[int, ...], sigma: float) -> tuple[Tensor, Lattice]:
    """The logarithms `(B, T, U + 1, 1)` of what each softmax of the labels divides by, and the arcs."""
    batch, frames, positions, _ = given.logits.shape
    dtype = torch.promote_types(given.logits.dtype, torch.float32)
    norms = torch.zeros(batch, frames, positions, 1, dtype=dtype)
    blank, label = torch.zeros(2, batch, frames, positions, dtype=torch.float64)
    spans = torch.zeros(len(durations), batch, frames, positions, dtype=torch.float64)
    for b, t, u in given.chunks():
        found = given.logits[b, t, :u].to(dtype)
        scores, of_spans = found[..., : given.classes], found[..., given.classes :][..., : len(durations)]
        logs = scores.log_softmax(-1)
        norms[b, t, :u] = scores[..., -1:] - logs[..., -1:]
        blank[b, t, :u] = logs[..., -1]
        label[b, t, : u - 1] = logs[:, :-1].gather(-1, _targets(given, b, u, len(logs)))[..., 0]
        spans[:, b, t, :u] = of_spans.to(torch.float64).log_softmax(-1).permute(2, 0, 1)
    lens, label_lens, blank, label = given.lens, given.label_lens, blank - sigma, label - sigma
    if not durations:
        return norms, Lattice(blank[None], label[None], (1,), (0,), lens, label_lens)
    moving = [index for index, step in enumerate(durations) if step > 0]
    steps = tuple(durations[index] for index in moving)
    return norms, Lattice(blank + spans[moving], label + spans, steps, durations, lens, label_lens)


def _targets(given: _Given, b: int, positions: int, frames: int) -> Tensor:
    """The next label at each cell of an utterance but behind the last, `(T, U, 1)`."""
    return given.labels[b, : positions - 1].expand(frames, -1)[..., None]


def _of_durations(blank: Tensor, label: Tensor, durations: tuple[int, ...]) -> Tensor:
    """The share of the paths that take each duration at each cell, `(B, T, U + 1, D)`."""
    taken = label.clone()
    taken[[index for index, step in enumerate(durations) if step > 0]] += blank
    return taken.permute(1, 2, 3, 0)


def _write_gradients(grads: Tensor, given: _Given, norms: Tensor, of_paths: _Shares) -> None:
    """Of each logit: its probability times the share of all paths that come by, without those that take it."""
    passing = (of_paths.blank + of_paths.label)[..., None]
    classes = given.classes
    for b, t, u in given.chunks():
        logits, into = given.logits[b, t, :u], grads[b, t, :u]
        if of_paths.spans is not None:
            taken = of_paths.spans[b, t, :u]
            probabilities = logits[..., classes : classes + taken.shape[-1]].to(norms.dtype).softmax(-1)
            into[..., classes : classes + taken.shape[-1]] = probabilities * taken.sum(-1, keepdim=True) - taken
        scores, into = logits[..., :classes], into[..., :classes]
        found = torch.sub(scores, norms[b, t, :u], out=into if into.dtype == norms.dtype else None)
        found.exp_().mul_(passing[b, t, :u])
        found[..., -1] -= of_paths.blank[b, t, :u]
        found[:, :-1].scatter_add_(-1, _targets(given, b, u, len(found)), -of_paths.label[b, t, : u - 1, None])
        if found is not into:
            into.copy_(found)
    spanned = 0 if of_paths.spans is None else of_paths.spans.shape[-1]
    grads[..., classes + spanned :] = 0.0
    for b, frames, positions in given.sizes():
        grads[b, frames:] = 0.0
        grads[b, :frames, positions:] = 0.0
