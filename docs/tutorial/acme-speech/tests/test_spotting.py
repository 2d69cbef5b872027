"""Keyword spotting: from probabilities to keywords, and the loss, on parts that pass on what they are given."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from acme_speech.spotting.config import KeywordSpottingConfig
from acme_speech.spotting.labelled import Labelled
from acme_speech.spotting.model import KeywordSpotter, spans
from acme_speech.spotting.result import Keyword, Spotting
from sonant.inputs import Item
from sonant.runtime import Batch
from sonant.training import Example

SAID = [[0.0, 0.0], [3.0, 0.0], [4.0, -1.0], [2.0, 1.0], [0.0, 5.0], [-2.0, 0.0]]  # logits of two keywords, frame by frame


class Features(nn.Module):
    """A frame a sample, 10 a second."""

    sample_rate, frame_rate, d_out = 10, 10.0, 1

    def forward(self, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        return wav[..., None], lens


class Table(nn.Module):
    """The logits of `SAID` for samples that count its rows."""

    d_out, subsampling = 2, 1

    def forward(self, feats: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tensor(SAID)[feats[..., 0].long()], lens


def spotter(**values: Any) -> KeywordSpotter:
    config = KeywordSpottingConfig(**{"keywords": ["yes", "no way"], "window": 3} | values)
    model = KeywordSpotter(config, preprocessor=Features(), encoder=Table())
    with torch.no_grad():
        model.out.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        model.out.bias.zero_()
    return model.eval()


def batch(*lens: int) -> Batch:
    items = tuple(Item(None, f"{n}.wav") for n in range(len(lens)))
    return Batch(torch.arange(6.0).repeat(len(lens), 1), torch.tensor(lens), items)


def labelled(model: KeywordSpotter, *rows: tuple[int, str]) -> Labelled:
    """So many of the samples each, with what a manifest says is said in them."""
    samples = np.arange(6, dtype=np.float32)
    examples = [Example(samples=samples[:n], row={"text": text}, name=f"{n} of {text}") for n, text in rows]
    return model.collate([model.prepare(example) for example in examples])


def averages(length: int, window: int = 3) -> list[list[float]]:
    """The mean of each keyword's softmax over a window; nothing is said outside the recording."""
    rows = [[math.exp(x) / (1.0 + sum(map(math.exp, row))) for x in row] for row in SAID[:length]]
    half = window // 2
    near = [rows[max(0, t - half) : t + half + 1] for t in range(length)]
    return [[sum(row[k] for row in some) / window for k in range(2)] for some in near]


@pytest.mark.parametrize("window", [1, 3, 5])
def test_probabilities_are_averaged_over_the_window(window: int) -> None:
    given = batch(6, 4)
    found, lens = spotter(window=window)(given.wav, given.lens)
    for row, length in enumerate(lens.tolist()):
        torch.testing.assert_close(found[row, :length], torch.tensor(averages(length, window)))


def test_the_loss_is_the_cross_entropy_of_the_highest_averages() -> None:
    highest = [[max(column) for column in zip(*averages(length), strict=True)] for length in (6, 4)]
    likely = [highest[0][0], highest[0][1], highest[1][0], 1.0 - highest[1][1]]  # "no" alone is not "no way"
    model = spotter()
    loss = model.loss(labelled(model, (6, "well yes no way"), (4, "yes no waylaid")))["loss"]
    assert loss.item() == pytest.approx(-sum(map(math.log, likely)) / 4, rel=1e-5)


def test_a_score_counts_keywords_that_were_missed_and_those_that_were_not_said() -> None:
    model = spotter()  # highest averages of 0.85 and 0.57 in 6 frames, and less for "no way" in 4
    right, missed, invented = model.score(labelled(model, (6, "yes no way"), (4, "no way yes"), (6, "no")))
    assert (right.reference, right.result, right.counts) == ("yes, no way", "yes, no way", {"keyword_errors": (0, 2)})
    assert (missed.reference, missed.result, missed.counts) == ("yes, no way", "yes", {"keyword_errors": (1, 2)})
    assert (invented.reference, invented.result, invented.counts) == ("none", "yes, no way", {"keyword_errors": (2, 2)})
    assert invented.name == "6 of no"


def test_a_recording_without_a_text_teaches_nothing() -> None:
    with pytest.raises(ValueError, match='it has no "text"'):
        spotter().prepare(Example(samples=np.zeros(6, np.float32), row={"label": "yes"}, name="a.wav"))


def test_keywords_are_found_where_they_are_said() -> None:
    found, shorter = spotter().infer(batch(6, 4))
    places = [(k.text, pytest.approx(k.start), pytest.approx(k.end)) for k in found.keywords]
    assert places == [("yes", 0.1, 0.4), ("no way", 0.4, 0.5)]  # averages of 0.74, 0.85, 0.55, and of 0.57
    assert found.keywords[0].score == pytest.approx(max(row[0] for row in averages(6)), rel=1e-5)
    assert (found.source, found.duration) == ("0.wav", pytest.approx(0.6))
    assert [(k.text, k.end) for k in shorter.keywords] == [("yes", pytest.approx(0.4))]
    patient = spotter().infer(batch(6, 4), threshold=0.2)[1].keywords
    assert [(k.text, k.end) for k in patient] == [("yes", pytest.approx(0.4))]  # the padding's averages are above 0.2 too
    assert [len(s.keywords) for t in (0.56, 0.8, 0.9) for s in spotter().infer(batch(6), threshold=t)] == [2, 1, 0]
    assert [len(s.keywords) for t in (0.56, 0.8, 0.9) for s in spotter(threshold=t).infer(batch(6))] == [2, 1, 0]


def test_spans_are_runs_that_reach_the_threshold() -> None:
    assert spans((0.5, 0.4, 0.6, 0.9, 0.1, 0.7), 0.5) == [(0, 1, 0.5), (2, 4, 0.9), (5, 6, 0.7)]
    assert spans((0.1, 0.2), 0.5) == spans((), 0.5) == []


def test_results_write_themselves() -> None:
    found = Spotting(
        keywords=(Keyword("yes", 0.12, 0.4444, 0.987), Keyword("no way", 1.0, 1.5, 0.5)), source="a.wav", duration=2.0
    )
    assert found.format("txt") == "0.12 0.44 yes 0.99\n1.00 1.50 no way 0.50"
    row = json.loads(found.format("jsonl"))
    assert row == json.loads(found.format("json"))
    assert row["audio_filepath"] == "a.wav"
    assert row["keywords"][0] == {"text": "yes", "start": 0.12, "end": 0.444, "score": 0.987}


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"keywords": []}, "at least one"),
        ({"keywords": ["a", "a"]}, "each only once"),
        ({"window": 4}, "window 4 is not a positive odd number"),
        ({"threshold": 1.0}, "threshold 1.0 is not between 0 and 1"),
    ],
)
def test_values_that_do_not_fit(values: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        KeywordSpottingConfig(**{"keywords": ["a"]} | values)
