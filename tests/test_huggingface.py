"""Sonant's numbers against those of Hugging Face's transformers, for the models in `hf-cases/` that it wrote and ran.

The input is the batch of `a.wav` and `b.wav` of `nemo-cases/`. `NAME.npz` holds

    mel, mel_len; enc, enc_len      features `(B, T, F)` and encoder output `(B, T, D)`; valid frames are compared
    logits                          of the CTC head, blank last
    targets, joint                  some labels `(B, U)`, and the logits of the joint network for the first four encoder frames
                                    and the labels so far, `(B, 4, U + 1, V + 1 + durations)`
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from torch import Tensor

import sonant
from sonant import lengths
from sonant.cli.main import app
from sonant.errors import CheckpointError
from sonant.mapping import located
from sonant_asr.tokenizers.huggingface import sentencepiece_model, tokenizer_document
from sonant_asr.tokenizers.model_file import ModelFile

HERE = Path(__file__).resolve().parent
CASES, NEMO = HERE / "hf-cases", HERE / "nemo-cases"
AUDIO = [NEMO / "a.wav", NEMO / "b.wav"]
NAMES = ["nemotron_rnnt", "parakeet_ctc", "parakeet_rnnt", "parakeet_tdt"]
LARGEST_ERROR = 1e-5


@cache
def model(name: str) -> Any:
    return sonant.load(CASES / name, device="cpu", dtype="float32")


@cache
def arrays(name: str) -> dict[str, Tensor]:
    with np.load(CASES / f"{name}.npz") as found:
        return {key: torch.from_numpy(found[key]) for key in found}


def waveforms() -> tuple[Tensor, Tensor]:
    return lengths.pad([torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in AUDIO])


def error(ours: Tensor, theirs: Tensor, lens: Tensor) -> float:
    """Norm of the difference over norm of the reference, over the valid frames of axis 1."""
    ours = torch.cat([x[:n] for x, n in zip(ours, lens.tolist(), strict=True)])
    theirs = torch.cat([x[:n] for x, n in zip(theirs, lens.tolist(), strict=True)])
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_features_and_encoder(name: str) -> None:
    expected = arrays(name)
    feats, lens = model(name).preprocessor(*waveforms())
    assert lens.tolist() == expected["mel_len"].tolist()
    assert error(feats, expected["mel"], lens) < LARGEST_ERROR
    enc, lens = model(name).encoder(expected["mel"], expected["mel_len"])
    assert lens.tolist() == expected["enc_len"].tolist()
    assert error(enc, expected["enc"], lens) < LARGEST_ERROR
    assert error(model(name).encode(*waveforms())[0], expected["enc"], lens) < 1e-4


@torch.inference_mode()
def test_the_ctc_head() -> None:
    expected = arrays("parakeet_ctc")
    logits = model("parakeet_ctc").decoder(expected["enc"])
    assert error(logits, expected["logits"], expected["enc_len"]) < LARGEST_ERROR


@pytest.mark.parametrize("name", [name for name in NAMES if "ctc" not in name])
@torch.inference_mode()
def test_the_transducers(name: str) -> None:
    expected = arrays(name)
    joint = model(name).decoder(expected["enc"][:, :4], expected["targets"])
    assert joint.shape == expected["joint"].shape
    torch.testing.assert_close(joint, expected["joint"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_text(name: str) -> None:
    wanted = json.loads((CASES / f"{name}.json").read_text("utf-8"))["text"]
    assert [found.text for found in model(name).transcribe(AUDIO)] == wanted
    assert all(len(text) > 3 for text in wanted)


def test_a_streaming_model_offers_its_look_aheads() -> None:
    encoder = model("nemotron_rnnt").encoder
    assert encoder.streams and encoder.config.contexts == [[4, 1], [4, 0], [4, 3]]
    samples = soundfile.read(AUDIO[1], dtype="float32")[0]
    wanted = model("nemotron_rnnt").transcribe(AUDIO[1])[0].text
    session = model("nemotron_rnnt").stream()
    events = [*session.push(samples[:9000]), *session.push(samples[9000:]), *session.finish()]
    assert "".join(event.text for event in events) == wanted


@pytest.mark.parametrize("name", NAMES[1:])
def test_there_and_back(name: str, tmp_path: Path) -> None:
    """Written again, the files hold what transformers wrote, but for what only training looks at."""
    sonant.save(model(name), tmp_path / "again", form="huggingface")
    again = sonant.load(tmp_path / "again", device="cpu", dtype="float32")
    assert again.blueprint.config == model(name).blueprint.config
    state = model(name).state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in again.state_dict().items())
    ours, theirs = read(tmp_path / "again", "config.json"), read(CASES / name, "config.json")
    unlike = {key for key in ours | theirs if key != "encoder_config" and ours.get(key) != theirs.get(key)}
    training = {"ctc_loss_reduction", "ctc_zero_infinity", "transformers_version", "initializer_range", "is_encoder_decoder"}
    assert unlike <= training
    encoder = theirs["encoder_config"]
    assert {key: encoder[key] for key in ours["encoder_config"]} == ours["encoder_config"]
    mine, other = read(tmp_path / "again", "tokenizer.json"), read(CASES / name, "tokenizer.json")
    assert mine["model"]["vocab"] == other["model"]["vocab"]
    assert [list(merge) for merge in other["model"]["merges"]] == mine["model"]["merges"]
    assert [t["content"] for t in mine["added_tokens"]] == [t["content"] for t in other["added_tokens"]]


@pytest.mark.parametrize("name", NAMES)
def test_as_nemo(name: str, tmp_path: Path) -> None:
    sonant.save(model(name), tmp_path / "model.nemo")
    again = sonant.load(tmp_path / "model.nemo", device="cpu", dtype="float32")
    assert [found.text for found in again.transcribe(AUDIO)] == [found.text for found in model(name).transcribe(AUDIO)]


@torch.inference_mode()
def test_from_nemo(tmp_path: Path) -> None:
    """transformers 5.23 opens this folder, and gives NeMo's log-probabilities to 5e-6 and its text."""
    done = CliRunner().invoke(
        app, ["convert", str(NEMO / "fastconformer_ctc_bpe.nemo"), str(tmp_path / "hf"), "--to", "huggingface"]
    )
    assert done.exit_code == 0, done.output
    again = sonant.load(tmp_path / "hf", device="cpu", dtype="float32")
    with np.load(NEMO / "fastconformer_ctc_bpe.npz") as expected:
        enc, lens = again.encode(*waveforms())
        assert error(again.decoder(enc).log_softmax(-1), torch.from_numpy(expected["logprobs"]), lens) < LARGEST_ERROR
    wanted = json.loads((NEMO / "fastconformer_ctc_bpe.json").read_text("utf-8"))["text"]
    assert [found.text for found in again.transcribe(AUDIO)] == wanted


@pytest.mark.parametrize(
    ("case", "wanted"),
    [
        ("fastconformer_tdt_bpe", "transducers have one width, and here pred_hidden is 48, joint_hidden 56"),
        ("citrinet_ctc_bpe", "encoder 'convolutional' .* has no counterpart in Hugging Face's transformers"),
        ("fastconformer_hybrid_tdt_ctc_bpe", "Parakeet has no aux_decoder: it has one decoder of ctc, rnnt, tdt, and nothing"),
        ("fastconformer_streaming_rnnt_bpe", "ParakeetFeatureExtractor does not compute log_mel with normalize: none"),
        ("fastconformer_local_ctc_bpe", "parakeet_encoder knows no Conformer with self_attention_model: rel_pos_local_attn"),
    ],
)
def test_what_transformers_cannot_hold_is_not_written(case: str, wanted: str, tmp_path: Path) -> None:
    opened = sonant.load(NEMO / f"{case}.nemo", device="cpu", dtype="float32")
    with pytest.raises(CheckpointError, match=wanted):
        sonant.save(opened, tmp_path / "hf", form="huggingface")
    assert not (tmp_path / "hf").exists()


def test_filters_of_its_own_are_not_lost(tmp_path: Path) -> None:
    opened = sonant.load(CASES / "parakeet_ctc", device="cpu", dtype="float32")
    opened.preprocessor.filters[3] *= 1.01
    with pytest.raises(CheckpointError, match=r"preprocessor\.filters of this model is not what .* would compute"):
        sonant.save(opened, tmp_path / "hf", form="huggingface")


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text("utf-8"))


def write(folder: Path, name: str, **values: Any) -> None:
    (folder / name).write_text(json.dumps(read(folder, name) | values), "utf-8")


@pytest.fixture
def ctc(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CASES / "parakeet_ctc", tmp_path / "model"))


def test_the_layout_of_releases_before_5(ctc: Path) -> None:
    """Features settings in a file of their own, merges as strings, the name of the type in `torch_dtype`."""
    features = read(ctc, "processor_config.json")["feature_extractor"]
    (ctc / "preprocessor_config.json").write_text(json.dumps(features | {"processor_class": "ParakeetProcessor"}))
    (ctc / "processor_config.json").unlink()
    tokenizer = read(ctc, "tokenizer.json")["model"]
    write(ctc, "tokenizer.json", model=tokenizer | {"merges": [" ".join(merge) for merge in tokenizer["merges"]]})
    write(ctc, "config.json", torch_dtype="float32", tie_word_embeddings=False, id2label={"0": "LABEL_0"})
    opened = sonant.load(ctc, device="cpu", dtype="float32")
    assert opened.blueprint.config == model("parakeet_ctc").blueprint.config
    assert opened.transcribe(AUDIO[0])[0].text == model("parakeet_ctc").transcribe(AUDIO[0])[0].text


def test_what_is_dropped_is_said(ctc: Path) -> None:
    notes = sonant.load(ctc, device="cpu").blueprint.notes
    assert "dropped encoder_config.layerdrop" in notes and "dropped ctc_loss_reduction" in notes


def test_code_in_a_repo_is_not_run(ctc: Path) -> None:
    (ctc / "modeling.py").write_text("raise SystemExit('run')")
    write(ctc, "config.json", auto_map={"AutoModelForCTC": "modeling.ParakeetForCTC"})
    assert sonant.load(ctc, device="cpu").transcribe(AUDIO[1])[0].text == "gdox"
    write(ctc, "config.json", architectures=["modeling.Mine"])
    with pytest.raises(
        CheckpointError, match=r"its architecture is 'modeling.Mine', .*known: .*ParakeetForCTC, .*Nothing was imported"
    ):
        sonant.load(ctc)


def encoder_with(**values: Any) -> Callable[[Path], None]:
    return lambda folder: write(folder, "config.json", encoder_config=read(folder, "config.json")["encoder_config"] | values)


def features_with(**values: Any) -> Callable[[Path], None]:
    return lambda folder: write(
        folder,
        "processor_config.json",
        feature_extractor=read(folder, "processor_config.json")["feature_extractor"] | values,
    )


def tokenizer_with(part: str, **values: Any) -> Callable[[Path], None]:
    return lambda folder: write(folder, "tokenizer.json", **{part: (read(folder, "tokenizer.json")[part] or {}) | values})


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda f: write(f, "config.json", novelty=1), "Hugging Face config has keys that Sonant does not know: novelty"),
        (encoder_with(novelty=1), r"keys that Sonant does not know: encoder_config\.novelty"),
        (features_with(novelty=1), r"does not know: processor_config\.json: feature_extractor\.novelty"),
        (
            encoder_with(hidden_act="relu"),
            r"encoder_config\.hidden_act is 'relu', which Sonant does not support; supported: 'silu'",
        ),
        (encoder_with(convolution_bias=False), r"encoder_config\.convolution_bias is False, .* supported: True"),
        (encoder_with(model_type="whisper"), r"its encoder is 'whisper', .*known: .*parakeet_encoder.*Nothing was imported"),
        (encoder_with(hidden_size=[24]), "its config is not of the form that Hugging Face writes"),
        (encoder_with(intermediate_size=100), "intermediate_size is 100, not a multiple of hidden_size, 24"),
        (encoder_with(num_hidden_layers=3), r"tensors missing: encoder\.layers\.2"),
        (encoder_with(num_hidden_layers=1), r"tensors left over: encoder\.layers\.1"),
        (lambda f: write(f, "config.json", pad_token_id=0), "pad_token_id is 0, which Sonant does not support; supported: 48"),
        (
            lambda f: write(f, "config.json", vocab_size=90, pad_token_id=89),
            "tokenizer.json has no token 49, and the model knows 89",
        ),
        (lambda f: (f / "config.json").write_text("["), "config.json is not JSON"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "config.json is not JSON"),
        (lambda f: (f / "config.json").write_text("[1]"), "config.json holds a list, not an object"),
        (lambda f: (f / "tokenizer.json").unlink(), "lacks the file tokenizer.json"),
        (lambda f: (f / "processor_config.json").unlink(), "lacks the file preprocessor_config.json"),
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            "neither model.safetensors nor .*pytorch_model.bin",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), "cannot read the weights"),
        (tokenizer_with("model", type="WordPiece"), "its model is 'WordPiece'; supported: 'BPE' and 'Unigram'"),
        (tokenizer_with("pre_tokenizer", type="ByteLevel"), "its pre-tokenizer is ByteLevel; supported: 'Metaspace'"),
        (tokenizer_with("normalizer", type="Lowercase"), "its normalizer 'Lowercase' is not one of a SentencePiece model"),
        (tokenizer_with("model", merges=[["a"]]), "its config is not of the form that Hugging Face writes"),
        (encoder_with(hidden_size=0), "its config is not of the form that Hugging Face writes"),
        (features_with(sampling_rate=0), "its config is not of the form that Hugging Face writes"),
        (features_with(n_fft=2**62), "what follows from its config cannot be computed"),
        (features_with(n_fft=-1000, win_length=-2000), "must be positive|cannot be computed"),
        (
            lambda f: write(f, "tokenizer.json", added_tokens=[{"id": math.inf, "content": "a"}]),
            "its config is not of the form that Hugging Face writes",
        ),
    ],
)
def test_faults(change: Callable[[Path], Any], wanted: str, ctc: Path) -> None:
    change(ctc)
    with pytest.raises(CheckpointError, match=wanted) as caught:
        sonant.load(ctc, device="cpu")
    assert str(ctc) in str(caught.value)


def test_steps_in_steps_without_end() -> None:
    step: dict[str, Any] = {"type": "Strip"}
    for _ in range(10_000):
        step = {"type": "Sequence", "normalizers": [step]}
    document = json.loads((CASES / "parakeet_ctc" / "tokenizer.json").read_text("utf-8")) | {"normalizer": step}
    with pytest.raises(CheckpointError, match="model: its config is nested too deeply"), located("model", "Hugging Face"):
        sentencepiece_model(document, 1)


def test_an_index_leads_nowhere_else(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(CASES / "parakeet_tdt", tmp_path / "model"))
    index = read(folder, "model.safetensors.index.json")["weight_map"]
    shutil.move(folder / "model-00001-of-00006.safetensors", tmp_path / "outside.safetensors")
    for name, wanted in [
        ("../outside.safetensors", "leads out of the checkpoint"),
        ("absent.safetensors", "names the file absent.safetensors, which is not there"),
        ("link.safetensors", "lies outside"),
        ("model\0.safetensors", "leads out of the checkpoint"),
    ]:
        (folder / "link.safetensors").unlink(missing_ok=True)
        (folder / "link.safetensors").symlink_to(tmp_path / "outside.safetensors")
        changed = {key: name if file.startswith("model-00001") else file for key, file in index.items()}
        write(folder, "model.safetensors.index.json", weight_map=changed)
        with pytest.raises(CheckpointError, match=wanted):
            sonant.load(folder)
    (folder / "link.safetensors").unlink()
    shutil.copy(tmp_path / "outside.safetensors", folder / "model-00001-of-00006.safetensors")
    write(folder, "model.safetensors.index.json", weight_map=dict(list(index.items())[1:]))
    with pytest.raises(CheckpointError, match=r"index\.json does not fit its files: "):
        sonant.load(folder)


def test_inspect() -> None:
    found = sonant.inspect(CASES / "parakeet_tdt")
    assert (found.form, found.saved_by) == ("Hugging Face model", "transformers 5.23.0")
    assert [(c.section, c.name) for c in found.components] == [
        ("architecture", "ParakeetForTDT"),
        ("encoder_config", "parakeet_encoder"),
    ]
    assert all("sonant-" in c.status for c in found.components)
    derived = sum(t.numel() for name, t in model("parakeet_tdt").state_dict().items() if name.startswith("preprocessor."))
    assert found.numbers == sum(t.numel() for t in model("parakeet_tdt").state_dict().values()) - derived


@pytest.mark.parametrize("rules", ["identity", "nmt_nfkc_cf"])
def test_tokenizers_give_the_ids_of_the_library(rules: str, tmp_path: Path) -> None:
    """Both ways: a SentencePiece model through `tokenizer.json` and back gives what the tokenizers library gave for it."""
    cases = read(CASES, "cases.json")
    original = trained(rules)
    again = sentencepiece_model(tokenizer_document(original, ["<pad>"]), 48)
    first, second = ModelFile.read(original), ModelFile.read(again)
    assert [(p.text, p.type) for p in first.pieces] == [(p.text, p.type) for p in second.pieces]
    assert first.charsmap == second.charsmap and bool(first.charsmap) == (rules != "identity")
    for content in (original, again):
        processor = processor_of(content)
        assert [processor.EncodeAsIds(text) for text in cases["texts"]] == cases["ids"][rules]
        assert processor.DecodeIds([18, 4, 11]) == "the fox"


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_tokenizers_of_either_algorithm(algorithm: str) -> None:
    original = trained("nmt_nfkc", algorithm, 40)
    again = sentencepiece_model(json.loads(json.dumps(tokenizer_document(original, ["<pad>", "<blank>"]))), 40)
    before, after = processor_of(original), processor_of(again)
    for text in ("front center", "  jugs ½", "lazy lazy dogs", "", "x" * 50, "quick fox jumps"):
        assert after.EncodeAsIds(text) == before.EncodeAsIds(text)
        assert after.DecodeIds(before.EncodeAsIds(text)) == before.DecodeIds(before.EncodeAsIds(text))


def processor_of(content: bytes) -> Any:
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(content)
    return processor


@cache
def trained(rules: str, algorithm: str = "bpe", size: int = 48) -> bytes:
    """The model that `hf-cases/make.py` trains."""
    import io

    import sentencepiece

    corpus = (
        "the quick brown fox jumps over the lazy dog",
        "pack my box with five dozen liquor jugs",
        "front center rear left side",
    )
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=written,
        vocab_size=size,
        model_type=algorithm,
        normalization_rule_name=rules,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()
