"""SpecAugment masks what Park et al. (2019) say: whole bands of features, whole stretches of frames, uniformly drawn.

Rectangles are cut out besides, as DeVries and Taylor (2017) do, drawn as NeMo draws them.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sonant.config import fill
from sonant.nemo import NemoSection
from sonant_features.spec_augment.config import SpecAugmentConfig
from sonant_features.spec_augment.model import SpecAugment
from sonant_features.spec_augment.nemo import read, write

B, T, F = 64, 50, 20
LENS = torch.linspace(0, T, B).long()


def masked(lens: Tensor = LENS, seed: int = 0, **options: Any) -> Tensor:
    """Which values one draw masks, `(B, T, F)`."""
    torch.manual_seed(seed)
    feats = torch.ones(len(lens), T, F)
    value = options.setdefault("mask_value", -5.0)
    out = SpecAugment(SpecAugmentConfig(**options)).train()(feats, lens)
    assert ((out == 1) | (out == value)).all() and (feats == 1).all()
    return out == value


def runs(row: Tensor) -> list[int]:
    """How long the stretches of true values are."""
    text = "".join("x" if value else " " for value in row.tolist())
    return [len(run) for run in text.split()]


def test_nothing_happens_in_eval_mode() -> None:
    feats = torch.randn(2, T, F)
    augment = SpecAugment(SpecAugmentConfig(freq_masks=5, time_masks=5)).eval()
    assert torch.equal(augment(feats, torch.tensor([T, 10])), feats)


def test_no_masks_change_nothing() -> None:
    assert not masked(freq_masks=0, time_masks=0).any()


def test_frequency_masks_are_whole_bands_of_bounded_width() -> None:
    bands = masked(freq_masks=1, freq_width=7)
    assert torch.equal(bands, bands[:, :1].expand_as(bands))
    widths = [width for row in bands[:, 0] for width in runs(row)]
    assert all(len(runs(row)) <= 1 for row in bands[:, 0])
    assert max(widths) < 7 and len(set(widths)) > 3


def test_time_masks_are_whole_stretches_within_the_recording() -> None:
    stretches = masked(time_masks=1, time_width=9)
    assert torch.equal(stretches, stretches[..., :1].expand_as(stretches))
    for row, length in zip(stretches[..., 0], LENS, strict=True):
        assert len(runs(row)) <= 1 and not row[length:].any()
    assert max(width for row in stretches[..., 0] for width in runs(row)) < 9


@pytest.mark.parametrize("part", [0.1, 0.5, 1.0])
def test_time_width_as_a_part_of_the_recording(part: float) -> None:
    stretches = masked(time_masks=1, time_width=part)[..., 0]
    longest = stretches.sum(1)
    assert (longest <= (LENS * part)).all()
    assert (longest > 0).sum() > 5


def test_several_masks_add_up_to_no_more_than_so_many() -> None:
    found = masked(freq_masks=3, freq_width=4, time_masks=2, time_width=5)
    bands, stretches = found.all(1), found.all(2)
    assert torch.equal(found, bands[:, None, :] | stretches[:, :, None])
    assert max(len(runs(row)) for row in bands) > 1
    assert all(len(runs(row)) <= 3 and row.sum() <= 3 * 3 for row in bands[LENS > 0])
    assert all(len(runs(row)) <= 2 and row.sum() <= 2 * 4 for row in stretches)


def test_widths_and_positions_are_uniform() -> None:
    """Widths are 0 … 7 with equal odds; the start lies anywhere the mask fits."""
    count, width, features = 20_000, 8, 20
    torch.manual_seed(0)
    augment = SpecAugment(SpecAugmentConfig(freq_masks=1, freq_width=width, mask_value=1.0)).train()
    bands = augment(torch.zeros(count, 1, features), torch.full((count,), 1))[:, 0] == 1
    widths = bands.sum(1)
    assert torch.bincount(widths, minlength=width).tolist() == pytest.approx([count / width] * width, rel=0.1)
    starts = bands.int().argmax(1)[widths == 4]
    fits = features - 4
    assert torch.bincount(starts, minlength=fits).tolist() == pytest.approx([len(starts) / fits] * fits, rel=0.4)


def test_recordings_of_a_batch_draw_their_own_masks() -> None:
    found = masked(lens=torch.full((B,), T), freq_masks=1, freq_width=10, time_masks=1, time_width=10)
    assert len({tuple(row.flatten().tolist()) for row in found}) > B // 2


def test_draws_follow_the_seed() -> None:
    options: dict[str, Any] = {"freq_masks": 2, "freq_width": 8, "time_masks": 2, "time_width": 0.2}
    assert torch.equal(masked(seed=1, **options), masked(seed=1, **options))
    assert not torch.equal(masked(seed=1, **options), masked(seed=2, **options))


def test_widths_beyond_the_recording_mask_it_at_most_whole() -> None:
    lens = torch.tensor([0, 1, 2, 3])
    beyond = torch.arange(T) >= lens[:, None]
    stretches = masked(lens=lens, time_masks=4, time_width=1000)[..., 0]
    assert not stretches[beyond].any() and stretches[1:, 0].any()
    bands = masked(lens=lens, freq_masks=1, freq_width=1000)[:, 0]
    assert bands.all(1).any()


def test_dtype_is_kept_and_gradients_pass_where_nothing_is_masked() -> None:
    augment = SpecAugment(SpecAugmentConfig(freq_masks=1, freq_width=10)).train()
    feats = torch.randn(2, T, F, dtype=torch.bfloat16, requires_grad=True)
    torch.manual_seed(1)
    out = augment(feats, torch.tensor([T, T]))
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert feats.grad is not None
    assert torch.equal(feats.grad == 0, out == 0) and (feats.grad == 0).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freq_masks": -1}, "negative"),
        ({"time_width": -0.1}, "negative"),
        ({"rect_masks": -1}, "negative"),
        ({"rect_freq": -1}, "negative"),
        ({"time_width": 1.5}, "a part of the recording, at most 1.0"),
    ],
)
def test_impossible_configs_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpecAugmentConfig(**options)


@pytest.mark.parametrize(
    "config",
    [
        SpecAugmentConfig(),
        SpecAugmentConfig(freq_masks=2, freq_width=27, time_masks=10, time_width=0.05, mask_value=-1.0),
        SpecAugmentConfig(time_masks=2, time_width=70),
        SpecAugmentConfig(rect_masks=5, rect_time=120, rect_freq=50),
    ],
)
def test_what_is_written_for_nemo_reads_as_it_was(config: SpecAugmentConfig) -> None:
    values = write(config)
    assert values.pop("_target_") == "nemo.collections.asr.modules.SpectrogramAugmentation"
    section = NemoSection(values, "spec_augment")
    assert fill(SpecAugmentConfig, read(section), "spec_augment") == config
    assert section.finish() == []


# --- Rectangles


def test_rectangles_lie_within_the_recording() -> None:
    found = masked(rect_masks=1, rect_time=9, rect_freq=7, mask_value=0.0)
    sides = found.any(2).sum(1), found.any(1).sum(1)
    assert torch.equal(found.sum((1, 2)), sides[0] * sides[1])
    assert all(len(runs(row)) <= 1 for row in (*found.any(2), *found.any(1)))
    assert sides[0].max() <= 9 and sides[1].max() <= 7
    assert not any(row[length:].any() for row, length in zip(found, LENS, strict=True))


@pytest.mark.parametrize("count", [1, 3])
def test_every_value_is_cut_out_as_often_as_nemo_does(count: int) -> None:
    """NeMo's draws: a start of 0 … size - widest and a width of 0 … widest, both ends among them, each with equal odds."""
    widest, size = (4, 3), (9, 7)

    def odds(widest: int, size: int) -> Tensor:
        draws = [(start, width) for start in range(size - widest + 1) for width in range(widest + 1)]
        at = torch.arange(size, dtype=torch.float64)
        return torch.stack([((at >= start) & (at < start + width)).double() for start, width in draws]).mean(0)

    expected = 1 - (1 - odds(widest[0], size[0])[:, None] * odds(widest[1], size[1])) ** count
    torch.manual_seed(0)
    augment = SpecAugment(SpecAugmentConfig(rect_masks=count, rect_time=widest[0], rect_freq=widest[1])).train()
    draws = 20_000
    found = (augment(torch.ones(draws, *size), torch.full((draws,), size[0])) == 0).double().mean(0)
    assert ((found - expected).abs() < 4.5 * (expected * (1 - expected) / draws).sqrt()).all()


def test_rectangles_wider_than_the_recording_cut_what_there_is() -> None:
    lens = torch.tensor([0, 1, 3, T])
    found = masked(lens=lens, rect_masks=4, rect_time=10, rect_freq=1000, mask_value=0.0)
    assert found[1:].flatten(1).any(1).all()
    assert not any(row[length:].any() for row, length in zip(found, lens, strict=True))


def test_rectangles_become_zero_whatever_the_mask_value() -> None:
    torch.manual_seed(0)
    config = SpecAugmentConfig(rect_masks=3, rect_time=20, rect_freq=9, time_masks=2, time_width=9, mask_value=-5.0)
    out = SpecAugment(config).train()(torch.ones(B, T, F), torch.full((B,), T))
    assert {1.0, 0.0, -5.0} == set(out.unique().tolist())
    stretches = (out == -5).any(2)
    assert (out[stretches] == -5).all()


def test_recordings_and_rectangles_draw_their_own() -> None:
    found = masked(lens=torch.full((B,), T), rect_masks=2, rect_time=12, rect_freq=8, mask_value=0.0)
    assert len({tuple(row.flatten().tolist()) for row in found}) > B // 2
    # Two rectangles at different places are no rectangle together.
    assert (found.sum((1, 2)) < found.any(2).sum(1) * found.any(1).sum(1)).any()
