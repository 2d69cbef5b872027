"""What a decoder and the search that reads it promise together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sonant import registry
from sonant.build import instantiate
from sonant.config import fill_section
from sonant.errors import SonantError
from sonant.protocols import Hypothesis
from sonant.testing import samples
from sonant.testing.check import Skipped, require
from sonant.testing.subject import D_IN, VOCAB_SIZE, Subject

Find = Callable[[Tensor, Tensor], Sequence[Hypothesis]]
_LENS = (16, 9, 4)
_SPREAD = 3.0  # encoder output wide enough for an untrained head to find many labels


def attributes(subject: Subject) -> None:
    """`d_in` is the width that was asked for, and `family` a word."""
    built = subject.build()
    require(getattr(built, "d_in", None) == D_IN, f"its d_in is {getattr(built, 'd_in', None)!r}, built with d_in={D_IN}")
    family = getattr(built, "family", None)
    require(isinstance(family, str) and family, f"its family is {family!r}, not a word such as 'ctc', for how it spells")


def names_its_search(subject: Subject) -> None:
    """`search` is the name of an installed search."""
    name = getattr(subject.build(), "search", None)
    require(isinstance(name, str), f"its search is {name!r}, not the name of a search component")
    try:
        registry.current().get("search", str(name))
    except SonantError as error:
        raise AssertionError(f"its search cannot be found: {error}") from error


def search_reads_its_family(subject: Subject) -> None:
    """The search it names reads heads of its family."""
    built = subject.build()
    if not isinstance(getattr(built, "family", None), str):
        raise Skipped("its attributes are not usable")
    families = getattr(_search_of(built), "families", (built.family,))
    require(
        built.family in families,
        f"its search {built.search!r} reads {' and '.join(families)} heads, and its family is {built.family!r}",
    )


def _search_of(decoder: Any) -> Any:
    try:
        return instantiate(fill_section("search", decoder.search, "search"), "search", {})
    except (SonantError, AttributeError) as error:
        raise Skipped("its search cannot be built") from error


def _pair(subject: Subject) -> Find:
    """A decoder with its search, or a search with the nearest decoder that names it."""
    built = subject.build()
    if subject.spec.kind == "search":
        decoder = _decoder_for(subject)
        return lambda enc, lens: built(decoder, enc, lens)
    search = _search_of(built)
    return lambda enc, lens: search(built, enc, lens)


def _decoder_for(search: Subject) -> Any:
    for mate in search.mates("decoder"):
        try:
            decoder = mate.build()
        except Skipped:
            continue
        if getattr(decoder, "search", None) == search.spec.name:
            return decoder
    raise Skipped("no installed decoder names it")


@torch.no_grad()
def hypotheses(subject: Subject) -> None:
    """One hypothesis an utterance: ids of the vocabulary, each with its first frame and its end, in order."""
    found = _pair(subject)(*samples.batch(_LENS, D_IN, scale=_SPREAD))
    require(len(found) == len(_LENS), f"{len(_LENS)} utterances gave {len(found)} hypotheses")
    if not any(hypothesis.tokens for hypothesis in found):
        raise Skipped("with random weights it finds no labels in noise")
    for hypothesis, length in zip(found, _LENS, strict=True):
        _check(hypothesis, length)


def _check(found: Hypothesis, frames: int) -> None:
    gave = f"an utterance of {frames} frames gave {found}"
    require(isinstance(found, Hypothesis), f"not a sonant.protocols.Hypothesis: {gave}")
    sizes = {len(found.tokens), len(found.starts), len(found.ends)}
    require(len(sizes) == 1, f"tokens, starts and ends are not equally many: {gave}")
    require(all(0 <= t < VOCAB_SIZE for t in found.tokens), f"ids must be at least 0 and below {VOCAB_SIZE}: {gave}")
    require(list(found.starts) == sorted(found.starts), f"the starts go back: {gave}")
    require(all(0 <= s < frames for s in found.starts), f"a token starts outside the utterance: {gave}")
    require(all(s <= e for s, e in zip(found.starts, found.ends, strict=True)), f"a token ends before it starts: {gave}")


@torch.no_grad()
def batch_invariance(subject: Subject) -> None:
    """An utterance gives the same hypothesis alone and in any batch."""
    find = _pair(subject)
    enc, lens = samples.batch(_LENS, D_IN, scale=_SPREAD)
    found = find(enc, lens)
    if len(found) != len(_LENS):
        raise Skipped("does not give one hypothesis an utterance")
    for row, (together, length) in enumerate(zip(found, _LENS, strict=True)):
        alone = find(enc[row : row + 1, :length], lens[row : row + 1])[0]
        require(
            (alone.tokens, alone.starts, alone.ends) == (together.tokens, together.starts, together.ends),
            f"padding leaks into the search: an utterance of {length} frames gives {alone} alone, and in a batch {together}",
        )


@torch.no_grad()
def empty_utterances(subject: Subject) -> None:
    """An utterance without frames has no tokens, alone and in a batch."""
    find = _pair(subject)
    for lens in ((0,), (9, 0)):
        enc = samples.noise(len(lens), 9, D_IN)
        last = find(enc, torch.tensor(lens))[-1]
        require(not last.tokens, f"an utterance of no frames gave {last}")


SEARCHING = (hypotheses, batch_invariance, empty_utterances)
CHECKS = (attributes, names_its_search, search_reads_its_family, *SEARCHING)
