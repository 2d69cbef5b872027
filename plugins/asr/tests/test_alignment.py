"""Forced alignment against all paths there are, and its frames as times of words."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from sonant_asr.alignment.viterbi import align
from sonant_asr.alignment.words import labels, split, times
from sonant_asr.tokenizers.char import Char
from sonant_asr.tokenizers.config import CharConfig


def best_path(scores: torch.Tensor, wanted: list[int], blank: int) -> tuple[int, ...]:
    """Of all label sequences over the frames that collapse to `wanted`, the likeliest."""

    def collapse(path: tuple[int, ...]) -> list[int]:
        return [label for label, _ in itertools.groupby(path) if label != blank]

    every = itertools.product(range(scores.shape[1]), repeat=len(scores))
    fitting = [path for path in every if collapse(path) == wanted]
    return max(fitting, key=lambda path: sum(float(scores[t, label]) for t, label in enumerate(path)))


@pytest.mark.parametrize("wanted", [[0], [0, 1], [1, 1], [0, 1, 0], [2, 2, 0], [0, 1, 2]])
def test_the_best_of_all_paths(wanted: list[int]) -> None:
    torch.manual_seed(len(wanted))
    scores = torch.randn(6, 4).double().log_softmax(-1)
    path = best_path(scores, wanted, blank=3)
    runs = [(label, len(list(run))) for label, run in itertools.groupby(path)]
    ends = list(itertools.accumulate(size for _, size in runs))
    theirs = [(end - size, end) for (label, size), end in zip(runs, ends, strict=True) if label != 3]
    assert align(scores[None], torch.tensor([6]), [wanted], 3) == [theirs]


def test_utterances_do_not_disturb_each_other() -> None:
    torch.manual_seed(0)
    scores = torch.randn(4, 20, 6).log_softmax(-1)
    lens, wanted = torch.tensor([20, 11, 3, 0]), [[1, 2, 2, 3], [0, 4], [1, 1, 1], [2]]
    together = align(scores, lens, wanted, 5)
    assert together[2:] == [None, None]  # three equal labels take five frames
    for row in range(4):
        size = int(lens[row])
        assert align(scores[row : row + 1, :size], lens[row : row + 1], wanted[row : row + 1], 5) == together[row : row + 1]
        poisoned = scores.clone()
        poisoned[row, size:] = 7.0
        assert align(poisoned, lens, wanted, 5)[row] == together[row]


def test_a_text_without_labels_has_no_times() -> None:
    assert align(torch.zeros(1, 4, 3), torch.tensor([4]), [[]], 2) == [[]]


class Pieces:
    """One id for each character; `_` begins a word."""

    letters = "abcdefghijklmnopqrstuvwxyz,.!?_"
    vocab_size = len(letters)

    def encode(self, text: str) -> list[int]:
        return [self.letters.index(letter) for letter in f"_{text}"]

    def pieces(self, ids: Any) -> list[str]:
        return [self.letters[i] for i in ids]

    def decode(self, ids: Any) -> str:
        return "".join(self.pieces(ids)).replace("_", "")


def test_words_segments_and_marks() -> None:
    words = split("so, it is. yes!", Pieces(), [".", "!"])
    assert [(word.text, word.segment) for word in words] == [("so,", 0), ("it", 0), ("is.", 0), ("yes!", 1)]
    count = len(labels(words))
    found = times(words, [(3 * n, 3 * n + 2) for n in range(count)], Pieces(), 0.5)
    frames = [(span.text, span.start / 0.5, span.end / 0.5) for span in found.words]
    # `_ s o ,` is 0 to 9, `_ i t` 12 to 18, …; a mark is empty, where what stands before it ends
    assert frames == [("so,", 0, 8), ("it", 12, 20), ("is.", 21, 29), ("yes!", 33, 44)]
    assert [(span.text, span.start / 0.5, span.end / 0.5) for span in found.segments] == [("so, it is.", 0, 29), ("yes!", 33, 44)]
    marks = [(span.text, span.start / 0.5, span.end / 0.5) for span in found.chars if span.text in (",", ".", "!")]
    assert marks == [(",", 8, 8), (".", 29, 29), ("!", 44, 44)]


def test_characters_that_a_tokenizer_does_not_know_are_left_out() -> None:
    tokenizer = Char(CharConfig(labels=["a", "b"]))
    words = split("aXb X", tokenizer, ["."])
    assert [word.labels for word in words] == [(0, 1), ()]
    found = times(words, [(0, 1), (4, 6)], tokenizer, 1.0)
    assert [(span.text, span.start, span.end) for span in found.words] == [("aXb", 0.0, 6.0)]
