"""Transducer heads and their batched search, against the textbook loop over one utterance at a time."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from attrs import frozen
from torch import Tensor

from sonant.build import instantiate
from sonant.config import fill_section
from sonant.errors import ConfigError
from sonant.protocols import Hypothesis
from sonant_asr.transducer.config import RnntConfig, TdtConfig, TransducerGreedyConfig
from sonant_asr.transducer.model import Transducer
from sonant_asr.transducer.prediction import Prediction
from sonant_asr.transducer.search import TransducerGreedy

D_IN = 6
SIZES = {"pred_hidden": 10, "joint_hidden": 12}
DURATIONS: dict[str, list[int]] = {
    "rnnt": [],
    "tdt": [0, 1, 2, 4],
    "without 0": [1, 2, 3],
    "out of order": [2, 0, 1],
    "only 0": [0],
}


def transducer(durations: list[int], seed: int, *, vocab_size: int = 5, layers: int = 1, blank: float = 0.0) -> Transducer:
    """A random head whose outputs are wide apart; `blank` is added to the blank's score."""
    torch.manual_seed(seed)
    sizes = SIZES | {"pred_rnn_layers": layers}
    config = TdtConfig(durations=durations, **sizes) if durations else RnntConfig(**sizes)
    head = Transducer(config, d_in=D_IN, vocab_size=vocab_size).eval().requires_grad_(False)
    head.joint.out.weight *= 4
    head.joint.out.bias[head.blank] += blank
    return head


@frozen
class Emission:
    label: int
    start: int
    end: int
    score: float


def textbook(head: Transducer, enc: Tensor, max_symbols: int) -> list[Emission]:
    """Frame by frame, label by label, of one utterance `(T, D)`; the state of the LSTM is kept by the labels so far."""
    found: list[Emission] = []
    t = symbols = 0
    while t < len(enc):
        labels = torch.tensor([[e.label for e in found]], dtype=torch.long)
        pred = head.prediction(labels)[:, -1:]
        logits = head.joint(enc[None, t : t + 1], pred)[0, 0, 0]
        scores = logits[: head.blank + 1].log_softmax(-1)
        label = int(scores.argmax())
        step = head.config.durations[int(logits[head.blank + 1 :].argmax())] if head.durations else 0
        if label == head.blank:
            t, symbols = t + max(step, 1), 0
            continue
        found.append(Emission(label, t, t + (step if head.durations else 1), float(scores[label])))
        symbols += 1
        if step == 0 and symbols >= max_symbols:
            step = 1
        if step:
            t, symbols = t + step, 0
    return found


def assert_same(found: Hypothesis, expected: list[Emission]) -> None:
    assert found.tokens == tuple(e.label for e in expected)
    assert found.starts == tuple(e.start for e in expected)
    assert found.ends == tuple(e.end for e in expected)
    assert found.score == pytest.approx(sum(e.score for e in expected), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("max_symbols", [1, 3, 10])
@pytest.mark.parametrize("kind", DURATIONS)
@torch.inference_mode()
def test_the_search_finds_what_the_textbook_finds(kind: str, max_symbols: int) -> None:
    search = TransducerGreedy(TransducerGreedyConfig(max_symbols=max_symbols))
    labels = blanks = 0
    for seed, (blank, lens, layers) in enumerate(
        [(-4.0, [6, 3, 1], 1), (0.0, [12, 0, 7, 12], 1), (1.5, [14, 9], 2), (3.0, [17, 2, 11, 0, 5], 1), (30.0, [8, 4], 1)]
    ):
        head = transducer(DURATIONS[kind], seed, vocab_size=3 + seed, layers=layers, blank=blank)
        enc = 2.0 * torch.randn(len(lens), max(lens), D_IN)
        for found, frames, length in zip(search(head, enc, torch.tensor(lens)), enc, lens, strict=True):
            expected = textbook(head, frames[:length], max_symbols)
            assert_same(found, expected)
            labels += len(expected)
            blanks += length - len({e.start for e in expected})
    assert labels > 20 and blanks > 20  # the models did both


@pytest.mark.parametrize("kind", ["rnnt", "tdt"])
@pytest.mark.parametrize("max_symbols", [1, 3])
def test_no_frame_has_more_than_max_symbols(kind: str, max_symbols: int) -> None:
    head = transducer(DURATIONS[kind], 0, blank=-1e4)  # never a blank
    if kind == "tdt":
        head.joint.out.bias[head.blank + 1] += 1e4  # never a step
    found = TransducerGreedy(TransducerGreedyConfig(max_symbols=max_symbols))(head, torch.randn(1, 5, D_IN), torch.tensor([5]))[0]
    assert found.starts == tuple(t for t in range(5) for _ in range(max_symbols))


def test_a_blank_of_no_duration_moves_on() -> None:
    head = transducer([0, 1], 0, blank=1e4)
    head.joint.out.bias[head.blank + 1] += 1e5
    assert TransducerGreedy(TransducerGreedyConfig())(head, torch.randn(1, 5, D_IN), torch.tensor([5]))[0].tokens == ()


@pytest.mark.parametrize("kind", DURATIONS)
def test_an_utterance_alone_and_in_a_batch(kind: str) -> None:
    head = transducer(DURATIONS[kind], 7, blank=1.0)
    search = TransducerGreedy(TransducerGreedyConfig(max_symbols=3))
    lens = torch.tensor([13, 0, 4, 9])
    enc = 2.0 * torch.randn(4, 13, D_IN)
    for row, length in enumerate(lens.tolist()):
        enc[row, length:] = 1e4  # what is padding must not be looked at
    together = search(head, enc, lens)
    assert any(f.tokens for f in together)
    for row, length in enumerate(lens.tolist()):
        alone = search(head, enc[row : row + 1, :length], lens[row : row + 1])[0]
        assert (alone.tokens, alone.starts, alone.ends) == (together[row].tokens, together[row].starts, together[row].ends)


@pytest.mark.parametrize("kind", ["rnnt", "tdt"])
def test_utterances_without_frames(kind: str) -> None:
    search = TransducerGreedy(TransducerGreedyConfig())
    for frames in (0, 6):
        found = search(transducer(DURATIONS[kind], 0), torch.randn(2, frames, D_IN), torch.tensor([0, 0]))
        assert found == [Hypothesis(tokens=(), starts=(), ends=())] * 2


@pytest.mark.parametrize("layers", [1, 2])
def test_prediction_at_once_step_by_step_and_one_by_one(layers: int) -> None:
    head = transducer([], 3, layers=layers)
    prediction: Prediction = head.prediction
    labels = torch.randint(0, head.vocab_size, (3, 8))
    whole = prediction(labels)
    assert whole.shape == (3, 9, SIZES["pred_hidden"])
    fed = torch.cat([torch.full((3, 1), head.blank), labels], dim=1)

    state, pieces = None, []
    for start, end in pairwise((0, 1, 4, 5, 9)):
        piece, state = prediction.step(fed[:, start:end], state)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)

    state, pieces = None, []
    for u in range(9):
        piece, state = prediction.one(fed[:, u], state)
        pieces.append(piece)
    torch.testing.assert_close(torch.stack(pieces, dim=1), whole)


def test_the_start_is_the_blank_and_embeds_to_zero() -> None:
    head = transducer([], 0)
    assert torch.equal(head.prediction.embed(torch.tensor([head.blank])), torch.zeros(1, SIZES["pred_hidden"]))
    first, _ = head.prediction.lstm(torch.zeros(2, 1, SIZES["pred_hidden"]))
    torch.testing.assert_close(head.prediction(torch.zeros(2, 0, dtype=torch.long)), first)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_the_joint_network(activation: Any) -> None:
    torch.manual_seed(0)
    config = TdtConfig(durations=[0, 2], activation=activation, **SIZES)
    head = Transducer(config, d_in=D_IN, vocab_size=5).eval().requires_grad_(False)
    enc, pred = torch.randn(2, 7, D_IN), torch.randn(2, 4, SIZES["pred_hidden"])
    logits = head.joint(enc, pred)
    assert logits.shape == (2, 7, 4, 5 + 1 + 2)
    joint = head.joint
    function = {"relu": lambda x: max(x, 0.0), "tanh": math.tanh, "sigmoid": lambda x: 1 / (1 + math.exp(-x))}[activation]
    for b, t, u in [(0, 0, 0), (1, 6, 3), (0, 5, 2)]:
        added = (joint.enc(enc[b, t]) + joint.pred(pred[b, u])).tolist()
        torch.testing.assert_close(logits[b, t, u], joint.out(torch.tensor([function(x) for x in added])))
        torch.testing.assert_close(joint.scores(joint.enc(enc[b, t]), joint.pred(pred[b, u])), logits[b, t, u])


@pytest.mark.parametrize("kind", ["rnnt", "tdt"])
def test_forward_for_the_loss(kind: str) -> None:
    head = transducer(DURATIONS[kind], 0, vocab_size=5).requires_grad_(True)
    enc = torch.randn(2, 7, D_IN, requires_grad=True)
    logits = head(enc, torch.tensor([[1, 2, 3], [4, 0, 0]]))
    assert logits.shape == (2, 7, 4, 5 + 1 + len(DURATIONS[kind]))
    logits.square().sum().backward()
    assert enc.grad is not None and all(p.grad is not None and bool(p.grad.any()) for p in head.parameters())
    # A label changes what is predicted after it, and nothing before.
    other = head(enc, torch.tensor([[1, 2, 0], [4, 0, 0]]))
    torch.testing.assert_close(other[0, :, :3], logits[0, :, :3])
    assert not torch.allclose(other[0, :, 3], logits[0, :, 3])


def test_a_transducer_knows_its_family() -> None:
    assert (transducer([], 0).family, transducer([0, 1], 0).family) == ("rnnt", "tdt")


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("tdt", {"durations": []}, "durations"),
        ("tdt", {"durations": [0, -1]}, "0 or more"),
        ("tdt", {"durations": [1, 2, 1]}, "distinct"),
        ("tdt", {"durations": [1.5]}, "durations"),
        ("rnnt", {"durations": [0, 1]}, "durations"),
        ("rnnt", {"activation": "gelu"}, "activation"),
        ("rnnt", {"pred_hiden": 3}, "pred_hidden"),
    ],
)
def test_configs_that_make_no_sense(name: str, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        instantiate(fill_section("decoder", {"name": name, **fields}, "decoder"), "decoder", {"d_in": 4, "vocab_size": 3})


@pytest.mark.parametrize("max_symbols", [0, -2])
def test_max_symbols_must_be_positive(max_symbols: int) -> None:
    with pytest.raises(ConfigError, match=f"max_symbols {max_symbols} must be at least 1"):
        fill_section("search", {"name": "transducer_greedy", "max_symbols": max_symbols}, "search")
