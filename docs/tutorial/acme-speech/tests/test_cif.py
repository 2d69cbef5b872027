"""Integrate-and-fire against the loop of the paper in float64, and the search and the loss on small examples."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from acme_speech.cif.config import CifConfig, CifGreedyConfig, CifLossConfig
from acme_speech.cif.integrate import integrate
from acme_speech.cif.loss import CifLoss
from acme_speech.cif.model import Cif
from acme_speech.cif.search import CifGreedy, spans


def fired(values: Tensor, weights: list[float]) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """Frame by frame: add up until the weights make 1, fire, and go on with what is left. The tokens, and what each spans."""
    tokens, places = [], []
    level, token, start = 0.0, torch.zeros_like(values[0]), 0
    for t, weight in enumerate(weights):
        if level == 0.0 and weight > 0.0:
            start = t
        while level + weight >= 1.0:
            part = 1.0 - level
            tokens.append(token + part * values[t])
            places.append((start, t + 1))
            level, token, weight, start = 0.0, torch.zeros_like(token), weight - part, t
        level, token = level + weight, token + weight * values[t]
    return tokens, places


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exact", [False, True], ids=["any", "quarters"])  # quarters often make 1 at the end of a frame
def test_integrate_and_fire(scale: float, dtype: torch.dtype, exact: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(2, 40, 5, generator=generator, dtype=torch.float64)
    weights = scale * torch.rand(2, 40, generator=generator, dtype=torch.float64)
    weights = (4 * weights).round() / 4 if exact else weights
    weights[1, 25:] = 0.0
    wanted = [fired(v, w.tolist()) for v, w in zip(values, weights, strict=True)]
    found = integrate(values.to(dtype), weights.to(dtype), max(len(tokens) for tokens, _ in wanted))
    starts, ends = spans(weights.cumsum(1), found.shape[1])
    for row, (tokens, places) in enumerate(wanted):
        count = len(tokens)
        assert count > 2
        tolerance = 1e-4 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(found[row, :count].double(), torch.stack(tokens), atol=tolerance, rtol=0.0)
        assert list(zip(starts[row, :count].tolist(), ends[row, :count].tolist(), strict=True)) == places


def test_tokens_that_the_weights_do_not_reach_are_zero() -> None:
    tokens = integrate(torch.ones(1, 3, 1), torch.tensor([[0.5, 0.7, 0.2]]), 3)
    torch.testing.assert_close(tokens[0, :, 0], torch.tensor([1.0, 0.4, 0.0]))


def listening(logits: list[float]) -> tuple[Cif, Tensor]:
    """A decoder whose weights are the sigmoids of `logits`, and the encoder output that tells them."""
    torch.manual_seed(0)
    decoder = Cif(CifConfig(dropout=0.0), d_in=4, vocab_size=6).eval()
    with torch.no_grad():
        decoder.listen.weight.zero_()
        decoder.listen.weight[:, :, 1] = torch.eye(4)  # the middle of the kernel
        decoder.listen.bias.zero_()  # type: ignore[union-attr]
        decoder.weigh.weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
        decoder.weigh.bias.fill_(-20.0)
    enc = torch.randn(1, len(logits), 4)
    enc[0, :, 0] = torch.tensor(logits) + 20.0
    return decoder, enc


def logit(weight: float) -> float:
    return math.log(weight / (1.0 - weight))


def test_training_makes_as_many_tokens_as_there_are_labels() -> None:
    given = [0.9, 0.2, 0.6, 0.4, 0.5]
    decoder, enc = listening([logit(w) for w in given])
    labels, label_lens = torch.tensor([[1, 2, 3, 0]]), torch.tensor([3])
    out = decoder(enc, torch.tensor([5]), labels, label_lens)
    assert out["logits"].shape == (1, 4, 6)
    torch.testing.assert_close(out["quantity"], torch.tensor([2.6]))
    scaled = torch.tensor([given]) * 3 / 2.6
    torch.testing.assert_close(out["logits"], decoder.spell(enc, scaled, label_lens, 4))
    whole = integrate(torch.ones(1, 5, 1), scaled, 4)[0, :, 0]  # how much weight each token got
    torch.testing.assert_close(whole, torch.tensor([1.0, 1.0, 1.0, 0.0]), atol=1e-5, rtol=0.0)


@pytest.mark.parametrize(
    ("given", "length", "tail", "starts", "ends"),
    [
        ([0.9, 0.3, 0.6, 0.4, 0.4], 5, 0.5, (0, 1, 3), (2, 4, 5)),  # 2.6: the third is more than half
        ([0.9, 0.3, 0.6, 0.4, 0.4], 5, 0.7, (0, 1), (2, 4)),
        ([0.9, 0.3, 0.6, 0.4, 0.4], 4, 0.5, (0, 1), (2, 4)),  # 2.2, and what is behind the end is not heard
        ([0.1, 0.1, 0.1, 0.1, 0.05], 5, 0.5, (), ()),
    ],
)
def test_the_search_fires(given: list[float], length: int, tail: float, starts: tuple[int, ...], ends: tuple[int, ...]) -> None:
    decoder, enc = listening([logit(w) for w in given])
    with torch.no_grad():
        (found,) = CifGreedy(CifGreedyConfig(tail=tail))(decoder, enc, torch.tensor([length]))
        weights = torch.tensor([given]) * (torch.arange(5) < length)
        logits = decoder.spell(enc, weights, torch.tensor([len(starts)]), len(starts))[0]
    assert (found.starts, found.ends) == (starts, ends)
    assert found.tokens == tuple(logits.argmax(-1).tolist())
    likelihoods = (logits.exp() / logits.exp().sum(-1, keepdim=True)).amax(-1)
    assert found.score == pytest.approx(sum(math.log(p) for p in likelihoods.tolist()), abs=1e-5)


def test_a_batch_gives_what_its_recordings_give_alone() -> None:
    decoder, longer = listening([logit(w) for w in [0.9, 0.3, 0.6, 0.4, 0.4]])
    search = CifGreedy(CifGreedyConfig())
    with torch.no_grad():
        together = search(decoder, longer.repeat(2, 1, 1), torch.tensor([5, 2]))
        alone = [*search(decoder, longer, torch.tensor([5])), *search(decoder, longer[:, :2], torch.tensor([2]))]
    assert [len(found.tokens) for found in together] == [3, 1]
    for found, wanted in zip(together, alone, strict=True):
        assert (found.tokens, found.starts, found.ends) == (wanted.tokens, wanted.starts, wanted.ends)
        assert found.score == pytest.approx(wanted.score, abs=1e-5)


@pytest.mark.parametrize("tail", [0.01, 1.0])
@torch.no_grad()
def test_tokens_are_the_same_in_any_batch_and_none_is_empty(tail: float) -> None:
    """The weights are chosen to end close to where the last token fires, and one recording has no frames."""
    generator = torch.Generator().manual_seed(5)
    search = CifGreedy(CifGreedyConfig(tail=tail))
    for frames in torch.randint(2, 60, (20,), generator=generator).tolist():
        given = torch.rand(frames, generator=generator).clamp(0.05, 0.95)
        given = given * (given.sum().floor() + tail) / given.sum()
        decoder, enc = listening([logit(min(w, 0.999)) for w in given.tolist()])
        (alone,) = search(decoder, enc, torch.tensor([frames]))
        wide = torch.cat([enc, torch.randn(1, 77, 4, generator=generator)], dim=1)
        found, empty = search(decoder, wide.repeat(2, 1, 1), torch.tensor([frames, 0]))
        assert (found.tokens, found.starts, found.ends) == (alone.tokens, alone.starts, alone.ends)
        assert all(0 <= start < end <= frames for start, end in zip(found.starts, found.ends, strict=True))
        assert (empty.tokens, empty.starts, empty.ends) == ((), (), ())


def test_loss() -> None:
    logits = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 0.0, 0.0]], [[0.5, 1.5, -1.0], [9.0, 9.0, -9.0]]])
    labels, label_lens = torch.tensor([[0, 2], [1, 2]]), torch.tensor([2, 1])
    quantity = torch.tensor([2.75, 0.5])

    def entropy(scores: list[float], label: int) -> float:
        return -math.log(math.exp(scores[label]) / sum(math.exp(score) for score in scores))

    entropies = [entropy([2.0, 0.0, 1.0], 0), math.log(3.0), entropy([0.5, 1.5, -1.0], 1)]  # the fourth label is padding
    loss = CifLoss(CifLossConfig(quantity_weight=0.5))(logits, quantity, labels, label_lens)
    assert loss.item() == pytest.approx(sum(entropies) / 3 + 0.5 * (0.75 + 0.5) / 2)


@pytest.mark.parametrize(("kind", "field", "value"), [(CifConfig, "context_size", 2), (CifGreedyConfig, "tail", 1e-8)])
def test_values_that_do_not_fit(kind: type, field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} {value} is"):
        kind(**{field: value})
