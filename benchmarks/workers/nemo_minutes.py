"""NeMo's side of `training_minutes.py`, in an environment that has NeMo: its own trainer, from a checkpoint, for some minutes."""

from __future__ import annotations

import argparse
import json

import lightning.pytorch as pl
import nemo
import torch
from nemo.collections.asr.models import ASRModel
from nemo.utils.exp_manager import StatelessTimer
from omegaconf import OmegaConf, open_dict


def main() -> None:
    """Train, save, say how many steps it was."""
    parser = argparse.ArgumentParser()
    for name in ("--model", "--train", "--output"):
        parser.add_argument(name, required=True)
    for name, kind in (("--minutes", float), ("--rate", float), ("--size", int), ("--threads", int)):
        parser.add_argument(name, type=kind, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pl.seed_everything(0)
    model = ASRModel.restore_from(options.model, map_location="cpu")
    with open_dict(model.cfg):
        model.cfg.validation_ds = model.cfg.test_ds = None
    model.setup_training_data(
        OmegaConf.create(
            {
                "manifest_filepath": options.train,
                "sample_rate": 16000,
                "batch_size": options.size,
                "shuffle": True,
                "num_workers": 1,
                "min_duration": 0.1,
            }
        )
    )
    seconds = round(60 * options.minutes)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=-1,
        callbacks=[StatelessTimer(duration={"seconds": seconds})],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        gradient_clip_val=1.0,
    )
    model.set_trainer(trainer)
    decay = {"name": "adamw", "lr": options.rate, "betas": [0.9, 0.98], "weight_decay": 0.01}
    model.setup_optimization(OmegaConf.create(decay))
    trainer.fit(model)
    model.save_to(options.output)
    versions = {"name": f"nemo {nemo.__version__}", "torch": torch.__version__}
    print(json.dumps({"steps": trainer.global_step, "versions": versions}))


if __name__ == "__main__":
    main()
