"""The task `acme/keyword_spotting`: recordings to the keywords in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import compress, groupby
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from acme_speech.spotting.config import KeywordSpottingConfig
from acme_speech.spotting.labelled import Labelled
from acme_speech.spotting.result import Keyword, Spotting
from sonant import inputs, lengths, runtime
from sonant.runtime import Batch, Batching
from sonant.training import Example, Score


class KeywordSpotter(nn.Module):
    """Any encoder, and a layer that tells at every frame which keyword is being said, or none.

    The probabilities are averaged over a sliding window (Chen et al., 2014, "Small-footprint keyword spotting using deep neural
    networks"). Where an average reaches the threshold, the keyword was said.
    """

    def __init__(self, config: KeywordSpottingConfig, *, preprocessor: Any, encoder: Any) -> None:
        super().__init__()
        self.config = config
        self.preprocessor, self.encoder = preprocessor, encoder
        self.out = nn.Linear(encoder.d_out, len(config.keywords) + 1)  # the last one is for everything else

    @classmethod
    def from_parts(cls, config: KeywordSpottingConfig, parts: Mapping[str, Any]) -> Self:
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

    def forward(self, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, N)` samples, `(B,)` to the averaged probability of each keyword around each frame, `(B, T, K)`, and `(B,)`."""
        enc, lens = self.encoder(*self.preprocessor(wav, lens))
        said = self.out(enc).float().softmax(-1)[..., :-1]  # (B, T, K)
        said = said.masked_fill(~lengths.mask(lens, said.shape[1])[..., None], 0.0)
        window = self.config.window
        return functional.avg_pool1d(said.transpose(1, 2), window, stride=1, padding=window // 2).transpose(1, 2), lens

    def prepare(self, example: Example) -> tuple[Tensor, Tensor, str]:
        """What training learns of a recording: its samples, and which keywords are in its `text`, `(K,)`."""
        text = example.row.get("text")
        if not isinstance(text, str):
            raise ValueError('it has no "text", which says whether a keyword is in it')
        present = torch.tensor([float(f" {keyword} " in f" {text} ") for keyword in self.config.keywords])
        return torch.from_numpy(example.samples), present, example.name

    def collate(self, prepared: Sequence[tuple[Tensor, Tensor, str]]) -> Labelled:
        """A batch for `loss` and `score`."""
        samples, present, names = zip(*prepared, strict=True)
        return Labelled(*lengths.pad(list(samples)), torch.stack(present), names)

    def loss(self, batch: Labelled) -> dict[str, Tensor]:
        """Binary cross entropy of a keyword's highest average in a recording, averaged over keywords and recordings.

        Whether a keyword is in a recording is known; where, the model finds out by itself.
        """
        averages, _ = self(batch.wav, batch.lens)  # behind a recording's end they only fall
        return {"loss": functional.binary_cross_entropy(averages.amax(1), batch.present)}

    def score(self, batch: Labelled) -> list[Score]:
        """For how many keywords it is wrong about whether they are in a recording."""
        averages, _ = self(batch.wav, batch.lens)
        heard = averages.amax(1) >= self.config.threshold  # (B, K)
        rows = zip(batch.names, batch.present.bool().tolist(), heard.tolist(), strict=True)
        return [self._score(name, said, found) for name, said, found in rows]

    def _score(self, name: str, said: list[bool], found: list[bool]) -> Score:
        reference, result = (", ".join(compress(self.config.keywords, which)) or "none" for which in (said, found))
        wrong = sum(a != b for a, b in zip(said, found, strict=True))
        return Score(name=name, reference=reference, result=result, counts={"keyword_errors": (wrong, len(said))})

    def spot(self, audio: Any, *, threshold: float | None = None, batch_size: int = 16) -> list[Spotting]:
        """The keywords in recordings.

        Args:
            audio: one or many of: a path, a folder, a `.jsonl` manifest, an array at the model's rate, a pair `(array, rate)`.
            threshold: averages from here on are a keyword; None takes the config's.
            batch_size: most recordings in one pass.

        Raises:
            AudioError: a recording cannot be read.
        """
        infer = partial(self.infer, threshold=threshold)
        return list(runtime.process(inputs.expand(audio), infer, self.sample_rate, Batching(batch_size=batch_size)))

    @torch.inference_mode()
    def infer(self, batch: Batch, *, threshold: float | None = None) -> list[Spotting]:
        """The keywords of each recording of a batch."""
        threshold = self.config.threshold if threshold is None else threshold
        device = next(self.parameters()).device
        averages, lens = self(batch.wav.to(device), batch.lens.to(device))
        seconds = (batch.lens / self.sample_rate).tolist()
        rows = zip(averages, lens.tolist(), batch.items, seconds, strict=True)
        return [
            Spotting(keywords=self._keywords(row[:frames].tolist(), threshold), source=item.name, duration=duration)
            for row, frames, item, duration in rows
        ]

    def _keywords(self, averages: list[list[float]], threshold: float) -> tuple[Keyword, ...]:
        found = [
            Keyword(text, start * self.frame_seconds, end * self.frame_seconds, score)
            for text, column in zip(self.config.keywords, zip(*averages, strict=True), strict=False)  # no frames, no columns
            for start, end, score in spans(column, threshold)
        ]
        return tuple(sorted(found, key=lambda keyword: keyword.start))


def spans(averages: tuple[float, ...], threshold: float) -> list[tuple[int, int, float]]:
    """Runs of frames whose averages reach the threshold: `[start, end)`, and the highest average."""
    found = []
    for reached, run in groupby(enumerate(averages), key=lambda pair: pair[1] >= threshold):
        if reached:
            frames, values = zip(*run, strict=True)
            found.append((frames[0], frames[-1] + 1, max(values)))
    return found
