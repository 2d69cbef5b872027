"""What each kind of component looks like to the others. Structural: nothing has to be inherited.

A component is built as `target(config, **sizes)`: `config` is its filled config, `sizes` are those of its keyword-only parameters
that the builder offers. The sizes a kind is offered stand at its protocol.

Shapes: `B` batch, `N` samples, `T` frames, `F` feature bins, `D` width, `U` label length, `V` vocabulary, `Q` codebooks.
Tensors are batch first and time second; lengths travel beside them as `(B,)` int64. Audio is mono
float32 in [-1, 1]. Frames at and beyond a recording's length are padding and must not change its result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from attrs import frozen

if TYPE_CHECKING:
    from torch import Tensor


# From audio to vectors


@runtime_checkable
class Preprocessor(Protocol):
    """Waveform to features.

    `d_out` is the number of feature bins, `sample_rate` that of the audio it takes, in Hz, and `frame_rate` how many frames it
    makes of a second.
    """

    d_out: int
    sample_rate: int
    frame_rate: float

    def __call__(self, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, N)`, `(B,)` to `(B, T, F)`, `(B,)`."""
        ...


@runtime_checkable
class StreamingPreprocessor(Preprocessor, Protocol):
    """A preprocessor that can be fed piece by piece and gives what it gives for the whole.

    Each stream has a state of its own, which goes in and comes out and is never written into. So streams may begin, wait and end
    as they like, and those that have something new share a batch; stacking is the component's business.
    """

    @property
    def streams(self) -> bool:
        """Whether this configuration can: none that measures the whole recording first."""
        ...

    def init_state(self) -> Any:
        """The state of a stream before its first sample. If this configuration does not stream, a `ValueError` says why."""
        ...

    def needs(self, state: Any, frames: int = 1) -> int:
        """How many more samples complete so many more frames, at least 1."""
        ...

    def step(
        self, wav: Tensor, lens: Tensor, states: Sequence[Any], *, last: Sequence[bool]
    ) -> tuple[Tensor, Tensor, Sequence[Any]]:
        """Feed `(B, N)` more samples, `lens` of them valid, to a stream each; returns the frames that are complete by now,
        `(B, T, F)`, `(B,)`, and the next states. `last` says which streams end with this piece; it may be empty, as any other."""
        ...


@runtime_checkable
class Augmentation(Protocol):
    """Changes features during training and only then."""

    def __call__(self, feats: Tensor, lens: Tensor) -> Tensor:
        """`(B, T, F)`, `(B,)` to `(B, T, F)`."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """Features to a sequence of vectors, `subsampling` times fewer.

    Built with `d_in`, the number of feature bins; `d_out` is the width of its vectors. Features arrive as float32, whatever the
    dtype of the encoder's weights, and are cast to it.

    It may tell how it takes long recordings. `attends_to_all` is whether work grows with the square of the length; without, it
    is taken to. `memory(frames)` is about how many bytes a call takes at most for one recording of so many features, beside
    weights and features. With `takes_windows` the call and `memory` also take `att_context_size`, `[left, right]` in frames,
    beyond which attention does not see, and the call `progress`, a function of the part that is done.
    """

    d_out: int
    subsampling: int

    def __call__(self, feats: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, T', D)`, `(B,)`.

        The lengths returned follow from `lens` alone, about `lens / subsampling`, rounded either way, and none exceeds `T'`.
        What lies behind them is not looked at. A length may be 0, in a batch or alone.
        """
        ...


@runtime_checkable
class StreamingEncoder(Encoder, Protocol):
    """An encoder that can be fed piece by piece and gives what it gives for the whole.

    Each stream has a state of its own, as in a `StreamingPreprocessor`, and the result of a stream does not depend on those that
    it shares a batch with.

    `chunk`, `needs` and `step` of an encoder that was trained with several contexts, which look further or less far ahead, also
    take `att_context_size`, one of them, `[left, right]` in frames; None means its first. Others need not declare it.
    """

    @property
    def streams(self) -> bool:
        """Whether this configuration is causal enough to stream."""
        ...

    def init_state(self) -> Any:
        """The state of a stream before its first frame. If this configuration does not stream, a `ValueError` says why."""
        ...

    def chunk(self) -> int:
        """How many features there are from those that make frames final to those that make the next final."""
        ...

    def needs(self, state: Any) -> int:
        """How many more features make further frames final, at least 1."""
        ...

    def step(
        self, feats: Tensor, lens: Tensor, states: Sequence[Any], *, last: Sequence[bool]
    ) -> tuple[Tensor, Tensor, Sequence[Any]]:
        """Feed `(B, T, F)` more features, `lens` of them valid, to a stream each; returns what is final by now, `(B, T', D)`,
        `(B,)`, and the next states. `last` says which streams end with this piece; it may be empty, as any other: a live source
        learns of its end late."""
        ...


# Text


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back. Ids are `0 … vocab_size - 1`; the blank of CTC and transducers comes after them."""

    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The token of each id as it is written, word boundary marks included."""
        ...


@runtime_checkable
class TextFrontend(Protocol):
    """Text as people write it to the ids of what is spoken (letters, phonemes, tones), for synthesis.

    Ids are `0 … vocab_size - 1`. Any text is taken, the empty one included: what cannot be spoken is left out, or is a
    `ValueError`.
    """

    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """The ids of what is spoken. The same text gives the same ids."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """What is spoken, written with its own symbols; not the text it came from."""
        ...


# From vectors to labels


@frozen(kw_only=True)
class Hypothesis:
    """What a search found in one utterance: ids and the encoder frames each spans, `[start, end)`.

    A start lies within the utterance. An end may lie up to 8 frames behind it, as durations that a head predicts do. `score` is
    finite, higher being better. `alternatives` are what a search that gives several found next best, the best of them first,
    no two with the same tokens.

    A search that can say how sure it is may give `token_confidence`, a number a token, about from 0 to 1, and
    `frame_confidence`: for each step of the search, blanks too, the frame and such a number.
    """

    tokens: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    score: float = 0.0
    alternatives: tuple[Hypothesis, ...] = ()
    token_confidence: tuple[float, ...] = ()
    frame_confidence: tuple[tuple[int, float], ...] = ()


@runtime_checkable
class Decoder(Protocol):
    """A head on an encoder. What else it offers is between it and its search.

    Built with `d_in`, the width of the encoder's vectors, and `vocab_size`, the number of labels. If it declares `tokenizer`, it
    is offered the model's, which may be absent. `search` names the search that
    reads it. `family` is a word for how it spells (`ctc`, `rnnt`, `tdt`, or a new one): the heads of a hybrid are told apart by
    it, and a search may state the `families` it reads. `beam_search`, which a head may have, names the search that is used where
    the size of a beam is asked for, and no search by name.

    A module's `forward`, which training calls, declares those it needs of `enc` `(B, T, D)`, `lens` `(B,)`, `labels` `(B, U)`
    int64 and `label_lens` `(B,)`, by these names. It returns one tensor, which a loss knows as `logits`, or a dict of tensors,
    which a loss knows by their names there.
    """

    d_in: int
    search: str
    family: str


@runtime_checkable
class Search(Protocol):
    """Reads the best label sequences off a decoder. Has no weights; chosen when a model is used.

    It may state `families: tuple[str, ...]`, the families of heads it reads; without, it is used for those that name it. If it
    declares `tokenizer`, it is offered the model's, and if it declares `files`, those its config names; both may be absent.
    """

    def __call__(self, decoder: Any, enc: Tensor, lens: Tensor) -> list[Hypothesis]:
        """The decoder, `(B, T, D)` and `(B,)` to one hypothesis an utterance."""
        ...


@runtime_checkable
class StreamingSearch(Search, Protocol):
    """A search that can be fed piece by piece and finds what it finds in the whole.

    Each stream has a state of its own, which goes in and comes out and is never written into: streams at different positions
    share a batch, and a state may be used twice, to see what frames would give that are not final yet.
    """

    def init_state(self, decoder: Any) -> Any:
        """The state of a stream before its first frame."""
        ...

    def step(self, decoder: Any, enc: Tensor, lens: Tensor, states: Sequence[Any]) -> tuple[list[Hypothesis], list[Any]]:
        """Feed `(B, T, D)` more frames, `lens` of them valid, to a stream each; returns what is new in them, and the next states.

        Starts and ends are counted in frames from the stream's beginning. A length may be 0.
        """
        ...


# From features or codes to audio


@runtime_checkable
class Vocoder(Protocol):
    """Features to a waveform.

    Built with `d_in`, the number of feature bins. `sample_rate` is that of the audio it makes, in Hz, and `upsampling` the number
    of samples it makes of a frame. Features arrive as float32 and are cast to the dtype of its weights.
    """

    d_in: int
    sample_rate: int
    upsampling: int

    def __call__(self, feats: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, T, F)`, `(B,)` to `(B, N)`, `(B,)`."""
        ...


@runtime_checkable
class Codec(Protocol):
    """A waveform to discrete codes, and back.

    `sample_rate` is that of the audio, in Hz, `frame_rate` the number of frames that a second has. A frame has a code of each of
    `n_codebooks` codebooks, `0 … codebook_size - 1`. Audio arrives as float32 and is cast to the dtype of its weights.
    """

    sample_rate: int
    frame_rate: float
    n_codebooks: int
    codebook_size: int

    def encode(self, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, N)`, `(B,)` to codes `(B, T, Q)` int64, `(B,)`."""
        ...

    def decode(self, codes: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Codes `(B, T, Q)` int64, `(B,)` to `(B, N)`, `(B,)`. What was encoded comes back as long as it was, up to a frame."""
        ...


# Speakers


@runtime_checkable
class Clusterer(Protocol):
    """Embeddings of pieces of speech to speakers."""

    def __call__(self, embeddings: Tensor, *, n_speakers: int | None = None) -> Tensor:
        """Embeddings `(N, D)` of `N` pieces, at least one, to the speaker of each, `(N,)` int64, counted from 0 without gaps.

        With `n_speakers`, at most `N`, there are that many. The order of the pieces does not change which belong together.
        """
        ...


# Training


@runtime_checkable
class Loss(Protocol):
    """How wrong a model is. Its docstring states the reduction: a sum or a mean, and over what.

    Built with `vocab_size`, the number of labels, if it declares that. Its call declares by name those it needs of: what the
    decoder's `forward` returns (`logits`, or the names of its dict), `lens` `(B,)`, `labels` `(B, U)` int64, `label_lens` `(B,)`.
    A regression declares `pred` `(B, T, F)`, `target` `(B, T, F)` and `lens` `(B,)`.
    """

    def __call__(self, **named: Tensor) -> Tensor:
        """A scalar, lower being better, with a gradient for what the model computed."""
        ...


@runtime_checkable
class Optimizer(Protocol):
    """Moves parameters against their gradients: a `torch.optim.Optimizer`.

    Built as `target(config, *, params)`. `params` is a list of parameters, or of groups: dicts with `params` and the options, as
    `lr`, that hold for these alone. `target` may be a class or a function.
    """

    param_groups: list[dict[str, Any]]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. `closure`, where given, computes the gradients and returns the loss."""
        ...

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a run which goes on later needs: tensors and plain values."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        ...


@runtime_checkable
class Scheduler(Protocol):
    """The learning rate of every step, as `torch.optim.lr_scheduler.LRScheduler`.

    Built as `target(config, *, optimizer, max_steps)`, which sets the learning rates of the first step. `optimizer` has the
    learning rates of its own config in its groups, `max_steps` is the length of the run. Stepped once after each step of the
    optimizer, and possibly beyond `max_steps`.
    """

    def step(self) -> None:
        """Write the learning rates of the next step into the optimizer's groups."""
        ...

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group now."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a run which goes on later needs: tensors and plain values."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        ...


# Models


@runtime_checkable
class Trainable(Protocol):
    """A task model that can be trained."""

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Scalars by name; `loss` is the one to minimize."""
        ...


@runtime_checkable
class Exportable(Protocol):
    """A task model that `sonant.export` can write as graphs for other runtimes."""

    def graphs(self, **options: Any) -> Any:
        """A `sonant.exporting.Export`: its graphs, and what is needed to use them. Options are those that the task offers."""
        ...


@runtime_checkable
class Task(Protocol):
    """A model with its task's own verb (`transcribe`, `diarize`, …) on top of `infer`.

    `target` is the class; the builder calls its `from_parts` and sets `blueprint`, the `sonant.build.Blueprint` of what it was
    built from.
    """

    blueprint: Any

    @classmethod
    def from_parts(cls, config: Any, parts: dict[str, Any]) -> Task:
        """The model made of its parts, which come by the keys of the spec's `parts`; optional ones may be absent."""
        ...

    def infer(self, batch: Any) -> Sequence[Any]:
        """A result for each recording of a `sonant.runtime.Batch`, in order."""
        ...


BY_KIND: Final[Mapping[str, type]] = MappingProxyType(
    {
        "task": Task,
        "preprocessor": Preprocessor,
        "augmentation": Augmentation,
        "encoder": Encoder,
        "decoder": Decoder,
        "search": Search,
        "tokenizer": Tokenizer,
        "text_frontend": TextFrontend,
        "vocoder": Vocoder,
        "codec": Codec,
        "clusterer": Clusterer,
        "loss": Loss,
        "optimizer": Optimizer,
        "scheduler": Scheduler,
    }
)
"""The protocol of every kind."""
