"""Makes `intermediate.json`: losses of NeMo's InterCTC on checkpoints of `tests/nemo-cases`. Runs in NeMo's environment:

    python plugins/asr/tests/data/make_intermediate.py

For each checkpoint and each choice of layers and weights: the total loss of a batch in evaluation, that of each layer, and the
total without InterCTC (`final`); of a hybrid also those of its two heads. (NeMo's own `final_loss` is overwritten with the total
when it adds the others to it.) Made with nemo-toolkit 3.0.0 and torch 2.13.0 on a CPU, in float32.
"""

import json
from pathlib import Path

import numpy as np
import soundfile
import torch
from lightning.pytorch import Trainer
from nemo.collections.asr.models import ASRModel
from omegaconf import OmegaConf, open_dict

HERE = Path(__file__).resolve().parent
CASES = HERE.parents[3] / "tests" / "nemo-cases"
MODELS = ["fastconformer_ctc_bpe", "conformer_ctc_bpe", "fastconformer_hybrid_rnnt_ctc_char"]
CHOICES = [{"apply_at_layers": [0], "loss_weights": [0.3]}, {"apply_at_layers": [1, 0], "loss_weights": [0.25, 0.5]}]
LABELS = [[3, 1, 4, 1, 5, 9], [2, 6, 5]]


def batch() -> tuple[torch.Tensor, ...]:
    clips = [soundfile.read(CASES / name, dtype="float32")[0] for name in ("a.wav", "b.wav")]
    lens = torch.tensor([len(clip) for clip in clips])
    wav = torch.zeros(2, int(lens.max()))
    for row, clip in zip(wav, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    counts = torch.tensor([len(labels) for labels in LABELS])
    labels = torch.zeros(2, int(counts.max()), dtype=torch.int64)
    for row, ids in zip(labels, LABELS, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return wav, lens, labels, counts


def losses(name: str, interctc: dict | None) -> dict[str, float]:
    path = CASES / f"{name}.nemo"
    config = ASRModel.restore_from(path, return_config=True)
    with open_dict(config):
        config.interctc = OmegaConf.create(interctc) if interctc else None
        config.compute_eval_loss = True
    model = ASRModel.restore_from(path, override_config_path=config, map_location="cpu").eval()
    model.log = lambda *_, **__: None
    model.set_trainer(Trainer(accelerator="cpu", logger=False))
    with torch.no_grad():
        found = model.validation_pass(batch(), 0, 0)
    return {key.removeprefix("val_"): float(np.float32(value)) for key, value in found.items() if "loss" in key}


def main() -> None:
    cases = []
    for name in MODELS:
        plain = losses(name, None)
        for choice in CHOICES:
            found = losses(name, choice)
            found["final_loss"] = plain["loss"]
            cases.append({"model": name, **choice, "losses": found})
            print(cases[-1])
    (HERE / "intermediate.json").write_text(json.dumps({"labels": LABELS, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
