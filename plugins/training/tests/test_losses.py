"""CTC against all alignments written out, and what the other losses are at points where one can say it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sonant_training.losses.angular_softmax import AngularSoftmaxLoss
from sonant_training.losses.bce import BceLoss
from sonant_training.losses.config import (
    AngularSoftmaxConfig,
    BceConfig,
    CrossEntropyConfig,
    CtcLossConfig,
    RnntLossConfig,
    TdtLossConfig,
)
from sonant_training.losses.cross_entropy import CrossEntropyLoss
from sonant_training.losses.ctc import CtcLoss


def _alignments(logits: Tensor, labels: list[int]) -> float:
    """The probability of all sequences that become `labels` once repetitions and then blanks are dropped."""
    frames, outputs = logits.shape
    probabilities, total = logits.softmax(-1).tolist(), 0.0
    for path in itertools.product(range(outputs), repeat=frames):
        if [label for label, _ in itertools.groupby(path) if label != outputs - 1] == labels:
            total += math.prod(row[label] for row, label in zip(probabilities, path, strict=True))
    return total


def _ctc_batch() -> dict[str, Tensor]:
    logits = torch.randn(4, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([[0, 2, 1], [1, 1, 2], [0, 0, 0], [2, 2, 2]])
    return {"logits": logits, "lens": torch.tensor([5, 4, 3, 2]), "labels": labels, "label_lens": torch.tensor([3, 2, 0, 2])}


def test_ctc_is_the_sum_over_all_alignments() -> None:
    given, loss = _ctc_batch(), CtcLoss(CtcLossConfig(reduction="sum", zero_infinity=False), vocab_size=3)
    for b, (frames, size) in enumerate(zip(given["lens"].tolist(), given["label_lens"].tolist(), strict=True)):
        total = _alignments(given["logits"][b, :frames], given["labels"][b, :size].tolist())
        found = loss(**{name: value[b : b + 1] for name, value in given.items()}).item()
        assert found == pytest.approx(-math.log(total) if total else math.inf, rel=1e-10)


def test_ctc_gradients_are_those_of_finite_differences() -> None:
    given, loss = _ctc_batch(), CtcLoss(CtcLossConfig(), vocab_size=3)
    logits = given.pop("logits").requires_grad_()
    assert torch.autograd.gradcheck(lambda leaf: loss(logits=leaf, **given), logits)


def test_ctc_of_an_utterance_that_does_not_fit_teaches_nothing() -> None:
    given, loss = _ctc_batch(), CtcLoss(CtcLossConfig(), vocab_size=3)
    logits = given["logits"].requires_grad_()
    loss(**given).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[3].any()  # two equal labels need three frames
    assert logits.grad[0].any()


def test_ctc_of_a_model_that_diverged_is_not_hidden() -> None:
    given = _ctc_batch()
    given["logits"][0, 1, 2] = torch.nan
    assert CtcLoss(CtcLossConfig(), vocab_size=3)(**given).isnan()


def test_ctc_is_computed_in_float32() -> None:
    given, loss = _ctc_batch(), CtcLoss(CtcLossConfig(), vocab_size=3)
    logits = given.pop("logits").to(torch.bfloat16)
    found = loss(logits=logits, **given)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(logits=logits.float(), **given), rtol=0, atol=0)


def test_ctc_of_logits_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ctc needs logits \(B, T, 8\), of 7 labels and the blank, not \(4, 5, 4\)"):
        CtcLoss(CtcLossConfig(), vocab_size=7)(**_ctc_batch())


def test_smoothed_cross_entropy_is_least_where_the_others_share_what_is_given_away() -> None:
    """Its least value is the entropy of the distribution it asks for."""
    wanted = torch.tensor([0.8, 0.05, 0.05, 0.05, 0.05], dtype=torch.float64)
    logits = wanted.log().reshape(1, 1, 5).requires_grad_()
    loss = CrossEntropyLoss(CrossEntropyConfig(label_smoothing=0.2))
    value = loss(logits=logits, targets=torch.tensor([[0]]), target_lens=torch.tensor([1]))
    value.backward()
    assert value.item() == pytest.approx(-(wanted * wanted.log()).sum().item(), rel=1e-6)
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-7


def test_a_mean_is_over_all_targets_of_the_batch() -> None:
    """Not over those of each utterance first: of four targets three are guessed among 4 classes, and one is certain."""
    logits = torch.zeros(2, 3, 4)
    logits[1, 0, 1:] = -100.0
    found = CrossEntropyLoss(CrossEntropyConfig())(
        logits=logits, targets=torch.zeros(2, 3, dtype=torch.int64), target_lens=torch.tensor([3, 1])
    )
    assert found.item() == pytest.approx(3 * math.log(4) / 4)


@pytest.mark.parametrize("loss", [CrossEntropyLoss(CrossEntropyConfig()), AngularSoftmaxLoss(AngularSoftmaxConfig())])
def test_a_batch_without_targets_is_zero(loss: Any) -> None:
    given = {"targets": torch.zeros(2, 3, dtype=torch.int64), "target_lens": torch.zeros(2, dtype=torch.int64)}
    assert loss(logits=torch.randn(2, 3, 4), **given).item() == 0


def test_the_margin_widens_the_angle_of_the_right_class() -> None:
    """Of two classes at 60 and 90 degrees, with a margin of 30 degrees to the first: both are as near, so the loss is log 2."""
    loss = AngularSoftmaxLoss(AngularSoftmaxConfig(scale=15.0, margin=math.radians(30)))
    found = loss(logits=torch.tensor([[[0.5, 0.0]]]), targets=torch.tensor([[0]]), target_lens=torch.tensor([1]))
    assert found.item() == pytest.approx(math.log(2), rel=1e-5)


def test_cosines_of_one_have_a_finite_gradient() -> None:
    logits = torch.tensor([[[1.0, -1.0]]]).requires_grad_()
    loss = AngularSoftmaxLoss(AngularSoftmaxConfig())
    loss(logits=logits, targets=torch.tensor([[0]]), target_lens=torch.tensor([1])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_pos_weight_counts_what_is_present_more() -> None:
    pred, target = torch.zeros(1, 2, 1), torch.tensor([[[1.0], [0.0]]])
    found = BceLoss(BceConfig(pos_weight=3.0))(pred=pred, target=target, lens=torch.tensor([2]))
    assert found.item() == pytest.approx((3 + 1) * math.log(2) / 2)


@pytest.mark.parametrize(
    ("config", "values", "complaint"),
    [
        (RnntLossConfig, {"fastemit_lambda": -0.1}, "fastemit_lambda -0.1 must be 0 or more"),
        (TdtLossConfig, {"durations": [0]}, r"durations \[0\] must have one above 0"),
        (TdtLossConfig, {"durations": [1, 1]}, r"durations \[1, 1\] must be distinct"),
        (TdtLossConfig, {"sigma": -1.0}, "sigma -1.0 must be 0 or more"),
        (TdtLossConfig, {"omega": 1.5}, "omega 1.5 must be from 0 to 1"),
        (CrossEntropyConfig, {"label_smoothing": 1.0}, "label_smoothing 1.0 must be at least 0 and below 1"),
        (BceConfig, {"pos_weight": 0.0}, "pos_weight 0.0 must be above 0"),
        (AngularSoftmaxConfig, {"scale": 0.0}, "scale 0.0 must be above 0"),
        (AngularSoftmaxConfig, {"margin": 4.0}, "margin 4.0 must be at least 0 and below pi"),
    ],
)
def test_impossible_values_are_refused(config: Any, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        config(**values)
