"""What a clusterer promises: embeddings to speakers, whatever their order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sonant.testing import samples
from sonant.testing.check import require
from sonant.testing.subject import Subject

_SPEAKERS, _EACH, _WIDTH = 3, 8, 16


def _embeddings() -> Tensor:
    """`(N, D)` on the unit sphere: three speakers that nobody confuses, eight pieces of each."""
    centres = torch.eye(_SPEAKERS, _WIDTH).repeat_interleave(_EACH, dim=0)
    found = centres + 0.03 * samples.noise(*centres.shape)
    return found / found.norm(dim=1, keepdim=True)


def _check(labels: Any, pieces: int) -> int:
    """The number of speakers in `labels`, which must be whole numbers from 0 without gaps."""
    require(isinstance(labels, Tensor), f"it returns a {type(labels).__name__}, not a tensor")
    require(tuple(labels.shape) == (pieces,), f"{pieces} embeddings gave labels of shape {tuple(labels.shape)}")
    require(labels.dtype == torch.int64, f"the labels are {labels.dtype}, not torch.int64")
    found = sorted(set(labels.tolist()))
    require(found == list(range(len(found))), f"the labels are {found}, not counted from 0 without gaps")
    return len(found)


@torch.no_grad()
def labels(subject: Subject) -> None:
    """A label for each embedding, int64, counted from 0 without gaps."""
    embeddings = _embeddings()
    _check(subject.build()(embeddings), len(embeddings))


@torch.no_grad()
def number_of_speakers(subject: Subject) -> None:
    """With `n_speakers` there are that many."""
    built, embeddings = subject.build(), _embeddings()
    for wanted in (1, 2, _SPEAKERS, 5):
        found = len(set(built(embeddings, n_speakers=wanted).tolist()))
        require(found == wanted, f"asked for {wanted} speakers, it finds {found}")


@torch.no_grad()
def tells_speakers_apart(subject: Subject) -> None:
    """Three speakers that nobody confuses are told apart, where their number is known."""
    found = subject.build()(_embeddings(), n_speakers=_SPEAKERS)
    speakers = torch.arange(_SPEAKERS).repeat_interleave(_EACH)
    same = found[:, None] == found[None]  # (N, N)
    require(
        same.equal(speakers[:, None] == speakers[None]),
        f"{_SPEAKERS} groups of {_EACH} embeddings each, far apart and with n_speakers={_SPEAKERS}, became {found.tolist()}",
    )


@torch.no_grad()
def one_embedding(subject: Subject) -> None:
    """A single embedding is the first speaker."""
    built, embedding = subject.build(), _embeddings()[:1]
    for options in ({}, {"n_speakers": 1}):
        found = built(embedding, **options).tolist()
        require(found == [0], f"a single embedding, with {options or 'no options'}, gave {found}, not [0]")


@torch.no_grad()
def order_of_the_pieces(subject: Subject) -> None:
    """The order of the embeddings does not change which belong together."""
    built, embeddings = subject.build(), _embeddings()
    order = torch.randperm(len(embeddings), generator=torch.Generator().manual_seed(0))
    for options in ({}, {"n_speakers": _SPEAKERS}):
        first, second = built(embeddings, **options), built(embeddings[order], **options)
        together = first[order][:, None] == first[order][None]  # (N, N)
        require(
            together.equal(second[:, None] == second[None]),
            f"the same embeddings in another order, with {options or 'no options'}, are put together in another way",
        )


CHECKS = (labels, number_of_speakers, tells_speakers_apart, one_embedding, order_of_the_pieces)
