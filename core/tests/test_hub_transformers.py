"""Models of Hugging Face's transformers from the hub, for which `stand_in_hub` stands in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import sonant
from sonant.errors import DownloadError
from sonant.sources import locate
from stand_in_hub import CASES, CONTENT, Hub, sha256

HF_CASES = CASES.parent / "hf-cases"
WAV = CASES / "b.wav"
BESIDE = {
    "modeling.py": b"raise SystemExit",
    "pytorch_model.bin": b"x",
    "README.md": b"---\nlicense: cc-by-4.0\n---\n",
    "a.onnx": b"x",
}


def files(name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((HF_CASES / name).iterdir())}


@pytest.mark.parametrize("name", ["parakeet_ctc", "parakeet_tdt"])
def test_only_what_is_read_is_fetched(name: str, stand_in: Hub, offline: Callable[..., None]) -> None:
    stand_in.repos["acme/parakeet"] = [files(name) | BESIDE]
    model = sonant.load("acme/parakeet", device="cpu", dtype="float32")
    assert sorted(stand_in.downloads()) == sorted([*files(name), "README.md"])
    assert model.blueprint.license == "cc-by-4.0"
    text = model.transcribe(WAV)[0].text
    assert text == sonant.load(HF_CASES / name, device="cpu", dtype="float32").transcribe(WAV)[0].text
    offline()
    assert sonant.load("acme/parakeet", device="cpu", dtype="float32").transcribe(WAV)[0].text == text


def test_a_nemo_file_goes_before_it(stand_in: Hub, card_file: Callable[..., Path]) -> None:
    stand_in.repos["acme/both"] = [files("parakeet_ctc") | {"both.nemo": CONTENT}]
    folder = locate("tiny", registry=card_file(hf="acme/both", file="config.json"))
    assert (folder / "config.json").is_file() and not (folder / "both.nemo").exists()
    assert sonant.inspect(folder).form == "Hugging Face model"
    assert locate("acme/both").name == "both.nemo"


def test_a_card_with_a_checksum(stand_in: Hub, card_file: Callable[..., Path], tmp_path: Path) -> None:
    content = files("parakeet_ctc")
    stand_in.repos["acme/parakeet"] = [content]
    right = sha256(content["model.safetensors"])
    locate("tiny", registry=card_file(hf="acme/parakeet", sha256=right, size=len(content["model.safetensors"])))
    with pytest.raises(DownloadError, match=f"model.safetensors has sha256 {right}, and its model card says"):
        locate("tiny", registry=card_file(hf="acme/parakeet", sha256=sha256(b"other")))


def test_a_checksum_of_several_files(stand_in: Hub, card_file: Callable[..., Path]) -> None:
    stand_in.repos["acme/parakeet"] = [files("parakeet_tdt")]
    with pytest.raises(DownloadError, match=r"size and checksum are those of model\.safetensors, and its weights lie in"):
        locate("tiny", registry=card_file(hf="acme/parakeet", sha256=sha256(b"other")))
    assert locate("acme/parakeet").is_dir()


def test_weights_in_other_forms_alone(stand_in: Hub) -> None:
    content = files("parakeet_ctc")
    del content["model.safetensors"]
    stand_in.repos["acme/old"] = [content | BESIDE]
    with pytest.raises(DownloadError, match=r"expected one \.nemo file, .* or a model of transformers \(config\.json, model"):
        locate("acme/old")
