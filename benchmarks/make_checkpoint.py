"""Write a `.nemo` checkpoint of a published size with random weights, which Sonant and NeMo both open.

    python benchmarks/make_checkpoint.py OUT.nemo [FORM] [encoder.n_layers=24 …]

FORM is parakeet-tdt-0.6b (the default), quartznet15x5, streaming-rnnt-0.6b or small-ctc.

The tokenizer is that of a small checkpoint in `tests/nemo-cases`; its 96 pieces make the output layer smaller than published.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import sonant
from sonant import audio
from sonant.nemo.archive import NemoArchive

CASE = Path(__file__).parents[1] / "tests" / "nemo-cases" / "fastconformer_tdt_bpe.nemo"
SPEECH = CASE.with_name("a.wav")

_REPEATED = [(33, 256), (39, 256), (51, 512), (63, 512), (75, 512)]  # kernels and channels of QuartzNet (Kriman et al., 2020)
QUARTZNET = [
    {"filters": 256, "kernel": 33, "stride": 2, "separable": True},
    *(
        {"filters": filters, "kernel": kernel, "repeat": 5, "separable": True, "residual": True}
        for kernel, filters in _REPEATED
        for _ in range(3)
    ),
    {"filters": 512, "kernel": 87, "dilation": 2, "separable": True},
    {"filters": 1024, "kernel": 1},
]
CONFIGS = {
    "quartznet15x5": f"""
task: asr
preprocessor: {{name: log_mel, features: 64}}
tokenizer: {{name: sentencepiece, file: tokenizer.model}}
encoder: {{name: convolutional, blocks: {json.dumps(QUARTZNET)}}}
decoder: ctc
""",
    "parakeet-tdt-0.6b": """
task: asr
preprocessor: {name: log_mel, features: 128}
tokenizer: {name: sentencepiece, file: tokenizer.model}
encoder: {name: fastconformer, n_layers: 24, d_model: 1024, n_heads: 8, use_bias: false, xscaling: false}
decoder: {name: tdt, pred_hidden: 640, pred_rnn_layers: 2, joint_hidden: 640}
""",
    "small-ctc": """
task: asr
preprocessor: {name: log_mel, features: 80}
augmentation: {name: spec_augment, freq_masks: 2, time_masks: 5, freq_width: 27, time_width: 0.05}
tokenizer: {name: sentencepiece, file: tokenizer.model}
encoder: {name: fastconformer, n_layers: 16, d_model: 176, n_heads: 4, subsampling_conv_channels: 256, xscaling: false}
decoder: ctc
""",
    "streaming-rnnt-0.6b": """
task: asr
preprocessor: {name: log_mel, features: 128, normalize: none}
tokenizer: {name: sentencepiece, file: tokenizer.model}
encoder:
  {name: fastconformer, n_layers: 24, d_model: 1024, n_heads: 8, use_bias: false, xscaling: false,
   causal_downsampling: true, conv_context_size: causal, conv_norm_type: layer_norm,
   att_context_style: chunked_limited, att_context_size: [[70, 13], [70, 6], [70, 1], [70, 0]]}
decoder: {name: rnnt, pred_hidden: 640, pred_rnn_layers: 2, joint_hidden: 640}
""",
}


def main(target: str, overrides: list[str]) -> None:
    """Build, save, say how large."""
    form = overrides.pop(0) if overrides and overrides[0] in CONFIGS else "parakeet-tdt-0.6b"
    with tempfile.TemporaryDirectory() as folder, NemoArchive(CASE) as archive:
        member = next(name for name in archive.sizes() if name.endswith("tokenizer.model"))
        (Path(folder) / "tokenizer.model").write_bytes(archive.read(member))
        config = Path(folder) / "config.yaml"
        config.write_text(CONFIGS[form])
        torch.manual_seed(0)
        model = sonant.load(config, device="cpu", dtype="float32", overrides=overrides)
    if hasattr(model.decoder, "joint"):
        _speak_less(model)
    sonant.save(model, target)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{target}: {parameters / 1e6:.0f}M parameters, {Path(target).stat().st_size / 2**30:.2f} GiB")


def _speak_less(model: Any) -> None:
    """Raise the blank until there is a label at every fourth frame of speech; random weights say as many as the search allows."""
    head, low, high = model.decoder, 0.0, 10.0
    samples = torch.from_numpy(audio.read(SPEECH, model.sample_rate))[None]
    with torch.no_grad():
        enc, lens = model.eval().encode(samples, torch.tensor([samples.shape[1]]))
        search, before = model.search_for(head), head.joint.out.bias[head.blank].clone()
        for _ in range(20):
            head.joint.out.bias[head.blank] = before + (low + high) / 2
            many = len(search(head, enc, lens)[0].tokens) > int(lens) / 4
            low, high = ((low + high) / 2, high) if many else (low, (low + high) / 2)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
