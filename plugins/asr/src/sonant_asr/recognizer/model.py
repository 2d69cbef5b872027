"""The task `asr`: recordings to transcripts."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self, overload

import torch
from torch import Tensor, nn

from sonant import inputs, runtime
from sonant.errors import ConfigError
from sonant.exporting import Export
from sonant.protocols import Search
from sonant.results import Transcript
from sonant.runtime import Batch, Batching
from sonant.training import Example, Score
from sonant_asr.alignment.model import Aligner
from sonant_asr.confidence.asking import Asked
from sonant_asr.fusion import merging
from sonant_asr.long.chunking import read as read_chunking
from sonant_asr.long.encoding import LONGEST_SHARED, LongEncoding
from sonant_asr.recognizer import graphs, searching, training
from sonant_asr.recognizer import prompt as prompts
from sonant_asr.recognizer.config import AsrConfig
from sonant_asr.recognizer.pipeline import decode, recognize
from sonant_asr.recognizer.request import Request
from sonant_asr.recognizer.text import Level, check_level
from sonant_asr.recognizer.training import Labelled, Utterance
from sonant_asr.recognizer.utterances import end_ids
from sonant_asr.streaming.engine import Engine
from sonant_asr.streaming.pool import Pool, Session


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
        prompt: Any = None,
        search: Any = None,
        aligner_preprocessor: Any = None,
        aligner_tokenizer: Any = None,
        aligner_encoder: Any = None,
        aligner_decoder: Any = None,
    ) -> None:
        super().__init__()
        self.config = config
        end_ids(tokenizer, config)  # a token that there is not is an error now
        self.preprocessor, self.augmentation = preprocessor, augmentation
        self.encoder, self.decoder, self.aux_decoder = encoder, decoder, aux_decoder
        self.prompt, self.tokenizer, self.search = prompt, tokenizer, search
        self.aligner_preprocessor, self.aligner_tokenizer = aligner_preprocessor, aligner_tokenizer
        self.aligner_encoder, self.aligner_decoder = aligner_encoder, aligner_decoder
        for part in (aligner_preprocessor, aligner_encoder, aligner_decoder):
            if isinstance(part, nn.Module):
                part.requires_grad_(False)  # no loss is of it

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

    def takes_prompts(self, head: Any) -> Any:
        """What is told what is asked for, if anything is: the part `prompt` behind the encoder, or the head itself."""
        return head if self.prompt is None else self.prompt

    def encode(self, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, N)` samples, `(B,)` to encoder frames `(B, T, D)`, `(B,)`."""
        return self.encoder(*self.features(wav, lens))

    def features(self, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, N)` samples, `(B,)` to what the encoder hears, `(B, T, F)`, `(B,)`: in training with the augmentation."""
        feats, lens = self.preprocessor(wav, lens)
        return (feats if self.augmentation is None else self.augmentation(feats, lens)), lens

    def forward(self, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """The same as `encode`."""
        return self.encode(wav, lens)

    @torch.inference_mode()
    def decode(self, enc: Tensor, lens: Tensor, request: Request | None = None) -> list[Transcript]:
        """Encoder frames `(B, T, D)`, `(B,)`, as `encode` gives, to transcripts without sources and durations."""
        return decode(self, enc, lens, request or self.request())

    def prepare(self, example: Example) -> Utterance:
        """What training learns from an example, which has a `text`; a `ValueError` says why it can learn nothing."""
        return training.prepare(self, example)

    def collate(self, prepared: Sequence[Utterance]) -> Labelled:
        """A batch for `loss` and `score`."""
        return training.collate(prepared)

    def loss(self, batch: Labelled, *, loss: Any, aux_loss: Any = None) -> dict[str, Tensor]:
        """What training minimizes, as `loss`; of a hybrid also the loss of each head, as `rnnt_loss` and `ctc_loss`; with
        `interctc` also that of each layer, as `inter_ctc_loss_l8`, and as `final_loss` what there is without.

        Args:
            batch: of `collate`.
            loss: what the head's output is measured by; a loss component.
            aux_loss: the same of the second head.

        Raises:
            ConfigError: a head has no loss, or a loss no head.
        """
        return training.losses(self, batch, loss, aux_loss)

    def score(self, batch: Labelled) -> list[Score]:
        """Word and character errors of each utterance of a batch, `wer` and `cer`."""
        return training.score(self, batch)

    def graphs(self, *, decoder: str | None = None) -> Export:
        """What `sonant.export` writes, of the main head or of a hybrid's `decoder`."""
        return graphs.of(self, decoder)

    @overload
    def transcribe(self, audio: Any, *, stream: Literal[False] = False, **options: Any) -> list[Transcript]: ...
    @overload
    def transcribe(self, audio: Any, *, stream: Literal[True], **options: Any) -> Iterator[Transcript]: ...
    def transcribe(
        self,
        audio: Any,
        *,
        timestamps: Level | bool | None = None,
        batch_size: int = 16,
        batch_seconds: float | None = None,
        channel: int | None = None,
        decoder: str | None = None,
        search: str | Mapping[str, Any] | None = None,
        boost: Sequence[str] | Mapping[str, float] | None = None,
        boost_weight: float | None = None,
        lm: str | os.PathLike[str] | None = None,
        lm_weight: float | None = None,
        confidence: Asked = None,
        chunking: str = "auto",
        stream: bool = False,
        on_error: Literal["raise", "return"] = "raise",
        workers: int = 2,
        **asked: Any,
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
            search: a search component, by name or as a section with its fields (without a name, of the head's beam search); None
                takes the head's own.
            boost: phrases to favour, as the model spells; a mapping gives each a weight of its own, 1 otherwise.
            boost_weight: of all phrases; 1 by default.
            lm: a file with an n-gram language model over the model's tokens: ARPA, also gzipped, or KenLM's binary format.
            lm_weight: of the language model; 0.3 by default.
            confidence: how sure the model is of each word: True, a method as `max_prob`, or fields of `ConfidenceConfig`
                (`sonant describe search ctc_greedy` lists them).
            chunking: how long recordings are heard: `auto` decides by length and memory, `full` is attention to everything,
                `local` to a window around each frame, `chunks` or `chunks:SECONDS` is in overlapping pieces.
            stream: give results as they are ready instead of a list.
            on_error: `raise`, or `return` a `Failure` in the place of a recording that cannot be read.
            workers: threads that decode audio ahead.
            asked: of a model that takes prompts: `source_lang`, `target_lang`, `punctuation`, … (`Prompt` has them all). What the
                row of a manifest says of its recording goes before.

        Returns:
            Transcripts in the order of the recordings; a list, or with `stream=True` an iterator.

        Raises:
            AudioError: a recording cannot be read.
            ConfigError: an option names something that is not there.
        """
        items = inputs.expand(audio)
        listening = {"boost": boost, "boost_weight": boost_weight, "lm": lm, "lm_weight": lm_weight}
        request = self.request(
            timestamps=timestamps,
            decoder=decoder,
            search=search,
            listening=listening,
            confidence=confidence,
            chunking=chunking,
            **asked,
        )
        prompts.plan(request.takes_prompts, request.timed_prompt, items)  # what cannot be asked fails before anything is decoded
        batching = Batching(
            batch_size=batch_size,
            batch_seconds=batch_seconds,
            longest=LONGEST_SHARED,
            channel=channel,
            workers=workers,
        )
        results = runtime.process(items, partial(self.infer, request=request), self.sample_rate, batching, on_error)
        return results if stream else list(results)

    def stream(self, **options: Any) -> Session:
        """A session that hears one stream; `streams` has the options, `Pool.open` what a model can be asked for."""
        asked = {name: options.pop(name) for name in options.keys() - inspect.signature(self.streams).parameters.keys()}
        return self.streams(**options).open(**asked)

    def streams(
        self,
        *,
        att_context_size: Sequence[int] | None = None,
        decoder: str | None = None,
        search: str | Mapping[str, Any] | None = None,
        boost: Sequence[str] | Mapping[str, float] | None = None,
        boost_weight: float | None = None,
        lm: str | os.PathLike[str] | None = None,
        lm_weight: float | None = None,
        confidence: Asked = None,
        silence: float | None = 1.0,
    ) -> Pool:
        """A pool of streams that share batches.

        Args:
            att_context_size: one of the encoder's contexts, as `[70, 1]`: the frames it sees back and ahead; None takes its
                first.
            decoder, search, boost, boost_weight, lm, lm_weight, confidence: as in `transcribe`.
            silence: after so many seconds in which nothing is said the last word is final; None waits for the next word.

        Raises:
            ConfigError: the model does not stream, or not with these options.
        """
        head = self._head(decoder)
        listening = {"boost": boost, "boost_weight": boost_weight, "lm": lm, "lm_weight": lm_weight}
        engine = Engine(self, head, self.search_for(head, search, listening, confidence), att_context_size)
        return Pool(self, engine, silence)

    def request(
        self,
        *,
        timestamps: Level | bool | None = None,
        decoder: str | None = None,
        search: str | Mapping[str, Any] | None = None,
        listening: Mapping[str, Any] | None = None,
        confidence: Asked = None,
        chunking: str = "auto",
        **asked: Any,
    ) -> Request:
        """What a call asks, looked up: heads, searches and files by their names. `transcribe` explains the options; `listening`
        are its `boost`, `lm` and their weights.

        Raises:
            ConfigError: an option names something that is not there.
        """
        head, level = self._head(decoder), check_level(timestamps)
        return Request(
            head=head,
            search=self.search_for(head, search, listening, confidence),
            long=LongEncoding(read_chunking(chunking), self.preprocessor, self.encoder),
            level=level,
            prompt=prompts.read(asked),
            takes_prompts=self.takes_prompts(head),
            aligner=self._aligner(head) if level else None,
        )

    def search_for(
        self,
        head: Any,
        wanted: str | Mapping[str, Any] | None = None,
        listening: Mapping[str, Any] | None = None,
        confidence: Asked = None,
    ) -> Search:
        """The search that reads `head`; `request` explains the options."""
        own = self.search if head is self.decoder else None
        asked = merging.plain(listening or {})
        members = getattr(getattr(self, "blueprint", None), "files", None)
        found: Search = searching.choose(head, self.tokenizer, wanted, own, asked=asked, confidence=confidence, members=members)
        return found

    @torch.inference_mode()
    def infer(self, batch: Batch, request: Request | None = None) -> list[Transcript]:
        """Transcribe one batch, as `request` asks. A model in training mode is in eval mode for it."""
        if self.training:
            with runtime.in_eval(self):
                return self.infer(batch, request)
        return recognize(self, batch, request or self.request())

    def _aligner(self, head: Any) -> Aligner | None:
        """A second model that finds the times of what `head` wrote, where the head cannot tell them well and there is one."""
        if head.family != "aed" or self.aligner_decoder is None:
            return None
        parts = (self.aligner_preprocessor, self.aligner_tokenizer, self.aligner_encoder, self.aligner_decoder)
        return Aligner(*parts, separators=self.config.segment_separators)

    def _head(self, name: str | None) -> Any:
        if name is None:
            return self.decoder
        if name not in self.decoders:
            raise ConfigError(f"decoder={name!r}: this model has {' and '.join(self.decoders)}")
        return self.decoders[name]
