"""From a batch of recordings to transcripts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from attrs import evolve
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sonant import runtime
from sonant.inputs import Item
from sonant.protocols import Hypothesis
from sonant.results import Transcript
from sonant.runtime import Batch, Batching
from sonant_asr.aed import pieces
from sonant_asr.long.searching import search_in_blocks
from sonant_asr.recognizer import padding
from sonant_asr.recognizer import prompt as prompts
from sonant_asr.recognizer.request import Request
from sonant_asr.recognizer.text import transcript

_SHORTEST_ON_CPU = 0.85  # there padding costs as much as speech, and larger batches gain nothing


def recognize(model: Any, batch: Batch, request: Request) -> list[Transcript]:
    """Transcribe one batch with a `Recognizer`: in one pass, unless a recording in it is too long for that."""
    seconds = (batch.lens / model.sample_rate).tolist()
    longest = pieces.longest(request.head, request.long.chunking)
    if longest is not None and max(seconds, default=0.0) > longest:
        return pieces.transcribe(batch, model.sample_rate, longest, lambda piece: recognize(model, piece, request))
    is_long = any(map(request.long.applies, seconds))
    if is_long and len(seconds) > 1:
        return [recognize(model, one, request)[0] for one in batch.each()]
    return _one_pass(model, batch, request, is_long)


def _one_pass(model: Any, batch: Batch, request: Request, is_long: bool) -> list[Transcript]:
    device = next(model.parameters()).device
    shortest = round(model.sample_rate * getattr(request.head, "shortest_seconds", 0.0))
    wav, lens, before = padding.lengthen(batch.wav.to(device), batch.lens.to(device), shortest)
    enc, frames = request.long(wav, lens, batch.items[0].name) if is_long else encode_by_length(model, wav, lens)
    asked = prompts.plan(request.takes_prompts, request.timed_prompt, batch.items)
    arguments = prompts.arguments(request.takes_prompts, enc, frames, asked)
    search = partial(search_in_blocks, request.search) if is_long else request.search
    results = _transcripts(model, search(request.head, **arguments), batch, request)
    if request.aligner is not None and request.level is not None:
        results = request.aligner.timed(results, wav, lens, request.level)
    results = [padding.moved(one, left / model.sample_rate) for one, left in zip(results, before.tolist(), strict=True)]
    return results if asked is None else [evolve(one, language=p.target_lang) for one, p in zip(results, asked, strict=True)]


def decode(model: Any, enc: Tensor, lens: Tensor, request: Request) -> list[Transcript]:
    """From encoder frames `(B, T, D)`, `(B,)`, of recordings that are not long, to transcripts."""
    asked = prompts.plan(request.takes_prompts, request.timed_prompt, [Item(None, "")] * len(lens))
    arguments = prompts.arguments(request.takes_prompts, enc, lens, asked)
    return _written(model, request.search(request.head, **arguments), request)


def _written(model: Any, found: Sequence[Hypothesis], request: Request) -> list[Transcript]:
    family, level, aggregation = request.head.family, request.own_level, request.aggregation
    return [transcript(h, model.tokenizer, family, model.frame_seconds, level, model.config, aggregation) for h in found]


def _transcripts(model: Any, found: Sequence[Hypothesis], batch: Batch, request: Request) -> list[Transcript]:
    written = zip(_written(model, found, request), batch.items, batch.lens.tolist(), strict=True)
    return [evolve(one, source=item.name, duration=samples / model.sample_rate) for one, item, samples in written]


def encode_by_length(model: Any, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
    """`model.encode`, on a CPU in groups of similar length; the search that follows is better off with the whole batch."""
    seconds = (lens / model.sample_rate).tolist() if lens.device.type == "cpu" else []
    groups = runtime.plan(seconds, Batching(batch_size=len(lens), shortest=_SHORTEST_ON_CPU))
    if len(groups) < 2:
        encoded: tuple[Tensor, Tensor] = model.encode(wav, lens)
        return encoded
    rows: list[Any] = [None] * len(lens)
    for group in groups:
        enc, sizes = model.encode(wav[group, : int(lens[group].max())], lens[group])
        for index, row, size in zip(group, enc, sizes, strict=True):
            rows[index] = (row[: int(size)], size)
    return pad_sequence([row for row, _ in rows], batch_first=True), torch.stack([size for _, size in rows])
