"""Attention encoder-decoder models: Sonant's numbers and texts against NeMo's, for the Canary cases in `nemo-cases/`.

`canary_aed` has random weights, the prompts of canary-1b and an aggregate tokenizer. `canary2_aed` is overfitted to the two
recordings, and has the prompts of canary-1b-v2, one tokenizer, Transformer layers behind the encoder, and a CTC model for the
times of words. What `NAME.json` and `NAME.npz` hold is said in `test_nemo_fidelity.py`; also

    transcript, logprobs            some token ids, prompt included, and the log-probabilities behind each, in the batch
    text_en_de (canary_aed)         asked for German without punctuation, the task left at transcription
    prompts                         what was asked, by NeMo's names, and the ids

and `NAME_searches.json` (made by `nemo-cases/make_canary.py`)

    searches                        by search, then by what was asked, for each recording alone: tokens and scores, best first
    aligned_timestamps              words and segments with times by the CTC model
    token_timestamps                the same by tokens of time
    short                           what NeMo makes of a file of less than a second
"""

from __future__ import annotations

import json
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from torch import Tensor

import sonant
from nemo_cases import CASES, LARGEST_ERROR, arrays, meta, model
from sonant import lengths
from sonant.errors import CheckpointError, ConfigError
from sonant.nemo.archive import NemoArchive
from sonant_asr.alignment.viterbi import align
from sonant_asr.recognizer.prompt import Prompt

NAMES = ("canary_aed", "canary2_aed")
FILES = [CASES / "a.wav", CASES / "b.wav"]
EN = {"source_lang": "en", "target_lang": "en", "punctuation": True}
_OURS = {"pnc": "punctuation", "decodercontext": "context", "timestamp": "timestamps"}


@cache
@torch.inference_mode()
def encoded(name: str) -> tuple[Tensor, Tensor]:
    wav, lens = lengths.pad([torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in FILES])
    return model(name).encode(wav, lens)


def prompt(asked: dict[str, str]) -> Prompt:
    """What is asked by NeMo's names."""
    return Prompt(**{_OURS.get(key, key): value for key, value in asked.items()})


def relative(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_log_probabilities(name: str) -> None:
    enc, lens = encoded(name)
    ids = torch.tensor(meta(name)["transcript"]).expand(2, -1)
    ours = model(name).decoder.scores(enc, lens, ids).log_softmax(-1)
    assert relative(ours, arrays(name)["logprobs"]) < LARGEST_ERROR


@torch.inference_mode()
def test_what_the_decoder_attends_to() -> None:
    enc, lens = encoded("canary_aed")
    states, theirs = model("canary_aed").decoder.proj(enc), arrays("canary_aed")["enc_states"]
    for row, size in enumerate(lens.tolist()):
        assert relative(states[row, :size], theirs[row, :size]) < LARGEST_ERROR


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_text(name: str, batch_size: int) -> None:
    found = model(name).transcribe(FILES, batch_size=batch_size, **EN)
    assert [one.text for one in found] == meta(name)["text"]
    assert [one.language for one in found] == ["en", "en"]
    assert [one.text for one in model(name).transcribe(FILES)] == meta(name)["text"]  # what a model is asked for by default
    if "tokens" in meta(name):
        assert [list(one.tokens) for one in found] == meta(name)["tokens"]


def test_text_in_another_language() -> None:
    found = model("canary_aed").transcribe(FILES, source_lang="en", target_lang="de", punctuation=False, task="transcribe")
    assert [one.text for one in found] == meta("canary_aed")["text_en_de"]
    assert [list(one.tokens) for one in found] == meta("canary_aed")["tokens_en_de"]
    assert [one.language for one in found] == ["de", "de"]


def test_prompts_as_ids() -> None:
    head = model("canary2_aed").decoder
    for one in meta("canary2_aed")["prompts"]:
        assert list(head.prompt.encode(head.fill_prompt(prompt(one["asked"])))) == one["ids"], one["asked"]
    head = model("canary_aed").decoder
    for asked, ids in meta("canary_aed_searches")["prompts"].items():
        assert list(head.prompt.encode(head.fill_prompt(prompt(json.loads(asked))))) == ids, asked


def test_another_language_makes_it_a_translation() -> None:
    """NeMo has to be told the task, too."""
    head = model("canary_aed").decoder
    (asked, ids), *_ = [item for item in meta("canary_aed_searches")["prompts"].items() if "ast" in item[0]]
    wanted = json.loads(asked)
    assert wanted.pop("task") == "ast"
    assert list(head.prompt.encode(head.fill_prompt(prompt(wanted)))) == ids


def _found(name: str, way: str, asked: str, recording: int) -> Any:
    size, _, len_pen = way.removeprefix("beam").partition("_")
    search = "aed_greedy" if way == "greedy" else {"name": "aed_beam", "beam_size": int(size), "len_pen": float(len_pen)}
    if isinstance(search, dict):
        search["n_best"] = search["beam_size"]
    recognizer = model(name)
    enc, lens = encoded(name)
    head = recognizer.decoder
    given = head.prompted(
        enc[recording : recording + 1], lens[recording : recording + 1], [head.fill_prompt(prompt(json.loads(asked)))]
    )
    return recognizer.search_for(head, search)(head, **given)[0]


@pytest.mark.parametrize("way", ["beam1_0.0", "beam4_0.0", "beam7_0.0", "beam4_1.0"])
@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_beam_search(name: str, way: str) -> None:
    end = model(name).decoder.eos
    for asked, recordings in meta(f"{name}_searches")["searches"][way].items():
        for number, theirs in enumerate(recordings):
            ours = _found(name, way, asked, number)
            best = max(theirs, key=lambda one: one["score"])
            assert list(ours.tokens) == [token for token in best["tokens"] if token != end]
            assert ours.score == pytest.approx(best["score"], rel=1e-4, abs=1e-4)
            scores = [one.score for one in ours.alternatives]
            assert way.endswith("1.0") or scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_greedy_search(name: str) -> None:
    """NeMo's greedy search stops one token before its beam search does, where a text has no end."""
    for asked, recordings in meta(f"{name}_searches")["searches"]["greedy"].items():
        for number, (theirs,) in enumerate(recordings):
            ours = list(_found(name, "greedy", asked, number).tokens)
            assert theirs["tokens"] in (ours, ours[:-1])
            assert ours == list(_found(name, "beam1_0.0", asked, number).tokens)


def _check_times(recognizer: Any, answers: list[dict[str, Any]], batch_size: int) -> None:
    for one in answers:
        asked = {_OURS.get(key, key): value for key, value in one["asked"].items()}
        found = recognizer.transcribe(FILES, timestamps="word", batch_size=batch_size, **asked)
        assert [got.text for got in found] == one["text"]
        for got, theirs in zip(found, one["timestamp"], strict=True):
            for level in ("word", "segment"):
                spans = [(span.text, round(span.start, 2), round(span.end, 2)) for span in getattr(got, f"{level}s")]
                assert spans == [(t[level], round(t["start"], 2), round(t["end"], 2)) for t in theirs[level]]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_times_by_forced_alignment(batch_size: int) -> None:
    _check_times(model("canary2_aed"), meta("canary2_aed_searches")["aligned_timestamps"], batch_size)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_times_by_tokens(batch_size: int) -> None:
    recognizer = sonant.load(CASES / "canary2_aed.nemo", device="cpu", dtype="float32")
    recognizer.aligner_decoder = None
    answers = meta("canary2_aed_searches")["token_timestamps"]
    assert any(recording["word"] for one in answers for recording in one["timestamp"])
    _check_times(recognizer, answers, batch_size)


def test_times_that_nobody_can_tell_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"timestamps: this model writes none.*leave them out"):
        model("canary_aed").transcribe(FILES, timestamps="word")


def test_a_file_of_less_than_a_second(tmp_path: Path) -> None:
    """It is filled up with silence on both sides, as NeMo does; times count from its own beginning."""
    short = meta("canary2_aed_searches")["short"]
    first, last = short["samples"]
    wave = soundfile.read(FILES[1], dtype="float32")[0][first:last]
    around = np.zeros(short["padded"], dtype="float32")
    around[short["left"] : short["left"] + len(wave)] = wave
    found = model("canary2_aed").transcribe([wave, around], timestamps="word", **EN)
    assert [one.text for one in found] == [short["text"]] * 2
    assert found[0].score == pytest.approx(found[1].score, abs=1e-5)
    silence, seconds = short["left"] / 16000, len(wave) / 16000
    for ours, theirs in zip(found[0].words, found[1].words, strict=True):
        assert ours.start == pytest.approx(min(max(theirs.start - silence, 0.0), seconds))
        assert ours.end == pytest.approx(min(max(theirs.end - silence, 0.0), seconds))


def test_alignment_of_noise() -> None:
    """NeMo's paths, as the frames of each label."""
    known = arrays("canary2_aed")
    scores, places, paths, frames = (known[f"viterbi_{key}"] for key in ("scores", "y", "paths", "frames"))
    blank = scores.shape[-1] - 1
    labels = [[int(label) for label in row[1::2] if label <= blank] for row in places]
    found = align(scores, frames, labels, blank)
    for row, spans in enumerate(found):
        theirs = [[t for t, place in enumerate(paths[row].tolist()) if place == 2 * n + 1] for n in range(len(labels[row]))]
        assert spans == [(at[0], at[-1] + 1) for at in theirs]


@pytest.mark.parametrize("name", NAMES)
def test_written_back(name: str, tmp_path: Path) -> None:
    """The tensors are NeMo's to the bit, those of the second model and tied ones included; the texts and times stay."""
    recognizer = sonant.load(CASES / f"{name}.nemo", device="cpu", dtype="stored")
    sonant.save(recognizer, tmp_path / "again.nemo")
    with NemoArchive(CASES / f"{name}.nemo") as theirs, NemoArchive(tmp_path / "again.nemo") as ours:
        for member in [m for m in theirs.sizes() if m.endswith(".ckpt")]:
            before, after = theirs.state(member), ours.state(member)
            assert before.keys() == after.keys()
            assert all(torch.equal(before[key], after[key]) for key in before)
        documents = [m for m in theirs.sizes() if m.endswith("config.yaml")]
        assert documents == [m for m in ours.sizes() if m.endswith("config.yaml")]
        for document in documents:
            a, b = theirs.config(document), ours.config(document)
            for key in ("target", "prompt_format", "encoder", "model_defaults"):
                assert a.get(key) is None or _without_none(b[key], a[key]) == _without_none(a[key], b[key])
    level = "word" if name == "canary2_aed" else None
    again = sonant.load(tmp_path / "again.nemo", device="cpu", dtype="float32").transcribe(FILES, timestamps=level)
    assert again == model(name).transcribe(FILES, timestamps=level)


def _without_none(section: Any, other: Any) -> Any:
    """Of two sections what both say: defaults may be written or left out."""
    return {key: section[key] for key in section if key in other} if isinstance(section, dict) else section


def test_saved_as_a_folder(tmp_path: Path) -> None:
    sonant.save(model("canary2_aed"), tmp_path / "model")
    again = sonant.load(tmp_path / "model", device="cpu", dtype="float32")
    assert again.transcribe(FILES, timestamps="word") == model("canary2_aed").transcribe(FILES, timestamps="word")


def test_a_second_model_that_is_not_ctc_is_refused(tmp_path: Path) -> None:
    """Its file names it; nothing is guessed."""
    with tarfile.open(CASES / "canary2_aed.nemo") as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    document = tmp_path / "unpacked" / "timestamps_asr_model_config.yaml"
    config = yaml.safe_load(document.read_text("utf-8"))
    config["target"] = "nemo.collections.asr.models.rnnt_bpe_models.EncDecRNNTBPEModel"
    document.write_text(yaml.safe_dump(config), "utf-8")
    with pytest.raises(CheckpointError, match=r"timestamps_asr_model is .*EncDecRNNTBPEModel.*CTC models only"):
        sonant.load(tmp_path / "unpacked")


def test_a_tied_tensor_that_differs_is_refused(tmp_path: Path) -> None:
    with tarfile.open(CASES / "canary_aed.nemo") as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    weights = tmp_path / "unpacked" / "model_weights.ckpt"
    state = torch.load(weights, weights_only=True)
    state["log_softmax.mlp.layer0.weight"] = state["log_softmax.mlp.layer0.weight"] + 1
    torch.save(state, weights)
    with pytest.raises(CheckpointError, match=r"log_softmax\.mlp\.layer0\.weight differs from a tensor that it is tied to"):
        sonant.load(tmp_path / "unpacked")
