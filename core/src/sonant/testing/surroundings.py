"""What a component shares with the rest of the process and must leave alone: environment, folder, torch's settings."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from attrs import frozen


@frozen
class _Setting:
    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _write_environ(value: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(value)


def _write_path(value: list[str]) -> None:
    sys.path[:] = value


def _write_device(value: torch.device) -> None:
    torch.set_default_device(None if value.type == "cpu" else value)


def _write_benchmark(value: bool) -> None:
    torch.backends.cudnn.benchmark = value


_SETTINGS = (
    _Setting("os.environ", lambda: dict(os.environ), _write_environ),
    _Setting("the working directory", os.getcwd, os.chdir),
    _Setting("sys.path", lambda: list(sys.path), _write_path),
    _Setting("the root logger's level", lambda: logging.getLogger().level, lambda value: logging.getLogger().setLevel(value)),
    _Setting("torch's seed", torch.initial_seed, lambda _: None),  # the generator itself is put back by whoever forked it
    _Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    _Setting("torch's default device", torch.get_default_device, _write_device),
    _Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
    _Setting("whether torch records gradients", torch.is_grad_enabled, torch._C._set_grad_enabled),
    _Setting("torch's float32 precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    _Setting("torch.backends.cudnn.benchmark", lambda: torch.backends.cudnn.benchmark, _write_benchmark),
    _Setting(
        "torch.use_deterministic_algorithms", torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    ),
)


def read() -> dict[str, Any]:
    """Every setting, by a name fit for a message."""
    return {setting.name: setting.read() for setting in _SETTINGS}


def changed(before: dict[str, Any]) -> list[str]:
    """The names of the settings that are not as they were."""
    return [setting.name for setting in _SETTINGS if setting.read() != before[setting.name]]


@contextmanager
def kept() -> Iterator[None]:
    """Put back whatever the block changes."""
    before = read()
    try:
        yield
    finally:
        names = changed(before)
        for setting in _SETTINGS:
            if setting.name in names:
                setting.write(before[setting.name])
