"""Recognizers that were changed as fine-tuning changes them, from NeMo's checkpoints. What is new is drawn, not learnt, so that
every machine has the same.

    python tests/finetuned_cases.py FOLDER

writes them as `.nemo` files, for `../plugins/training/tests/data/make_finetuned.py`.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sonant
from sonant_training.tuning.preparing import mergeable, prepare_for_training
from sonant_training.tuning.starting import starting_model

CASES = Path(__file__).resolve().parent / "nemo-cases"
LETTERS = {"name": "char", "labels": list(" abcdefghijklmnopqrstuvwxyz'")}
ADAPTERS = {
    "mine": {"dim": 6},
    "other": {"dim": 4, "norm_position": "post", "activation": "relu"},
    "off": {"dim": 4, "enabled": False},
}
FINETUNED: dict[str, dict[str, Any]] = {
    "letters": {"init": "fastconformer_ctc_bpe.nemo", "tokenizer": LETTERS},
    "letters_tdt": {"init": "fastconformer_tdt_bpe.nemo", "tokenizer": LETTERS},
    "lora": {"init": {"from": "fastconformer_hybrid_rnnt_ctc_char.nemo", "lora": {"rank": 2, "modules": ["encoder", "decoder"]}}},
    "lora_streaming": {"init": {"from": "fastconformer_streaming_ctc_bpe.nemo", "lora": {"rank": 3, "alpha": 1.0}}},
    "adapters": {"init": "fastconformer_ctc_bpe.nemo", "encoder": {"adapters": ADAPTERS}},
    "another_head": {
        "init": "conformer_ctc_bpe.nemo",
        "decoder": {"name": "rnnt", "pred_hidden": 16, "joint_hidden": 16},
        "aux_decoder": "ctc",
    },
    "more_layers": {"init": "fastconformer_ctc_bpe.nemo", "encoder": {"n_layers": 3}},
}


def finetuned(name: str) -> Any:
    """The model of a case as it is saved, in eval mode."""
    data = FINETUNED[name]
    model = prepare_for_training(starting_model(data, CASES), data["init"])
    fresh: frozenset[str] = model.fresh_parameters  # type: ignore[assignment]
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key in fresh or key.endswith((".up", ".down")):
                values = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(tuple(parameter.shape))
                parameter.copy_(torch.tensor(0.3 * values, dtype=torch.float32))
        for embedding in (m for m in model.modules() if isinstance(m, torch.nn.Embedding) and m.padding_idx is not None):
            embedding.weight[embedding.padding_idx] = 0.0
    return mergeable(model).eval()


if __name__ == "__main__":
    for case in FINETUNED:
        sonant.save(finetuned(case), Path(sys.argv[1]) / f"{case}.nemo")
