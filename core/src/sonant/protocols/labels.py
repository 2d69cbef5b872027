"""Vectors to labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from attrs import frozen

if TYPE_CHECKING:
    from torch import Tensor


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
