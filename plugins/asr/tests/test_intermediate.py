"""CTC losses on layers within the encoder, as NeMo's InterCTC."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sonant
from sonant import audio, lengths
from sonant.build import assemble, training_parts
from sonant.config import fill_model, fill_section
from sonant.errors import ConfigError
from sonant.files import Files
from sonant.inputs import Item
from sonant_asr.recognizer.training import Labelled

CASES = Path(__file__).parents[3] / "tests" / "nemo-cases"
NEMO = json.loads((Path(__file__).parent / "data" / "intermediate.json").read_text())
CHOICE = {"apply_at_layers": [0], "loss_weights": [0.3]}
FEATURES = {"name": "log_mel", "features": 16, "n_fft": 512, "dither": 0.0}
LETTERS = {"name": "char", "labels": list(" abcdefghijklmnopqrstuvwxyz")}
ENCODER = {"name": "fastconformer", "n_layers": 3, "d_model": 16, "n_heads": 2, "subsampling_conv_channels": 4}


def build(choice: dict[str, Any], **sections: Any) -> Any:
    torch.manual_seed(0)
    parts = {"preprocessor": FEATURES, "tokenizer": LETTERS, "encoder": ENCODER, "decoder": {"name": "ctc"}}
    return sonant.build({"task": {"name": "asr", "interctc": choice}} | parts | sections)


def changed(name: str, choice: dict[str, Any], **task: Any) -> Any:
    """The model of a checkpoint, with layers to learn at."""
    opened: Any = sonant.load(CASES / f"{name}.nemo", device="cpu", dtype="float32")
    config = opened.blueprint.config.to_dict(runtime=False)
    config["task"] |= {"interctc": choice} | task
    model = assemble(fill_model(config), Files.of(dict(opened.blueprint.files), name))
    model.load_state_dict(opened.state_dict())
    return model


def batch_of(clips: list[torch.Tensor], labels: list[list[int]]) -> Labelled:
    wav, lens = lengths.pad(clips)
    ids, counts = lengths.pad([torch.tensor(one) for one in labels])
    items = tuple(Item(None, f"clip {n}", row={"text": "x"}) for n in range(len(clips)))
    return Labelled(items, wav, lens, ids, counts, None)


def noise() -> Labelled:
    torch.manual_seed(1)
    return batch_of([torch.randn(24000) / 10, torch.randn(16000) / 10], [[5, 6, 7], [1, 2]])


def names_of(case: dict[str, Any]) -> str:
    return f"{case['model']}-{case['apply_at_layers']}"


@pytest.mark.parametrize("case", NEMO["cases"], ids=names_of)
def test_losses_are_nemos(case: dict[str, Any]) -> None:
    model = changed(case["model"], {key: case[key] for key in CHOICE}).eval()
    reduction = "mean_volume" if case["model"] == "fastconformer_ctc_bpe" else "mean_batch"
    sections = {"loss": {"name": model.decoder.family, "reduction": reduction}}
    if model.aux_decoder is not None:
        sections["aux_loss"] = {"name": "ctc", "reduction": "mean_batch"}
    clips = [torch.from_numpy(audio.read(CASES / name, model.sample_rate)) for name in ("a.wav", "b.wav")]
    with torch.no_grad():
        found = model.loss(batch_of(clips, NEMO["labels"]), **training_parts(model, sections))
    assert {name: value.item() for name, value in found.items()} == pytest.approx(case["losses"], rel=2e-5)


def test_weights_within_the_encoder_learn_of_their_layer() -> None:
    """With almost all of the weight on layer 0, later layers hardly move, and the first does."""
    sizes = []
    for weight in (0.0, 0.999):
        model = build({"apply_at_layers": [0], "loss_weights": [weight]}).train()
        model.loss(noise(), **training_parts(model, {"loss": {"name": "ctc"}}))["loss"].backward()
        of_layers = [
            torch.stack([p.grad.norm() for p in layer.parameters() if p.grad is not None]).norm()
            for layer in model.encoder.layers
        ]
        sizes.append([float(size) for size in of_layers])
    plain, inner = sizes
    assert inner[1] == pytest.approx(plain[1] * 0.001, rel=1e-3) and inner[2] == pytest.approx(plain[2] * 0.001, rel=1e-3)
    assert inner[0] > plain[0] * 0.01


@pytest.mark.parametrize(
    "encoder",
    [
        ENCODER,
        ENCODER | {"feat_out": 12},
        {"name": "transformer", "n_layers": 2, "d_model": 16, "n_heads": 2, "subsampling_conv_channels": 4},
        {"name": "stacking_transformer", "n_layers": 2, "d_model": 16, "n_heads": 2},
        {
            "name": "convolutional",
            "blocks": [{"filters": 16, "kernel": 3, "stride": 2}, {"filters": 16, "kernel": 3, "stride": 2}],
        },
    ],
    ids=lambda encoder: str(encoder.get("feat_out") or encoder["name"]),
)
def test_the_loss_of_the_last_layer_is_the_final_loss(encoder: dict[str, Any]) -> None:
    plain = build({}, encoder=encoder).eval()
    model = build({"apply_at_layers": [plain.encoder.depth - 1, 0], "loss_weights": [0.25, 0.25]}, encoder=encoder).eval()
    parts = training_parts(model, {"loss": {"name": "ctc"}})
    final, found = plain.loss(noise(), **parts)["loss"], model.loss(noise(), **parts)
    last, first = found[f"inter_ctc_loss_l{plain.encoder.depth - 1}"], found["inter_ctc_loss_l0"]
    torch.testing.assert_close(found["final_loss"], final)
    torch.testing.assert_close(last, final)
    assert abs(float((first - final).detach())) > 1e-3
    torch.testing.assert_close(found["loss"], 0.5 * final + 0.25 * last + 0.25 * first)


WIDENING = {"name": "convolutional", "blocks": [{"filters": 8, "kernel": 3}, {"filters": 16, "kernel": 3}]}


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"encoder": ENCODER | {"n_layers": 1}, "choice": {"apply_at_layers": [1], "loss_weights": [0.3]}}, "has layers 0 to 0"),
        ({"decoder": {"name": "rnnt", "pred_hidden": 8, "joint_hidden": 8}}, "needs a CTC head, and the model's is rnnt"),
        ({"encoder": WIDENING}, "layer 0 of the encoder gives vectors of width 8, and the CTC head takes 16"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_what_can(sections: dict[str, Any], reason: str) -> None:
    model = build(sections.pop("choice", CHOICE), **sections)
    with pytest.raises(ConfigError, match=reason):
        model.loss(noise(), **training_parts(model, {"loss": {"name": model.decoder.family}}))


class Deaf(torch.nn.Module):
    """An encoder of a third party, which is called and nothing more."""

    d_out, subsampling = 16, 8

    def forward(self, feats: torch.Tensor, lens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return feats[:, ::8], (lens + 7) // 8


def test_an_encoder_without_layers_is_named() -> None:
    model = build(CHOICE)
    model.encoder = Deaf()
    with pytest.raises(
        ConfigError, match=r"this encoder \(Deaf\) cannot be heard after its layers; choose one that has with_lay"
    ):
        model.loss(noise(), **training_parts(model, {"loss": {"name": "ctc"}}))
    quiet = build({})
    quiet.encoder = Deaf()
    assert quiet.loss(noise(), **training_parts(quiet, {"loss": {"name": "ctc"}})).keys() == {"loss"}


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"apply_at_layers": [1, 2], "loss_weights": [0.3]}, "names 2 layers, and loss_weights has 1 numbers"),
        ({"apply_at_layers": [1, 2], "loss_weights": [0.5, 0.5]}, "less than 1: what is left is the final loss's weight"),
        ({"apply_at_layers": [1], "loss_weights": [-0.1]}, "must not be negative"),
        ({"apply_at_layers": [1, 1], "loss_weights": [0.1, 0.1]}, "numbers from 0, each once"),
        ({"apply_at_layers": [-1], "loss_weights": [0.1]}, "numbers from 0, each once"),
        ({"layers": [1]}, r"task\.interctc\.layers"),
    ],
)
def test_impossible_choices_are_refused_with_the_config(choice: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        fill_section("task", {"name": "asr", "interctc": choice}, "task")


@pytest.mark.parametrize("name", ["fastconformer_ctc_bpe", "fastconformer_hybrid_rnnt_ctc_char"])
def test_nemo_files_keep_it(name: str, tmp_path: Path) -> None:
    sonant.save(changed(name, CHOICE, aux_loss_weight=0.45), tmp_path / "model.nemo")
    task = sonant.load(tmp_path / "model.nemo", device="cpu").blueprint.config.task.config
    assert {key: list(getattr(task.interctc, key)) for key in CHOICE} == CHOICE
    assert task.aux_loss_weight == (0.45 if "hybrid" in name else 0.3)
    assert not sonant.load(CASES / f"{name}.nemo", device="cpu").config.interctc.apply_at_layers
