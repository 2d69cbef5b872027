"""The CTC head and its greedy search, against the definition: best label, repeats merged, blanks dropped."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sonant_asr.ctc.config import CtcConfig, CtcGreedyConfig
from sonant_asr.ctc.model import CtcHead
from sonant_asr.ctc.search import CtcGreedy
from sonant_asr.timestamps import ctc_spans

D_IN, VOCAB = 6, 4
SEARCH = CtcGreedy(CtcGreedyConfig())


@pytest.fixture(params=range(4))
def head(request: pytest.FixtureRequest) -> CtcHead:
    """With few labels and a blank that is now likely, now not, so that both repeats and blanks occur."""
    torch.manual_seed(request.param)
    head = CtcHead(CtcConfig(), d_in=D_IN, vocab_size=VOCAB).eval().requires_grad_(False)
    head.out.bias[head.blank] += (-1.0, 0.0, 0.5, 2.0)[request.param]
    return head


def encoded(lens: list[int]) -> tuple[Tensor, Tensor]:
    return 2.0 * torch.randn(len(lens), max(lens), D_IN), torch.tensor(lens)


def naive(logits: Tensor, blank: int) -> tuple[list[int], list[int], float]:
    """Tokens, the frame at which each is first seen, and the path's log-probability, frame by frame in float64."""
    tokens, seen, score, last = [], [], 0.0, blank
    for t, row in enumerate(logits.double().log_softmax(-1).tolist()):
        best = max(range(len(row)), key=row.__getitem__)
        score += row[best]
        if best not in (blank, last):
            tokens.append(best)
            seen.append(t)
        last = best
    return tokens, seen, score


def test_the_search_finds_the_best_path(head: CtcHead) -> None:
    enc, lens = encoded([40, 23, 1])
    double = torch.nn.functional.linear(enc.double(), head.out.weight.double(), head.out.bias.double())
    for found, logits, length in zip(SEARCH(head, enc, lens), double, lens.tolist(), strict=True):
        tokens, seen, score = naive(logits[:length], head.blank)
        assert (list(found.tokens), list(found.ends)) == (tokens, seen)
        assert found.score == pytest.approx(score, rel=1e-5)


def test_spans_run_from_label_to_label(head: CtcHead) -> None:
    enc, lens = encoded([40, 23])
    for found, row, length in zip(SEARCH(head, enc, lens), head(enc).argmax(-1), lens.tolist(), strict=True):
        assert (found.tokens, found.starts, found.ends) == ctc_spans(row[:length].tolist(), head.blank)


def test_a_blank_between_equal_labels_keeps_both() -> None:
    head = CtcHead(CtcConfig(), d_in=VOCAB + 1, vocab_size=VOCAB).requires_grad_(False)
    head.out.weight.copy_(torch.eye(VOCAB + 1))
    head.out.bias.zero_()
    frames = [4, 4, 1, 1, 4, 1, 2, 2, 4, 0, 4]
    enc = 9.0 * torch.nn.functional.one_hot(torch.tensor([frames]), VOCAB + 1).float()
    found = SEARCH(head, enc, torch.tensor([len(frames)]))[0]
    assert (found.tokens, found.starts, found.ends) == ((1, 1, 2, 0), (1, 2, 5, 6), (2, 5, 6, 9))


def test_an_utterance_alone_and_in_a_batch(head: CtcHead) -> None:
    enc, lens = encoded([31, 17, 0, 5])
    for row, together in enumerate(SEARCH(head, enc, lens)):
        length = int(lens[row])
        enc[row, length:] = 1e4  # what is padding must not be looked at
        alone = SEARCH(head, enc[row : row + 1, :length], lens[row : row + 1])[0]
        assert (alone.tokens, alone.starts, alone.ends) == (together.tokens, together.starts, together.ends)
        assert alone.score == pytest.approx(together.score, rel=1e-5)
    for row, again in enumerate(SEARCH(head, enc, lens)):
        assert again.tokens == SEARCH(head, enc[row : row + 1, : int(lens[row])], lens[row : row + 1])[0].tokens


@pytest.mark.parametrize("shape", [(0,), (0, 0)])
def test_utterances_without_frames(head: CtcHead, shape: tuple[int, ...]) -> None:
    for frames in (0, 7):
        found = SEARCH(head, torch.randn(len(shape), frames, D_IN), torch.tensor(shape))
        assert [(f.tokens, f.starts, f.ends, f.score) for f in found] == [((), (), (), 0.0)] * len(shape)


def test_the_head_scores_every_label_and_the_blank(head: CtcHead) -> None:
    enc, _ = encoded([9, 4])
    logits = head(enc)
    assert logits.shape == (2, 9, VOCAB + 1)
    assert head.blank == VOCAB and head.family == "ctc"
    torch.testing.assert_close(logits, enc @ head.out.weight.T + head.out.bias)
