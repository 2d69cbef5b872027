"""When two results count as equal, and recordings that must not hear their neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sonant.testing.check import require

TOLERANCE = 1e-4  # of the result's root mean square: float32 sums in another order differ by a hundredth of that
Run = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def close(found: Tensor, wanted: Tensor, message: str) -> None:
    """Fail where the largest difference exceeds `TOLERANCE` of the size of `wanted`."""
    __tracebackhide__ = True
    require(found.shape == wanted.shape, f"{message}: the shapes are {tuple(found.shape)} and {tuple(wanted.shape)}")
    if not wanted.numel():
        return
    found, wanted = found.double(), wanted.double()
    difference = float((found - wanted).abs().max())
    size = float(wanted.square().mean().sqrt())
    require(difference <= TOLERANCE * size, f"{message}: values of about {size:.2g} differ by up to {difference:.2g}")


def all_close(found: Sequence[Tensor], wanted: Sequence[Tensor], message: str) -> None:
    """`close`, one by one."""
    __tracebackhide__ = True
    for one, other in zip(found, wanted, strict=True):
        close(one, other, message)


@torch.no_grad()
def alone_and_in_company(run: Run, values: Tensor, lens: Tensor) -> None:
    """Each recording of a batch by itself must give what it gives among the others, with poison behind its end."""
    __tracebackhide__ = True
    together, counts = run(values, lens)
    for row, length in enumerate(lens.tolist()):
        alone, count = run(values[row : row + 1, :length], lens[row : row + 1])
        what = f"a recording of length {length} alone, and padded to {values.shape[1]} in a batch"
        require(
            int(count[0]) == int(counts[row]),
            f"{what}, gives {int(count[0])} and {int(counts[row])} frames: a length must not depend on the padding",
        )
        valid = int(count[0])
        close(
            together[row, :valid],
            alone[0, :valid],
            f"padding leaks into the result: {what}, gives other frames; mask what lies behind "
            "the lengths (sonant.lengths.mask) before anything mixes frames",
        )


def lengths(lens: Tensor, batch: int, longest: int) -> None:
    """Lengths that a component returns: one each, int64, and no longer than its result."""
    __tracebackhide__ = True
    require(isinstance(lens, Tensor) and tuple(lens.shape) == (batch,), f"the lengths are not one a recording: {lens}")
    require(lens.dtype == torch.int64, f"the lengths are {lens.dtype}, not torch.int64")
    fit = all(0 <= length <= longest for length in lens.tolist())
    require(fit, f"the lengths {lens.tolist()} do not fit a result of {longest} frames")


def finite(values: Tensor, lens: Tensor, what: str) -> None:
    """Every valid frame is finite."""
    __tracebackhide__ = True
    for row, length in enumerate(lens.tolist()):
        require(values[row, : int(length)].isfinite().all(), f"{what} give numbers that are not finite")
