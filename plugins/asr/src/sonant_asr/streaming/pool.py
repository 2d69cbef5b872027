"""Streams side by side, and a session for each."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sonant import runtime
from sonant.inputs import Item
from sonant_asr.confidence.asking import aggregation_of
from sonant_asr.recognizer import prompt as prompts
from sonant_asr.streaming.engine import Engine, Stream
from sonant_asr.streaming.events import Event
from sonant_asr.streaming.words import Spelling, Words


class Session:
    """One stream of a pool. It may be dropped at any time; nothing else holds it."""

    def __init__(self, pool: Pool, stream: Stream) -> None:
        self.pool, self._stream = pool, stream

    @property
    def ended(self) -> bool:
        """Whether it was finished."""
        return self._stream.ended

    def push(self, samples: Any) -> list[Event]:
        """Hear more samples `(N,)` at the model's rate, any number of them: an array or tensor of floats in [-1, 1], or of
        integers, which are scaled by their range. Returns what is new, often nothing: samples wait until they are worth a step.

        Raises:
            AudioError: these are no samples; none of them was heard.
            ValueError: the stream has ended.
        """
        return self.pool.push({self: samples})[self]

    def finish(self) -> list[Event]:
        """The stream is over: hear what waits, and make all final. The last event says `ended`.

        Raises:
            ValueError: the stream has ended already.
        """
        return self.pool.finish([self])[self]


class Pool:
    """Streams on one model, with the same options, that share its batches. Any thread may use it; they take turns.

    Args:
        model: a `Recognizer`.
        engine: its parts, set up to stream.
        silence: after so many seconds in which nothing is said the last word is final; None waits for the next word.
    """

    def __init__(self, model: Any, engine: Engine, silence: float | None) -> None:
        self._model, self._engine, self._silence = model, engine, silence
        self._spelling = Spelling(model.tokenizer)
        self._lock = threading.Lock()

    @property
    def sample_rate(self) -> int:
        """Of the audio that sessions take, in Hz."""
        return self._engine.sample_rate

    @property
    def latency(self) -> float:
        """Seconds of a stream from one step to the next: how long a sound waits at most, beside the time that the model takes."""
        return self._engine.latency

    def open(self, **asked: Any) -> Session:
        """Begin a stream. `asked` of a model that takes prompts: `target_lang`, …

        Raises:
            ConfigError: the model cannot be asked for that.
        """
        model, head = self._model, self._engine.head
        prompt = prompts.plan(self._engine.takes_prompts, prompts.read(asked), [Item(None, "a stream")])
        aggregation = aggregation_of(self._engine.search)
        words = Words(self._spelling, head.family, model.frame_seconds, model.config, self._silence, aggregation)
        return Session(self, Stream(self._engine.start(), self._engine.first, prompt[0] if prompt else None, words))

    def push(self, samples: Mapping[Session, Any]) -> dict[Session, list[Event]]:
        """`Session.push` for many at once: those that have enough samples share a step. Returns the events of each.

        Raises:
            AudioError: what is given to one of them are no samples; none of them has heard any.
            ValueError: one of the streams has ended, or is another pool's.
        """
        return self._hear({session: self._engine.samples(piece) for session, piece in samples.items()}, last=False)

    def finish(self, sessions: Iterable[Session]) -> dict[Session, list[Event]]:
        """`Session.finish` for many at once. Returns the events of each.

        Raises:
            ValueError: one of the streams has ended already, or is another pool's.
        """
        return self._hear({session: self._engine.samples([]) for session in sessions}, last=True)

    def _hear(self, samples: Mapping[Session, Any], *, last: bool) -> dict[Session, list[Event]]:
        with self._lock:
            for session in samples:
                if session.pool is not self:
                    raise ValueError("this stream is another pool's")
                if session.ended:
                    raise ValueError("this stream has ended; open another")
            for session, piece in samples.items():
                session._stream.take(piece)
            events: dict[Session, list[Event]] = {session: [] for session in samples}
            while going := [session for session in samples if self._engine.ready(session._stream, last)]:
                for session, new in zip(going, self._step([session._stream for session in going], last), strict=True):
                    events[session] += new
            return events

    def _step(self, streams: Sequence[Stream], last: bool) -> list[list[Event]]:
        if not self._model.training:
            return self._engine.step(streams, last)
        with runtime.in_eval(self._model):
            return self._engine.step(streams, last)
