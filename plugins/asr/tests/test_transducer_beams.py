"""Beam searches of transducers, against the probability of every text by the forward algorithm in float64."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sonant.build import instantiate
from sonant.config import fill_section
from sonant.errors import ConfigError
from sonant.files import Files
from sonant.protocols import Hypothesis
from sonant_asr.fusion.building import language_model
from sonant_asr.tokenizers.char import Char
from sonant_asr.tokenizers.config import CharConfig
from sonant_asr.transducer.config import TransducerGreedyConfig
from sonant_asr.transducer.model import Transducer
from sonant_asr.transducer.search import TransducerGreedy

D_IN = 6
ALL = 300  # more places than there are texts in the tests that count all
DATA = Path(__file__).resolve().parent / "data"
SIZES = {"pred_hidden": 10, "joint_hidden": 12}
HEADS: dict[str, dict[str, Any]] = {
    "lstm": {"name": "rnnt"},
    "two layers": {"name": "rnnt", "pred_rnn_layers": 2},
    "stateless": {"name": "rnnt", "prediction": "stateless"},
    "hat": {"name": "rnnt", "joint": "hat"},
    "tdt": {"name": "tdt", "durations": [0, 1, 2]},
    "tdt, odd": {"name": "tdt", "durations": [3, 0, 2]},
    "tdt without 0": {"name": "tdt", "durations": [1, 2, 4]},
}
RNNT = [name for name, section in HEADS.items() if section["name"] == "rnnt"]
BOTH = ["transducer_beam", "transducer_maes"]

Text = tuple[int, ...]


def made(kind: str, seed: int, *, vocab_size: int = 2, blank: float = 0.0) -> Transducer:
    """A random head whose outputs are wide apart; `blank` is added to the blank's score."""
    torch.manual_seed(seed)
    section = fill_section("decoder", HEADS[kind] | SIZES, "decoder")
    head = instantiate(section, "decoder", {"d_in": D_IN, "vocab_size": vocab_size}).eval().requires_grad_(False)
    head.joint.out.weight *= 3
    if HEADS[kind].get("joint") == "hat":
        head.joint.blank.bias += blank
    else:
        head.joint.out.bias[head.blank] += blank
    return head


def search(name: str, **fields: Any) -> Any:
    offered = {"tokenizer": Char(CharConfig(labels=list("abcdefgh"))), "files": Files.beside(DATA)}
    return instantiate(fill_section("search", {"name": name, **fields}, "search"), "search", offered)


def probability(head: Transducer, enc: Tensor, text: Text) -> float:
    """The log-probability of a text in one utterance `(T, D)`: of all alignments, or of those that end at the likeliest frame, as
    durations may lead beyond the end."""
    logits = head.double()(enc[None].double(), torch.tensor([text], dtype=torch.long))[0]  # (T, U + 1, V + 1 + durations)
    head.float()
    labels, durations = logits[..., : head.blank + 1].log_softmax(-1), logits[..., head.blank + 1 :].log_softmax(-1)
    reached: dict[tuple[int, int], list[float]] = defaultdict(list, {(0, 0): [0.0]})
    for t, u in itertools.product(range(len(enc)), range(len(text) + 1)):
        here = total(reached[t, u])
        for n, steps in enumerate(head.durations or [0]):
            weight = here + (float(durations[t, u, n]) if head.durations else 0.0)
            reached[t + max(steps, 1), u].append(weight + float(labels[t, u, head.blank]))
            if u < len(text):
                reached[t + steps, u + 1].append(weight + float(labels[t, u, text[u]]))
    return max((total(ways) for (t, u), ways in reached.items() if t >= len(enc) and u == len(text)), default=-math.inf)


def total(scores: list[float]) -> float:
    best = max(scores, default=-math.inf)
    return best if best == -math.inf else best + math.log(sum(math.exp(score - best) for score in scores))


def lm_score(text: Text) -> float:
    """What the language model gives to the labels of a text."""
    tokenizer = Char(CharConfig(labels=list("abcdefgh")))
    model = language_model((DATA / "beams.arpa").read_bytes(), "beams.arpa", tokenizer, weight=0.8, writing="ids")
    state, score = model.start(1, "cpu"), 0.0
    for label in text:
        gains, behind = model.advance(state)
        score, state = score + float(gains[0, label]), behind[:, label]
    return score


def texts(vocab_size: int, longest: int) -> list[Text]:
    return [text for count in range(longest + 1) for text in itertools.product(range(vocab_size), repeat=count)]


def shortest(found: Hypothesis, longest: int) -> list[Hypothesis]:
    return [one for one in (found, *found.alternatives) if len(one.tokens) <= longest]


@pytest.mark.parametrize("kind", HEADS)
@torch.inference_mode()
def test_beam_with_room_for_all_sums_all_alignments(kind: str) -> None:
    """No alignment of so short a text has so many labels at a frame that the search has to move on."""
    longest = 2 if made(kind, 1).durations else 3
    head = made(kind, 1)
    beam = search("transducer_beam", beam_size=ALL, n_best=ALL, max_symbols=3, score_norm=False)
    enc, lens = 2.0 * torch.randn(3, 2, D_IN), torch.tensor([2, 1, 0])
    for best, frames, length in zip(beam(head, enc, lens), enc, lens.tolist(), strict=True):
        exact = {text: probability(head, frames[:length], text) for text in texts(2, longest)}
        expected = sorted((text for text in exact if exact[text] > -math.inf), key=exact.__getitem__, reverse=True)
        found = shortest(best, longest)
        assert [one.tokens for one in found] == expected
        assert [one.score for one in found] == pytest.approx([exact[text] for text in expected], abs=1e-4)


@pytest.mark.parametrize("kind", RNNT)
@torch.inference_mode()
def test_maes_with_room_for_all_sums_all_alignments(kind: str) -> None:
    """With as many labels at a frame, and beginnings shorter by as many, as the text has."""
    head = made(kind, 2)
    maes = search(
        "transducer_maes",
        beam_size=ALL,
        n_best=ALL,
        maes_num_steps=3,
        maes_prefix_alpha=3,
        maes_expansion_gamma=1e6,
        score_norm=False,
    )
    enc, lens = 2.0 * torch.randn(2, 2, D_IN), torch.tensor([2, 1])
    for best, frames, length in zip(maes(head, enc, lens), enc, lens.tolist(), strict=True):
        exact = {text: probability(head, frames[:length], text) for text in texts(2, 3)}
        found = shortest(best, 3)
        assert [one.tokens for one in found] == sorted(exact, key=exact.__getitem__, reverse=True)
        assert [one.score for one in found] == pytest.approx([exact[one.tokens] for one in found], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("transducer_beam", {"max_symbols": 3, "blank_lm_score_mode": "no_score", "pruning_mode": "late"}),
        ("transducer_beam", {"max_symbols": 3, "blank_lm_score_mode": "no_score", "pruning_mode": "early"}),
        ("transducer_maes", {"maes_num_steps": 3, "maes_prefix_alpha": 3, "maes_expansion_gamma": 1e6}),
    ],
)
@torch.inference_mode()
def test_a_language_model_counts_once_for_each_label(name: str, fields: dict[str, Any]) -> None:
    head = made("lstm", 3, vocab_size=8)
    fusion = {"lm": "beams.arpa", "lm_tokens": "ids", "lm_weight": 0.8}
    head.joint.out.bias[3:8] -= 1e4  # 8 tokens are known to the language model, and 3 are enough
    fused = search(name, beam_size=700, n_best=40, score_norm=False, fusion=fusion, **fields)
    enc, lens = 2.0 * torch.randn(1, 2, D_IN), torch.tensor([2])
    exact = {text: probability(head, enc[0], text) + lm_score(text) for text in texts(3, 3)}
    found = shortest(fused(head, enc, lens)[0], 3)
    assert len(found) > 10
    assert [one.score for one in found] == pytest.approx([exact[one.tokens] for one in found], abs=1e-4)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("name", BOTH)
@torch.inference_mode()
def test_a_beam_of_one_is_greedy(name: str, kind: str) -> None:
    """Where TDT finds more labels at a frame than may be, the searches move on differently."""
    labels = 0
    for seed in range(12 if HEADS[kind]["name"] == "tdt" else 4):
        head = made(kind, seed, vocab_size=5, blank=-1.0 if kind == "hat" else 1.0)
        most = 4 if head.durations else 2
        enc, lens = 2.0 * torch.randn(3, 14, D_IN), torch.tensor([14, 5, 9])
        greedy = TransducerGreedy(TransducerGreedyConfig(max_symbols=most))(head, enc, lens)
        fields = {"maes_expansion_beta": 0, "maes_num_steps": most} if name == "transducer_maes" else {"max_symbols": most}
        for found, expected in zip(search(name, beam_size=1, **fields)(head, enc, lens), greedy, strict=True):
            if not head.durations or all(expected.starts.count(t) < most for t in expected.starts):
                assert (found.tokens, found.starts, found.ends) == (expected.tokens, expected.starts, expected.ends)
                labels += len(found.tokens)
    assert labels > 15


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("name", BOTH)
@torch.inference_mode()
def test_an_utterance_alone_and_in_a_batch(name: str, kind: str) -> None:
    head = made(kind, 7, vocab_size=5, blank=-2.0 if kind == "hat" else 1.0)
    beam = search(name, n_best=4)
    lens = torch.tensor([13, 0, 4, 9])
    enc = 2.0 * torch.randn(4, 13, D_IN)
    for row, length in enumerate(lens.tolist()):
        enc[row, length:] = 1e4  # what is padding must not be looked at
    for row, (together, length) in enumerate(zip(beam(head, enc, lens), lens.tolist(), strict=True)):
        alone = beam(head, enc[row : row + 1, :length], lens[row : row + 1])[0]
        assert bool(together.alternatives) == bool(length)
        for a, b in zip((alone, *alone.alternatives), (together, *together.alternatives), strict=True):
            assert (a.tokens, a.starts, a.ends) == (b.tokens, b.starts, b.ends)
            assert a.score == pytest.approx(b.score, abs=1e-4)


@pytest.mark.parametrize("kind", ["lstm", "tdt"])
@pytest.mark.parametrize("name", BOTH)
@torch.inference_mode()
def test_alternatives_are_other_texts_in_the_order_asked_for(name: str, kind: str) -> None:
    head = made(kind, 5, vocab_size=5, blank=1.0)
    enc, lens = 2.0 * torch.randn(2, 11, D_IN), torch.tensor([11, 6])
    for norm in (False, True):
        for found in search(name, beam_size=8, n_best=5, score_norm=norm)(head, enc, lens):
            ranked = (found, *found.alternatives)
            assert 1 < len(ranked) <= 5
            assert len({one.tokens for one in ranked}) == len(ranked)
            ranks = [one.score / (len(one.tokens) + 1 if norm else 1) for one in ranked]
            assert ranks == sorted(ranks, reverse=True)
            assert not any(one.alternatives for one in found.alternatives)


@pytest.mark.parametrize("max_symbols", [1, 3])
@pytest.mark.parametrize("kind", ["lstm", "tdt"])
@torch.inference_mode()
def test_no_frame_has_more_than_max_symbols(kind: str, max_symbols: int) -> None:
    head = made(kind, 0, blank=-1e3)  # hardly a blank
    if kind == "tdt":
        head.joint.out.bias[head.blank + 1] += 1e3  # hardly a step
    for found in search("transducer_beam", max_symbols=max_symbols)(head, torch.randn(2, 5, D_IN), torch.tensor([5, 3])):
        assert found.tokens
        assert all(found.starts.count(t) <= max_symbols for t in found.starts)


@pytest.mark.parametrize("kind", ["lstm", "tdt"])
@pytest.mark.parametrize("name", BOTH)
@torch.inference_mode()
def test_utterances_without_frames(name: str, kind: str) -> None:
    for frames in (0, 6):
        found = search(name)(made(kind, 0), torch.randn(2, frames, D_IN), torch.tensor([0, 0]))
        assert found == [Hypothesis(tokens=(), starts=(), ends=())] * 2


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("transducer_beam", {"beam_size": 0}, "beam_size 0 must be at least 1"),
        ("transducer_beam", {"beam_size": 2, "n_best": 3}, "n_best 3 must be between 1 and beam_size, which is 2"),
        ("transducer_beam", {"max_symbols": 0}, "max_symbols 0 must be at least 1"),
        ("transducer_beam", {"pruning_mode": "never"}, "pruning_mode"),
        ("transducer_beam", {"blank_lm_score_mode": "half"}, "blank_lm_score_mode"),
        ("transducer_maes", {"beam_size": -1}, "beam_size -1 must be at least 1"),
        ("transducer_maes", {"maes_num_steps": 0}, "maes_num_steps 0 must be at least 1"),
        ("transducer_maes", {"maes_prefix_alpha": -1}, "maes_prefix_alpha -1 must be at least 0"),
        ("transducer_maes", {"maes_expansion_beta": -1}, "maes_expansion_beta -1 must be at least 0"),
        ("transducer_maes", {"maes_expansion_gamma": -0.5}, "maes_expansion_gamma -0.5 must be 0 or more"),
    ],
)
def test_configs_that_make_no_sense(name: str, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        fill_section("search", {"name": name, **fields}, "search")
