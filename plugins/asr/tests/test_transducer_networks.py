"""Stateless prediction networks and the joint network of hybrid autoregressive transducers, against their definitions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sonant.build import instantiate
from sonant.config import fill_section
from sonant.errors import ConfigError
from sonant_asr.transducer.joint import HatJoint
from sonant_asr.transducer.model import Transducer
from sonant_asr.transducer.prediction import Prediction, StatelessPrediction, select, stack

D_IN, VOCAB = 6, 5
SIZES = {"pred_hidden": 12, "joint_hidden": 8}
KINDS: dict[str, dict[str, Any]] = {
    "lstm": {"pred_rnn_layers": 2},
    "of one label": {"prediction": "stateless", "context_size": 1},
    "of two": {"prediction": "stateless", "context_size": 2, "normalization_mode": "layer"},
    "of three": {"prediction": "stateless", "context_size": 3},
}


def head(name: str = "rnnt", seed: int = 0, **fields: Any) -> Transducer:
    """A random head whose outputs are wide apart, in eval mode."""
    torch.manual_seed(seed)
    section = fill_section("decoder", {"name": name} | SIZES | fields, "decoder")
    built: Transducer = instantiate(section, "decoder", {"d_in": D_IN, "vocab_size": VOCAB})
    built.joint.out.weight.data *= 4
    return built.double().eval().requires_grad_(False)


def stateless(context: int, *, normalize: bool = False) -> StatelessPrediction:
    torch.manual_seed(context)
    return StatelessPrediction(VOCAB, 12, context, normalize=normalize, dropout=0.0).double().eval().requires_grad_(False)


@pytest.mark.parametrize(("context", "widths"), [(1, [12]), (2, [9, 3]), (3, [8, 2, 2]), (6, [7, 1, 1, 1, 1, 1])])
def test_the_last_label_has_the_widest_embedding(context: int, widths: list[int]) -> None:
    """Half the width is shared out evenly, as in NeMo; the last label has all the rest."""
    assert [embed.weight.shape[1] for embed in stateless(context).embeds] == widths  # type: ignore[union-attr]


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("context", [1, 2, 3])
def test_a_stateless_network_lays_the_last_labels_side_by_side(context: int, normalize: bool) -> None:
    network = stateless(context, normalize=normalize)
    labels = [3, 0, 4, 4, 1]
    found = network(torch.tensor([labels]))[0]
    assert len(found) == len(labels) + 1 and not found[0].any()  # before the first label there is nothing
    for n in range(1, len(labels) + 1):
        pieces = []
        for age, embed in enumerate(network.embeds):
            there = n - 1 - age >= 0
            pieces.append(embed.weight[labels[n - 1 - age]] if there else torch.zeros(embed.weight.shape[1]).double())  # type: ignore[union-attr,index]
        vector = torch.cat(pieces)
        if normalize:
            vector = (vector - vector.mean()) / (vector.var(correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(found[n], vector)


@pytest.mark.parametrize("kind", KINDS)
def test_at_once_step_by_step_and_one_by_one(kind: str) -> None:
    network = head(**KINDS[kind]).prediction
    labels = torch.tensor([[3, 0, 4, 4, 1, 2], [1, 1, 2, 0, 3, 3]])
    whole = network(labels)
    for size in (1, 2, 3, 6):
        out, state = network.step(torch.full((2, 1), VOCAB), None)
        pieces = [out]
        for piece in labels.split(size, dim=1):
            out, state = network.step(piece, state)
            pieces.append(out)
        torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    out, state = network.one(torch.full((2,), VOCAB), None)
    singles = [out]
    for label in labels.T:
        out, state = network.one(label, state)
        singles.append(out)
    torch.testing.assert_close(torch.stack(singles, dim=1), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_picked_and_put_together_by_rows(kind: str) -> None:
    network = head(**KINDS[kind]).prediction
    labels = torch.tensor([[3, 0, 4], [1, 1, 2], [0, 2, 2]])
    _, state = network.step(labels, None)
    assert select(None, torch.tensor([0])) is None
    rows, following = torch.tensor([2, 0, 0]), torch.tensor([4, 1, 3])
    found, _ = network.one(following, select(state, rows))
    wanted = network.step(torch.cat([labels[rows], following[:, None]], dim=1), None)[0][:, -1]
    torch.testing.assert_close(found, wanted)
    alone = [select(state, torch.tensor([n])) for n in range(3)]
    together = stack([one for one in alone if one is not None])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(together, state, strict=True))


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_a_hybrid_autoregressive_transducer_decides_on_the_blank_by_itself(activation: str) -> None:
    """Variani et al., 2020: P(blank) is a sigmoid, P(label) = (1 - P(blank)) softmax(label). Here the blank has its own tanh."""
    joint = head(joint="hat", activation=activation).joint
    assert isinstance(joint, HatJoint)
    enc, pred = torch.randn(2, 3, D_IN).double(), torch.randn(2, 4, SIZES["pred_hidden"]).double()
    found = joint(enc, pred)
    assert found.shape == (2, 3, 4, VOCAB + 1)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(2, 3, 4).double())
    for b, t, u in [(0, 0, 0), (1, 2, 3), (0, 1, 2)]:
        both = joint.enc(enc[b, t]) + joint.pred(pred[b, u])
        blank = 1 / (1 + math.exp(-float(joint.blank(both.tanh()))))
        labels = joint.out(getattr(torch, activation)(both)).softmax(-1)
        assert found[b, t, u].exp().tolist() == pytest.approx([*((1 - blank) * labels).tolist(), blank])


def test_a_label_is_never_impossible() -> None:
    """Where the blank is all but certain, labels have a millionth between them, as in NeMo."""
    joint = head(joint="hat").joint
    assert isinstance(joint, HatJoint)
    joint.blank.bias += 1000
    found = joint(torch.randn(1, 1, D_IN).double(), torch.randn(1, 1, SIZES["pred_hidden"]).double())[0, 0, 0]
    assert float(found[:VOCAB].logsumexp(-1)) == pytest.approx(math.log(1e-6)) and float(found[-1]) == pytest.approx(0.0)


def textbook(model: Transducer, enc: Tensor, max_symbols: int) -> list[int]:
    """Frame by frame, label by label, of one utterance `(T, D)`."""
    found: list[int] = []
    t = symbols = 0
    while t < len(enc):
        pred = model.prediction(torch.tensor([found], dtype=torch.long))[:, -1:]
        scores = model.joint(enc[None, t : t + 1], pred)[0, 0, 0]
        label = int(scores[: VOCAB + 1].argmax())
        step = model.durations[int(scores[VOCAB + 1 :].argmax())] if model.durations else int(label == VOCAB)
        if label == VOCAB:
            t, symbols = t + max(step, 1), 0
            continue
        found.append(label)
        symbols += 1
        if step == 0 and symbols >= max_symbols:
            step = 1
        if step:
            t, symbols = t + step, 0
    return found


VARIANTS = [("rnnt", kind, joint) for kind in KINDS for joint in ("softmax", "hat")] + [
    ("tdt", kind, "softmax") for kind in KINDS
]


@pytest.mark.parametrize(("name", "kind", "joint"), VARIANTS)
def test_greedy_search_finds_what_the_textbook_finds(name: str, kind: str, joint: str) -> None:
    total = 0
    for seed in range(4):
        model = head(name, seed, joint=joint, **KINDS[kind])
        enc, lens = 3 * torch.randn(5, 12, D_IN).double(), torch.tensor([12, 7, 0, 1, 10])
        search = instantiate(fill_section("search", {"name": model.search, "max_symbols": 3}, "search"), "search", {})
        found = search(model, enc, lens)
        for hypothesis, row, size in zip(found, enc, lens.tolist(), strict=True):
            expected = textbook(model, row[:size], 3)
            assert list(hypothesis.tokens) == expected
            total += len(expected)
    assert total > 20


@pytest.mark.parametrize(
    ("fields", "kind"),
    [({}, Prediction), ({"prediction": "stateless"}, StatelessPrediction)],
)
def test_the_config_chooses_the_prediction_network(fields: dict[str, Any], kind: type) -> None:
    assert type(head(**fields).prediction) is kind


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "rnnt", "context_size": 0}, "context_size 0 must be from 1 to half of pred_hidden, which is 12"),
        ({"name": "rnnt", "context_size": 7}, "context_size 7 must be from 1"),
        ({"name": "rnnt", "normalization_mode": "layer"}, "normalization_mode needs prediction: stateless"),
        ({"name": "tdt", "joint": "hat"}, "joint: hat predicts no durations; it is for rnnt"),
        ({"name": "tdt", "context_size": 0}, "context_size 0 must be"),
        ({"name": "rnnt", "joint": "had"}, "'had'"),
    ],
    ids=str,
)
def test_configs_that_make_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fill_section("decoder", SIZES | fields, "decoder")
