"""Makes `log_mel.npz`: what NeMo 3.0 computes with options that checkpoints seldom use. Runs in NeMo's environment, not in ours:

    python plugins/features/tests/data/make_log_mel.py

The input is a batch of two: half a second of `tests/nemo-cases/a.wav`, and the first 0.3 s of that with zeros behind.
`sections` are the configs as NeMo writes them, as JSON; `mel_N` `(B, F, T)` and `lens_N` belong to the Nth.
Made with nemo-toolkit 3.0.0.
"""

import json
from pathlib import Path

import numpy as np
import soundfile
import torch
from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor

HERE = Path(__file__).resolve().parent
MEANS, DEVIATIONS = [-10.0 + 0.3 * n for n in range(24)], [1.0 + 0.1 * n for n in range(24)]
VOCODER = {
    "n_fft": 1024,
    "n_window_size": 1024,
    "n_window_stride": 256,
    "window_size": None,
    "window_stride": None,
    "exact_pad": True,
}
SECTIONS = [
    {},
    {"window_size": 0.025, "features": 80, "pad_to": 0},
    {"window_size": 0.025, "normalize": "all_features", "window": "hamming"},
    {"normalize": {"fixed_mean": MEANS, "fixed_std": DEVIATIONS}, "window": "blackman"},
    {"normalize": "NA", "window": "bartlett", "pad_value": -3.0},
    {"normalize": None, "log_zero_guard_type": "clamp", "log_zero_guard_value": 1e-3},
    {"normalize": None, "log_zero_guard_value": "eps", "mag_power": 1.0},
    {"normalize": None, "log_zero_guard_type": "clamp", "log_zero_guard_value": "tiny", "preemph": None},
    {"normalize": None, "lowfreq": 100, "highfreq": 5000, "mel_norm": None},
    {"normalize": None, "log": False, "preemph": 0.5, "mag_power": 1.5},
    {"frame_splicing": 3, "pad_to": 32},
    {"window_size": None, "n_window_size": 301, "n_fft": 480},
    VOCODER
    | {"preemph": None, "mag_power": 1.0, "log_zero_guard_type": "clamp", "log_zero_guard_value": 1e-5, "normalize": "NA"},
    VOCODER,
]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    samples, _ = soundfile.read(HERE.parents[3] / "tests" / "nemo-cases" / "a.wav", dtype="float32", frames=8000)
    wav = torch.from_numpy(samples).repeat(2, 1)
    wav[1, 4800:] = 0
    return wav, torch.tensor([8000, 4800])


def main() -> None:
    arrays = {}
    sections = [{"features": 24, "dither": 0.0} | section for section in SECTIONS]
    for number, section in enumerate(sections):
        options = dict(section)
        if isinstance(options.get("normalize"), dict):  # NeMo wants the statistics of every recording of the batch, in one row
            options["normalize"] = {key: values * 2 for key, values in options["normalize"].items()}
        wav, lens = batch()
        preprocessor = AudioToMelSpectrogramPreprocessor(**options).eval()
        mel, mel_lens = preprocessor(input_signal=wav, length=lens)
        arrays |= {f"mel_{number}": mel.numpy(), f"lens_{number}": mel_lens.numpy()}
    np.savez_compressed(HERE / "log_mel.npz", sections=np.array(json.dumps(sections)), **arrays)


main()
