"""Sessions: what is said piece by piece is what is said of the whole, for every head, context and piece size, in any company."""

from __future__ import annotations

import json
import random
import re
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch

import sonant
from sonant.errors import AudioError, ConfigError
from sonant.protocols import Hypothesis
from sonant.results import Span
from sonant_asr.recognizer.text import transcript
from sonant_asr.streaming.engine import Stream
from sonant_asr.streaming.events import Event
from sonant_asr.streaming.pool import Pool, Session

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
CTC, RNNT = "fastconformer_streaming_ctc_bpe", "fastconformer_streaming_rnnt_bpe"
NEMO = json.loads((Path(__file__).parent / "data" / "streaming.json").read_text("utf-8"))
RATE = 16000
CONTEXTS = [[8, 3], [8, 1], [8, 0]]
Samples = npt.NDArray[np.float32]


@cache
def loaded(name: str) -> Any:
    return sonant.load(CASES / f"{name}.nemo", device="cpu", dtype="float32")


@cache
def hybrid() -> Any:
    """Random weights and a small vocabulary, so that it says much, and other things at every position."""
    config = {
        "task": "asr",
        "preprocessor": {"name": "log_mel", "features": 16, "normalize": "none"},
        "tokenizer": {"name": "char", "labels": [" ", "a", "b", "."]},
        "encoder": {
            "name": "fastconformer",
            "n_layers": 2,
            "d_model": 16,
            "n_heads": 2,
            "subsampling_conv_channels": 4,
            "causal_downsampling": True,
            "conv_context_size": "causal",
            "conv_norm_type": "layer_norm",
            "att_context_style": "chunked_limited",
            "att_context_size": CONTEXTS,
        },
        "decoder": {"name": "tdt", "pred_hidden": 8, "joint_hidden": 8, "durations": [0, 1, 2, 3, 4]},
        "aux_decoder": {"name": "ctc"},
    }
    torch.manual_seed(3)
    model = sonant.build(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "decoder" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


@cache
def speech() -> Samples:
    return np.concatenate([soundfile.read(CASES / f"{name}.wav", dtype="float32")[0] for name in "ab"])


def whole(
    model: Any, wav: Samples, context: list[int] | None, decoder: str | None, listening: dict[str, Any] | None = None
) -> tuple[str, list[Span]]:
    """The text and the words of one pass with the same context."""
    head = model.decoders[decoder] if decoder else model.decoder
    with torch.inference_mode():
        feats, lens = model.preprocessor(torch.from_numpy(wav)[None], torch.tensor([len(wav)]))
        enc, lens = model.encoder(feats, lens, att_context_size=context)
        (found,) = model.search_for(head, None, listening)(head, enc, lens)
    result = transcript(found, model.tokenizer, head.family, model.frame_seconds, "word", model.config)
    return result.text, list(result.words)


def said(events: list[Event]) -> tuple[str, list[Span]]:
    return "".join(event.text for event in events), [word for event in events for word in event.words]


def stream(session: Session, wav: Samples, sizes: list[int]) -> list[Event]:
    events, at = [], 0
    for size in sizes:
        events += session.push(wav[at : at + size])
        at += size
    return events + session.push(wav[at:]) + session.finish()


def assert_same(found: tuple[str, list[Span]], wanted: tuple[str, list[Span]]) -> None:
    assert found[0] == wanted[0]
    assert [word.text for word in found[1]] == [word.text for word in wanted[1]]
    for ours, theirs in zip(found[1], wanted[1], strict=True):
        assert (ours.start, ours.end) == pytest.approx((theirs.start, theirs.end), abs=1e-9)


@pytest.mark.parametrize("decoder", ["tdt", "ctc"])
@pytest.mark.parametrize("context", [None, *CONTEXTS], ids=str)
def test_pieces_of_any_size_give_what_one_pass_gives(context: list[int] | None, decoder: str) -> None:
    model, wav, generator = hybrid(), speech(), random.Random(0)
    wanted = whole(model, wav, context, decoder)
    assert len(wanted[1]) > 3
    for longest in (700, 9000, 40000, 10**6):
        sizes = [generator.randint(0, longest) for _ in range(2 * len(wav) // longest)]
        session = model.stream(att_context_size=context, decoder=decoder, silence=None)
        assert_same(said(stream(session, wav, sizes)), wanted)


@pytest.mark.parametrize("row", NEMO["rows"], ids=lambda row: f"{row['model']}-{row['context']}-{row['audio']}")
def test_words_and_times_of_nemos_streaming_steps(row: dict[str, Any]) -> None:
    """NeMo's frames are where tokens of a transducer were found, each a frame long; the rest is as in one pass."""
    wav = speech()[0 if "a" in row["audio"] else 47051 :][: row["samples"]]
    model = loaded(row["model"])
    events = stream(model.stream(att_context_size=row["context"], silence=None), wav, [4000] * (len(wav) // 4000))
    marks = [mark for event in events for mark in event.marks]
    assert said(events)[0].split() == re.sub("<EO[UB]>", " ", row["text"]).split()
    assert [mark.text for mark in marks] == re.findall("<EO[UB]>", row["text"])
    if "frames" in row:
        ends = tuple(frame + 1 for frame in row["frames"])
        found = Hypothesis(tokens=tuple(row["tokens"]), starts=tuple(row["frames"]), ends=ends)
        wanted = transcript(found, model.tokenizer, "rnnt", 0.08, "word", model.config)
        assert_same(said(events), (wanted.text, list(wanted.words)))
        assert marks == list(wanted.marks)


@pytest.mark.parametrize("name", [CTC, RNNT])
def test_a_models_own_words(name: str) -> None:
    wav = speech()[:47051]
    wanted = loaded(name).transcribe(wav, timestamps=True)[0]
    for size in (1600, 20000):
        events = stream(loaded(name).stream(silence=None), wav, [size] * (len(wav) // size))
        assert_same(said(events), (wanted.text, list(wanted.words)))
        assert [event.seconds for event in events] == sorted(event.seconds for event in events)
        assert events[-1].seconds == pytest.approx(wanted.duration)


@pytest.mark.parametrize("decoder", ["tdt", "ctc"])
def test_phrases_are_listened_for(decoder: str) -> None:
    model, wav = hybrid(), speech()
    listening = {"boost": ["abba", "baa"], "boost_weight": 3.0}
    wanted = whole(model, wav, None, decoder, listening)
    assert wanted[0] != whole(model, wav, None, decoder)[0]
    session = model.stream(decoder=decoder, silence=None, **listening)
    assert_same(said(stream(session, wav, [5000] * 13)), wanted)


def test_what_is_pushed_at_once_is_heard_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that memory does not grow with it."""
    model, wav, lengths = hybrid(), np.tile(speech(), 11), []
    wanted = whole(model, wav, None, None)
    step = model.encoder.step

    def counted(feats: Any, *arguments: Any, **options: Any) -> Any:
        lengths.append(feats.shape[1])
        return step(feats, *arguments, **options)

    monkeypatch.setattr(model.encoder, "step", counted)
    session = model.stream(silence=None)
    assert_same(said(session.push(wav) + session.finish()), wanted)
    assert len(wav) / RATE > 45 and max(lengths) <= 2000 and sum(lengths) == len(wav) // 160


def test_ends_of_utterances_are_told() -> None:
    model, wav = loaded("eou_rnnt_bpe"), speech()
    with torch.inference_mode():
        enc, lens = model.encode(torch.from_numpy(wav)[None], torch.tensor([len(wav)]))
        (found,) = model.search_for(model.decoder, None)(model.decoder, enc, lens)
    wanted = transcript(found, model.tokenizer, "rnnt", model.frame_seconds, "word", model.config)
    events = stream(model.stream(silence=None), wav, [3000] * 20)
    assert_same(said(events), (wanted.text, list(wanted.words)))
    assert [mark for event in events for mark in event.marks] == list(wanted.marks) != []
    assert all(event.pause for event in events if event.marks)
    assert {mark.text for mark in wanted.marks} <= {"<EOU>", "<EOB>"} and wanted.words


def test_streams_of_a_pool_may_be_in_different_languages() -> None:
    model, wav = loaded("prompt_rnnt_bpe"), speech()
    with torch.inference_mode():
        enc, lens = model.encode(torch.from_numpy(wav)[None], torch.tensor([len(wav)]))
        wanted = []
        for lang in ("en-US", "de-DE"):
            (found,) = model.search_for(model.decoder, None)(model.decoder, *model.prompt(enc, lens, [lang]))
            wanted.append(transcript(found, model.tokenizer, "rnnt", model.frame_seconds, None, model.config).text)
    pool = model.streams(silence=None)
    sessions = [pool.open(target_lang="en-US"), pool.open(target_lang="de-DE")]
    events: list[list[Event]] = [[], []]
    for first in range(0, len(wav), 8000):
        heard = pool.push(dict.fromkeys(sessions, wav[first : first + 8000]))
        events = [before + heard[session] for before, session in zip(events, sessions, strict=True)]
    events = [before + session.finish() for before, session in zip(events, sessions, strict=True)]
    assert [said(one)[0] for one in events] == wanted and wanted[0] != wanted[1]
    alone = [said(stream(model.stream(silence=None, target_lang=lang), wav, [8000]))[0] for lang in ("en-US", "de-DE")]
    assert alone == wanted


def test_one_sample_after_another() -> None:
    model, wav = hybrid(), speech()[:9000]
    assert_same(said(stream(model.stream(silence=None), wav, [1] * 9000)), whole(model, wav, None, None))


@pytest.mark.parametrize("count", [1, 200, 1500])
def test_streams_of_hardly_anything(count: int) -> None:
    model, wav = hybrid(), speech()[4000 : 4000 + count]
    assert_same(said(stream(model.stream(), wav, [])), whole(model, wav, None, None))


@pytest.mark.parametrize("name", [CTC, RNNT])
def test_where_nothing_was_heard_nothing_is_said(name: str) -> None:
    pool = loaded(name).streams()
    silent, other = pool.open(), pool.open()
    pool.push({silent: speech()[:0], other: speech()[:1500]})
    events = pool.finish([silent, other])
    assert [(e.text, e.words, e.partial, e.seconds, e.ended) for e in events[silent]] == [("", (), "", 0.0, True)]


def test_a_buffer_may_be_filled_anew_behind_a_push() -> None:
    """As those of sound cards are: what waits for a step is a copy."""
    model, wav, buffer = loaded(CTC), speech(), np.empty(500, np.float32)
    session, events = model.stream(silence=None), []
    for start in range(0, 30000, 500):
        buffer[:] = wav[start : start + 500]
        events += session.push(buffer)
    assert_same(said([*events, *session.finish()]), whole(model, wav[:30000], None, None))


def test_what_is_pushed_at_once_is_not_copied_at_every_step() -> None:
    """Or the work would grow with the square of it: an hour takes 180 steps. What is left in the end holds nothing else alive."""
    samples, pieces = np.arange(1000, dtype=np.float32), []
    stream = Stream(None, 1, None, None)  # type: ignore[arg-type]
    stream.take(samples)
    while stream.count > 50:
        pieces.append(stream.piece(100))
        stream.advance(90, None, 1)  # type: ignore[arg-type]
    assert [piece[0] for piece in pieces] == list(range(0, 990, 90)) and stream.heard == 990
    assert pieces[0].base is not None and all(piece.base is pieces[0].base for piece in pieces[:9])
    rest = stream.piece(100)
    assert rest.tolist() == list(range(990, 1000)) and rest.base is not None and rest.base.size == 10


def test_events_come_once_their_frames_are_final() -> None:
    """A step of context [70, 13] takes 14 frames of 80 ms, and the window behind the last of them."""
    session, wav = loaded(CTC).stream(), speech()
    assert session.pool.latency == pytest.approx(1.12)
    came = [n + 160 for n in range(0, 47051, 160) for _ in session.push(wav[n : n + 160])]
    assert came == [16960, 34880]
    assert [loaded(RNNT).streams(att_context_size=[70, n]).latency for n in (6, 1, 0)] == pytest.approx([0.56, 0.16, 0.08])


def test_streams_come_and_go() -> None:
    """Each says what it says alone: begun and ended at any time, pushed together with whoever has something."""
    model, generator = hybrid(), random.Random(5)
    wavs = [speech()[start : start + size] for start, size in ((0, 60000), (9000, 21000), (30000, 800), (500, 33000), (7, 15001))]
    wanted = [whole(model, wav, None, None) for wav in wavs]
    pool: Pool = model.streams(silence=None)
    live: dict[int, tuple[Session, int]] = {}
    events: list[list[Event]] = [[] for _ in wavs]
    waiting = list(range(len(wavs)))
    while waiting or live:
        if waiting and (not live or generator.random() < 0.3):
            live[waiting.pop(0)] = (pool.open(), 0)
        chosen = {n: live[n] for n in sorted(live) if generator.random() < 0.7}
        sizes = {n: generator.randint(0, 6000) for n in chosen}
        heard = pool.push({session: wavs[n][at : at + sizes[n]] for n, (session, at) in chosen.items()})
        for n, (session, at) in chosen.items():
            events[n] += heard[session]
            live[n] = (session, at + sizes[n])
        over = [n for n, (_, at) in live.items() if at >= len(wavs[n])]
        finished = pool.finish([live[n][0] for n in over])
        for n in over:
            events[n] += finished[live.pop(n)[0]]
    for found, one in zip(events, wanted, strict=True):
        assert_same(said(found), one)


def test_streams_that_are_ready_share_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batches = hybrid(), []
    step = model.encoder.step

    def counted(feats: Any, lens: Any, states: Any, **options: Any) -> Any:
        batches.append(len(states))
        return step(feats, lens, states, **options)

    pool = model.streams()
    monkeypatch.setattr(model.encoder, "step", counted)
    sessions = [pool.open() for _ in range(4)]
    pool.push({session: speech()[:n] for session, n in zip(sessions, (5000, 5000, 100, 6000), strict=True)})
    assert batches == [3]


def test_threads_can_share_a_model_and_a_pool() -> None:
    model, wav = hybrid(), speech()
    wavs = [wav[n * 3000 : n * 3000 + 20000] for n in range(6)]
    wanted = [whole(model, w, None, None) for w in wavs]
    pool, found = model.streams(silence=None), {}

    def work(n: int) -> None:
        session = pool.open() if n % 2 else model.stream(silence=None)
        found[n] = said(stream(session, wavs[n], [1600] * 10))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, one in enumerate(wanted):
        assert_same(found[n], one)


def test_samples_may_be_arrays_tensors_and_integers() -> None:
    model, wav = hybrid(), speech()[:20000]
    integers = (wav * 32768).round().clip(-32768, 32767).astype(np.int16)
    exact = (integers / 32768).astype(np.float32)
    wanted = whole(model, exact, None, None)
    for samples in (exact, exact.astype(np.float64), torch.from_numpy(exact), integers, torch.from_numpy(integers)):
        assert_same(said([*(session := model.stream(silence=None)).push(samples), *session.finish()]), wanted)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((100, 2), dtype=np.float32), r"shape \(100, 2\); it must be \(N,\), one channel at 16000 Hz"),
        (np.array([0.0, np.nan]), "1 of 2 samples are not finite"),
        ("talk.wav", r"shape \(\)"),
    ],
)
def test_what_are_no_samples_is_refused_and_nothing_is_heard(samples: Any, message: str) -> None:
    model, wav = hybrid(), speech()[:20000]
    pool = model.streams(silence=None)
    one, other = pool.open(), pool.open()
    events = one.push(wav[:10000])
    with pytest.raises(AudioError, match=message):
        pool.push({one: wav[:5000], other: samples})
    assert_same(said(events + one.push(wav[10000:]) + one.finish()), whole(model, wav, None, None))


def test_a_step_that_fails_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, wav = hybrid(), speech()[:20000]
    session = model.stream(silence=None)
    events = session.push(wav[:8000])
    with monkeypatch.context() as patch:
        patch.setattr(model.encoder, "step", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            session.push(wav[8000:])
    assert_same(said(events + session.finish()), whole(model, wav, None, None))


def test_a_stream_ends_once() -> None:
    session = hybrid().stream()
    assert [event.ended for event in session.finish()] == [True] and session.ended
    with pytest.raises(ValueError, match="this stream has ended; open another"):
        session.push(speech())
    with pytest.raises(ValueError, match="this stream has ended"):
        session.finish()
    with pytest.raises(ValueError, match="another pool's"):
        hybrid().streams().push({hybrid().stream(): speech()})


def test_a_model_in_training_streams_in_eval_mode() -> None:
    model, wav = hybrid(), speech()[:20000]
    wanted = whole(model, wav, None, None)
    model.train()
    try:
        assert_same(said(stream(model.stream(silence=None), wav, [9000])), wanted)
        assert model.training
    finally:
        model.eval()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fastconformer_ctc_bpe", {}, r"do not stream: .*normalize: per_feature.*this one can transcribe whole recordings"),
        ("quartznet_ctc_char", {}, "do not stream: "),
        (
            CTC,
            {"att_context_size": [70, 1]},
            r"att_context_size \[70, 1\] is not one this encoder was trained with: \[\[70, 13\]\]",
        ),
        (CTC, {"decoder": "rnnt"}, "decoder='rnnt': this model has ctc"),
        (CTC, {"search": "ctc_beam"}, "searches whole recordings only: streams need another, as 'ctc_greedy'"),
    ],
)
def test_what_does_not_stream_says_why(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded(name).stream(**options)


def test_only_prompted_models_are_asked() -> None:
    with pytest.raises(ConfigError, match="target_lang: this model cannot be asked for that"):
        hybrid().streams().open(target_lang="de")
    with pytest.raises(ConfigError, match="target_lang: this model cannot be asked for that"):
        hybrid().stream(target_lang="de", decoder="ctc")
    with pytest.raises(TypeError, match="no option 'tarlang'"):
        hybrid().streams().open(tarlang="de")
