"""Every head that `sonant train` can teach: what it learns with moves, and the model that is saved is the one in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
import yaml

import sonant
from sonant_training.running.training import prepared, read, train

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
ROWS = (
    {"audio_filepath": str(CASES / "a.wav"), "text": "front center rear left", "target_lang": "de"},
    {"audio_filepath": str(CASES / "b.wav"), "text": "side right", "target_lang": "en"},
)
LABELS = sorted({*"".join(str(row["text"]) for row in ROWS)})
CHARS = {"name": "char", "labels": LABELS}
SPECIAL = ["startoftranscript", "endoftext", "en", "de", "transcribe", "translate", "pnc", "nopnc"]
WIDTHS = {"pred_hidden": 16, "joint_hidden": 16}
AED = {"name": "aed", "d_model": 24, "n_layers": 1, "n_heads": 2, "d_ff": 32, "max_positions": 64}
STEPS = 3


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def transducer(name: str, **fields: Any) -> dict[str, Any]:
    return {"decoder": {"name": name, **WIDTHS, **fields}, "loss": name}


HEADS: dict[str, dict[str, Any]] = {
    "ctc": {"decoder": "ctc", "loss": "ctc"},
    "stateless": transducer("rnnt", prediction="stateless", normalization_mode="layer"),
    "hat": transducer("rnnt", joint="hat"),
    "tdt, other durations": transducer("tdt", durations=[1, 2])
    | {"loss": {"name": "tdt", "durations": [1, 2], "sigma": 0.02, "omega": 0.5, "fastemit_lambda": 0.01}},
    "rnnt and ctc": transducer("rnnt") | {"aux_decoder": "ctc", "aux_loss": "ctc"},
    "tdt and ctc": transducer("tdt") | {"aux_decoder": "ctc", "aux_loss": "ctc"},
    "rnnt, told the language": transducer("rnnt")
    | {"prompt": {"name": "language_prompt", "languages": {"auto": 0, "en": 1, "de": 2}, "num_prompts": 3}},
    "aed behind a transformer": {
        "decoder": AED | {"prompt_format": "none", "transf_encoder_layers": 1, "transf_encoder_heads": 2},
        "loss": "cross_entropy",
    },
    "aed, told what to do": {
        "decoder": AED | {"prompt_format": "canary"},
        "loss": {"name": "cross_entropy", "label_smoothing": 0.1},
        "tokenizer": {
            "name": "aggregate",
            "langs": {
                "spl_tokens": {"name": "sentencepiece", "file": "special.model"},
                "en": CHARS,
                "de": CHARS,
            },
        },
    },
}


def write_config(folder: Path, head: dict[str, Any], **changes: Any) -> Path:
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    data = {"manifest_filepath": "train.jsonl", "batch_size": 2, "num_workers": 0}
    encoder = {"d_model": 24, "n_heads": 2, "n_layers": 1, "subsampling_factor": 8, "subsampling_conv_channels": 8}
    config = {
        "task": "asr",
        "preprocessor": {"name": "log_mel", "features": 32},
        "tokenizer": CHARS,
        "encoder": {"name": "fastconformer", **encoder},
        "train_ds": data,
        "validation_ds": data,
        "optim": {"name": "adamw", "lr": 1.0e-2, "weight_decay": 0.0},  # so that nothing moves without a gradient
        "trainer": {"max_steps": STEPS, "accelerator": "cpu", "log_every_n_steps": 1, "val_check_interval": 2},
        "exp_manager": {"exp_dir": str(folder / "runs"), "tensorboard": False, "final": "last"},
    }
    with (folder / "special.model").open("wb") as written:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["ab"]),
            model_writer=written,
            vocab_size=len(SPECIAL) + 8,
            hard_vocab_limit=False,
            user_defined_symbols=[f"<|{name}|>" for name in SPECIAL],
            minloglevel=2,
        )
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(config | head | changes), "utf-8")
    return path


@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_trained_and_saved(tmp_path: Path, head: str) -> None:
    config = write_config(tmp_path, HEADS[head])
    run = train(config)
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    losses = [row["train_loss"] for row in rows if "train_loss" in row]
    assert len(losses) == STEPS and None not in losses, "a number that is not finite is written as none"
    assert all(0 < row["val_loss"] < 1e4 for row in rows if "val_loss" in row)

    module = prepared(read(config))
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters() if parameter.requires_grad}
    stored = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert [name for name, value in before.items() if value.equal(stored[name])] == [], "all that is trained has moved"

    module.load_state_dict(stored)
    in_memory, opened = module.model.eval(), sonant.load(run.model, device="cpu")
    again = opened.state_dict()
    assert all(value.equal(again[name]) for name, value in in_memory.state_dict().items())
    asked = {"target_lang": "de"} if "told" in head else {}
    files = [row["audio_filepath"] for row in ROWS]
    texts = [[found.text for found in model.transcribe(files, **asked)] for model in (in_memory, opened)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("head", ["ctc", "hat", "tdt, other durations"])
def test_losses_in_mixed_precision_are_nearly_those_in_full(tmp_path: Path, head: str) -> None:
    """The model computes in bfloat16, its losses in float32."""
    losses = []
    for precision in ("32", "bf16-mixed"):
        folder = tmp_path / precision
        folder.mkdir()
        config = write_config(folder, HEADS[head], validation_ds=None)
        run = train(config, trainer={"precision": precision, "max_steps": 2}, preprocessor={"dither": 0.0})
        losses.append([json.loads(line)["train_loss"] for line in (run.folder / "metrics.jsonl").read_text("utf-8").splitlines()])
    assert losses[1][0] == pytest.approx(losses[0][0], rel=0.02)
    assert losses[0][0] != losses[1][0], "some of it is computed with fewer bits"
    assert losses[1][1] == pytest.approx(losses[0][1], rel=0.2)
