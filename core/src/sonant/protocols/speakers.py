"""Who speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Clusterer(Protocol):
    """Embeddings of pieces of speech to speakers."""

    def __call__(self, embeddings: Tensor, *, n_speakers: int | None = None) -> Tensor:
        """Embeddings `(N, D)` of `N` pieces, at least one, to the speaker of each, `(N,)` int64, counted from 0 without gaps.

        With `n_speakers`, at most `N`, there are that many. The order of the pieces does not change which belong together.
        """
        ...
