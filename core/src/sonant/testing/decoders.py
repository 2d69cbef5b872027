"""What a decoder and the search that reads it promise together."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import nn

from sonant.protocols import Hypothesis
from sonant.testing import calls, samples
from sonant.testing.check import RAISED, Skipped, explain, require
from sonant.testing.pairing import LENS, decoder_for, findings, named_search, pair, search_of, utterances
from sonant.testing.subject import D_IN, VOCAB_SIZE, Subject

_BEYOND: Final = 8  # frames by which a token may outlast its utterance: the longest duration of published TDT heads
_TOO_FEW: Final = "does not give one hypothesis an utterance"
_NOTHING: Final = "with random weights it finds no labels in noise"


def attributes(subject: Subject) -> None:
    """`d_in` is the width that was asked for, and `family` a word."""
    built = subject.build()
    require(getattr(built, "d_in", None) == D_IN, f"its d_in is {getattr(built, 'd_in', None)!r}, built with d_in={D_IN}")
    family = getattr(built, "family", None)
    require(isinstance(family, str) and family, f"its family is {family!r}, not a word such as 'ctc', for how it spells")


def names_its_search(subject: Subject) -> None:
    """`search` is the name of an installed search, which can be built with its defaults."""
    built = subject.build()
    name = getattr(built, "search", None)
    require(isinstance(name, str), f"its search is {name!r}, not the name of a search component")
    try:
        named_search(built)
    except RAISED as error:
        raise AssertionError(f"its search cannot be used: {explain(error)}") from error


def search_reads_its_family(subject: Subject) -> None:
    """The search it names reads heads of its family."""
    built = subject.build()
    if not isinstance(getattr(built, "family", None), str):
        raise Skipped("its attributes are not usable")
    families = getattr(search_of(built), "families", (built.family,))
    require(
        built.family in families,
        f"its search {built.search!r} reads {' and '.join(families)} heads, and its family is {built.family!r}",
    )


def asks_for_what_training_has(subject: Subject) -> None:
    """A module's `forward` needs nothing but `enc`, `lens`, `labels` and `label_lens`."""
    built = subject.build()
    if not isinstance(built, nn.Module):
        raise Skipped("not a torch.nn.Module")
    offered = ("enc", *calls.labelled())
    unknown = calls.lacking(built, offered)
    require(not unknown, f"its forward needs {', '.join(unknown)}, and training offers {', '.join(offered)}")


def has_a_decoder(subject: Subject) -> None:
    """Some installed decoder names it, or is of one of its `families`; without one it cannot be tried."""
    families = getattr(subject.build(), "families", ())
    require(
        decoder_for(subject) is not None,
        f"no installed decoder names it or is of its families ({', '.join(families) or 'it states none'}): "
        "state families, and install a decoder of them for the tests",
    )


@torch.no_grad()
def hypotheses(subject: Subject) -> None:
    """One hypothesis an utterance: ids of the vocabulary, each with its first frame and its end, in order, and a finite score."""
    (found,) = findings(pair(subject), 1)
    require(len(found) == len(LENS), f"{len(LENS)} utterances gave {len(found)} hypotheses")
    for hypothesis, length in zip(found, LENS, strict=True):
        _check(hypothesis, length)
    require(any(hypothesis.tokens for hypothesis in found), f"{_NOTHING}, however loud: nothing that it finds can be checked")


def _check(found: Hypothesis, frames: int) -> None:
    gave = f"an utterance of {frames} frames gave {found}"
    require(isinstance(found, Hypothesis), f"not a sonant.protocols.Hypothesis: {gave}")
    sizes = {len(found.tokens), len(found.starts), len(found.ends)}
    require(len(sizes) == 1, f"tokens, starts and ends are not equally many: {gave}")
    require(all(0 <= t < VOCAB_SIZE for t in found.tokens), f"ids must be at least 0 and below {VOCAB_SIZE}: {gave}")
    require(list(found.starts) == sorted(found.starts), f"the starts go back: {gave}")
    require(all(0 <= s < frames for s in found.starts), f"a token starts outside the utterance: {gave}")
    require(all(s <= e for s, e in zip(found.starts, found.ends, strict=True)), f"a token ends before it starts: {gave}")
    require(
        all(e <= frames + _BEYOND for e in found.ends),
        f"a token ends more than {_BEYOND} frames behind the utterance; ends are encoder frames: {gave}",
    )
    require(math.isfinite(found.score), f"the score is not finite: {gave}")


@torch.no_grad()
def batch_invariance(subject: Subject) -> None:
    """An utterance gives the same hypothesis alone and in any batch."""
    find = pair(subject)
    enc, lens = utterances()
    found = find(enc, lens)
    if len(found) != len(LENS):
        raise Skipped(_TOO_FEW)
    for row, (together, length) in enumerate(zip(found, LENS, strict=True)):
        alone = find(enc[row : row + 1, :length], lens[row : row + 1])[0]
        require(
            (alone.tokens, alone.starts, alone.ends) == (together.tokens, together.starts, together.ends),
            f"padding leaks into the search: an utterance of {length} frames gives {alone} alone, and in a batch {together}",
        )


@torch.no_grad()
def another_utterance_gives_another_hypothesis(subject: Subject) -> None:
    """What is found depends on what was said."""
    first, second = findings(pair(subject), 2)
    if not any(getattr(hypothesis, "tokens", True) for hypothesis in (*first, *second)):
        raise Skipped(_NOTHING)
    require(first != second, f"other utterances of noise give the same hypotheses: {first[0]}")


@torch.no_grad()
def empty_utterances(subject: Subject) -> None:
    """An utterance without frames has no tokens, alone and in a batch."""
    find = pair(subject)
    for lens in ((0,), (9, 0)):
        enc = samples.noise(len(lens), 9, D_IN)
        found = find(enc, torch.tensor(lens))
        if len(found) != len(lens):
            raise Skipped(_TOO_FEW)
        require(not found[-1].tokens, f"an utterance of no frames gave {found[-1]}")


_BOTH = (hypotheses, batch_invariance, another_utterance_gives_another_hypothesis, empty_utterances)
SEARCHING = (has_a_decoder, *_BOTH)
CHECKS = (attributes, names_its_search, search_reads_its_family, asks_for_what_training_has, *_BOTH)
