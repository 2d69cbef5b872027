"""A long recording's features are computed some frames after others; the numbers are those of the whole computed at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sonant_features.log_mel import model
from sonant_features.log_mel.config import FixedStatistics, LogMelConfig

FIXED = FixedStatistics(mean=[0.5] * 80, std=[2.0] * 80)


def both(monkeypatch: pytest.MonkeyPatch, lens: list[int], piece: int, **options: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The features of noise at once, and in pieces of so many frames."""
    mel = model.LogMel(LogMelConfig(**options)).eval()
    wav = torch.randn(len(lens), max(lens), generator=torch.Generator().manual_seed(0)) * 0.1
    results = []
    for size in (2**14, piece):
        monkeypatch.setattr(model, "_LONGEST_PIECE", size)
        assert mel._is_long(wav) == (size == piece)
        results.append(mel(wav, torch.tensor(lens)))
    return results


@pytest.mark.parametrize("lens", [[9000], [9000, 4321, 160, 0], [16001, 16000]], ids=str)
@pytest.mark.parametrize("piece", [4, 7, 40])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"preemph": None},
        {"exact_pad": True, "normalize": "none"},
        {"exact_pad": True, "preemph": None, "n_fft": 400},
        {"normalize": "all_features", "n_fft": 401},
        {"normalize": "fixed", "fixed": FIXED, "pad_value": -3.0},
        {"frame_splicing": 2, "window_stride": 0.0125, "mag_power": 1.0},
    ],
    ids=str,
)
def test_pieces_give_what_the_whole_gives(
    monkeypatch: pytest.MonkeyPatch, lens: list[int], piece: int, options: dict[str, Any]
) -> None:
    (whole, frames), (pieces, counts) = both(monkeypatch, lens, piece, **options)
    assert pieces.shape == whole.shape
    assert counts.tolist() == frames.tolist()
    torch.testing.assert_close(pieces, whole, atol=2e-4, rtol=1e-4)
    if options.get("normalize") == "none":
        torch.testing.assert_close(pieces, whole, atol=1e-6, rtol=1e-6)


def test_six_minutes_are_normalized_to_zero_mean_and_unit_variance() -> None:
    """As computed in float64 from features that are not normalized, in more than one piece."""
    wav = torch.randn(1, 16000 * 360, generator=torch.Generator().manual_seed(1)) * 0.1
    lens = torch.tensor([wav.shape[1]])
    raw = model.LogMel(LogMelConfig(normalize="none")).eval()(wav, lens)[0][:, :-1].double()
    mel = model.LogMel(LogMelConfig()).eval()
    assert mel._is_long(wav)
    found = mel(wav, lens)[0][:, :-1]
    torch.testing.assert_close(found.double(), (raw - raw.mean(1)) / raw.std(1), atol=1e-4, rtol=1e-4)
