"""What an implementation of an operation promises, whether or not this machine can run it."""

from __future__ import annotations

from attrs import frozen

from sonant import config, kernels
from sonant.plugins import Plugin
from sonant.spec import KernelSpec
from sonant.testing.check import RAISED, Skipped, explain, require


@frozen
class Kernel:
    """One kernel of a plugin under test."""

    spec: KernelSpec
    plugin: Plugin

    @property
    def label(self) -> str:
        """`kernel rel_pos_attention/sdpa`"""
        return f"kernel {self.spec.op}/{self.spec.backend}"


def known_requirements(kernel: Kernel) -> None:
    """What it requires are things that can be looked for; with another it would never be chosen."""
    unknown = sorted(set(kernel.spec.requires) - kernels.REQUIREMENTS.keys())
    require(not unknown, f"it requires {', '.join(unknown)}, and known are {', '.join(kernels.REQUIREMENTS)}: it would never run")


def loads(kernel: Kernel) -> None:
    """Its target, and what says whether it refuses inputs, can be imported, without an accelerator too, and called."""
    triton = "triton" in kernel.spec.requires and not kernels.REQUIREMENTS["triton"]("cpu")
    for name in filter(None, (kernel.spec.target, kernel.spec.refuses)):
        try:
            target = config.load_target(name, f"{kernel.label} ({kernel.plugin.label})")
        except RAISED as error:
            if triton:
                raise Skipped("needs triton, which is not installed here") from error
            raise AssertionError(explain(error)) from error
        require(callable(target), f"{name} is a {type(target).__name__}, which cannot be called")


def documented(kernel: Kernel) -> None:
    """`doc` says what sets it apart."""
    require(kernel.spec.doc.strip(), "its spec has an empty doc: say in one line how it computes, and when to take it")


CHECKS = (known_requirements, loads, documented)
