"""Makes `stacking_transformer.npz`: what NeMo 3.0's TransformerEncoder computes with options that the checkpoints in
`tests/nemo-cases` do not have. Runs in NeMo's environment, not in ours:

    python plugins/encoders/tests/data/make_stacking_transformer.py

Input and weights are drawn from seeds, so that only outputs are stored: `enc_NAME` `(B, D, T)` and `lens_NAME` belong to the
section NAME of `sections`, JSON of the configs as NeMo writes them. Made with nemo-toolkit 3.0.0.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from nemo.collections.asr.modules import TransformerEncoder

SMALL = {"feat_in": 12, "d_model": 32, "n_heads": 2, "n_layers": 2, "ff_expansion": 2.0}
SECTIONS = {
    "relative": SMALL,
    "relative_causal": SMALL | {"attn_mode": "causal", "subsampling_factor": 3},
    "relative_scaled": SMALL | {"xscaling": True, "pre_block_norm": False, "qkv_bias": True, "qk_norm": True},
    "absolute": SMALL | {"self_attention_model": "abs_pos", "qk_norm": True, "ff_expansion": 1.3},
    "absolute_causal": SMALL | {"self_attention_model": "abs_pos", "attn_mode": "causal"},
    "absolute_scaled": SMALL | {"self_attention_model": "abs_pos", "xscaling": True, "pre_block_norm": False},
    "without": SMALL | {"self_attention_model": "no_pos", "xscaling": True, "qkv_bias": True},
    "without_causal": SMALL | {"self_attention_model": None, "attn_mode": "causal", "pre_block_norm": False},
    "stacking": SMALL | {"subsampling": "stacking", "subsampling_factor": 2},
    "stacking_norm": SMALL | {"subsampling": "stacking_norm", "subsampling_factor": 5},
    "linear": SMALL | {"subsampling": "stacking", "subsampling_factor": 1},
    "linear_by_default": SMALL | {"subsampling": None, "subsampling_factor": 4},
    "unstacked": SMALL | {"subsampling_factor": 1},
    "projected": SMALL | {"feat_out": 20},
}


def draw(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weights called `name`: always the same, of a size that keeps signals in range."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + 0.1 * values
    elif len(shape) > 1 and "pos_bias" not in name:
        values = values / np.prod(shape[1:]) ** 0.5
    return torch.tensor(values, dtype=torch.float32)


def main() -> None:
    arrays = {}
    for name, options in SECTIONS.items():
        encoder = TransformerEncoder(**options).eval()
        with torch.no_grad():
            for key, tensor in encoder.state_dict().items():
                if key != "pos_enc.pe":
                    tensor.copy_(draw(key, tuple(tensor.shape)))
            feats = torch.tensor(np.random.default_rng(0).standard_normal((2, options["feat_in"], 71)), dtype=torch.float32)
            # With other stackings than its own, NeMo counts the frames of a shorter recording by the padding of the batch.
            own = options.get("subsampling", "feature_stacking") == "feature_stacking"
            lens = torch.tensor([71, 43 if own else 71])
            # As from its preprocessor: padding is silent. Its stacking hears it.
            feats = feats * (torch.arange(71) < lens[:, None])[:, None]
            enc, enc_lens = encoder(audio_signal=feats, length=lens)
        arrays |= {f"enc_{name}": enc.numpy(), f"lens_{name}": enc_lens.numpy()}
    path = Path(__file__).resolve().parent / "stacking_transformer.npz"
    np.savez_compressed(path, sections=np.array(json.dumps(SECTIONS)), **arrays)


main()
