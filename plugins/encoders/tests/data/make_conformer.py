"""Makes `conformer.npz`: what NeMo 3.0's ConformerEncoder computes with options that the checkpoints in `tests/nemo-cases`
do not have. Runs in NeMo's environment, not in ours:

    python plugins/encoders/tests/data/make_conformer.py

Input and weights are drawn from seeds, so that only outputs are stored: `enc_N` `(B, D, T)` and `lens_N` belong to the Nth of
`sections`, JSON of the configs as NeMo writes them; `run` in a section is a context chosen at run time, `window` one that the
model with full attention is changed to local attention with. NeMo mixes the recordings of a batch where there are several
global tokens: those are computed one by one.
Made with nemo-toolkit 3.0.0.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from nemo.collections.asr.modules import ConformerEncoder
from omegaconf import OmegaConf

SMALL = {
    "feat_in": 16,
    "n_layers": 2,
    "d_model": 16,
    "n_heads": 2,
    "ff_expansion_factor": 2,
    "subsampling_conv_channels": 4,
    "conv_kernel_size": 5,
}
LOCAL = {"self_attention_model": "rel_pos_local_attn"}
CAUSAL = {"causal_downsampling": True, "conv_context_size": "causal"}
SECTIONS = [
    {
        "subsampling": "striding",
        "att_context_size": [6, 3],
        "conv_context_size": [1, 3],
        "conv_norm_type": "layer_norm",
        "use_bias": False,
    },
    {"subsampling": "dw_striding", "subsampling_factor": 2, "conv_norm_type": "group_norm4"},
    {"subsampling": "dw_striding", "subsampling_factor": 16, "xscaling": False},
    {"subsampling": "striding", "att_context_size": [5, 0], "untie_biases": False} | CAUSAL,
    {"subsampling": "dw_striding", "subsampling_factor": 8, "att_context_size": [6, 2], "att_context_style": "chunked_limited"}
    | CAUSAL,
    {"att_context_size": [[8, 1], [8, 3], [-1, 0]], "att_context_style": "chunked_limited", "feat_out": 12},
    {"att_context_size": [-1, 2], "att_context_style": "chunked_limited", "subsampling_conv_channels": -1},
    {"att_context_size": [-1, -1, -1], "att_context_style": "chunked_limited_with_rc", "att_context_probs": None},
    {"att_context_size": [-1, -1, -1], "att_context_style": "chunked_limited_with_rc", "run": [5, 3, 2]},
    {"att_context_size": [0, 0], "att_context_style": "regular", "conv_context_size": [4, 0]},
    {"att_context_size": [-1, 4], "att_context_style": "regular", "subsampling": "dw_striding"},
    {"att_context_size": [4, 4], "subsampling": "dw_striding"} | LOCAL,
    {"att_context_size": [6, 4], "xscaling": False} | LOCAL,
    {"att_context_size": [2, 5], "untie_biases": False} | LOCAL,
    {"att_context_size": [5, 0], "use_bias": False, "conv_norm_type": "layer_norm"} | CAUSAL | LOCAL,
    {"att_context_size": [0, 3]} | LOCAL,
    {"att_context_size": [40, 30]} | LOCAL,
    {"att_context_size": [3, 3], "global_tokens": 1} | LOCAL,
    {"att_context_size": [3, 3], "global_tokens": 1, "global_attn_separate": True, "use_bias": False} | LOCAL,
    {"att_context_size": [3, 3], "global_tokens": 3, "global_tokens_spacing": 4} | LOCAL,
    {"att_context_size": [2, 4], "global_tokens": 5, "global_tokens_spacing": 6, "global_attn_separate": True, "n_heads": 4}
    | LOCAL,
    {"window": [4, 4], "subsampling": "dw_striding", "subsampling_factor": 8},
    {"window": [7, 7], "untie_biases": False},
]


def draw(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weights called `name`: always the same, of a size that keeps signals in range."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        values = 0.5 + abs(values)
    elif "norm" in name and name.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values = values / max(1, np.prod(shape[1:])) ** 0.5
    return torch.tensor(values, dtype=torch.float32)


def batch(section: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Features `(B, F, T)`; NeMo's group norm counts padding, so there is none for it."""
    feats = np.random.default_rng(0).standard_normal((2, section["feat_in"], 90))
    short = 90 if section.get("conv_norm_type", "").startswith("group_norm") else 61
    return torch.tensor(feats, dtype=torch.float32), torch.tensor([90, short])


def compute(encoder: ConformerEncoder, section: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """`(B, D, T)` and lengths of the batch, or of its recordings one by one."""
    feats, lens = batch(section)
    if section.get("global_tokens", 0) < 2:
        return encoder(audio_signal=feats, length=lens)
    alone = [encoder(audio_signal=f[None, :, :n], length=n[None]) for f, n in zip(feats, lens, strict=True)]
    rows = [enc[0].T for enc, _ in alone]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).transpose(1, 2), torch.cat([n for _, n in alone])


def main() -> None:
    arrays = {}
    sections = [SMALL | section for section in SECTIONS]
    for number, section in enumerate(sections):
        options = dict(section)
        chosen = options.pop("run", None)
        window = options.pop("window", None)
        # Changing the attention reads these from the config.
        rest = {"pos_emb_max_len": 5000, "dropout": 0.1, "dropout_emb": 0.0, "dropout_att": 0.0}
        config = {"_target_": "nemo.collections.asr.modules.ConformerEncoder"} | options | rest
        encoder = ConformerEncoder.from_config_dict(OmegaConf.create(config)).eval()
        with torch.no_grad():
            for name, tensor in encoder.state_dict().items():
                # What all layers share is listed once more at the top.
                if tensor.is_floating_point() and not name.startswith("pos_bias"):
                    tensor.copy_(draw(name, tuple(tensor.shape)))
            if chosen is not None:
                encoder.att_context_size = chosen
            if window is not None:
                encoder.change_attention_model("rel_pos_local_attn", window)
                encoder.eval()
            enc, enc_lens = compute(encoder, section)
        arrays |= {f"enc_{number}": enc.numpy(), f"lens_{number}": enc_lens.numpy()}
    np.savez_compressed(Path(__file__).resolve().parent / "conformer.npz", sections=np.array(json.dumps(sections)), **arrays)


main()
