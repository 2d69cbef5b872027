"""`sonant bench` on models that NeMo wrote, and against NeMo and transformers themselves where there is an environment with them.

Set SONANT_NEMO_PYTHON to the Python of one that has both for the tests against them; what their workers answer is read by the
same code as what Sonant answers, which the other tests run everywhere.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from click.testing import CliRunner

import sonant
from doc_blocks import REPO, sonant_command
from nemo_cases import CASES, meta, model
from sonant import lengths, protocols
from sonant.benchmarking import rivals
from sonant.cli.main import app
from sonant.errors import ConfigError

HF = REPO / "tests" / "hf-cases"
RECORDINGS = [str(CASES / "a.wav"), str(CASES / "b.wav")]
QUICK = ["--repeat", "2", "--warmup", "1", "--threads", "1"]
RIVALS = os.environ.get("SONANT_NEMO_PYTHON")
needs_rivals = pytest.mark.skipif(
    RIVALS is None, reason="SONANT_NEMO_PYTHON names no environment with NeMo and transformers; other tests of this file run"
)


def rows_of(*arguments: str) -> list[dict[str, Any]]:
    threads = torch.get_num_threads()
    result = CliRunner().invoke(app, ["bench", *arguments, *QUICK, "--json"], prog_name="sonant")
    assert result.exit_code == 0, result.output
    assert torch.get_num_threads() == threads
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize(
    "name",
    ["fastconformer_ctc_bpe", "fastconformer_tdt_bpe", "fastconformer_hybrid_rnnt_ctc_char", "canary_aed", "prompt_rnnt_bpe"],
)
def test_frames_are_decoded_as_in_transcripts(name: str) -> None:
    """`Decoding`, behind `encode`: the text that NeMo wrote."""
    recognizer = model(name)
    assert isinstance(recognizer, protocols.Decoding)
    with torch.inference_mode():
        enc, lens = recognizer.encode(*lengths.pad([torch.from_numpy(soundfile.read(f, dtype="float32")[0]) for f in RECORDINGS]))
    found = recognizer.decode(enc, lens)
    assert [one.text for one in found] == meta(name).get("langs", {}).get("auto", meta(name))["text"]
    assert found[0].text


def test_a_recognizer_is_measured_part_by_part() -> None:
    rows = rows_of(str(CASES / "fastconformer_tdt_bpe.nemo"), *RECORDINGS, "--batch", "1,2")
    whats = [f"{part}, 2 recordings{by}" for by in ("", ", by 2") for part in ("encoder", "decoder", "end to end")]
    assert [row["what"] for row in rows] == ["load", *whats]
    audio = sum(soundfile.info(file).duration for file in RECORDINGS)
    for row in rows[1:]:
        assert row["audio_seconds"] == pytest.approx(audio)
        found = row["percentiles"]["sonant"]
        assert 0 < found["20"] <= found["50"] <= found["80"] <= found["90"] <= found["99"]
        assert row["seconds"]["sonant"] == found["50"]
        assert row["times_real_time"]["sonant"] * row["seconds"]["sonant"] == pytest.approx(audio)
        assert row["peak_gib"]["sonant"] > 0.05
    facts = {key: rows[1][key] for key in ("model", "dtype", "device", "threads", "recordings", "runs")}
    assert facts == {
        "model": "fastconformer_tdt_bpe.nemo", "dtype": "float32", "device": "cpu", "threads": 1, "recordings": 2, "runs": 2
    }  # fmt: skip
    assert rows[0]["parameters"] == sum(p.numel() for p in model("fastconformer_tdt_bpe").parameters())
    assert rows[0]["versions"] == {"sonant": {"name": f"sonant {sonant.__version__}", "torch": torch.__version__}}
    assert {"date", "machine", "python"} <= rows[0].keys()


def test_each_dtype_and_length_has_its_rows() -> None:
    rows = rows_of(
        str(CASES / "fastconformer_ctc_bpe.nemo"), "--seconds", "0.5,1", "--dtype", "float32,bfloat16", "--part", "encoder"
    )
    assert [(row["what"], row["dtype"]) for row in rows] == [
        (what, dtype) for dtype in ("float32", "bfloat16") for what in ("load", "encoder, 0.5 s", "encoder, 1 s")
    ]


def test_the_record_reads_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPO / "benchmarks"))
    report = importlib.import_module("report")
    kept = (REPO / "benchmarks" / "results.jsonl").read_text("utf-8")
    assert (REPO / "benchmarks" / "RESULTS.md").read_text("utf-8") == report.page(kept), "run benchmarks/report.py"
    rows = tmp_path / "rows.jsonl"
    how = ["--part", "files", "--seconds", "0.5", "--output", str(rows), "--label", "tiny", *QUICK]
    status, output = sonant_command(["bench", str(CASES / "fastconformer_ctc_bpe.nemo"), *how])
    assert status == 0, output
    page = report.page(rows.read_text("utf-8"))
    assert "| tiny: end to end, 0.5 s | float32 | " in page and " times real time, peak " in page


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_a_worker_needs_what_its_environment_has(name: str) -> None:
    """No module of Sonant: it is not installed there."""
    for path in (rivals.RIVALS[name].script, rivals.RIVALS[name].script.with_name("serve.py")):
        tree = ast.parse(path.read_text("utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {one.partition(".")[0] for one in imported} <= sys.stdlib_module_names | {"numpy", "torch", "soundfile"}


def test_a_model_that_a_rival_cannot_hold() -> None:
    """Its parts have sizes that transformers have one of; found before transformers are asked."""
    recognizer = model("fastconformer_tdt_bpe")
    with pytest.raises(ConfigError, match="--against transformers: .* cannot be written for it: .*one width"):
        rivals.in_its_form("transformers", CASES / "fastconformer_tdt_bpe.nemo", recognizer, Path("unused"))


@pytest.mark.parametrize(
    ("name", "rival", "kind"), [("parakeet_ctc", "nemo", "is_file"), ("parakeet_ctc", "transformers", "is_dir")]
)
def test_a_rival_is_given_the_same_weights(name: str, rival: str, kind: str, tmp_path: Path) -> None:
    """The model's own file, or one of its form; opened again it is the same."""
    recognizer = sonant.load(HF / name, device="cpu", dtype="float32")
    path = Path(rivals.in_its_form(rival, HF / name, recognizer, tmp_path))
    assert getattr(path, kind)() and (path == HF / name) == (rival == "transformers")
    again = sonant.load(path, device="cpu", dtype="float32").state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in recognizer.state_dict().items())


@needs_rivals
@pytest.mark.parametrize("name", ["parakeet_ctc", "parakeet_tdt"])
def test_against_nemo_and_transformers(name: str) -> None:
    """They compute the same on the same samples; what takes how long is not for a test."""
    parts = [word for part in ("encoder", "decoder", "files", "memory") for word in ("--part", part)]
    how = ["--batch", "1", *parts, "--against", "nemo,transformers", "--env", str(RIVALS), "--dtype", "float32"]
    rows = {row["part"]: row for row in rows_of(str(HF / name), *RECORDINGS, *how)}
    assert rows.keys() == {"load", "encoder", "decoder", "files", "memory"}
    for part, row in rows.items():
        assert row["seconds"].keys() == {"sonant", "nemo"} | ({"transformers"} if part != "decoder" else set())
        for rival, ratio in row["ratio"].items():
            assert ratio == pytest.approx(row["seconds"][rival] / row["seconds"]["sonant"])
    for text in rows["encoder"]["note"].split("; "):
        assert float(text.rpartition(" ")[2]) < 5e-5, text
    assert rows["decoder"]["note"] == "nemo: same words 2 of 2; transformers: transformers encodes and decodes in one call"
    for part in ("files", "memory"):
        assert rows[part]["note"] == "nemo: same words 2 of 2; transformers: same words 2 of 2"
    assert rows["load"]["versions"]["nemo"]["name"].startswith("nemo ")
