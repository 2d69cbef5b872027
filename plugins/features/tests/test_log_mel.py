"""Log-mel features against a plain float64 computation of one recording at a time, and against NeMo's numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from torch import Tensor

from sonant import runtime
from sonant.nemo import NemoSection
from sonant_features.log_mel.config import FixedStatistics, LogMelConfig
from sonant_features.log_mel.mel import filterbank
from sonant_features.log_mel.model import LogMel
from sonant_features.log_mel.nemo import read

Array = npt.NDArray[np.float64]

GOLDEN = np.load(Path(__file__).parent / "data" / "log_mel.npz")
NEMO_SECTIONS = json.loads(str(GOLDEN["sections"]))

WINDOWS = {  # of 2 pi times the position in the window, from 0 to 1
    "hann": lambda x: 0.5 - 0.5 * np.cos(x),
    "hamming": lambda x: 0.54 - 0.46 * np.cos(x),
    "blackman": lambda x: 0.42 - 0.5 * np.cos(x) + 0.08 * np.cos(2 * x),
    "bartlett": lambda x: 1 - np.abs(x / np.pi - 1),
    "none": np.ones_like,
}

OPTIONS: list[dict[str, Any]] = [
    {},
    *({"window": window} for window in WINDOWS),
    {"normalize": "none"},
    {"normalize": "all_features"},
    {"normalize": "fixed", "fixed": {"mean": [0.1 * n - 5 for n in range(20)], "std": [1 + 0.1 * n for n in range(20)]}},
    {"normalize": "none", "log_zero_guard_value": 1e-3},
    {"normalize": "none", "log_zero_guard_value": "eps"},
    {"normalize": "none", "log_zero_guard_value": "tiny"},
    {"normalize": "none", "log_zero_guard_type": "clamp", "log_zero_guard_value": 1e-3},
    {"normalize": "none", "log_zero_guard_type": "clamp", "log_zero_guard_value": "eps"},
    {"normalize": "none", "log_zero_guard_type": "clamp", "log_zero_guard_value": "tiny"},
    {"normalize": "none", "log": False},
    {"normalize": "none", "mag_power": 1.0},
    {"normalize": "none", "mag_power": 1.5},
    {"preemph": None},
    {"preemph": 0.5},
    {"lowfreq": 100.0, "highfreq": 3000.0},
    {"mel_norm": "none"},
    {"exact_pad": True},
    {"exact_pad": True, "preemph": None, "normalize": "none"},
    {"exact_pad": True, "n_fft": 257, "preemph": None},
    {"frame_splicing": 3},
    {"n_fft": 200},
    {"n_fft": 301},
    {"window_stride": 0.0125},
    {"sample_rate": 11025},
]


def config(**options: Any) -> LogMelConfig:
    """Small, so that the plain computation is quick."""
    values: dict[str, Any] = {"sample_rate": 8000, "features": 20} | options
    if isinstance(values.get("fixed"), dict):
        values["fixed"] = FixedStatistics(**values["fixed"])
    return LogMelConfig(**values)


def expected(wav: Array, c: LogMelConfig) -> Array:
    """`(N,)` samples to `(T, F)`, the valid frames."""
    power = np.abs(spectra(wav, c)) ** c.mag_power
    mel = power @ filterbank(
        c.sample_rate, c.fft_length, c.features, c.lowfreq, c.highfreq or c.sample_rate / 2, c.mel_norm == "slaney"
    ).T.astype(np.float64)
    if c.log:
        info = np.finfo(np.float32)
        floor = {"tiny": float(info.tiny), "eps": float(info.eps)}.get(str(c.log_zero_guard_value), c.log_zero_guard_value)
        mel = np.log(mel + floor if c.log_zero_guard_type == "add" else np.maximum(mel, floor))
    mel = np.concatenate([mel] * c.frame_splicing, axis=1)
    if c.normalize == "fixed":
        assert c.fixed is not None
        return (mel - np.array(c.fixed.mean)) / np.array(c.fixed.std)
    if c.normalize == "none" or len(mel) == 0:
        return mel
    axis = 0 if c.normalize == "per_feature" else None
    deviation = mel.std(axis=axis, ddof=1) if mel.shape[0] > 1 else 0.0
    return (mel - mel.mean(axis=axis)) / (deviation + 1e-5)


def spectra(wav: Array, c: LogMelConfig) -> Array:
    """The Fourier transform of every valid frame, by its definition."""
    count = len(wav)
    edge = (c.fft_length - c.hop_length) // 2
    if c.exact_pad:
        wav = np.pad(wav, (edge, edge))
    if c.preemph is not None:
        wav = wav - c.preemph * np.concatenate([[0.0], wav[:-1]])
        wav[count:] = 0
    if not c.exact_pad:
        wav = np.pad(wav, c.fft_length // 2)
    size = c.window_length
    window = np.zeros(c.fft_length)
    before = (c.fft_length - size) // 2
    window[before : before + size] = WINDOWS[c.window](2 * np.pi * np.arange(size) / (size - 1))
    k, n = np.arange(c.fft_length // 2 + 1), np.arange(c.fft_length)
    transform = np.exp(-2j * np.pi * np.outer(n, k) / c.fft_length)
    # One frame for every hop that lies within the recording; with exact_pad NeMo counts one fewer.
    steps = max(0, (count + 2 * (edge if c.exact_pad else c.fft_length // 2) - c.fft_length) // c.hop_length)
    frames = [wav[t * c.hop_length : t * c.hop_length + c.fft_length] * window for t in range(steps if count else 0)]
    return np.array(frames).reshape(-1, c.fft_length) @ transform


def noise(count: int, loudness: float = 0.1, seed: int = 0) -> Array:
    """White, under a loudness that changes, so that no frame is like the next."""
    generator = np.random.default_rng(seed)
    return loudness * generator.standard_normal(count) * (1.1 + np.sin(np.arange(count) / 200))


def run(c: LogMelConfig, *recordings: Array, garbage: float = 0.0, extra: int = 0) -> list[Array]:
    """The valid frames of each recording of one batch; `garbage` fills what lies beyond their lengths, and `extra` samples."""
    wav = torch.full((len(recordings), max(map(len, recordings)) + extra), garbage)
    for row, samples in zip(wav, recordings, strict=True):
        row[: len(samples)] = torch.from_numpy(samples)
    feats, lens = LogMel(c).eval()(wav, torch.tensor([len(r) for r in recordings]))
    assert feats.dtype == torch.float32 and lens.dtype == torch.int64
    assert feats.shape[2] == c.features * c.frame_splicing
    for row, length in zip(feats, lens, strict=True):
        assert (row[length:] == c.pad_value).all()
    return [row[:length].double().numpy() for row, length in zip(feats, lens, strict=True)]


def error(ours: Array, theirs: Array) -> float:
    assert ours.shape == theirs.shape
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def names(options: Any) -> str:
    return "-".join(f"{k}={v}" for k, v in options.items() if k != "fixed") or "defaults"


# --- The numbers


@pytest.mark.parametrize("options", OPTIONS, ids=names)
def test_features_of_a_batch_are_those_of_the_definition(options: dict[str, Any]) -> None:
    c = config(**options)
    # Where nothing is normalized, one recording is so quiet that the guard of the logarithm shows.
    quiet = 1e-4 if c.normalize == "none" else 1e-2
    recordings = [noise(2500), noise(1201, loudness=quiet, seed=1), noise(1900, seed=2)]
    for found, samples in zip(run(c, *recordings), recordings, strict=True):
        assert error(found, expected(samples, c)) < 2e-5


@pytest.mark.parametrize(
    "options", [{"log_zero_guard_value": 1e-3}, {"log_zero_guard_value": "eps"}, {"log_zero_guard_type": "clamp"}]
)
def test_silence_gives_the_logarithm_of_the_guard(options: dict[str, Any]) -> None:
    (found,) = run(config(normalize="none", **options), np.zeros(800))
    floor = {"eps": 2.0**-23}.get(options.get("log_zero_guard_value", 2.0**-24), options.get("log_zero_guard_value", 2.0**-24))
    np.testing.assert_allclose(found, np.log(floor), rtol=1e-6)


def test_normalized_features_have_zero_mean_and_unit_variance() -> None:
    (per_feature,) = run(config(), noise(4000))
    np.testing.assert_allclose(per_feature.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(per_feature.std(0, ddof=1), 1, atol=1e-4)
    (all_features,) = run(config(normalize="all_features"), noise(4000))
    assert all_features.mean() == pytest.approx(0, abs=1e-6) and all_features.std(ddof=1) == pytest.approx(1, abs=1e-4)
    assert abs(all_features.mean(0)).max() > 0.1


@pytest.mark.parametrize("number", range(len(NEMO_SECTIONS)), ids=lambda n: names(NEMO_SECTIONS[n])[:60])
def test_features_are_nemos(number: int) -> None:
    section = NemoSection(NEMO_SECTIONS[number], "preprocessor")
    values = read(section)
    assert section.keys() == []
    c = config(**values)
    theirs, lens = GOLDEN[f"mel_{number}"].transpose(0, 2, 1), GOLDEN[f"lens_{number}"]
    samples = a_wav()[:8000]
    for found, mel, length in zip(run(c, samples, samples[:4800]), theirs, lens, strict=True):
        assert error(found, mel[:length]) < 1e-5


def a_wav() -> Array:
    return soundfile.read(Path(__file__).resolve().parents[3] / "tests" / "nemo-cases" / "a.wav")[0]


# --- Lengths and padding


@pytest.mark.parametrize("exact_pad", [False, True])
@pytest.mark.parametrize("n_fft", [256, 257, 512])
def test_no_length_is_too_short_and_frames_says_how_many_there_are(exact_pad: bool, n_fft: int) -> None:
    c = config(exact_pad=exact_pad, n_fft=n_fft, normalize="none")
    hop = c.hop_length
    model = LogMel(c).eval()
    for count in (0, 1, 2, hop - 1, hop, hop + 1, 2 * hop, 3 * hop - 1, 7 * hop + 5):
        feats, lens = model(torch.zeros(1, count), torch.tensor([count]))
        assert torch.equal(lens, model.frames(torch.tensor([count])))
        assert lens.tolist() == [len(expected(np.zeros(count), c))]
        assert lens[0] <= feats.shape[1] <= lens[0] + 2
        assert feats.isfinite().all()


def test_frames_are_as_many_as_hops() -> None:
    """`frame_rate` promises it."""
    model = LogMel(config())
    assert model.frame_rate == 100
    assert model.frames(torch.arange(400)).tolist() == [n // 80 for n in range(400)]


@pytest.mark.parametrize("normalize", ["none", "per_feature", "all_features"])
def test_short_recordings_do_not_become_infinite(normalize: str) -> None:
    c = config(normalize=normalize)
    recordings = [noise(count, seed=count) for count in (1600, 1, 79, 80, 81, 160)]
    found = run(c, *recordings)
    assert [len(f) for f in found] == [20, 0, 0, 1, 1, 2]
    assert all(np.isfinite(f).all() for f in found)
    if normalize == "per_feature":
        assert not found[3].any()  # one frame is its own mean


@pytest.mark.parametrize("garbage", [1.0, -1e30, float("inf"), float("nan")])
@pytest.mark.parametrize(
    "options", [{}, {"preemph": None}, {"normalize": "all_features"}, {"exact_pad": True, "preemph": None}], ids=names
)
def test_what_lies_beyond_the_length_does_not_matter(options: dict[str, Any], garbage: float) -> None:
    c = config(**options)
    recordings = [noise(2000), noise(805, seed=1), noise(3, seed=2)]
    for clean, dirty in zip(run(c, *recordings), run(c, *recordings, garbage=garbage, extra=333), strict=True):
        np.testing.assert_allclose(dirty, clean, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"preemph": None}, {"normalize": "all_features"}, {"exact_pad": True}], ids=names)
def test_batch_mates_do_not_matter(options: dict[str, Any]) -> None:
    c = config(**options)
    recordings = [noise(count, seed=count) for count in (1000, 2400, 480, 1777)]
    for alone, together in zip((run(c, r)[0] for r in recordings), run(c, *recordings), strict=True):
        np.testing.assert_allclose(together, alone, atol=2e-6)


def test_padding_holds_the_pad_value() -> None:
    feats, lens = LogMel(config(pad_value=-7.0)).eval()(torch.randn(2, 800), torch.tensor([800, 300]))
    assert lens.tolist() == [10, 3]
    assert (feats[1, 3:] == -7).all() and (feats[0, 10:] == -7).all() and (feats[1, :3] != -7).all()


# --- Precision


def test_features_stay_float32_in_a_bfloat16_model() -> None:
    wav, lens = torch.from_numpy(noise(4000)).float()[None], torch.tensor([4000])
    model = LogMel(config()).eval()
    before = model(wav, lens)[0]
    placed = runtime.place(torch.nn.ModuleDict({"preprocessor": model, "encoder": torch.nn.Linear(2, 2)}), "cpu", "bfloat16")
    assert placed["encoder"].weight.dtype == torch.bfloat16
    assert {b.dtype for b in model.buffers()} == {torch.float32}
    assert torch.equal(model(wav, lens)[0], before)


def test_autocast_does_not_reach_the_features() -> None:
    wav, lens = torch.from_numpy(noise(4000)).float()[None], torch.tensor([4000])
    model = LogMel(config()).eval()
    before = model(wav, lens)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(wav, lens)[0], before)


# --- Training


def training(**options: Any) -> LogMel:
    return LogMel(config(**options)).train()


def test_frames_are_padded_to_a_multiple_in_training_only() -> None:
    wav, lens = torch.randn(2, 1000), torch.tensor([1000, 500])
    model = training(pad_to=16, pad_value=2.0, dither=0.0)
    feats, frames = model(wav, lens)
    assert feats.shape[1] == 16 and frames.tolist() == [12, 6]
    assert (feats[0, 12:] == 2).all() and (feats[1, 6:] == 2).all()
    plain, _ = model.eval()(wav, lens)
    assert plain.shape[1] == 13
    assert torch.equal(feats[:, :13], plain)


def test_dither_is_noise_of_the_given_deviation_in_training_only() -> None:
    """Seen in the power of a silent recording, which is the noise's variance times that of the window."""
    wav, lens = torch.zeros(1, 80_000), torch.tensor([80_000])
    model = training(dither=0.01, preemph=None, log=False, normalize="none", mel_norm="none", n_fft=256)
    torch.manual_seed(0)
    first = model(wav, lens)[0]
    variance = first[:, 2:-2].mean() / (model.filters.sum(1).mean() * model.window.square().sum())
    assert variance.sqrt() == pytest.approx(0.01, rel=0.05)
    torch.manual_seed(0)
    assert torch.equal(model(wav, lens)[0], first)
    assert not torch.equal(model(wav, lens)[0], first)
    assert not model.eval()(wav, lens)[0].any()


def test_narrow_band_silences_the_bands_above_in_some_recordings() -> None:
    wav, lens = torch.randn(200, 800), torch.full((200,), 800)
    model = training(nb_augmentation_prob=0.3, nb_max_freq=2000.0, dither=0.0, normalize="none", log=False)
    edges = model.filters.nonzero()
    first_bin = int(2000 / 8000 * 256)
    above = [band for band in range(20) if edges[edges[:, 0] == band, 1].min() >= first_bin]
    below = [band for band in range(20) if edges[edges[:, 0] == band, 1].max() < first_bin]
    assert above and below
    torch.manual_seed(0)
    feats = model(wav, lens)[0][:, :10]
    silent = (feats[:, :, above] == 0).all(2).all(1)
    assert 30 < silent.sum() < 90
    plain = model.eval()(wav, lens)[0][:, :10]
    assert torch.equal(feats[~silent], plain[~silent])
    assert torch.equal(feats[:, :, below], plain[:, :, below])


# --- Config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_fft": 199}, "n_fft 199 is shorter than the window, 200 samples"),
        ({"log_zero_guard_value": "small"}, "'small' is neither a number nor 'tiny' nor 'eps'"),
        ({"normalize": "fixed"}, "needs fixed.mean and fixed.std of 20 numbers"),
        ({"normalize": "fixed", "fixed": {"mean": [0.0] * 20, "std": [1.0] * 19}}, "of 20 numbers"),
        ({"exact_pad": True, "window_stride": 81 / 8000}, "even hop"),
        ({"features": 0}, "must be positive"),
        ({"window_stride": 0.0}, "must be positive"),
    ],
)
def test_impossible_configs_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_sizes_follow_from_the_config() -> None:
    c = config(sample_rate=16000, window_size=0.025, window_stride=0.01)
    assert (c.window_length, c.hop_length, c.fft_length) == (400, 160, 512)
    assert config(sample_rate=22050, window_size=1024 / 22050, window_stride=256 / 22050).fft_length == 1024
    model = LogMel(config(frame_splicing=2))
    assert (model.d_out, model.sample_rate, model.frame_rate) == (40, 8000, 100)


def test_filters_and_window_are_part_of_the_state() -> None:
    """So that a checkpoint's own are used."""
    state: dict[str, Tensor] = LogMel(config()).state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == {"window": (200,), "filters": (20, 129)}
