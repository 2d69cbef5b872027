"""NeMo's recognizers read and written: nothing is lost on the way, and what is not supported is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sonant
from sonant.errors import CheckpointError
from sonant.mapping import Converted
from sonant.nemo.archive import NemoArchive, artifact_name, write_archive
from sonant.nemo.convert import read_nemo, write_nemo

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
NAMES = sorted(path.stem for path in CASES.glob("*.nemo"))
A, B = CASES / "a.wav", CASES / "b.wav"
BPE, CHAR, TDT = "fastconformer_ctc_bpe", "conformer_rnnt_char", "fastconformer_tdt_bpe"
HYBRID = "fastconformer_hybrid_tdt_ctc_bpe"
STATELESS, HAT, PROMPTED, ENDING = "stateless_rnnt_bpe", "hat_rnnt_char", "prompt_rnnt_bpe", "eou_rnnt_bpe"
MODULES = "nemo.collections.asr.modules."

Document = dict[str, Any]


def read(path: Path) -> tuple[Converted, Document]:
    with NemoArchive(path) as archive:
        return read_nemo(archive), archive.config()


def members(found: Converted) -> dict[str, bytes]:
    """The files that its config names, read."""
    tokenizer = found.config.parts["tokenizer"].to_dict()
    sections = list(tokenizer["langs"].values()) if "langs" in tokenizer else [tokenizer]
    return {section["file"]: found.files.read(section["file"]) for section in sections if "file" in section}


def assert_equal(ours: Converted, theirs: Converted) -> None:
    assert ours.config.to_dict() == theirs.config.to_dict()
    assert members(ours) == members(theirs)
    assert sorted(ours.state) == sorted(theirs.state)
    assert all(torch.equal(ours.state[key], theirs.state[key]) for key in theirs.state)


@pytest.mark.parametrize("name", NAMES)
def test_reading_what_was_written_gives_what_was_read(name: str, tmp_path: Path) -> None:
    once, theirs = read(CASES / f"{name}.nemo")
    model = sonant.load(CASES / f"{name}.nemo", device="cpu", dtype="stored")
    twice, ours = read(sonant.save(model, tmp_path / "written.nemo"))
    assert_equal(twice, once)
    assert ours["target"] == theirs["target"]
    again = sonant.load(tmp_path / "written.nemo", device="cpu", dtype="stored")
    assert write_nemo(again.blueprint, again)[0] == write_nemo(model.blueprint, model)[0]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_names_the_same_things(name: str) -> None:
    """Wherever NeMo's own document and ours have the same key in these sections, they say the same."""
    _, theirs = read(CASES / f"{name}.nemo")
    model = sonant.load(CASES / f"{name}.nemo", device="cpu", dtype="stored")
    ours, state, _ = write_nemo(model.blueprint, model)
    for section in ("decoder", "joint", "labels", "model_defaults", "sample_rate"):
        if section in ours and section in theirs:
            assert_agrees(ours[section], theirs[section], section)
    with NemoArchive(CASES / f"{name}.nemo") as archive:
        original = archive.state()
        assert {k: v.shape for k, v in state.items()} == {k: original[k].shape for k in state}
        assert all(torch.equal(state[k], original[k]) for k in state)


def assert_agrees(ours: Any, theirs: Any, path: str) -> None:
    if isinstance(ours, dict):
        for key in ours.keys() & theirs.keys() - {"_target_", "fuse_loss_wer", "t_max"}:  # of one class, or of training
            assert_agrees(ours[key], theirs[key], f"{path}.{key}")
    else:
        assert ours == theirs, path


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[str, Callable[[Document], Any]], Path]:
    """A case with something in its document changed."""

    def write(name: str, change: Callable[[Document], Any]) -> Path:
        path = tmp_path / "changed.nemo"
        with NemoArchive(CASES / f"{name}.nemo") as archive:
            document = archive.config()
            change(document)
            files = {member: archive.read(member) for member in archive.sizes() if not member.startswith("model_")}
            write_archive(path, document, archive.state(), files)
        return path

    return write


def test_a_case_without_a_change_can_be_read(changed: Any) -> None:
    assert_equal(read(changed(HYBRID, lambda d: None))[0], read(CASES / f"{HYBRID}.nemo")[0])


@pytest.mark.parametrize(
    ("greedy", "kept"),
    [
        ({"max_symbols": 1}, 1),
        ({"max_symbols_per_step": 2}, 2),
        ({"max_symbols": 5, "max_symbols_per_step": 2}, 5),
        ({"max_symbols": None}, 10),
        ({}, 10),
    ],
)
def test_the_labels_that_a_frame_may_have_are_kept(greedy: Document, kept: int, changed: Any, tmp_path: Path) -> None:
    path = changed(CHAR, lambda d: d["decoding"].update(greedy=greedy))
    model = sonant.load(path, device="cpu")
    assert model.decoder.config.max_symbols == kept
    assert write_nemo(model.blueprint, model)[0]["decoding"]["greedy"]["max_symbols"] == kept
    if kept == 1:
        once = model.transcribe(A, timestamps="char")[0].chars
        assert len({c.start for c in once}) == len(once)
        more = model.transcribe(A, search={"name": "transducer_greedy", "max_symbols": 10})[0]
        assert more.text == sonant.load(CASES / f"{CHAR}.nemo", device="cpu").transcribe(A)[0].text


def aggregated(d: Document, **one: Any) -> None:
    d["tokenizer"] = {"type": "agg", "langs": {"en": d["tokenizer"] | one}}


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        (BPE, lambda d: d["tokenizer"].update(type="wpe"), r"tokenizer is 'wpe'.*known: .*bpe"),
        (BPE, lambda d: d["tokenizer"].update(custom_tokenizer={"_target_": "a.B"}), r"tokenizer\.custom_tokenizer is"),
        (BPE, lambda d: d["tokenizer"].update(model_path="nemo:none.model"), r"'nemo:none\.model', which the archive does not"),
        (BPE, lambda d: d["tokenizer"].pop("model_path"), r"lacks tokenizer\.model_path"),
        (BPE, lambda d: d["tokenizer"].update(lowercase=True), r"does not know: tokenizer\.lowercase"),
        (BPE, lambda d: aggregated(d, type="wpe"), r"tokenizer\.langs\.en\.type is 'wpe'"),
        (BPE, lambda d: aggregated(d, custom_tokenizer="x"), r"tokenizer\.langs\.en\.custom_tokenizer is"),
        (BPE, lambda d: (aggregated(d), d["tokenizer"].update(custom_tokenizer="x")), r"tokenizer\.custom_tokenizer is"),
        (BPE, lambda d: (aggregated(d), d["tokenizer"].update(prompts=1)), r"does not know: tokenizer\.prompts"),
        (BPE, lambda d: d["decoder"].update(_target_="os.system"), r"decoder is 'os\.system'.*Nothing was imported or run"),
        (BPE, lambda d: d["decoder"].update(add_blank=False), r"decoder\.add_blank is False"),
        (BPE, lambda d: d["decoder"].update(temperature=2), r"does not know: decoder\.temperature"),
        (BPE, lambda d: d.update(bogus=1), "does not know: bogus"),
        (CHAR, lambda d: d["decoder"].update(_target_="x.StatelessDecoder"), r"decoder is 'x\.StatelessDecoder'"),
        (CHAR, lambda d: d["joint"].update(_target_="x.SampledRNNTJoint"), r"joint\._target_ is 'x\.SampledRNNTJoint'"),
        (
            CHAR,
            lambda d: (d["joint"].update(num_extra_outputs=2), d["decoding"].update(big_blank_durations=[2, 4])),
            r"multi-blank transducers \(big_blank_durations \[2, 4\]\) are not supported",
        ),
        (CHAR, lambda d: d["joint"].update(num_extra_outputs=2), r"joint\.num_extra_outputs is 2 and the durations are"),
        (CHAR, lambda d: d["decoder"].update(blank_as_pad=False), r"decoder\.blank_as_pad is False"),
        (CHAR, lambda d: d["decoder"].update(normalization_mode="layer"), r"decoder\.normalization_mode is 'layer'"),
        (STATELESS, lambda d: d["decoder"].update(normalization_mode="batch"), r"decoder\.normalization_mode: .*'batch'"),
        (STATELESS, lambda d: d["decoder"].update(context_size=0), "context_size 0 must be from 1 to half of pred_hidden"),
        (STATELESS, lambda d: d["decoder"].update(blank_as_pad=True), r"does not know: decoder\.blank_as_pad"),
        (HAT, lambda d: d["joint"].update(n_samples=3), r"does not know: joint\.n_samples"),
        (TDT, lambda d: d["joint"].update(_target_=f"{MODULES}HATJoint"), "joint: hat predicts no durations; it is for rnnt"),
        (PROMPTED, lambda d: d["model_defaults"].pop("prompt_dictionary"), "prompt_dictionary names no language"),
        (PROMPTED, lambda d: d["model_defaults"].update(num_prompts=3), "must be some, with numbers from 0 to num_prompts - 1"),
        (CHAR, lambda d: d["decoder"]["prednet"].update(rnn_hidden_size=9), r"decoder\.prednet\.rnn_hidden_size is 9"),
        (CHAR, lambda d: d["decoder"]["prednet"].pop("pred_hidden"), r"lacks decoder\.prednet\.pred_hidden"),
        (CHAR, lambda d: d["joint"]["jointnet"].update(activation="gelu"), "activation.*gelu"),
        (CHAR, lambda d: d["joint"]["jointnet"].update(bogus=1), r"does not know: joint\.jointnet\.bogus"),
        (CHAR, lambda d: d.update(joint=3), "joint in the NeMo config is 3"),
        (CHAR, lambda d: d.pop("encoder"), "lacks .*encoder"),
        (TDT, lambda d: d["joint"].update(num_extra_outputs=4), r"joint\.num_extra_outputs is 4"),
        (TDT, lambda d: (d["decoding"].pop("durations"), d["model_defaults"].clear()), r"joint\.num_extra_outputs is 5.*None"),
        (HYBRID, lambda d: d["aux_ctc"].update(bogus=1), r"does not know: aux_ctc\.bogus"),
        (HYBRID, lambda d: d["aux_ctc"]["decoder"].update(_target_="x.Y"), r"aux_ctc\.decoder is 'x\.Y'"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    name: str, change: Callable[[Document], Any], reason: str, changed: Any
) -> None:
    with pytest.raises(CheckpointError, match=reason):
        read(changed(name, change))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.update(target="nemo.EncDecMultiTalkerRNNTBPEModel"), "hears one of several speakers"),
        (lambda d: d.update(target="nemo.SpeechEncDecSelfSupervisedModel"), "was trained without text"),
        (lambda d: d["encoder"].update(_target_=f"{MODULES}RNNEncoder"), "recurrent encoders are not provided"),
        (lambda d: d["encoder"].update(_target_="nemo.SqueezeformerEncoder"), "NeMo 3.0 has no such class any more"),
        (lambda d: d["decoder"].update(_target_=f"{MODULES}LSTMDecoder"), "this one is recurrent"),
    ],
)
def test_what_is_left_out_is_refused_with_the_reason(change: Callable[[Document], Any], reason: str, changed: Any) -> None:
    with pytest.raises(CheckpointError, match=rf"stands for it: .*{reason}.*\. Nothing was imported or run"):
        read(changed(BPE, change))


def test_a_prompt_that_is_switched_off_is_left_out(changed: Any) -> None:
    """Its model is the one without, and has none of its weights."""
    path = changed(STATELESS, lambda d: d.update(target=read(CASES / f"{PROMPTED}.nemo")[1]["target"]))
    assert "prompt" not in read(path)[0].config.parts


def test_a_model_that_marks_ends_has_the_tokens_for_them(changed: Any) -> None:
    path = changed(STATELESS, lambda d: d.update(target=read(CASES / f"{ENDING}.nemo")[1]["target"]))
    with pytest.raises(CheckpointError, match=r"end_of_utterance: the tokenizer has no token <EOU> and no <EOB>"):
        sonant.load(path, device="cpu")


@pytest.mark.parametrize(
    ("name", "sections", "reason"),
    [
        (PROMPTED, {"task": {"end_of_utterance": ["<unk>"]}}, "no model with a language prompt and ends of utterances"),
        (STATELESS, {"task": {"end_of_utterance": ["<unk>"]}}, r"end_of_utterance is \['<unk>'\]; NeMo's models have"),
        (CHAR, {"prompt": {"name": "language_prompt", "languages": {"auto": 0}}}, "no model with a language prompt of this kind"),
        (BPE, {"task": {"end_of_utterance": ["<unk>"]}}, "no model with ends of utterances of this kind"),
    ],
)
def test_variants_that_nemo_does_not_have(name: str, sections: dict[str, Any], reason: str, tmp_path: Path) -> None:
    config = read(CASES / f"{name}.nemo")[0]
    for file, content in members(config).items():
        (tmp_path / file).write_bytes(content)
    values = config.config.to_dict()
    values["task"] = {**values["task"], **sections.pop("task", {})}
    for section in values.values():
        if isinstance(section, dict) and "file" in section:
            section["file"] = str(tmp_path / section["file"])
    with pytest.raises(CheckpointError, match=reason):
        sonant.save(sonant.build(values | sections), tmp_path / "model.nemo")


def test_durations_from_the_model_defaults(changed: Any) -> None:
    """Where the decoding says nothing, as in files of older versions."""
    found, _ = read(changed(TDT, lambda d: d["decoding"].pop("durations")))
    assert_equal(found, read(CASES / f"{TDT}.nemo")[0])


def test_the_separators_of_the_decoding(changed: Any) -> None:
    values = {"word_seperator": "|", "segment_seperators": ["。"], "segment_gap_threshold": 7}
    path = changed(HYBRID, lambda d: d["decoding"].update(values))
    task = read(path)[0].config.task.config
    assert (task.word_separator, list(task.segment_separators), task.segment_gap) == ("|", ["。"], 7)
    model = sonant.load(path, device="cpu")
    assert {key: write_nemo(model.blueprint, model)[0]["decoding"][key] for key in values} == values


def tokenizer_model(name: str) -> bytes:
    with NemoArchive(CASES / f"{name}.nemo") as archive:
        return archive.read(next(member for member in archive.sizes() if member.endswith("tokenizer.model")))


@pytest.mark.parametrize("base", [BPE, TDT, HYBRID])
@pytest.mark.parametrize(
    "files", [("en.model", "de.model"), ("en/tokenizer.model", "de/tokenizer.model")], ids=["two names", "one name"]
)
def test_an_aggregate_tokenizer_goes_to_nemo_and_back(base: str, files: tuple[str, str], tmp_path: Path) -> None:
    for file, name in zip(files, (TDT, "conformer_ctc_bpe"), strict=True):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(tokenizer_model(name))
    config = read(CASES / f"{base}.nemo")[0].config.to_dict()
    en, de = ({"name": "sentencepiece", "file": str(tmp_path / file)} for file in files)
    torch.manual_seed(0)
    model: Any = sonant.build(config | {"tokenizer": {"name": "aggregate", "langs": {"en": en, "de": de}}}).eval()
    again = sonant.load(sonant.save(model, tmp_path / "model.nemo"), device="cpu", dtype="stored")

    assert again.tokenizer.languages == ("en", "de")
    assert again.tokenizer.vocab_size == model.tokenizer.vocab_size
    ids = range(model.tokenizer.vocab_size)
    assert again.tokenizer.pieces(ids) == model.tokenizer.pieces(ids)
    for lang in ("en", "de"):
        assert again.tokenizer.encode("side right", lang) == model.tokenizer.encode("side right", lang)
    ours, theirs = again.state_dict(), model.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in theirs)
    transcripts = again.transcribe([A, B], timestamps="char")
    assert transcripts == model.transcribe([A, B], timestamps="char")
    assert any(t.tokens for t in transcripts)
    found, document = read(tmp_path / "model.nemo")
    assert document["tokenizer"]["type"] == "agg" and list(document["tokenizer"]["langs"]) == ["en", "de"]
    assert_equal(read(sonant.save(again, tmp_path / "again.nemo"))[0], found)


def test_an_aggregate_of_characters_has_no_counterpart(tmp_path: Path) -> None:
    config = read(CASES / f"{CHAR}.nemo")[0].config.to_dict()
    langs = {"en": {"name": "char", "labels": [" ", "a"]}, "de": {"name": "char", "labels": ["ä"]}}
    model = sonant.build(config | {"tokenizer": {"name": "aggregate", "langs": langs}})
    with pytest.raises(CheckpointError, match=r"tokenizer\.langs\.en.*sentencepiece"):
        sonant.save(model, tmp_path / "model.nemo")
    assert not (tmp_path / "model.nemo").exists()


def test_files_are_stored_under_the_names_nemo_gives_them(tmp_path: Path) -> None:
    model = sonant.load(CASES / f"{BPE}.nemo", device="cpu", dtype="stored")
    content = tokenizer_model(BPE)
    with NemoArchive(sonant.save(model, tmp_path / "model.nemo")) as archive:
        section = archive.config()["tokenizer"]
        assert section["model_path"] == f"nemo:{artifact_name(content, 'tokenizer.model')}"
        assert archive.read(section["model_path"].removeprefix("nemo:")) == content
        vocabulary = archive.read(section["vocab_path"].removeprefix("nemo:")).decode("utf-8")
        assert vocabulary.splitlines() == model.tokenizer.pieces(range(model.tokenizer.vocab_size))
