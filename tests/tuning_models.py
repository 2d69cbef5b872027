"""Small recognizers for the tests of fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import sonant

CASES = Path(__file__).parent / "nemo-cases"
RECORDINGS = [str(CASES / "a.wav"), str(CASES / "b.wav")]
PARTS: dict[str, Any] = {
    "task": "asr",
    "preprocessor": {"name": "log_mel", "features": 16, "dither": 0.0},
    "tokenizer": {"name": "char", "labels": list(" abcde")},
    "encoder": {
        "name": "fastconformer",
        "n_layers": 3,
        "d_model": 16,
        "n_heads": 2,
        "subsampling_conv_channels": 4,
        "dropout": 0.0,
        "dropout_pre_encoder": 0.0,
    },
    "decoder": {"name": "ctc"},
}
TRANSDUCER = {"name": "rnnt", "pred_hidden": 8, "joint_hidden": 8, "dropout": 0.0, "joint_dropout": 0.0}


def build(seed: int = 0, **sections: Any) -> Any:
    """A recognizer with weights, and statistics of its norms, from a seed."""
    torch.manual_seed(seed)
    model = sonant.build({**PARTS, **sections})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


def saved(folder: Path, seed: int = 0, **sections: Any) -> Any:
    """The same, saved in `folder / "base"`."""
    model = build(seed, **sections)
    sonant.save(model, folder / "base")
    return model


def noise(seconds: float = 0.8, batch: int = 2) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(5)
    samples = round(16000 * seconds)
    return 0.1 * torch.randn(batch, samples, generator=random), torch.tensor([samples] * batch)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
