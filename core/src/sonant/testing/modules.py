"""What every component with weights promises."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sonant import runtime, weights
from sonant.errors import ConfigError
from sonant.testing import compare, samples
from sonant.testing.calls import call
from sonant.testing.check import Skipped, require
from sonant.testing.subject import Subject


def _module(subject: Subject, *, seed: int = 0) -> nn.Module:
    built = subject.build(seed=seed)
    if not isinstance(built, nn.Module):
        raise Skipped("not a torch.nn.Module")
    return built


def _list(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


@torch.no_grad()
def state_dict_round_trip(subject: Subject) -> None:
    """The state dict holds all that was drawn at random: loaded into a new one, it computes the same."""
    first, second = _module(subject, seed=0), _module(subject, seed=1)
    second.load_state_dict(first.state_dict())
    compare.all_close(
        call(subject, second),
        call(subject, first),
        "built anew and given the same state dict, it gives another result: something it computes with is not in there",
    )


@torch.no_grad()
def loads_from_the_meta_device(subject: Subject) -> str | None:
    """Built without memory and given a state dict, as models are opened, it is complete; or it can be told that it is not."""
    state = _module(subject).state_dict()
    try:
        bare = subject.construct(device="meta").eval()
    except (ConfigError, RuntimeError) as error:
        if not weights.needs_values(error):
            raise
        return "models with it are built with memory of their own when they are opened: its constructor computes with tensors"
    bare.load_state_dict(state, assign=True)
    absent = weights.without_values(bare)
    if absent:
        return f"models with it are built with memory of their own when they are opened: the state dict lacks {_list(absent)}"
    try:
        call(subject, bare)
    except RuntimeError as error:
        require("meta" not in str(error), f"it keeps tensors where they cannot be found; make them buffers ({error})")
        raise
    return None


@torch.no_grad()
def deterministic_in_eval(subject: Subject) -> None:
    """In eval mode a call depends on its arguments alone, and leaves nothing behind."""
    module = _module(subject)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    torch.manual_seed(1)
    first = call(subject, module)
    call(subject, module, seed=1)
    second = call(subject, module)
    compare.all_close(second, first, "in eval mode the same input, given a second time, gives another result")
    written = [name for name, tensor in module.state_dict().items() if not tensor.equal(state[name])]
    require(not written, f"a call in eval mode writes into {_list(written)}: threads share a model")


@torch.no_grad()
def finite_in_bfloat16(subject: Subject) -> None:
    """With weights in bfloat16 it takes what arrives and gives finite numbers. Features arrive as float32."""
    module: Any = runtime.place(_module(subject), "cpu", "bfloat16")
    for tensor in call(subject, module):
        bad = int((~tensor.isfinite()).sum())
        require(not bad, f"with weights in bfloat16, {bad} of {tensor.numel()} results are not finite")


def gradients_reach_every_parameter(subject: Subject) -> None:
    """Each parameter that asks for a gradient takes part in the result."""
    module = _module(subject).train()
    wanted = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not wanted:
        raise Skipped("has no parameters to train")
    samples.stir(module)  # zeros that some parameters start from leave others without a gradient
    results = [t for t in call(subject, module) if t.requires_grad]
    require(results, "nothing that it returns has a gradient")
    torch.stack([(t.float() * samples.noise(*t.shape, seed=7)).sum() for t in results]).sum().backward()
    lost = [name for name, p in wanted.items() if p.grad is None or not p.grad.any()]
    require(
        not lost,
        f"no gradient reaches {_list(lost)}: remove what is not used, freeze what is not trained (requires_grad=False), "
        "and look for a detach",
    )


CHECKS = (
    state_dict_round_trip,
    loads_from_the_meta_device,
    deterministic_in_eval,
    finite_in_bfloat16,
    gradients_reach_every_parameter,
)
WITHOUT_GRADIENT = CHECKS[:-1]
"""For codecs: codes have no gradient, and what trains one is between it and its losses."""
IN_FLOAT32 = (state_dict_round_trip, loads_from_the_meta_device, gradients_reach_every_parameter)
"""For losses: they are computed in float32."""
