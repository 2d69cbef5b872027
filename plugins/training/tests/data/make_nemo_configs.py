"""Writes `nemo_configs.json` beside itself: what NeMo makes of the training configs in `nemo-configs`. Runs in NeMo's
environment, not in ours:

    python plugins/training/tests/data/make_nemo_configs.py

The configs are in the form of those that NeMo's repository has as examples, and small. For each the file holds NeMo's class, the
parameters of the whole and of its parts, what its optimizer is, and the learning rates of both ends of its groups at every step
of a run. Tokenizers are those of `tests/nemo-cases`. Made with nemo-toolkit 3.0.0 and torch 2.13.0 on a CPU.
"""

import json
import os
import tarfile
import tempfile
from pathlib import Path

import lightning.pytorch as pl
import sentencepiece
from nemo.collections.asr import models
from omegaconf import OmegaConf

HERE = Path(__file__).resolve().parent
CASES = HERE.parents[3] / "tests" / "nemo-cases"
CLASSES = {
    "citrinet_ctc_bpe": models.EncDecCTCModelBPE,
    "conformer_transducer_bpe": models.EncDecRNNTBPEModel,
    "fast_conformer_aed_bpe": models.EncDecMultiTaskModel,
    "fast_conformer_ctc_bpe": models.EncDecCTCModelBPE,
    "fast_conformer_hybrid_tdt_ctc_bpe": models.EncDecHybridRNNTCTCBPEModel,
    "quartznet_ctc_char": models.EncDecCTCModel,
}
TOKENIZERS = {"tokenizer": "fastconformer_ctc_bpe", "canary": "canary2_aed"}
STEPS = 60


def tokenizer(case: str, folder: Path) -> None:
    """The files that NeMo looks for in a tokenizer's folder."""
    with tarfile.open(CASES / f"{case}.nemo") as tar:
        name = next(name for name in tar.getnames() if name.endswith("_tokenizer.model"))
        content = tar.extractfile(name).read()
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(content)
    processor = sentencepiece.SentencePieceProcessor(model_proto=content)
    pieces = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    (folder / "tokenizer.vocab").write_text("".join(f"{piece}\t0\n" for piece in pieces), encoding="utf-8")


def built(name: str) -> dict:
    document = OmegaConf.load(HERE / "nemo-configs" / f"{name}.yaml")
    for key in ("train_ds", "validation_ds", "test_ds"):
        document.model.pop(key, None)
    for key, value in (("dir", "tokenizer"), ("type", "bpe")):
        if "tokenizer" in document.model and OmegaConf.is_missing(document.model.tokenizer, key):
            document.model.tokenizer[key] = value
    trainer = pl.Trainer(max_steps=STEPS, accelerator="cpu", logger=False, enable_checkpointing=False)
    document.model = OmegaConf.create(OmegaConf.to_container(document, resolve=True)["model"])
    model = CLASSES[name](cfg=document.model, trainer=trainer)
    model.setup_optimization(model.cfg.optim)
    optimizer, scheduler = model._optimizer, model._scheduler["scheduler"]
    options = {k: v for k, v in optimizer.defaults.items() if k in ("betas", "weight_decay", "eps")}
    rates = []
    for _ in range(STEPS + 1):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    parts = {key: sum(p.numel() for p in part.parameters()) for key, part in model.named_children()}
    return {
        "class": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "parts": {key: count for key, count in parts.items() if count},
        "optimizer": type(optimizer).__name__,
        "options": options,
        "groups": [sum(p.numel() for p in group["params"]) for group in optimizer.param_groups],
        "rates": rates,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, case in TOKENIZERS.items():
            tokenizer(case, Path(folder) / name)
        found = {name: built(name) for name in CLASSES}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(values)}" for name, values in found.items())
    (HERE / "nemo_configs.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
