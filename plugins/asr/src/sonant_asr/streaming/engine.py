"""Steps of a model on several streams at once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from attrs import frozen

from sonant import audio, lengths
from sonant.audio import Samples
from sonant.errors import AudioError, ConfigError
from sonant.protocols import Hypothesis
from sonant_asr.recognizer import prompt as prompts
from sonant_asr.recognizer import searching
from sonant_asr.recognizer.prompt import Prompt
from sonant_asr.streaming.events import Event
from sonant_asr.streaming.words import Words

_LONGEST = 20.0  # seconds of a step, so that memory does not grow with what is pushed at once


@frozen
class Position:
    """Where a stream stands: the states of the model's parts, and how many encoder frames there have been."""

    features: Any
    encoder: Any
    search: Any
    frames: int = 0


class Stream:
    """One stream: its position, the samples that wait for more, its words."""

    def __init__(self, position: Position, needed: int, prompt: Prompt | None, words: Words) -> None:
        self.position, self.needed, self.prompt, self.words = position, needed, prompt, words
        self.ended = False
        self._waiting: list[Samples] = []
        self.count = 0  # of the samples that wait
        self.heard = 0  # of those that do not any more

    def take(self, samples: Samples) -> None:
        """Samples to come after those that wait; a copy, for callers fill their buffers anew."""
        self._waiting.append(samples.copy())
        self.count += len(samples)

    def piece(self, longest: int) -> Samples:
        """The first samples that wait, `longest` at most, which go on waiting."""
        if len(self._waiting) != 1:
            self._waiting = [np.concatenate([*self._waiting, np.zeros(0, dtype=np.float32)])]
        return self._waiting[0][:longest]

    def advance(self, count: int, position: Position, needed: int) -> None:
        """So many of them are through, and have led to `position`."""
        rest = self._waiting[0][count:]
        self._waiting = [rest.copy() if len(rest) <= count else rest]  # hours pushed at once are not copied at every step
        self.count -= count
        self.heard += count
        self.position, self.needed = position, needed


class Engine:
    """The parts of a recognizer, set up to stream.

    Args:
        model: a `Recognizer`.
        head: the one of its heads to read.
        search: what reads it.
        att_context_size: how far the encoder looks, where it has a choice.

    Raises:
        ConfigError: one of the parts does not stream, or not with these options; says why.
    """

    def __init__(self, model: Any, head: Any, search: Any, att_context_size: Sequence[int] | None) -> None:
        for part in (model.preprocessor, model.encoder):
            _check_streams(part)
        if not hasattr(search, "step"):
            streams = hasattr(searching.choose(head, model.tokenizer, None), "step")
            other = f": streams need another, as {head.search!r}" if streams else ", as all of these heads' do"
            raise ConfigError(f"{type(search).__name__} searches whole recordings only{other}")
        self.preprocessor, self.encoder, self.head, self.search = model.preprocessor, model.encoder, head, search
        self.takes_prompts = model.takes_prompts(head)
        self.sample_rate: int = model.sample_rate
        self._frame_seconds: float = model.frame_seconds
        self._context = _context(model.encoder, att_context_size)
        self._longest = int(_LONGEST * self.sample_rate)
        try:
            self.first = self._needed(self.start())
            self.latency: float = model.encoder.chunk(**self._context) / model.preprocessor.frame_rate
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def start(self) -> Position:
        """Where a stream begins."""
        return Position(self.preprocessor.init_state(), self.encoder.init_state(), self.search.init_state(self.head))

    def samples(self, piece: Any) -> Samples:
        """What a user pushes as float32.

        Raises:
            AudioError: it is not one row of finite numbers.
        """
        shape = np.shape(piece)
        if len(shape) != 1:
            raise AudioError(f"a piece of a stream has shape {shape}; it must be (N,), one channel at {self.sample_rate} Hz")
        return audio.read(piece, self.sample_rate) if shape[0] else np.zeros(0, dtype=np.float32)

    def ready(self, stream: Stream, last: bool) -> bool:
        """Whether a step on it would come to something."""
        return not stream.ended and (last or stream.count >= stream.needed)

    @torch.inference_mode()
    def step(self, streams: Sequence[Stream], last: bool) -> list[list[Event]]:
        """Take streams on by what waits of them, to their end if it is the `last` that comes; if it raises, all are as before."""
        device = next(self.encoder.parameters()).device
        pieces = [torch.from_numpy(stream.piece(max(self._longest, stream.needed))) for stream in streams]
        ends = [last and len(piece) == stream.count for piece, stream in zip(pieces, streams, strict=True)]
        wav, lens = lengths.pad(pieces)
        before = [stream.position for stream in streams]
        feats, lens, features = self.preprocessor.step(wav.to(device), lens.to(device), [p.features for p in before], last=ends)
        enc, lens, encoders = self.encoder.step(feats, lens, [p.encoder for p in before], last=ends, **self._context)
        found, searches = self._search(streams, enc, lens)
        after = [
            Position(f, e, s, position.frames + count)
            for f, e, s, position, count in zip(features, encoders, searches, before, lens.tolist(), strict=True)
        ]
        needed = [self._needed(position) for position in after]
        return [
            self._moved(stream, len(piece), position, need, hypothesis, end)
            for stream, piece, position, need, hypothesis, end in zip(streams, pieces, after, needed, found, ends, strict=True)
        ]

    def _moved(
        self, stream: Stream, samples: int, position: Position, needed: int, found: Hypothesis, ended: bool
    ) -> list[Event]:
        stream.advance(samples, position, needed)
        stream.ended = ended
        if not stream.heard:  # encoders make a frame even of nothing
            found = Hypothesis(tokens=(), starts=(), ends=())
        seconds = min(position.frames * self._frame_seconds, stream.heard / self.sample_rate)
        return stream.words.add(found, position.frames, seconds, ended=ended)

    def _search(self, streams: Sequence[Stream], enc: torch.Tensor, lens: torch.Tensor) -> tuple[list[Hypothesis], list[Any]]:
        asked = [stream.prompt for stream in streams if stream.prompt is not None]
        arguments: Mapping[str, Any] = prompts.arguments(self.takes_prompts, enc, lens, asked or None)
        found, states = self.search.step(self.head, states=[stream.position.search for stream in streams], **arguments)
        return found, states

    def _needed(self, position: Position) -> int:
        """How many more samples make further frames final."""
        return int(self.preprocessor.needs(position.features, self.encoder.needs(position.encoder, **self._context)))


def _check_streams(part: Any) -> None:
    if getattr(part, "streams", False):
        return
    reason = f"this model's {type(part).__name__} takes whole recordings only"
    if hasattr(part, "init_state"):
        try:
            part.init_state()
        except ValueError as error:
            reason = str(error)
    raise ConfigError(f"{reason}. A stream needs a model that was trained for it; this one can transcribe whole recordings")


def _context(encoder: Any, chosen: Sequence[int] | None) -> dict[str, Any]:
    if chosen is None:
        return {}
    if "att_context_size" not in inspect.signature(encoder.step).parameters:
        raise ConfigError(f"att_context_size {list(chosen)}: this model's encoder has one context only")
    return {"att_context_size": list(chosen)}
