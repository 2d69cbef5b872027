"""Runs the GPU's `rel_pos_attention`: `run_triton_attention.py RESULTS`, a file of torch's. `test_rel_pos_triton.py` starts
it, in a process of its own because Triton decides whether to interpret when it is imported. On a GPU it takes the tiles that are
taken there; in the interpreter smaller ones, so that a short input has several.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from attrs import evolve, frozen
from test_rel_pos_attention import LENGTHS, MASKS, SHAPES, Case, by_identity, formula, make, sinusoids
from torch import Tensor
from triton import language
from triton.runtime.interpreter import InterpreterBuilder

import sonant_encoders.kernels.rel_pos_attention.triton as gpu
from sonant import kernels
from sonant_encoders.conformer.config import FastConformerConfig
from sonant_encoders.conformer.model import Conformer
from sonant_encoders.kernels.rel_pos_attention.tiles import Tile

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_DEVICE = "cpu" if _INTERPRETED else "cuda"
_INPUTS = ("q", "k", "v", "p", "u", "v_bias")


@frozen
class Given:
    """The sizes of a case: recordings, heads, their width, queries, frames before them; and how it is run."""

    batch: int
    heads: int
    width: int
    queries: int
    earlier: int = 0
    mask: str = "full"
    reach: tuple[int, int] | None = None
    keys: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    rows: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    dtype: torch.dtype = torch.float32
    tile: tuple[int, int] = (32, 16)
    parts: int = 1
    oracle: bool = False


CASES = {
    "full": Given(2, 1, 44, 77, keys=((0, 3), (77, 68)), oracle=True),
    "bfloat16, square tiles": Given(1, 2, 32, 33, dtype=torch.bfloat16, tile=(16, 16)),
    "float16, a cache that is filling": Given(
        3, 1, 32, 16, 20, "asymmetric", (16, 3), ((0, 13, 20), (36, 36, 30)), dtype=torch.float16
    ),
    "window, tiles as on Hopper": Given(1, 1, 64, 125, mask="symmetric", reach=(5, 5), tile=(64, 32), oracle=True),
    "chunks, earlier frames": Given(3, 1, 32, 31, 7, "chunks", (23, 7), ((0, 0, 9), (38, 30, 38)), tile=(16, 8), parts=10),
    "one query": Given(1, 2, 32, 1, 70, oracle=True),
    "one frame": Given(2, 1, 16, 1, keys=((0, 0), (1, 0))),
    "some see nothing": Given(2, 1, 16, 5, keys=((0, 0), (5, 0)), rows=((0, 3, 9, 0, -5), (2, 3, 4, 99, 0))),
}


def attend(case: Case, reach: tuple[int, int] | None) -> Tensor:
    """What the GPU makes of a case, of whose positions it is given those within reach alone."""
    p, known = case.p, case.k.shape[1]
    if reach is not None:
        p = p[known - 1 - reach[0] : known + reach[1]]
    rows, keys = (None if one is None else one.to(_DEVICE) for one in (case.rows, case.keys))
    given = (one.to(_DEVICE) for one in (case.q, case.k, case.v, p, case.u, case.v_bias))
    return gpu.rel_pos_attention(*given, rows=rows, keys=keys, reach=reach).cpu()


def differentiate(compute: Callable[[Case], Tensor], case: Case, names: tuple[str, ...] = _INPUTS) -> dict[str, Tensor]:
    """The outputs, and of a weighted sum of them the gradients of the inputs named; with `w`, the positions are made of it."""
    leaves = {name: getattr(case, name).clone().requires_grad_() for name in names}
    out = compute(evolve(case, **leaves))
    weights = torch.randn(case.q.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad((out * weights.to(out.dtype)).sum(), list(leaves.values()))
    return {"out": out.detach(), **dict(zip(leaves, found, strict=True))}


def solve(given: Given) -> dict[str, dict[str, Tensor]]:
    """Ours, and the two truths: the formula, and where each query sees something the one without a shift."""
    case = prepared(given)
    found = {"ours": differentiate(lambda one: attend(one, given.reach), case.to(given.dtype))}
    found["formula"] = differentiate(formula, case)
    if given.oracle:
        found["identity"] = differentiate(by_identity, case, ("q", "k", "v", "w", "u", "v_bias"))
        e = sinusoids(torch.arange(case.k.shape[1] - 1, -given.queries, -1), case.w.shape[-1])
        found["ours"]["w"] = torch.einsum("mhk,md->hkd", found["ours"]["p"].double(), e)
    return found


def spoiled() -> dict[str, dict[str, Tensor]]:
    """Outputs and gradients of a batch whose padding holds anything, and of one whose padding is small numbers."""
    given = Given(2, 1, 16, 20, 4, "asymmetric", keys=((0, 3), (24, 17)))
    case = prepared(given).to(torch.float32)
    valid = torch.stack([torch.arange(24) < 24, (torch.arange(24) >= 3) & (torch.arange(24) < 17)])
    found = {}
    for name, filling in (("clean", 0.0), ("nan", math.nan), ("huge", 1e30)):
        k, v = (torch.where(valid[..., None, None], one, filling) for one in (case.k, case.v))
        found[name] = differentiate(lambda one: attend(one, None), evolve(case, k=k, v=v))
    return found


def strided() -> dict[str, Tensor]:
    """Queries, keys and values that are slices of one tensor, and positions with a step between their numbers."""
    case = prepared(Given(2, 2, 16, 20, mask="asymmetric", keys=((0, 0), (20, 13)))).to(torch.float32)
    assert case.rows is not None
    together = torch.stack([case.q, case.k, case.v], 2)
    apart = torch.stack([case.p, case.p], -1)[..., 0]
    views = [together[:, :, n] for n in range(3)]
    assert not any(one.is_contiguous() for one in (*views, apart))
    moved = evolve(case, q=views[0], k=views[1], v=views[2], p=apart, rows=case.rows.int().T.contiguous().T)
    return {"plain": attend(case, None), "strided": attend(moved, None)}


def autocast() -> dict[str, dict[str, Tensor]]:
    """Inputs in float32 under autocast, and what comes of them as bfloat16."""
    case = prepared(Given(1, 1, 16, 20)).to(torch.float32)
    with torch.autocast(_DEVICE, torch.bfloat16):
        found = differentiate(lambda one: attend(one, None), case)
    return {"found": found, "truth": differentiate(lambda one: attend(one, None), case.to(torch.bfloat16))}


def encoder() -> dict[str, dict[str, Tensor]]:
    """A whole one in float32, with attention in chunks, and with the formula in float64: its outputs and its parameters'
    gradients."""
    kernels.REQUIREMENTS["cuda"] = lambda device: True  # the interpreter stands in for it
    torch.backends.cudnn.allow_tf32 = False
    how = {"subsampling_factor": 4, "subsampling_conv_channels": 8, "d_model": 32, "n_heads": 2, "n_layers": 1, "dropout": 0.0}
    how |= {"att_context_size": (8, 3), "att_context_style": "chunked_limited"}
    how |= {"dropout_pre_encoder": 0.0, "conv_norm_type": "layer_norm"}  # of batches, it leaves a bias no gradient
    found: dict[str, dict[str, Tensor]] = {}
    for name, backend, dtype in (("ours", "triton", torch.float32), ("truth", "reference", torch.float64)):
        torch.manual_seed(0)
        model = Conformer(FastConformerConfig(**how, attention_backend=backend), d_in=8).to(_DEVICE, dtype)
        feats = torch.linspace(0, 30, 2 * 90 * 8, dtype=torch.float64).square().sin().view(2, 90, 8)
        out, lens = model(feats.to(_DEVICE, dtype), torch.tensor([90, 61], device=_DEVICE))
        valid = torch.arange(out.shape[1], device=_DEVICE) < lens[:, None]
        (out * valid[..., None] * torch.arange(out.shape[2], device=_DEVICE).sin().to(dtype)).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        found[name] = {one: parameter.grad.cpu() for one, parameter in model.named_parameters()}
        found[name]["out"] = (out * valid[..., None]).detach().cpu()
    return found


def twice() -> dict[str, dict[str, Tensor]]:
    """The same inputs, two times."""
    case = prepared(Given(4, 8, 64, 300, keys=((0,) * 4, (300, 211, 300, 5)), parts=512)).to(torch.bfloat16)
    return {name: differentiate(lambda one: attend(one, None), case) for name in ("once", "again")}


def prepared(given: Given) -> Case:
    """Its inputs; and the programs are told its tile, and how many recordings they sum at once."""
    gpu._PARTS = given.parts
    if _INTERPRETED:
        gpu.tile = lambda *_: Tile(*given.tile)
    case = make(given.batch, given.heads, given.width, given.queries, earlier=given.earlier, seed=given.queries)
    keys = None if given.keys is None else torch.tensor(given.keys)
    rows = MASKS[given.mask](given.queries, given.earlier) if given.rows is None else torch.tensor(given.rows)
    return evolve(case, rows=rows, keys=keys)


def unwritten(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """In the place of `torch.empty`: where nothing is written afterwards, it is seen."""

    def filled(*size: Any, **how: Any) -> Tensor:
        tensor = make(*size, **how)
        return tensor.fill_(math.nan) if tensor.is_floating_point() else tensor

    return filled


def multiply(self: Any, a: Any, b: Any, d: Any, *how: Any) -> Any:
    """In the place of the interpreter's product, which takes the bits of bfloat16 for whole numbers."""
    a, b = (self.cast_impl(one, language.float32) if one.dtype.scalar == language.bfloat16 else one for one in (a, b))
    return _multiply(self, a, b, d, *how)


torch.empty, torch.empty_like = unwritten(torch.empty), unwritten(torch.empty_like)
_multiply, InterpreterBuilder.create_dot = InterpreterBuilder.create_dot, multiply
results: dict[str, Any] = {name: solve(given) for name, given in CASES.items()}
results |= {"spoiled": spoiled(), "strided": strided(), "autocast": autocast(), "encoder": encoder()}
if not _INTERPRETED:
    results["twice"] = twice()
    for length in LENGTHS:
        for mask in MASKS:
            stops = (length, 0, 1, length // 2 + 1)
            given = Given(4, *SHAPES[length], length, mask=mask, keys=((0,) * 4, stops), parts=512)
            results[f"{length} frames, {mask}"] = solve(given)
torch.save(results, sys.argv[1])
