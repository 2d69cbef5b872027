"""A CTC model that finds where the words of a text were said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen
from torch import Tensor

from sonant.protocols import Tokenizer
from sonant.results import Transcript
from sonant_asr.alignment.viterbi import align
from sonant_asr.alignment.words import Times, labels, split, times
from sonant_asr.recognizer.text import Level


@frozen
class Aligner:
    """The parts of a CTC model, and the marks that end a segment."""

    preprocessor: Any
    tokenizer: Tokenizer
    encoder: Any
    decoder: Any
    separators: Sequence[str] = (".", "!", "?")

    def timed(self, found: Sequence[Transcript], wav: Tensor, lens: Tensor, level: Level) -> list[Transcript]:
        """Transcripts of `(B, N)` samples, `(B,)`, with the times of their words. One that has too many words for its recording
        is left without."""
        all_times = self([one.text for one in found], wav, lens)
        return [
            evolve(
                one,
                segments=spans.segments,
                words=spans.words if level in ("word", "char") else (),
                chars=spans.chars if level == "char" else (),
            )
            for one, spans in zip(found, all_times, strict=True)
        ]

    def __call__(self, texts: Sequence[str], wav: Tensor, lens: Tensor) -> list[Times]:
        """The times of texts in `(B, N)` samples, `(B,)`."""
        enc, frames = self.encoder(*self.preprocessor(wav, lens))
        words = [split(text, self.tokenizer, self.separators) for text in texts]
        log_probs = self.decoder(enc).float().log_softmax(-1)
        spans = align(log_probs, frames, [labels(one) for one in words], self.decoder.blank)
        seconds = float(self.encoder.subsampling / self.preprocessor.frame_rate)
        return [
            Times() if found is None else times(one, found, self.tokenizer, seconds)
            for one, found in zip(words, spans, strict=True)
        ]
