"""What a task that can be trained promises: something to minimize, which moves all that learns, and a score."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from sonant.build import training_parts
from sonant.testing import samples
from sonant.testing.calls import SECONDS
from sonant.testing.check import RAISED, Skipped, explain, require
from sonant.testing.subject import Subject
from sonant.training import Example

_METHODS: Final = ("prepare", "collate", "loss", "score")
_LABELS: Final = 3  # in the text of an example


def trains(subject: Subject) -> None:
    """Its loss on labelled recordings is one finite number, with a finite gradient; what else it gives are scalars."""
    model = _trainable(subject)
    values = _losses(subject, model)
    require("loss" in values, f"loss() returns {', '.join(values) or 'nothing'}; the one to minimize is called 'loss'")
    for name, value in values.items():
        scalar = isinstance(value, Tensor) and value.ndim == 0 and bool(value.isfinite())
        require(scalar, f"loss() gives {value!r} as {name!r}, not one finite number")
    require(values["loss"].requires_grad, "its loss has no gradient: look for a detach, an argmax or .item()")
    values["loss"].backward()
    moved = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    require(any(bool(gradient.any()) for gradient in moved), "its loss has a gradient for none of its parameters")
    require(all(bool(gradient.isfinite().all()) for gradient in moved), "the gradient of its loss is not finite")


def scores(subject: Subject) -> None:
    """`score` gives one `sonant.training.Score` for each example of a batch, each with as much wrong as counts."""
    model = _trainable(subject).eval()
    batch = _batch(subject, model)
    with torch.no_grad():
        found = list(model.score(batch))
    require(len(found) == len(SECONDS), f"{len(SECONDS)} examples gave {len(found)} scores")
    for one in found:
        counts: Any = getattr(one, "counts", None)
        require(isinstance(counts, dict) and bool(counts), f"{one!r} has no counts, as {{'wer': (errors, words)}}")
        wrong = {name: pair for name, pair in counts.items() if not (len(pair) == 2 and min(pair) >= 0)}
        require(not wrong, f"counts are how much is wrong, and of how much, neither negative: {wrong}")


def _trainable(subject: Subject) -> Any:
    """The task in training mode.

    Raises:
        Skipped: it has none of what training calls.
    """
    model = subject.build().train()
    missing = [name for name in _METHODS if not hasattr(model, name)]
    if len(missing) == len(_METHODS) and not subject.spec.training:
        raise Skipped("it cannot be trained, and does not say that it can")
    require(not missing, f"it has no {', '.join(missing)}: a task that can be trained has {', '.join(_METHODS)}")
    return model


def _batch(subject: Subject, model: Any) -> Any:
    text = model.tokenizer.decode(list(range(_LABELS))) if hasattr(model, "tokenizer") else "yes"
    prepared = []
    for number, seconds in enumerate(SECONDS):
        noise = samples.noise(round(seconds * model.preprocessor.sample_rate), seed=number).numpy()
        row = {"text": text, "duration": seconds} | dict(subject.spec.tiny_row)
        prepared.append(model.prepare(Example(samples=noise, row=row, name=f"recording {number}")))
    return model.collate(prepared).to(torch.device("cpu"))


def _losses(subject: Subject, model: Any) -> dict[str, Tensor]:
    """What `loss` gives with the nearest losses with which it runs.

    Raises:
        Skipped: there are none.
    """
    batch = _batch(subject, model)
    wanted = [part for part in subject.spec.training if part.required]
    if not wanted:
        return dict(model.loss(batch))
    refused: BaseException | None = None
    for mate in subject.mates("loss"):
        try:
            section = mate.section.to_dict()
            return dict(model.loss(batch, **training_parts(model, {part.key: section for part in wanted})))
        except RAISED as error:
            refused = refused or error
    raise Skipped(f"it runs with no installed loss{f': {explain(refused)}' if refused else ''}")


CHECKS = (trains, scores)
