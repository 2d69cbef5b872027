"""Sonant's numbers against NeMo's, for the checkpoints in `nemo-cases/` that NeMo 3.0.0 wrote and ran (float32, CPU, no dither).

The input is the batch of `a.wav` and `b.wav`, the shorter padded with zeros, except where said. NeMo's `mel` and `enc` are
channel first, `(B, F, T)` and `(B, D, T)`; only valid frames are compared. `NAME.npz` holds

    mel, mel_len; enc, enc_len      features and encoder output, the latter told `auto` where a model is told a language
    prompted_enc_LANG               the same, told LANG
    logprobs, ctc_logprobs          of the CTC head (of a hybrid's, its second), log-softmax, blank last
    targets, pred                   some labels `(B, U)` and the prediction network's output for them, `(B, P, U + 1)`
    joint                           the joint network for the first four encoder frames, `(B, 4, U + 1, V + 1 + durations)`,
                                    log-softmax over the whole last axis, as NeMo takes it on a CPU
    offline_enc_K                   `a.wav` alone, the attention context K = LEFTxRIGHT (or the default) over the whole recording
    stream_enc_K                    the same in NeMo's streaming steps

and `NAME.json`

    audio                           the recordings
    tokens, ctc_tokens              CTC: the best id of every frame; transducers: the labels found
    text, score; ctc_text           from the batch; with the tokens that mark ends of utterances, which we keep out
    langs                           tokens, text and score of the batch, told each of these languages
    transcribe_text, timestamp      from NeMo's `transcribe(timestamps=True)` on the files one by one
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from nemo_cases import CASES, LARGEST_ERROR, arrays, meta, model
from sonant import lengths
from sonant_asr.recognizer.searching import choose

NAMES = sorted(path.stem for path in CASES.glob("*.nemo"))


def waveforms(name: str) -> tuple[Tensor, Tensor]:
    return lengths.pad([torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in paths(name)])


def paths(name: str) -> list[Path]:
    return [CASES / file for file in meta(name)["audio"]]


@cache
@torch.inference_mode()
def encoded(name: str) -> tuple[Tensor, Tensor]:
    recognizer = model(name)
    enc, lens = recognizer.encode(*waveforms(name))
    return (enc, lens) if recognizer.prompt is None else recognizer.prompt(enc, lens)


def spoken(text: str) -> str:
    """Without what marks ends of utterances."""
    return text.replace("<EOU>", "").replace("<EOB>", "")


def having(*keys: str) -> list[str]:
    """The cases that come with all of these arrays or entries."""
    return [name for name in NAMES if all(key in arrays(name) or key in meta(name) for key in keys)]


def by_ctc(key: str) -> list[str]:
    """Of these, the cases that are CTC's; attention encoder-decoder models are in `test_aed_fidelity.py`."""
    return [name for name in having(key) if not name.endswith("_aed")]


def error(ours: Tensor, theirs: Tensor, lens: Tensor | None = None) -> float:
    """Norm of the difference over norm of the reference, over the valid frames of axis 1."""
    if lens is not None:
        ours = torch.cat([x[:n] for x, n in zip(ours, lens.tolist(), strict=True)])
        theirs = torch.cat([x[:n] for x, n in zip(theirs, lens.tolist(), strict=True)])
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def test_the_cases_are_of_every_kind() -> None:
    assert len(NAMES) == 28
    assert len(having("logprobs")) == 10 and len(having("joint")) == 16 and len(having("ctc_logprobs", "joint")) == 4
    assert len(having("timestamp")) == 20 and len([n for n in NAMES if "streaming" in n]) == 2
    assert len(having("langs")) == 2 and len([n for n in NAMES if "eou" in n]) == 2


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_features(name: str) -> None:
    expected = arrays(name)
    feats, lens = model(name).preprocessor(*waveforms(name))
    assert lens.tolist() == expected["mel_len"].tolist()
    assert error(feats, expected["mel"].transpose(1, 2), lens) < LARGEST_ERROR


@pytest.mark.parametrize("name", NAMES)
def test_encoder(name: str) -> None:
    expected = arrays(name)
    enc, lens = encoded(name)
    assert lens.tolist() == expected["enc_len"].tolist()
    assert error(enc, expected["enc"].transpose(1, 2), lens) < LARGEST_ERROR


@pytest.mark.parametrize("name", by_ctc("logprobs") + by_ctc("ctc_logprobs"))
@torch.inference_mode()
def test_ctc_log_probabilities(name: str) -> None:
    expected = arrays(name)
    enc, lens = encoded(name)
    ours = model(name).decoders["ctc"](enc).log_softmax(-1)
    theirs = expected["logprobs"] if "logprobs" in expected else expected["ctc_logprobs"]
    assert error(ours, theirs, lens) < LARGEST_ERROR


@pytest.mark.parametrize("name", having("pred"))
@torch.inference_mode()
def test_prediction_network(name: str) -> None:
    expected = arrays(name)
    ours = model(name).decoder.prediction(expected["targets"])
    assert error(ours, expected["pred"].transpose(1, 2)) < LARGEST_ERROR


@pytest.mark.parametrize("name", having("joint"))
@torch.inference_mode()
def test_joint_network(name: str) -> None:
    expected = arrays(name)
    ours = model(name).decoder(encoded(name)[0][:, :4], expected["targets"]).log_softmax(-1)
    assert error(ours, expected["joint"]) < LARGEST_ERROR


@pytest.mark.parametrize(
    ("name", "key"), [(n, k) for n in NAMES for k in arrays(n) if k.startswith(("offline_enc_", "stream_enc_"))]
)
@torch.inference_mode()
def test_attention_contexts(name: str, key: str) -> None:
    """Cache-aware streaming gives what the whole recording gives: one reference serves both."""
    wav, lens = (x[:1] for x in waveforms(name))
    choice = key.rpartition("_")[2]
    context = None if choice == "default" else [int(size) for size in choice.split("x")]
    ours, _ = model(name).encoder(*model(name).preprocessor(wav, lens), att_context_size=context)
    assert error(ours, arrays(name)[key].transpose(1, 2)) < LARGEST_ERROR


@pytest.mark.parametrize(("name", "key"), [(n, k) for n in NAMES for k in arrays(n) if k.startswith("stream_enc_")])
@torch.inference_mode()
def test_streaming_steps(name: str, key: str) -> None:
    """From samples on, half a second at a time: in pieces of another size than NeMo's, which gives the same."""
    recognizer, choice = model(name), key.rpartition("_")[2]
    context = None if choice == "default" else [int(size) for size in choice.split("x")]
    preprocessor, encoder = recognizer.preprocessor, recognizer.encoder
    head = recognizer.decoder
    search = choose(head, recognizer.tokenizer, None)
    before, states, streams = [preprocessor.init_state()], [encoder.init_state()], [search.init_state(head)]
    pieces, tokens = [], []
    wav, lens = waveforms(name)
    parts = wav[:1, : lens[0]].split(8000, dim=1)
    for n, part in enumerate(parts, 1):
        last = [n == len(parts)]
        feats, sizes, before = preprocessor.step(part, torch.tensor([part.shape[1]]), before, last=last)
        enc, sizes, states = encoder.step(feats, sizes, states, last=last, att_context_size=context)
        (found,), streams = search.step(head, enc, sizes, streams)
        pieces.append(enc)
        tokens += found.tokens if head.family != "ctc" else head(enc)[0].argmax(-1).tolist()
    assert error(torch.cat(pieces, dim=1), arrays(name)[key].transpose(1, 2)) < LARGEST_ERROR
    assert tokens == meta(name)[f"stream_{choice}"]["tokens"]


STREAMED = [(n, k) for n in NAMES for k in meta(n) if k.startswith("stream_")]


def test_streaming_was_recorded() -> None:
    assert [k for _, k in STREAMED] == ["stream_default", "stream_70x13", "stream_70x1"]


@pytest.mark.parametrize("piece", [1, 160, 5000, 10**6])
@pytest.mark.parametrize(("name", "key"), STREAMED)
def test_sessions_find_the_words_of_streaming_steps(name: str, key: str, piece: int) -> None:
    """In pieces from one sample to all at once."""
    choice = key.rpartition("_")[2]
    session = model(name).stream(att_context_size=None if choice == "default" else [int(size) for size in choice.split("x")])
    wav, lens = waveforms(name)
    events = [event for part in wav[0, : lens[0]].split(piece) for event in session.push(part)] + session.finish()
    assert "".join(event.text for event in events) == meta(name)[key]["text"]
    assert [word.text for event in events for word in event.words] == meta(name)[key]["text"].split()
    assert events[-1].ended and events[-1].partial == ""


@pytest.mark.parametrize("name", by_ctc("logprobs"))
@torch.inference_mode()
def test_best_labels_of_every_frame(name: str) -> None:
    enc, lens = encoded(name)
    best = model(name).decoder(enc).argmax(-1)
    assert [row[:n].tolist() for row, n in zip(best, lens, strict=True)] == meta(name)["tokens"]


@pytest.mark.parametrize("name", having("ctc_tokens"))
@torch.inference_mode()
def test_best_labels_of_every_frame_by_the_second_head(name: str) -> None:
    enc, lens = encoded(name)
    best = model(name).decoders["ctc"](enc).argmax(-1)
    assert [row[:n].tolist() for row, n in zip(best, lens, strict=True)] == meta(name)["ctc_tokens"]


@pytest.mark.parametrize("name", having("text"))
def test_text_of_the_batch(name: str) -> None:
    found = model(name).transcribe(paths(name), batch_size=2)
    assert [t.text for t in found] == [spoken(text) for text in meta(name)["text"]]
    if "joint" in arrays(name):
        assert [list(t.tokens) for t in found] == meta(name)["tokens"]


@pytest.mark.parametrize("name", [n for n in having("score") if "tdt" not in n])
def test_scores(name: str) -> None:
    """Of the best path for CTC, of the labels for RNN-T. NeMo's of a TDT mixes labels and durations: not compared.

    A sum over hundreds of frames that are nearly certain holds little but rounding: hence the absolute tolerance.
    """
    found = model(name).transcribe(paths(name), batch_size=2)
    assert [t.score for t in found] == pytest.approx(meta(name)["score"], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", having("transcribe_text"))
def test_text_and_times_one_by_one(name: str) -> None:
    found = [model(name).transcribe(path, timestamps="char")[0] for path in paths(name)]
    assert [t.text for t in found] == meta(name)["transcribe_text"]
    for ours, theirs in zip(found, meta(name)["timestamp"], strict=True):
        for level in ("char", "word", "segment"):
            spans, expected = getattr(ours, f"{level}s"), theirs[level]
            assert [s.text for s in spans] == [e[level][0] if isinstance(e[level], list) else e[level] for e in expected]
            assert [(s.start, s.end) for s in spans] == [pytest.approx((e["start"], e["end"]), abs=1e-9) for e in expected]


@pytest.mark.parametrize("name", having("ctc_text"))
def test_text_by_the_second_head(name: str) -> None:
    assert [t.text for t in model(name).transcribe(paths(name), decoder="ctc")] == [
        spoken(text) for text in meta(name)["ctc_text"]
    ]


def test_text_of_the_streaming_case() -> None:
    """Over the whole recording, as NeMo found it in streaming steps."""
    name = "fastconformer_streaming_ctc_bpe"
    expected = meta(name)["stream_default"]
    best = model(name).decoder(encoded(name)[0][:1]).argmax(-1)[0]
    assert best.tolist() == expected["tokens"]
    assert model(name).transcribe(CASES / "a.wav")[0].text == expected["text"]


@pytest.mark.parametrize("name", having("langs"))
@pytest.mark.parametrize("lang", ["auto", "de-DE"])
@torch.inference_mode()
def test_what_a_model_writes_that_is_told_a_language(name: str, lang: str) -> None:
    recognizer, expected = model(name), meta(name)["langs"][lang]
    enc, lens = recognizer.encode(*waveforms(name))
    told, lens = recognizer.prompt(enc, lens, [lang, lang])
    assert error(told, arrays(name)[f"prompted_enc_{lang}"].transpose(1, 2), lens) < LARGEST_ERROR
    found = recognizer.transcribe(paths(name), target_lang=lang)
    assert [t.text for t in found] == expected["text"]
    assert [list(t.tokens) for t in found] == expected["tokens"]
    assert [t.score for t in found] == pytest.approx(expected["score"], rel=1e-4, abs=1e-5)


ENDING = [("eou_rnnt_bpe", None), ("eou_hybrid_bpe", None), ("eou_hybrid_bpe", "ctc")]


@pytest.mark.parametrize(("name", "decoder"), ENDING)
def test_ends_of_utterances_part_the_text(name: str, decoder: str | None) -> None:
    """What NeMo writes in the text stands beside it here, each with its time, and the segments end there."""
    found = model(name).transcribe(paths(name), decoder=decoder, timestamps="segment")
    for ours, theirs in zip(found, meta(name)["text"], strict=True):
        assert [mark.text for mark in ours.marks] == re.findall("<EO[UB]>", theirs)
        assert [segment.text for segment in ours.segments] == [text.strip() for text in re.split("<EO[UB]>", theirs) if text]
        starts, ends = [s.start for s in ours.segments], [m.start for m in ours.marks]
        assert starts[0] < ends[0] and all(end < start for end, start in zip(ends, starts[1:], strict=False))


def pieces(name: str, which: int) -> tuple[Tensor, ...]:
    wav, lens = waveforms(name)
    return wav[which, : lens[which]].split(3000)


def test_what_streams_is_told_a_language() -> None:
    """Each stream its own, in one batch, with the words of the whole recording."""
    name = "prompt_rnnt_bpe"
    pool = model(name).streams()
    langs = {pool.open(): "auto", pool.open(target_lang="de-DE"): "de-DE"}
    heard = dict.fromkeys(langs, "")
    for piece in pieces(name, 0):
        for session, events in pool.push(dict.fromkeys(langs, piece)).items():
            heard[session] += "".join(event.text for event in events)
    for session, events in pool.finish(langs).items():
        assert heard[session] + "".join(event.text for event in events) == meta(name)["langs"][langs[session]]["text"][0]


def test_ends_of_utterances_in_a_stream() -> None:
    """As soon as they are heard, with the time that they have in the whole recording."""
    name = "eou_rnnt_bpe"
    for which, path in enumerate(paths(name)):
        session = model(name).stream()
        events = [event for piece in pieces(name, which) for event in session.push(piece)] + session.finish()
        whole = model(name).transcribe(path)[0]
        assert "".join(event.text for event in events) == whole.text == spoken(meta(name)["text"][which])
        assert [mark for event in events for mark in event.marks] == list(whole.marks)
        assert all(event.pause for event in events if event.marks)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith(("stateless", "hat"))])
def test_beam_search_reads_all_networks(name: str) -> None:
    found = model(name).transcribe(paths(name), search="transducer_beam", batch_size=2)
    assert [t.text for t in found] == meta(name)["text"] == ["front center rear left", "side right"]
