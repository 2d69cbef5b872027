"""Encoding recordings too long to be treated like others: how is decided, said, and done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from tqdm import tqdm

from sonant_asr.long import chunks, deciding
from sonant_asr.long.chunking import CONTEXT, Chunking, Mode, check

log = logging.getLogger(__name__)

LONGEST_SHARED = deciding.SHORT
"""Seconds of the longest recordings that share a batch."""

_WINDOW = 10.24  # seconds to either side of a frame that local attention sees: 128 frames of FastConformer, as NVIDIA advises
_PATIENCE = 2.0  # seconds without a progress bar


class LongEncoding:
    """How the long recordings of one call are encoded.

    Args:
        chunking: what was asked.
        preprocessor: waveform to features.
        encoder: features to vectors.

    Raises:
        ConfigError: the encoder cannot do what was asked.
    """

    def __init__(self, chunking: Chunking, preprocessor: Any, encoder: Any) -> None:
        self.chunking, self.preprocessor, self.encoder = check(chunking, encoder), preprocessor, encoder
        self.frame_seconds = encoder.subsampling / preprocessor.frame_rate
        self._said: set[Mode] = set()

    def applies(self, seconds: float) -> bool:
        """Whether a recording of that length is encoded here."""
        least = {None: deciding.SHORT, "full": float("inf"), "local": _WINDOW, "chunks": self.chunking.seconds + CONTEXT}
        return seconds > least[self.chunking.mode]

    def __call__(self, wav: Tensor, lens: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """One recording `(1, N)`, `(1,)` to encoder frames `(1, T, D)`, `(1,)`."""
        seconds = int(lens) / self.preprocessor.sample_rate
        feats, lens = self.preprocessor(wav, lens)
        for mode, reason in self._modes(int(lens), seconds):
            self._say(name, seconds, mode, reason)
            try:
                with _progress(name) as progress:
                    return self._encode(mode, feats, lens, progress)
            except (RuntimeError, MemoryError) as error:
                if self.chunking.mode is not None or mode == "chunks" or not deciding.is_out_of_memory(error):
                    raise
        raise AssertionError("chunks are the last mode there is")

    def _modes(self, frames: int, seconds: float) -> Iterator[tuple[Mode, str]]:
        if self.chunking.mode is not None:
            return iter([(self.chunking.mode, "as asked")])
        return deciding.modes(self.encoder, frames, seconds, self._window())

    def _encode(self, mode: Mode, feats: Tensor, lens: Tensor, progress: Callable[[float], object]) -> tuple[Tensor, Tensor]:
        if mode == "chunks":
            size, context = self._frames(self.chunking.seconds), self._frames(CONTEXT)
            return chunks.encode(self.encoder, feats, int(lens), size=size, context=context, progress=progress)
        options: dict[str, Any] = {"att_context_size": self._window()} if mode == "local" else {}
        if getattr(self.encoder, "takes_windows", False):
            options["progress"] = progress
        enc, lens = self.encoder(feats, lens, **options)
        return enc, lens

    def _frames(self, seconds: float) -> int:
        return max(1, round(seconds / self.frame_seconds))

    def _window(self) -> list[int]:
        return [self._frames(_WINDOW)] * 2

    def _say(self, name: str, seconds: float, mode: Mode, reason: str) -> None:
        """What was decided: loudly where the text may be another than that of full attention, and then once for a call."""
        how = {
            "full": "full attention",
            "local": f"local attention, {self._window()[0]} frames to either side",
            "chunks": f"chunks of {self.chunking.seconds:g} s with {CONTEXT:g} s around each",
        }
        level = logging.INFO if mode == "full" or mode in self._said or self.chunking.mode else logging.WARNING
        self._said.add(mode)
        log.log(level, "%s (%s): %s%s", name, _duration(seconds), how[mode], f" ({reason})" if reason else "")


@contextmanager
def _progress(name: str) -> Iterator[Callable[[float], object]]:
    """A bar that vanishes in the end, and is not there at all where there is no terminal."""
    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with tqdm(total=1.0, desc=name, leave=False, disable=None, delay=_PATIENCE, bar_format=form) as bar:
        yield lambda done: bar.update(done - bar.n)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min" if minutes > 1 else f"{seconds:.0f} s"
