"""Exported graphs against the models they come from: ONNX in onnxruntime, `.pt2` in torch; batches and lengths of any size."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import sonant
from sonant import audio, config
from sonant.build import instantiate
from sonant.cli.main import app
from sonant.errors import ConfigError
from sonant.exporting import Export, Graph, export

NEMO = Path(__file__).resolve().parent / "nemo-cases"
LARGEST_ERROR = 1e-4
SIZES = [[9], [16, 15], [203, 150, 77], [64, 9, 33, 1], [801], [130, 130]]
"""Frames of the recordings of a batch."""
TINY = {"d_model": 16, "n_layers": 1, "n_heads": 2, "subsampling_conv_channels": 4}
ENCODERS = {
    "streaming": {
        "name": "fastconformer",
        **TINY,
        "causal_downsampling": True,
        "att_context_size": [4, 1],
        "att_context_style": "chunked_limited",
        "conv_context_size": "causal",
        "conv_norm_type": "layer_norm",
    },
    "convolutional": {
        "name": "convolutional",
        "blocks": [
            {"filters": 12, "kernel": 5, "stride": 2, "separable": True},
            {"filters": 12, "kernel": 7, "residual": True, "se": True},
        ],
    },
}


def ctc(encoder: str) -> Any:
    torch.manual_seed(5)
    sections = {
        "task": "asr",
        "preprocessor": {"name": "log_mel", "features": 16},
        "tokenizer": {"name": "char", "labels": [" ", "a", "b", "c"]},
        "encoder": ENCODERS[encoder],
        "decoder": "ctc",
    }
    model = sonant.build(sections).eval()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return model


def batch(frames: list[int], bins: int) -> tuple[Tensor, Tensor]:
    """Features `(B, T, F)` with noise in the padding, and lengths."""
    torch.manual_seed(sum(frames))
    return torch.randn(len(frames), max(frames), bins), torch.tensor(frames)


def compare(theirs: Any, ours: Tensor, lens: Tensor) -> None:
    found = torch.as_tensor(theirs)
    assert found.shape == ours.shape
    for row, wanted, count in zip(found, ours, lens.tolist(), strict=True):
        torch.testing.assert_close(row[:count], wanted[:count], rtol=0, atol=LARGEST_ERROR)


def test_a_ctc_model_as_onnx(tmp_path: Path) -> None:
    model = ctc("streaming")
    written = sonant.export(model, tmp_path / "model.onnx")
    assert [path.name for path in written] == ["model.json", "model.onnx"]
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [(i.name, i.shape) for i in session.get_inputs()] == [
        ("audio_signal", ["batch", 16, "frames"]),
        ("length", ["batch"]),
    ]
    for frames in SIZES:
        feats, lens = batch(frames, 16)
        inputs = {"audio_signal": feats.transpose(1, 2).numpy(), "length": lens.numpy()}
        found, count = session.run(["logprobs", "encoded_lengths"], inputs)
        with torch.inference_mode():
            enc, sizes = model.encoder(feats, lens)
            wanted = model.decoder(enc).log_softmax(-1)
        assert count.tolist() == sizes.tolist()
        compare(found, wanted, sizes)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["sonant"])
    assert facts == json.loads((tmp_path / "model.json").read_text("utf-8"))
    assert facts["vocabulary"] == [" ", "a", "b", "c"] and facts["blank"] == 4
    assert (facts["family"], facts["sample_rate"], facts["subsampling"]) == ("ctc", 16000, model.encoder.subsampling)


def test_a_ctc_model_as_pt2(tmp_path: Path) -> None:
    model = ctc("convolutional")
    assert [path.name for path in sonant.export(model, tmp_path / "model.pt2")] == ["model.json", "model.pt2"]
    extra = {"sonant.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    assert json.loads(extra["sonant.json"]) == json.loads((tmp_path / "model.json").read_text("utf-8"))
    for frames in SIZES:
        feats, lens = batch(frames, 16)
        found, count = program.module()(feats.transpose(1, 2), lens)
        with torch.inference_mode():
            enc, sizes = model.encoder(feats, lens)
            wanted = model.decoder(enc).log_softmax(-1)
        assert torch.equal(count, sizes)
        compare(found.detach(), wanted, sizes)
    assert all(parameter.requires_grad for parameter in model.parameters())


@cache
def hybrid() -> Any:
    return sonant.load(NEMO / "fastconformer_hybrid_tdt_ctc_bpe.nemo", device="cpu", dtype="float32")


def test_a_transducer(tmp_path: Path) -> None:
    """Greedy search over the graphs, with features made from the facts, gives NeMo's text."""
    source, target = NEMO / "fastconformer_tdt_bpe.nemo", tmp_path / "tiny.pt2"
    done = CliRunner().invoke(app, ["export", str(source), str(target)])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoder_joint-tiny.pt2", "encoder-tiny.pt2", "tiny.json"]
    facts = json.loads((tmp_path / "tiny.json").read_text("utf-8"))
    encoder = torch.export.load(tmp_path / "encoder-tiny.pt2").module()
    model = sonant.load(source, device="cpu", dtype="float32")
    for frames in SIZES:
        feats, lens = batch(frames, 128)
        enc, count = encoder(feats.transpose(1, 2), lens)
        with torch.inference_mode():
            wanted, sizes = model.encoder(feats, lens)
        assert torch.equal(count, sizes)
        compare(enc.detach().transpose(1, 2), wanted, sizes)
    sonant.export(Alone(model.graphs(), "decoder_joint"), tmp_path / "joint.onnx")
    joint = onnxruntime.InferenceSession(tmp_path / "joint.onnx")
    preprocessor = instantiate(config.fill_section("preprocessor", facts["features"], "preprocessor"), "preprocessor", {})
    texts = json.loads((NEMO / "fastconformer_tdt_bpe.json").read_text("utf-8"))["transcribe_text"]
    for name, text in zip(("a.wav", "b.wav"), texts, strict=True):
        wav = torch.from_numpy(audio.read(NEMO / name, facts["sample_rate"]))[None]
        feats, lens = preprocessor.eval()(wav, torch.tensor([wav.shape[1]]))
        enc, count = encoder(feats.transpose(1, 2), lens)
        pieces = [facts["vocabulary"][i] for i in greedy(joint, enc.detach().numpy(), int(count[0]), facts)]
        assert "".join(pieces).replace("▁", " ").strip() == text
    again = CliRunner().invoke(app, ["export", str(source), str(target)])
    assert again.exit_code == 1 and "is already there; pass --overwrite" in again.output


class Alone(nn.Module):
    """One of a model's graphs."""

    def __init__(self, whole: Export, name: str) -> None:
        super().__init__()
        self.whole, self.name = whole, name

    def graphs(self) -> Export:
        return Export(graphs={"": self.whole.graphs[self.name]})


def greedy(joint: Any, enc: Any, frames: int, facts: dict[str, Any]) -> list[int]:
    layers, _, width = joint.get_inputs()[3].shape
    state = [np.zeros((layers, 1, width), np.float32)] * 2
    ids: list[int] = []
    at = repeats = 0
    while at < frames:
        logits, _, *after = joint.run(
            ["outputs", "prednet_lengths", "output_states_1", "output_states_2"],
            {
                "encoder_outputs": enc[:, :, at : at + 1],
                "targets": np.array([[ids[-1] if ids else facts["blank"]]], np.int32),
                "target_length": np.array([1], np.int32),
                "input_states_1": state[0],
                "input_states_2": state[1],
            },
        )
        scores = logits[0, 0, 0]
        label = int(scores[: facts["blank"] + 1].argmax())
        step = facts["durations"][int(scores[facts["blank"] + 1 :].argmax())]
        if label != facts["blank"]:
            ids, state, repeats = [*ids, label], after, repeats + 1
        stuck = step == 0 and (label == facts["blank"] or repeats >= 10)
        at, repeats = at + (1 if stuck else step), repeats if step == 0 and not stuck else 0
    return ids


def test_the_joint_of_several_at_once() -> None:
    """The traced step, by itself, for as many rows and frames as one likes."""
    found = hybrid().graphs()
    assert list(found.graphs) == ["encoder", "decoder_joint"]
    module, head = found.graphs["decoder_joint"].module, hybrid().decoder
    enc, labels = torch.randn(2, 5, head.d_in), torch.tensor([[4], [9]])
    state = torch.zeros(head.config.pred_rnn_layers, 2, head.config.pred_hidden)
    blank = torch.full((2, 1), head.blank)
    with torch.inference_mode():
        first, lens, *state_after = module(enc.transpose(1, 2), blank.int(), torch.ones(2, dtype=torch.int32), state, state)
        second = module(enc.transpose(1, 2), labels.int(), torch.ones(2, dtype=torch.int32), *state_after)[0]
        wanted = head(enc, labels)  # (B, T, U + 1, V + 1 + durations)
    torch.testing.assert_close(torch.cat([first, second], dim=2), wanted, rtol=0, atol=1e-5)
    assert lens.tolist() == [1, 1]


def test_the_second_head_of_a_hybrid() -> None:
    found = hybrid().graphs(decoder="ctc")
    assert list(found.graphs) == [""] and found.facts["family"] == "ctc" and "durations" not in found.facts
    with pytest.raises(ConfigError, match="decoder='aed': this model has tdt and ctc"):
        export(hybrid(), "x.onnx", decoder="aed")


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x

    def graphs(self) -> Export:
        return Export(graphs={"": Graph(module=self, inputs={"x": torch.ones(3, 4)}, axes={"x": {0: "batch"}}, outputs=("y",))})


def test_what_cannot_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"model\.pt ends in neither of \.onnx, \.pt2"):
        export(hybrid(), tmp_path / "model.pt")
    with pytest.raises(ConfigError, match=r"Linear says of no graphs to export: it lacks the method graphs\(\)"):
        export(nn.Linear(1, 1), tmp_path / "model.pt2")
    with pytest.raises(ConfigError, match="a model is exported from a CPU: open it with device='cpu'"):
        export(Branching().to("meta"), tmp_path / "model.pt2")
    with pytest.raises(ConfigError, match="Branching cannot be written as a graph for inputs of any size: "):
        export(Branching(), tmp_path / "model.pt2")
    monkeypatch.setattr("sonant.exporting.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"ONNX files are written with onnx and onnxscript, .* pip install 'sonant\[export\]'"):
        export(hybrid(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
