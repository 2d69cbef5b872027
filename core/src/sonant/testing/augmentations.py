"""What an augmentation promises: it changes features, in training and only then."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sonant.testing import samples
from sonant.testing.check import require
from sonant.testing.subject import D_IN, Subject

_TRIES = 20


def _run(subject: Subject, *, training: bool, seed: int = 0) -> tuple[Tensor, Tensor]:
    built = subject.build()
    if isinstance(built, nn.Module):
        built.train(training)
    feats, lens = samples.batch((60, 41), D_IN)
    torch.manual_seed(seed)
    with torch.no_grad():
        return feats, built(feats.clone(), lens)


def identity_in_eval(subject: Subject) -> None:
    """In eval mode features pass through as they are."""
    feats, out = _run(subject, training=False)
    require(out.equal(feats), "it changes features in eval mode; recognition must see them as they are")


def keeps_the_shape(subject: Subject) -> None:
    """In training the features keep their shape and type."""
    feats, out = _run(subject, training=True)
    require(out.shape == feats.shape, f"features of shape {tuple(feats.shape)} became {tuple(out.shape)}")
    require(out.dtype == feats.dtype, f"features of type {feats.dtype} became {out.dtype}")


def changes_features_in_training(subject: Subject) -> None:
    """In training, some call out of a few changes something."""
    for seed in range(_TRIES):
        feats, out = _run(subject, training=True, seed=seed)
        if out.shape != feats.shape or not out.equal(feats):
            return
    raise AssertionError(f"{_TRIES} calls in training changed nothing; is its tiny config switched off?")


CHECKS = (identity_in_eval, keeps_the_shape, changes_features_in_training)
