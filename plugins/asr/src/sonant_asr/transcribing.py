"""What `sonant transcribe` does: from paths to files, with what was done before left alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import sonant
from sonant import cpus, inputs, outputs
from sonant.errors import AudioError, ConfigError
from sonant.inputs import Item
from sonant.results import Failure
from sonant_asr.recognizing import say_what_is_done
from sonant_asr.settings import Settings

_NEEDED_BY_FORMAT = {"srt": "segment", "vtt": "segment", "ctm": "word"}
_WRITTEN_IN = {"confidence": ("json", "jsonl", "ctm"), "n_best": ("json", "jsonl")}


def run(
    paths: Sequence[str],
    settings: Settings,
    *,
    format_name: str | None,
    output: str | None,
    timestamps: str | None,
    shard: tuple[int, int],
    overwrite: bool,
) -> list[Failure]:
    """Transcribe `paths`; returns the recordings that failed."""
    format_name = format_name or _format_of(output)
    _check_it_is_written(settings, format_name)
    arguments = settings.transcribing()
    found, failures = _expand(paths)
    sink = outputs.open_sink(output, format_name, found, shard, overwrite=overwrite)
    items = found[shard[0] - 1 :: shard[1]]
    todo = [item for item in items if not sink.is_done(item)]
    say_what_is_done(len(todo), len(items), output)
    if not todo:
        return failures
    whole = False
    try:
        recognizer = open_recognizer(settings)
        wanted = timestamps or _NEEDED_BY_FORMAT.get(format_name)
        results = recognizer.transcribe(todo, timestamps=wanted, **arguments, stream=True, on_error="return")
        for item, result in zip(todo, tqdm(results, total=len(todo), unit="file", disable=None), strict=True):
            if isinstance(result, Failure):
                failures.append(result)
            else:
                sink.write(item, result)
        whole = True
    finally:
        sink.close(whole=whole)
    return failures


def _check_it_is_written(settings: Settings, format_name: str) -> None:
    """Whether the format has a place for what is asked.

    Raises:
        ConfigError: names the option and the formats that have.
    """
    for name, formats in _WRITTEN_IN.items():
        if getattr(settings, name) and format_name not in formats:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option}: {format_name} has no place for it; take --format {' or '.join(formats)}")


def open_recognizer(settings: Settings) -> Any:
    """The model that was named, with the CPU threads it is given.

    Raises:
        ConfigError: it does not transcribe.
    """
    if settings.threads or "OMP_NUM_THREADS" not in os.environ:  # what a launcher such as torchrun set is left alone
        torch.set_num_threads(settings.threads or cpus.usable())
    model = settings.model
    recognizer = sonant.load(model, device=settings.device, dtype=settings.dtype, registry=settings.registry)
    if not hasattr(recognizer, "transcribe"):
        raise ConfigError(f"{model} is a {type(recognizer).__name__}, which does not transcribe: name a recognizer with --model")
    return recognizer


def _format_of(output: str | None) -> str:
    suffix = Path(output).suffix.lstrip(".") if output else ""
    return suffix if suffix in outputs.EXTENSIONS else "txt"


def _expand(paths: Sequence[str]) -> tuple[list[Item], list[Failure]]:
    items: list[Item] = []
    failures = []
    for path in paths:
        try:
            items += inputs.expand(path)
        except AudioError as error:
            failures.append(Failure(path, error))
    return items, failures
