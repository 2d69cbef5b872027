"""A decoder and the search that reads it: neither can be tried without the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from torch import Tensor

from sonant.build import instantiate
from sonant.config import fill_section
from sonant.protocols import Hypothesis
from sonant.spec import canonical
from sonant.testing import samples
from sonant.testing.check import RAISED, Skipped
from sonant.testing.subject import D_IN, Subject

Find = Callable[[Tensor, Tensor], Sequence[Hypothesis]]
LENS: Final = (16, 9, 4)
SPREADS: Final = (3.0, 30.0)  # encoder output wide enough for an untrained head to find labels


def utterances(seed: int = 0, spread: float = SPREADS[0]) -> tuple[Tensor, Tensor]:
    """Encoder output `(B, T, D)`, noise and poison behind it, and the lengths `(B,)`."""
    return samples.batch(LENS, D_IN, scale=spread, seed=seed)


def search_of(decoder: Any) -> Any:
    """The search that a decoder names, with its defaults.

    Raises:
        Skipped: it cannot be built, and the decoder's check `names its search` says why.
    """
    try:
        return named_search(decoder)
    except RAISED as error:
        raise Skipped("its search cannot be built") from error


def named_search(decoder: Any) -> Any:
    """The same, with every exception let out."""
    return instantiate(fill_section("search", decoder.search, "search"), "search", {})


def decoder_for(search: Subject) -> Any | None:
    """The nearest decoder that names the search, or else the nearest whose family it reads; None where there is neither."""
    families = getattr(search.build(), "families", ())
    readable = None
    for mate in search.mates("decoder"):
        try:
            decoder = mate.build()
        except Skipped:
            continue
        if canonical(str(getattr(decoder, "search", ""))) == search.spec.name:
            return decoder
        if readable is None and getattr(decoder, "family", None) in families:
            readable = decoder
    return readable


def pair(subject: Subject) -> Find:
    """A decoder with its search, or a search with its decoder.

    Raises:
        Skipped: there is nothing to go with it, and a check of its own says so.
    """
    built = subject.build()
    if subject.spec.kind == "search":
        decoder = decoder_for(subject)
        if decoder is None:
            raise Skipped("no installed decoder can be read by it")
        return lambda enc, lens: built(decoder, enc, lens)
    search = search_of(built)
    return lambda enc, lens: search(built, enc, lens)


def findings(find: Find, batches: int) -> list[list[Hypothesis]]:
    """What is found in so many batches of noise, as wide as it takes to find a label; without any in the widest, that."""
    found: list[list[Hypothesis]] = []
    for spread in SPREADS:
        found = [list(find(*utterances(seed, spread))) for seed in range(batches)]
        if any(getattr(hypothesis, "tokens", True) for batch in found for hypothesis in batch):
            break
    return found
