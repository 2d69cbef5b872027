"""Greedy searches fed piece by piece: what is found in any pieces is what is found at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from sonant.protocols import Hypothesis, StreamingSearch
from sonant_asr.confidence.config import ConfidenceConfig
from sonant_asr.ctc.config import CtcConfig, CtcGreedyConfig
from sonant_asr.ctc.model import CtcHead
from sonant_asr.ctc.search import CtcGreedy
from sonant_asr.fusion.config import FusionConfig
from sonant_asr.tokenizers.char import Char
from sonant_asr.tokenizers.config import CharConfig
from sonant_asr.transducer.config import RnntConfig, TdtConfig, TransducerGreedyConfig
from sonant_asr.transducer.model import Transducer
from sonant_asr.transducer.search import TransducerGreedy

D_IN = 6
LENS = [31, 20, 12, 5, 1, 0]
HEADS: dict[str, dict[str, Any]] = {
    "ctc": {},
    "rnnt": {},
    "rnnt of two layers": {"pred_rnn_layers": 2},
    "rnnt without memory": {"prediction": "stateless", "context_size": 3},
    "hat": {"joint": "hat"},
    "tdt": {"durations": [0, 1, 2, 4]},
    "tdt of long durations": {"durations": [1, 8, 6]},
    "tdt without steps": {"durations": [0]},
}


def head(kind: str, seed: int) -> CtcHead | Transducer:
    """A random head whose outputs are wide apart."""
    torch.manual_seed(seed)
    fields = HEADS[kind]
    if kind == "ctc":
        built: Any = CtcHead(CtcConfig(), d_in=D_IN, vocab_size=4)
        built.out.bias.data[built.blank] += (0.0, 0.7)[seed % 2]
    else:
        cls = TdtConfig if "durations" in fields else RnntConfig
        built = Transducer(cls(pred_hidden=10, joint_hidden=12, **fields), d_in=D_IN, vocab_size=5)
        built.joint.out.weight.data *= 4
        if kind != "hat":
            built.joint.out.bias.data[built.blank] += (0.0, 2.0)[seed % 2]
    return built.eval().requires_grad_(False)


def search_for(kind: str, **options: Any) -> StreamingSearch:
    tokenizer = Char(CharConfig(labels=list("abcd" if kind == "ctc" else "abcde")))
    if kind == "ctc":
        return CtcGreedy(CtcGreedyConfig(**options), tokenizer=tokenizer)
    return TransducerGreedy(TransducerGreedyConfig(max_symbols=3, **options), tokenizer=tokenizer)


def in_pieces(search: StreamingSearch, decoder: Any, enc: Tensor, lens: Sequence[int], chance: random.Random) -> list[Hypothesis]:
    """Streams that come, wait and go by chance, each with pieces of its own, and whatever is behind a piece's end."""
    states = [search.init_state(decoder) for _ in lens]
    places = [0] * len(lens)
    pieces: list[list[Hypothesis]] = [[] for _ in lens]
    while any(place < length for place, length in zip(places, lens, strict=True)):
        rows = chance.sample(range(len(lens)), chance.randint(1, len(lens)))
        sizes = [min(chance.choice([0, 1, 2, 3, 7, 40]), lens[row] - places[row]) for row in rows]
        batch = 1e3 * torch.randn(len(rows), max(sizes) + chance.randint(0, 2), D_IN)
        for n, (row, size) in enumerate(zip(rows, sizes, strict=True)):
            batch[n, :size] = enc[row, places[row] : places[row] + size]
        found, after = search.step(decoder, batch, torch.tensor(sizes), [states[row] for row in rows])
        for row, size, hypothesis, state in zip(rows, sizes, found, after, strict=True):
            pieces[row].append(hypothesis)
            states[row], places[row] = state, places[row] + size
    return [joined(found) for found in pieces]


def joined(pieces: Sequence[Hypothesis]) -> Hypothesis:
    def column(name: str) -> tuple[Any, ...]:
        return tuple(value for piece in pieces for value in getattr(piece, name))

    columns = {name: column(name) for name in ("tokens", "starts", "ends", "token_confidence", "frame_confidence")}
    return Hypothesis(**columns, score=sum(piece.score for piece in pieces))


LISTENING = FusionConfig(boost=["abca", "dab", "cbd"], boost_weight=2.0)
SURE = ConfidenceConfig(method="max_prob")


def assert_equal(found: Hypothesis, wanted: Hypothesis) -> None:
    assert (found.tokens, found.starts, found.ends) == (wanted.tokens, wanted.starts, wanted.ends)
    assert found.score == pytest.approx(wanted.score, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("kind", HEADS)
@torch.inference_mode()
def test_any_pieces_in_any_company_give_what_is_found_at_once(kind: str) -> None:
    search, tokens = search_for(kind), 0
    for seed in range(3):
        decoder = head(kind, seed)
        enc = 2.0 * torch.randn(len(LENS), max(LENS), D_IN)
        wanted = search(decoder, enc, torch.tensor(LENS))
        tokens += sum(len(hypothesis.tokens) for hypothesis in wanted)
        for found, whole in zip(in_pieces(search, decoder, enc, LENS, random.Random(seed)), wanted, strict=True):
            assert_equal(found, whole)
    assert tokens > 50


@pytest.mark.parametrize("kind", HEADS)
@torch.inference_mode()
def test_what_a_search_listens_to_goes_on_from_piece_to_piece(kind: str) -> None:
    plain, search, changed = search_for(kind), search_for(kind, fusion=LISTENING), 0
    for seed in range(2):
        decoder = head(kind, seed)
        enc = 2.0 * torch.randn(len(LENS), max(LENS), D_IN)
        wanted = search(decoder, enc, torch.tensor(LENS))
        changed += [h.tokens for h in wanted] != [h.tokens for h in plain(decoder, enc, torch.tensor(LENS))]
        for found, whole in zip(in_pieces(search, decoder, enc, LENS, random.Random(seed)), wanted, strict=True):
            assert_equal(found, whole)
    assert changed == 2


@pytest.mark.parametrize("kind", HEADS)
@torch.inference_mode()
def test_confidence_in_pieces(kind: str) -> None:
    """Frames have theirs in any pieces, and tokens of transducers too. A CTC token may go on in the next piece, which is then not
    counted."""
    search, decoder = search_for(kind, confidence=SURE), head(kind, 0)
    enc = 2.0 * torch.randn(len(LENS), max(LENS), D_IN)
    wanted = search(decoder, enc, torch.tensor(LENS))
    for found, whole in zip(in_pieces(search, decoder, enc, LENS, random.Random(0)), wanted, strict=True):
        assert [frame for frame, _ in found.frame_confidence] == [frame for frame, _ in whole.frame_confidence]
        numbers = [[number for _, number in one.frame_confidence] for one in (found, whole)]
        assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)
        assert len(found.token_confidence) == len(whole.tokens)
        if kind == "ctc":
            assert all(x >= y - 1e-5 for x, y in zip(found.token_confidence, whole.token_confidence, strict=True))
        else:
            assert found.token_confidence == pytest.approx(whole.token_confidence, abs=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_a_state_can_be_used_again(kind: str) -> None:
    search, decoder = search_for(kind), head(kind, 1)
    enc = 2.0 * torch.randn(2, 12, D_IN)
    lens = torch.tensor([12, 9])
    _, states = search.step(decoder, enc, lens, [search.init_state(decoder)] * 2)
    once = search.step(decoder, enc.flip(1), lens, states)[0]
    search.step(decoder, torch.randn(2, 30, D_IN), torch.tensor([30, 30]), states)
    assert search.step(decoder, enc.flip(1), lens, states)[0] == once


@pytest.mark.parametrize("kind", ["rnnt", "tdt", "ctc"])
def test_states_of_weights_that_want_a_gradient(kind: str) -> None:
    """A stream's state outlives a call by far: it holds no graph."""
    search, decoder = search_for(kind), head(kind, 0).requires_grad_(True)
    found, states = search.step(decoder, torch.randn(1, 20, D_IN), torch.tensor([20]), [search.init_state(decoder)])
    assert found[0].tokens
    if kind != "ctc":
        assert not states[0].prediction.vectors.requires_grad
        assert not any(part.requires_grad for part in states[0].prediction.state)


@pytest.mark.parametrize("kind", ["rnnt", "tdt", "ctc"])
def test_no_streams(kind: str) -> None:
    search = search_for(kind)
    assert search.step(head(kind, 0), torch.zeros(0, 4, D_IN), torch.zeros(0, dtype=torch.long), []) == ([], [])


def test_a_long_duration_skips_whole_pieces() -> None:
    """Every label spans 8 frames: pieces of 3 frames that a duration skips give nothing."""
    torch.manual_seed(0)
    decoder = Transducer(TdtConfig(durations=[8], pred_hidden=4, joint_hidden=4), d_in=D_IN, vocab_size=3).requires_grad_(False)
    decoder.joint.out.bias[decoder.blank] -= 1e4
    search = TransducerGreedy(TransducerGreedyConfig())
    state, starts = search.init_state(decoder), []
    for _ in range(9):
        (found,), (state,) = search.step(decoder, torch.randn(1, 3, D_IN), torch.tensor([3]), [state])
        starts.append(found.starts)
    assert starts == [(0,), (), (8,), (), (), (16,), (), (), (24,)]
