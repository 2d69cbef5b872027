"""What a loss promises: one number, whatever lies behind the lengths, and a gradient for all that the model computed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sonant import lengths
from sonant.testing import compare, samples
from sonant.testing.calls import LABEL_LENS, LENS, Tensors, loss_inputs
from sonant.testing.check import RAISED, Skipped, require
from sonant.testing.specs import docstrings
from sonant.testing.subject import VOCAB_SIZE, Subject

_MORE = 3  # frames or labels of padding
_REDUCTION = re.compile(r"\b(mean|means|averag\w+|sum|sums|summed|total|reduction)\b", re.IGNORECASE)


def _given(subject: Subject) -> tuple[Any, Tensors]:
    """A loss and what it is called with.

    Raises:
        Skipped: that does not give one finite number, and the check of that name says so.
    """
    built = subject.build()
    inputs = loss_inputs(subject, built)
    if _fault(built(**inputs)):
        raise Skipped("does not give one finite number")
    return built, inputs


def _fault(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"it returns a {type(value).__name__}, not a tensor"
    if value.ndim:
        return f"it returns a tensor of shape {tuple(value.shape)}, not a scalar: reduce it"
    return "" if value.is_floating_point() and value.isfinite() else f"random inputs give {value.item()}, not a finite number"


def reduction_stated(subject: Subject) -> None:
    """The docstring says whether it is a sum or a mean, and over what."""
    require(
        any(_REDUCTION.search(text) for text in docstrings(subject.target, "forward", "__call__")),
        "its docstring does not state the reduction: say whether it is a sum or a mean, and over what",
    )


def asks_for_what_there_is(subject: Subject) -> None:
    """What it asks for is something that training has, or that some installed decoder returns."""
    built = subject.build()
    try:
        loss_inputs(subject, built)
    except Skipped as reason:
        raise AssertionError(str(reason)) from reason
    except RAISED:
        raise Skipped("does not give one finite number") from None


def one_finite_number(subject: Subject) -> None:
    """It returns a scalar tensor, finite."""
    built = subject.build()
    fault = _fault(built(**loss_inputs(subject, built)))
    require(not fault, fault)


@torch.no_grad()
def padding_invariance(subject: Subject) -> None:
    """Neither what stands behind the lengths nor how much of it changes the loss."""
    built, inputs = _given(subject)
    again = {name: _repadded(value) for name, value in inputs.items()}
    compare.close(
        built(**again),
        built(**inputs),
        f"with {_MORE} more frames and labels of other padding the loss is another; leave out what lies behind the lengths "
        "(sonant.lengths.mask), in the count of a mean too",
    )


def _repadded(value: Tensor) -> Tensor:
    """The same with more padding, and other numbers in all of it."""
    for dim, lens in _padded(value):
        value = torch.cat([value, value.narrow(dim, 0, _MORE)], dim)
        shape = [len(lens)] + [1] * (value.ndim - 1)
        shape[dim] = value.shape[dim]
        valid = lengths.mask(lens, value.shape[dim]).reshape(shape)
        value = torch.where(valid, value, _other(value))
    return value


def _padded(value: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The dimensions of frames and of labels, told by their size, each with its lengths; labels may have one more, a start."""
    frames, labels = torch.tensor(LENS), torch.tensor(LABEL_LENS)
    by_size = {max(LENS): frames, max(LABEL_LENS): labels, max(LABEL_LENS) + 1: labels + 1}
    sizes = value.shape[1:3] if value.ndim > 1 and value.shape[1] == max(LENS) else value.shape[1:2]
    return ((dim, by_size[size]) for dim, size in enumerate(sizes, start=1) if size in by_size)


def _other(value: Tensor) -> Tensor:
    if value.is_floating_point():
        return samples.POISON * samples.noise(*value.shape, seed=5).sign().to(value.dtype)
    return ~value if value.dtype == torch.bool else (value + 1) % VOCAB_SIZE


def gradients_reach_the_model(subject: Subject) -> None:
    """Everything with a fraction that it declares gets a gradient, finite and not zero throughout; a target needs none."""
    built, inputs = _given(subject)
    leaves = {name: value.requires_grad_() for name, value in inputs.items() if value.is_floating_point() and name != "target"}
    value = built(**inputs)
    require(value.requires_grad, f"the loss has no gradient for {', '.join(leaves)}: look for a detach, an argmax or .item()")
    value.backward()
    lost = [name for name, leaf in leaves.items() if leaf.grad is None or not leaf.grad.any()]
    require(not lost, f"no gradient reaches {', '.join(lost)}: do not declare what does not matter, and look for a detach")
    wild = [name for name, leaf in leaves.items() if not (leaf.grad is not None and leaf.grad.isfinite().all())]
    require(not wild, f"the gradient of {', '.join(wild)} is not finite")


@torch.no_grad()
def deterministic(subject: Subject) -> None:
    """The same inputs give the same loss; a module in eval mode."""
    built, inputs = _given(subject)
    torch.manual_seed(1)
    first = built(**inputs)
    compare.close(built(**inputs), first, "the same inputs, given a second time, give another loss")


CHECKS = (
    reduction_stated,
    asks_for_what_there_is,
    one_finite_number,
    padding_invariance,
    gradients_reach_the_model,
    deterministic,
)
