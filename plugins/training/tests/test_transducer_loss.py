"""The transducer loss against all paths written out, finite differences and its float64 reference, and what it does to memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sonant import kernels
from sonant_training.kernels.transducer_loss import cpu, reference
from sonant_training.losses.config import RnntLossConfig, TdtLossConfig
from sonant_training.losses.rnnt import RnntLoss
from sonant_training.losses.tdt import TdtLoss

_DURATIONS = [(), (0, 1, 2, 3, 4), (0, 1, 2, 4, 8), (2, 0, 1), (1, 2)]
_BACKENDS = [reference, cpu]


def batch(
    durations: Sequence[int] = (), *, vocab: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Four utterances: a full one, one without labels, a short one, and one of a single frame."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, vocab, (4, 3), generator=generator)
    logits = torch.randn(4, 7, 4, vocab + 1 + len(durations), generator=generator, dtype=torch.float64).mul(2)
    return {
        "logits": logits.to(dtype),
        "labels": labels,
        "lens": torch.tensor([7, 5, 4, 1]),
        "label_lens": torch.tensor([3, 0, 1, 2]),
    }


def solve(backend: Any, given: dict[str, Any], **how: Any) -> tuple[Tensor, Tensor]:
    """The losses, and the gradient of a weighted sum of those that are finite."""
    logits = given["logits"].clone().requires_grad_()
    losses = backend.transducer_loss(**{**given, "logits": logits}, **how)
    finite = losses[losses.isfinite()]
    (finite * torch.arange(1, 1 + len(finite))).sum().backward()
    assert logits.grad is not None
    return losses.detach(), logits.grad


def paths(logits: Tensor, labels: list[int], durations: Sequence[int], sigma: float) -> Iterator[float]:
    """The probability of every path, one after another."""
    frames, positions, outputs = logits.shape
    blank = outputs - len(durations) - 1
    tokens = (logits[..., : blank + 1].log_softmax(-1) - sigma).exp().tolist()
    spans = logits[..., blank + 1 :].softmax(-1).tolist()

    def further(t: int, u: int, so_far: float) -> Iterator[float]:
        if t == frames and u == positions - 1:
            yield so_far
        if t >= frames:
            return
        for step, of_step in zip(durations, spans[t][u], strict=True) if durations else [(1, 1.0)]:
            if step > 0 and (t + step < frames or (t + step == frames and u == positions - 1)):
                yield from further(t + step, u, so_far * tokens[t][u][blank] * of_step)
        for step, of_step in zip(durations, spans[t][u], strict=True) if durations else [(0, 1.0)]:
            if u < positions - 1 and t + step < frames:
                yield from further(t + step, u + 1, so_far * tokens[t][u][labels[u]] * of_step)

    return further(0, 0, 1.0)


@pytest.mark.parametrize("durations", _DURATIONS)
@pytest.mark.parametrize("backend", _BACKENDS)
def test_it_is_the_sum_over_all_paths(backend: Any, durations: tuple[int, ...]) -> None:
    sigma = 0.1
    given = batch(durations)
    losses, _ = solve(backend, given, durations=durations, sigma=sigma)
    for b, (frames, size) in enumerate(zip(given["lens"].tolist(), given["label_lens"].tolist(), strict=True)):
        logits, labels = given["logits"][b, :frames, : size + 1], given["labels"][b, :size].tolist()
        total = math.fsum(paths(logits, labels, durations, sigma))
        assert losses[b].item() == pytest.approx(-math.log(total) if total else math.inf, rel=1e-12)


def test_the_paths_of_an_rnnt_are_as_many_as_they_should_be() -> None:
    """Two labels, in order, each at one of three frames."""
    assert sum(1 for _ in paths(torch.zeros(3, 3, 4), [0, 1], (), 0.0)) == math.comb(3 + 2 - 1, 2)


@pytest.mark.parametrize("durations", _DURATIONS)
def test_gradients_are_those_of_finite_differences(durations: tuple[int, ...]) -> None:
    rows = {name: value[[0, 2]] for name, value in batch(durations, vocab=2).items()}
    rows |= {"lens": torch.tensor([4, 3]), "labels": rows["labels"][:, :2], "label_lens": torch.tensor([2, 1])}
    logits = rows.pop("logits")[:, :4, :3].clone().requires_grad_()
    how: dict[str, Any] = {"durations": durations, "sigma": 0.05}
    assert torch.autograd.gradcheck(lambda leaf: cpu.transducer_loss(leaf, **rows, **how), logits)


@pytest.mark.parametrize("durations", _DURATIONS)
@pytest.mark.parametrize("fastemit", [0.0, 0.4])
def test_the_fast_one_is_the_reference(durations: tuple[int, ...], fastemit: float) -> None:
    how = {"durations": durations, "sigma": 0.05, "fastemit_lambda": fastemit}
    for seed in range(3):
        given = batch(durations, seed=seed)
        for found, wanted in zip(solve(cpu, given, **how), solve(reference, given, **how), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", _BACKENDS)
def test_logits_that_are_ignored_change_nothing(backend: Any) -> None:
    given = batch((0, 1, 2))
    losses, grad = solve(backend, given, ignored=3)
    alone, grad_alone = solve(backend, {**given, "logits": given["logits"][..., :6]})
    torch.testing.assert_close(losses, alone, rtol=1e-12, atol=0)
    torch.testing.assert_close(grad[..., :6], grad_alone, rtol=1e-12, atol=1e-14)
    assert not grad[..., 6:].any()
    spans, grad_spans = solve(backend, given, durations=(0, 1), ignored=1)
    torch.testing.assert_close(spans, solve(backend, {**given, "logits": given["logits"][..., :8]}, durations=(0, 1))[0])
    assert grad_spans[..., 6:8].any()
    assert not grad_spans[..., 8:].any()


def test_long_utterances_are_read_in_pieces() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 30, 11, 700)
    given = {
        "logits": torch.randn(shape, generator=generator, dtype=torch.float64),
        "labels": torch.randint(0, 699, (2, 10), generator=generator),
        "lens": torch.tensor([30, 26]),
        "label_lens": torch.tensor([10, 7]),
    }
    assert given["logits"][0].numel() > cpu._CHUNK
    for found, wanted in zip(solve(cpu, given), solve(reference, given), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("durations", [(), (0, 1, 2, 3, 4)])
def test_sharp_scores_over_many_frames_stay_exact(durations: tuple[int, ...]) -> None:
    """Where all paths but few are unlikely, as after training, float32 logits still give what float64 gives."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 400, 81, 9 + len(durations), generator=generator).mul(20)
    given = {
        "logits": logits,
        "labels": torch.randint(0, 8, (1, 80), generator=generator),
        "lens": torch.tensor([400]),
        "label_lens": torch.tensor([80]),
    }
    losses, grad = solve(cpu, given, durations=durations)
    exact, exact_grad = solve(cpu, {**given, "logits": logits.double()}, durations=durations)
    torch.testing.assert_close(losses.double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(grad.double(), exact_grad, rtol=0, atol=1e-4)


@pytest.mark.parametrize("durations", [(), (0, 1, 2)])
def test_padding_is_not_looked_at(durations: tuple[int, ...]) -> None:
    given = batch(durations)
    losses, grad = solve(cpu, given, durations=durations)
    frames, positions = torch.arange(7)[:, None], torch.arange(4)
    inside = (frames < given["lens"][:, None, None]) & (positions <= given["label_lens"][:, None, None])
    spoiled = {**given, "logits": given["logits"].masked_fill(~inside[..., None], torch.nan)}
    again, grad_again = solve(cpu, spoiled, durations=durations)
    assert again.equal(losses)
    assert grad_again.equal(grad)
    assert not grad[~inside].any()
    assert grad[inside].any()


def test_an_utterance_that_does_not_fit_is_infinite_and_teaches_nothing() -> None:
    given = batch((1, 2))  # the last has one frame for two labels
    losses, grad = solve(cpu, given, durations=(1, 2))
    assert losses.isinf().tolist() == [False, False, False, True]
    assert grad.isfinite().all()
    assert not grad[3].any()
    for zero_infinity in (True, False):
        loss = TdtLoss(TdtLossConfig(durations=[1, 2], zero_infinity=zero_infinity, reduction="sum"), vocab_size=5)
        assert loss(**given).item() == pytest.approx(losses[:3].sum().item() if zero_infinity else math.inf)


def test_an_utterance_without_frames_is_infinite() -> None:
    given = {**batch(), "lens": torch.tensor([7, 5, 4, 0]), "label_lens": torch.tensor([3, 0, 1, 0])}
    for backend in _BACKENDS:
        losses, grad = solve(backend, given)
        assert losses.isinf().tolist() == [False, False, False, True]
        assert grad.isfinite().all()


@pytest.mark.parametrize("durations", [(), (0, 1, 2)])
def test_reduced_precision_is_computed_in_float32(durations: tuple[int, ...]) -> None:
    given = batch(durations, dtype=torch.bfloat16)
    losses, grad = solve(cpu, given, durations=durations)
    exact, exact_grad = solve(reference, {**given, "logits": given["logits"].double()}, durations=durations)
    assert (losses.dtype, grad.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(losses.double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(grad.double(), exact_grad, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("durations", [(), (0, 1, 2)])
def test_a_model_that_diverged_is_not_hidden(durations: tuple[int, ...]) -> None:
    given = batch(durations)
    given["logits"][0, 2, 1, 3] = torch.nan
    losses = cpu.transducer_loss(**given, durations=durations)
    assert losses.isnan().tolist() == [True, False, False, False]
    config = TdtLossConfig(durations=list(durations)) if durations else RnntLossConfig()
    loss = TdtLoss(config, vocab_size=5) if isinstance(config, TdtLossConfig) else RnntLoss(config, vocab_size=5)
    assert loss(**given).isnan()


class _Joint(nn.Module):
    def __init__(self, outputs: int, *, normalized: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.out, self.normalized = nn.Linear(8, outputs), normalized

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(x)
        return found.log_softmax(-1) if self.normalized else found


def _through(joint: nn.Module, reuse: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of a joint network's weights, its logits as `backward` leaves them, and as they were."""
    x = torch.randn(4, 7, 4, 8, generator=torch.Generator().manual_seed(1))
    logits = joint(x)
    before = logits.detach().clone()
    loss = RnntLoss(RnntLossConfig(reuse_logits=reuse), vocab_size=5)
    rest = {name: value for name, value in batch().items() if name != "logits"}
    joint.zero_grad()
    loss(logits=logits, **rest).backward()
    weight = next(joint.parameters())
    assert weight.grad is not None
    return weight.grad, logits.detach(), before


def test_the_gradient_takes_the_place_of_the_logits() -> None:
    joint = _Joint(6)
    grad, kept, before = _through(joint, reuse=False)
    again, logits, _ = _through(joint, reuse=True)
    assert kept.equal(before)
    torch.testing.assert_close(again, grad)
    torch.testing.assert_close(logits.sum(-1), torch.zeros(4, 7, 4), rtol=0, atol=1e-6)  # as a gradient's through a softmax


def test_logits_that_are_needed_on_the_way_back_are_kept() -> None:
    joint = _Joint(6, normalized=True)
    grad, _, _ = _through(joint, reuse=False)
    again, logits, before = _through(joint, reuse=True)
    assert logits.equal(before)
    torch.testing.assert_close(again, grad)


def test_leaves_are_kept() -> None:
    given = batch()
    logits = given.pop("logits").requires_grad_()
    before = logits.detach().clone()
    cpu.transducer_loss(logits, **given, reuse_logits=True).sum().backward()
    assert logits.detach().equal(before)


def test_going_back_twice_over_overwritten_logits_is_an_error() -> None:
    joint, given = _Joint(6), batch()
    given["logits"] = joint(torch.randn(4, 7, 4, 8))
    loss = RnntLoss(RnntLossConfig(), vocab_size=5)(**given)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_omega_is_the_share_of_batches_without_durations() -> None:
    given = batch((0, 1, 2))
    tdt = TdtLoss(TdtLossConfig(durations=[0, 1, 2], omega=0.3, sigma=0.05), vocab_size=5)
    without = RnntLoss(RnntLossConfig(), vocab_size=5)(**{**given, "logits": given["logits"][..., :6]}).item()
    durably = tdt.eval()(**given).item()
    assert without != pytest.approx(durably)
    torch.manual_seed(0)
    found = [tdt.train()(**given).item() for _ in range(200)]
    assert {round(value, 9) for value in found} == {round(without, 9), round(durably, 9)}
    share = sum(value == pytest.approx(without) for value in found) / len(found)
    assert 0.2 < share < 0.4
    torch.manual_seed(0)
    assert [tdt.train()(**given).item() for _ in range(20)] == found[:20]


def test_durations_without_probabilities_of_their_own_get_no_gradient() -> None:
    given = batch((0, 1, 2))
    given["logits"].requires_grad_()
    TdtLoss(TdtLossConfig(durations=[0, 1, 2], omega=1.0), vocab_size=5)(**given).backward()
    grad = given["logits"].grad
    assert grad is not None
    assert grad[..., :6].any()
    assert not grad[..., 6:].any()


def test_a_head_of_other_durations_is_refused() -> None:
    class Head:
        durations = (0, 1, 2)

    TdtLoss(TdtLossConfig(durations=[0, 1, 2]), vocab_size=5, decoder=Head())
    with pytest.raises(ValueError, match=r"durations \[0, 1, 2, 3, 4\] must be those of the head, which are \[0, 1, 2\]"):
        TdtLoss(TdtLossConfig(), vocab_size=5, decoder=Head())


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (RnntLoss(RnntLossConfig(), vocab_size=5), (4, 7, 4, 9)),  # those of a TDT
        (RnntLoss(RnntLossConfig(), vocab_size=5), (4, 7, 3, 6)),  # nothing behind the last label
        (RnntLoss(RnntLossConfig(), vocab_size=5), (4, 7, 6)),  # those of CTC
        (TdtLoss(TdtLossConfig(), vocab_size=5), (4, 7, 4, 6)),  # those of an RNN-T
    ],
)
def test_logits_of_another_head_are_refused(loss: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"needs logits \(B, T, U \+ 1, \d+\)"):
        loss(**{**batch(), "logits": torch.zeros(shape)})


def test_the_fast_one_is_what_a_cpu_gets() -> None:
    assert kernels.get("transducer_loss", "cpu") is cpu.transducer_loss
