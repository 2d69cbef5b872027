"""The task `asr`: recordings to transcripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal, Self, overload

import torch
from attrs import evolve
from torch import Tensor, nn

from sonant import inputs, runtime
from sonant.errors import ConfigError
from sonant.protocols import Hypothesis, Search
from sonant.results import Transcript
from sonant.runtime import Batch, Batching
from sonant_asr.recognizer import searching
from sonant_asr.recognizer.config import AsrConfig
from sonant_asr.recognizer.text import Level, check_level, transcript

_SHORTEST_ON_CPU = 0.85  # there padding costs as much as speech, and larger batches gain nothing


class Recognizer(nn.Module):
    """A speech recognizer made of parts.

    `preprocessor`, `encoder` and `decoder` can be called by themselves; `transcribe` does it all. Nothing about a call is kept
    in the model, so that threads can share it.
    """

    def __init__(
        self,
        config: AsrConfig,
        *,
        preprocessor: Any,
        tokenizer: Any,
        encoder: Any,
        decoder: Any,
        augmentation: Any = None,
        aux_decoder: Any = None,
        search: Any = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.preprocessor, self.augmentation = preprocessor, augmentation
        self.encoder, self.decoder, self.aux_decoder = encoder, decoder, aux_decoder
        self.tokenizer, self.search = tokenizer, search

    @classmethod
    def from_parts(cls, config: AsrConfig, parts: Mapping[str, Any]) -> Self:
        """Assemble; what the builder calls."""
        return cls(config, **parts)

    @property
    def sample_rate(self) -> int:
        """Of the audio the model works on, in Hz."""
        return int(self.preprocessor.sample_rate)

    @property
    def frame_seconds(self) -> float:
        """How long an encoder frame lasts."""
        return float(self.encoder.subsampling / self.preprocessor.frame_rate)

    @property
    def decoders(self) -> dict[str, Any]:
        """The heads by family: `rnnt` and `ctc` for a hybrid."""
        heads = [self.decoder] + ([self.aux_decoder] if self.aux_decoder is not None else [])
        return {head.family: head for head in heads}

    def encode(self, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, N)` samples, `(B,)` to encoder frames `(B, T, D)`, `(B,)`."""
        feats, lens = self.preprocessor(wav, lens)
        if self.augmentation is not None:
            feats = self.augmentation(feats, lens)
        return self.encoder(feats, lens)

    def forward(self, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """The same as `encode`."""
        return self.encode(wav, lens)

    @overload
    def transcribe(self, audio: Any, *, stream: Literal[False] = False, **options: Any) -> list[Transcript]: ...
    @overload
    def transcribe(self, audio: Any, *, stream: Literal[True], **options: Any) -> Iterator[Transcript]: ...
    def transcribe(  # type: ignore[misc]  # the overloads sum up the options
        self,
        audio: Any,
        *,
        timestamps: Level | bool | None = None,
        batch_size: int = 16,
        batch_seconds: float | None = None,
        channel: int | None = None,
        decoder: str | None = None,
        search: str | Mapping[str, Any] | None = None,
        stream: bool = False,
        on_error: Literal["raise", "return"] = "raise",
        workers: int = 2,
    ) -> Any:
        """Transcribe recordings.

        Args:
            audio: one or many of: a path (wav, flac, ogg, mp3; any rate and channels), a folder, a `.jsonl` manifest, an array or
                tensor at the model's rate, a pair `(array, rate)`, a binary file object.
            timestamps: `segment`, `word` or `char` for spans down to that level.
            batch_size: most recordings in one pass.
            batch_seconds: most seconds in one pass, padding included.
            channel: which one to hear, from 0; None averages all.
            decoder: a hybrid's head, by its family, as `ctc`, `rnnt` or `tdt`; None takes the main one.
            search: a search component, by name or as a section with its fields; None takes the head's own.
            stream: give results as they are ready instead of a list.
            on_error: `raise`, or `return` a `Failure` in the place of a recording that cannot be read.
            workers: threads that decode audio ahead.

        Returns:
            Transcripts in the order of the recordings; a list, or with `stream=True` an iterator.

        Raises:
            AudioError: a recording cannot be read.
            ConfigError: an option names something that is not there.
        """
        head = self._head(decoder)  # a wrong name fails before anything is decoded
        infer = partial(self.infer, level=check_level(timestamps), decoder=decoder, search=self._search(head, search))
        batching = Batching(
            batch_size=batch_size,
            batch_seconds=batch_seconds,
            channel=channel,
            workers=workers,
        )
        results = runtime.process(inputs.expand(audio), infer, self.sample_rate, batching, on_error)
        return results if stream else list(results)

    @torch.inference_mode()
    def infer(
        self,
        batch: Batch,
        *,
        level: Level | None = None,
        decoder: str | None = None,
        search: str | Mapping[str, Any] | Search | None = None,
    ) -> list[Transcript]:
        """Transcribe one batch; `transcribe` explains the options. A model in training mode is in eval mode for it."""
        if self.training:
            with runtime.in_eval(self):
                return self.infer(batch, level=level, decoder=decoder, search=search)
        head = self._head(decoder)
        device = next(self.parameters()).device
        enc, lens = self._encode_by_length(batch.wav.to(device), batch.lens.to(device))
        found = self._search(head, search)(head, enc, lens)
        seconds = (batch.lens / self.sample_rate).tolist()
        return [
            self._finish(hypothesis, head.family, level, item.name, duration)
            for hypothesis, item, duration in zip(found, batch.items, seconds, strict=True)
        ]

    def _encode_by_length(self, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`encode`, on a CPU in groups of similar length; the search that follows is better off with the whole batch."""
        seconds = (lens / self.sample_rate).tolist() if lens.device.type == "cpu" else []
        groups = runtime.plan(seconds, Batching(batch_size=len(lens), shortest=_SHORTEST_ON_CPU))
        if len(groups) < 2:
            return self.encode(wav, lens)
        rows: list[Any] = [None] * len(lens)
        for group in groups:
            enc, sizes = self.encode(wav[group, : int(lens[group].max())], lens[group])
            for index, row, size in zip(group, enc, sizes, strict=True):
                rows[index] = (row[: int(size)], size)
        return nn.utils.rnn.pad_sequence([row for row, _ in rows], batch_first=True), torch.stack([size for _, size in rows])

    def _finish(self, hypothesis: Hypothesis, family: str, level: Level | None, source: str, duration: float) -> Transcript:
        found = transcript(hypothesis, self.tokenizer, family, self.frame_seconds, level, self.config)
        return evolve(found, source=source, duration=duration)

    def _head(self, name: str | None) -> Any:
        if name is None:
            return self.decoder
        if name not in self.decoders:
            raise ConfigError(f"decoder={name!r}: this model has {' and '.join(self.decoders)}")
        return self.decoders[name]

    def _search(self, head: Any, wanted: str | Mapping[str, Any] | Search | None) -> Search:
        """A search is built once for all batches, and then comes back as it is."""
        if wanted is None or isinstance(wanted, (str, Mapping)):
            return searching.choose(head, self.tokenizer, wanted, self.search if head is self.decoder else None)
        return wanted
