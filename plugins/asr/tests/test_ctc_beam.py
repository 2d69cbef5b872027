"""CTC beam search against all alignments of short utterances, counted one by one in float64."""

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
from sonant_asr.ctc.beam import CtcBeam
from sonant_asr.ctc.config import CtcBeamConfig, CtcConfig, CtcGreedyConfig
from sonant_asr.ctc.model import CtcHead
from sonant_asr.ctc.search import CtcGreedy
from sonant_asr.fusion.boosting import boosting_of
from sonant_asr.fusion.building import language_model
from sonant_asr.fusion.config import FusionConfig
from sonant_asr.fusion.scorer import TokenScorer
from sonant_asr.timestamps import ctc_spans
from sonant_asr.tokenizers.char import Char
from sonant_asr.tokenizers.config import CharConfig

D_IN, VOCAB = 6, 3
ALL = 700  # more places than five frames have texts and ends of them
DATA = Path(__file__).resolve().parent / "data"
LETTERS = Char(CharConfig(labels=list("abc")))

Text = tuple[int, ...]


def random_head(seed: int, blank: float = 0.0, vocab_size: int = VOCAB) -> CtcHead:
    torch.manual_seed(seed)
    head = CtcHead(CtcConfig(), d_in=D_IN, vocab_size=vocab_size).eval().requires_grad_(False)
    head.out.bias[head.blank] += blank
    return head


def alignments(head: CtcHead, enc: Tensor) -> dict[Text, list[tuple[float, tuple[int, ...]]]]:
    """The log-probability of every alignment of one utterance `(T, D)`, and the alignment, by the text it spells."""
    rows = (enc.double() @ head.out.weight.double().T + head.out.bias.double()).log_softmax(-1).tolist()
    found = defaultdict(list)
    for path in itertools.product(range(head.blank + 1), repeat=len(rows)):
        text = tuple(label for label, _ in itertools.groupby(path) if label != head.blank)
        found[text].append((sum(row[label] for row, label in zip(rows, path, strict=True)), path))
    return found


def total(scores: list[float]) -> float:
    return math.log(math.fsum(math.exp(score) for score in scores))


def beam(**fields: Any) -> CtcBeam:
    return CtcBeam(CtcBeamConfig(beam_threshold=1e6, **fields))


@pytest.mark.parametrize("merge", ["max", "sum"])
@pytest.mark.parametrize("beta", [0.0, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_with_room_for_all_finds_the_best_of_all(seed: int, beta: float, merge: Any) -> None:
    head = random_head(seed, blank=(0.0, 1.0, -1.0)[seed])
    lens = [5, 3, 0, 4]
    enc = 2.0 * torch.randn(len(lens), max(lens), D_IN)
    search = beam(beam_size=ALL, n_best=12, merge=merge, beam_beta=beta)
    for best, frames, length in zip(search(head, enc, torch.tensor(lens)), enc, lens, strict=True):
        every = alignments(head, frames[:length])
        score = {
            text: (total([s for s, _ in paths]) if merge == "sum" else max(paths)[0]) + beta * len(text)
            for text, paths in every.items()
        }
        expected = sorted(score, key=score.__getitem__, reverse=True)[:12]
        found = (best, *best.alternatives)
        assert [h.tokens for h in found] == expected
        assert [h.score for h in found] == pytest.approx([score[text] for text in expected], abs=1e-4)
        for hypothesis in found if merge == "max" else ():
            path = max(every[hypothesis.tokens])[1]
            assert (hypothesis.tokens, hypothesis.starts, hypothesis.ends) == ctc_spans(path, head.blank)


def test_sums_find_what_the_best_alignment_misses() -> None:
    """In both frames the blank is likelier than the label; that the label is in one of them is likelier than in none."""
    head = CtcHead(CtcConfig(), d_in=2, vocab_size=1).requires_grad_(False)
    head.out.weight.copy_(torch.eye(2))
    head.out.bias.zero_()
    enc = torch.tensor([0.4, 0.6]).log().expand(1, 2, 2)
    lens = torch.tensor([2])
    assert beam(merge="max")(head, enc, lens)[0].tokens == ()
    found = beam(merge="sum")(head, enc, lens)[0]
    assert found.tokens == (0,)
    assert found.score == pytest.approx(math.log(1 - 0.6**2), abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    head = random_head(seed, blank=(0.0, 1.0, 3.0, -1.0)[seed], vocab_size=7)
    lens = torch.tensor([40, 23, 0, 1])
    enc = 2.0 * torch.randn(4, 40, D_IN)
    for found, greedy in zip(beam(beam_size=1)(head, enc, lens), CtcGreedy(CtcGreedyConfig())(head, enc, lens), strict=True):
        assert (found.tokens, found.starts, found.ends) == (greedy.tokens, greedy.starts, greedy.ends)
        assert found.score == pytest.approx(greedy.score, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_widest_beam_finds_the_best(seed: int) -> None:
    head = random_head(seed)
    enc, lens = torch.randn(1, 5, D_IN), torch.tensor([5])
    scores = [beam(beam_size=size)(head, enc, lens)[0].score for size in (1, 8, ALL)]
    best = max(max(paths)[0] for paths in alignments(head, enc[0]).values())
    assert scores[-1] == pytest.approx(best, abs=1e-5)
    assert scores[0] <= scores[-1] + 1e-5 and scores[1] <= scores[-1] + 1e-5


def test_a_threshold_drops_what_is_far_behind() -> None:
    head = random_head(0, vocab_size=7)
    enc, lens = 3.0 * torch.randn(1, 12, D_IN), torch.tensor([12])
    wide, narrow = (CtcBeam(CtcBeamConfig(beam_size=16, n_best=16, beam_threshold=t))(head, enc, lens)[0] for t in (1e6, 0.5))
    assert narrow.tokens == wide.tokens
    assert len(narrow.alternatives) < len(wide.alternatives)
    assert all(found.score > narrow.score - 0.5 for found in narrow.alternatives)


@pytest.mark.parametrize("merge", ["max", "sum"])
def test_a_language_model_counts_once_for_each_label(merge: Any) -> None:
    """Against all alignments: the score of a text grows by the language model's, its end included."""
    fusion = {"lm": "beams.arpa", "lm_tokens": "ids", "lm_weight": 0.8}
    section = {"name": "ctc_beam", "beam_size": ALL, "n_best": 8, "merge": merge, "beam_threshold": 1e6, "fusion": fusion}
    small = Files({"beams.arpa": _only_three((DATA / "beams.arpa").read_text("utf-8")).encode("utf-8")}.__getitem__)
    search = instantiate(fill_section("search", section, "search"), "search", {"tokenizer": LETTERS, "files": small})
    model = language_model(small.read("beams.arpa"), "beams.arpa", LETTERS, weight=0.8, writing="ids")
    head = random_head(4)
    enc, lens = 2.0 * torch.randn(2, 5, D_IN), torch.tensor([5, 4])
    for best, frames, length in zip(search(head, enc, lens), enc, lens.tolist(), strict=True):
        score = {}
        for text, paths in alignments(head, frames[:length]).items():
            score[text] = total([s for s, _ in paths]) if merge == "sum" else max(paths)[0]
            gains, state = given(model, text)
            score[text] += gains + float(model.final(state))
        expected = sorted(score, key=score.__getitem__, reverse=True)[:8]
        found = (best, *best.alternatives)
        assert [h.tokens for h in found] == expected
        assert [h.score for h in found] == pytest.approx([score[text] for text in expected], abs=1e-4)


def test_phrases_count_for_each_label_and_not_at_the_end() -> None:
    config = FusionConfig(boost=["ab", "c"], boost_weight=0.7)
    search = CtcBeam(CtcBeamConfig(beam_size=ALL, n_best=8, beam_threshold=1e6, fusion=config), tokenizer=LETTERS)
    scorer = boosting_of(config, LETTERS)
    head = random_head(5)
    enc, lens = 2.0 * torch.randn(1, 5, D_IN), torch.tensor([5])
    score = {text: max(paths)[0] + given(scorer, text)[0] for text, paths in alignments(head, enc[0]).items()}
    best = search(head, enc, lens)[0]
    found = (best, *best.alternatives)
    assert [h.tokens for h in found] == sorted(score, key=score.__getitem__, reverse=True)[:8]
    assert [h.score for h in found] == pytest.approx([score[h.tokens] for h in found], abs=1e-4)


def given(scorer: TokenScorer, text: Text) -> tuple[float, Tensor]:
    """What a scorer gives to the labels of a text, and its state behind them."""
    state, score = scorer.start(1, "cpu"), 0.0
    for label in text:
        gains, behind = scorer.advance(state)
        score, state = score + float(gains[0, label]), behind[:, label]
    return score, state


def _only_three(arpa: str) -> str:
    """The language model without n-grams of other tokens than the first three."""
    known = {"<s>", "</s>", "<unk>", *(chr(100 + n) for n in range(VOCAB))}
    kept: list[list[str]] = []
    for line in arpa.splitlines():
        if line.endswith("-grams:"):
            kept.append([])
        elif kept and "\t" in line and set(line.split("\t")[1].split()) <= known:
            kept[-1].append(line)
    lines = ["\\data\\", *(f"ngram {order}={len(grams)}" for order, grams in enumerate(kept, start=1)), ""]
    for order, grams in enumerate(kept, start=1):
        lines += [f"\\{order}-grams:", *grams, ""]
    return "\n".join([*lines, "\\end\\", ""])


@pytest.mark.parametrize("merge", ["max", "sum"])
def test_an_utterance_alone_and_in_a_batch(merge: Any) -> None:
    head = random_head(3, vocab_size=9)
    lens = torch.tensor([17, 31, 0, 5])
    enc = 2.0 * torch.randn(4, 31, D_IN)
    for row, length in enumerate(lens.tolist()):
        enc[row, length:] = 1e4  # what is padding must not be looked at
    search = CtcBeam(CtcBeamConfig(beam_size=6, n_best=3, merge=merge))
    for row, together in enumerate(search(head, enc, lens)):
        length = int(lens[row])
        alone = search(head, enc[row : row + 1, :length], lens[row : row + 1])[0]
        for a, b in zip((alone, *alone.alternatives), (together, *together.alternatives), strict=True):
            assert (a.tokens, a.starts, a.ends) == (b.tokens, b.starts, b.ends)
            assert a.score == pytest.approx(b.score, rel=1e-5)


@pytest.mark.parametrize("shape", [(0,), (0, 0)])
def test_utterances_without_frames(shape: tuple[int, ...]) -> None:
    for frames in (0, 7):
        found = beam()(random_head(0), torch.randn(len(shape), frames, D_IN), torch.tensor(shape))
        assert found == [Hypothesis(tokens=(), starts=(), ends=())] * len(shape)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"beam_size": 0}, "beam_size 0 must be at least 1"),
        ({"n_best": 5}, "n_best 5 must be between 1 and beam_size, which is 4"),
        ({"n_best": 0}, "n_best 0 must be between 1"),
        ({"beam_threshold": 0.0}, "beam_threshold 0.0 must be above 0"),
        ({"merge": "mean"}, "merge"),
    ],
)
def test_configs_that_make_no_sense(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        fill_section("search", {"name": "ctc_beam", **fields}, "search")
