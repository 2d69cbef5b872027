"""`transcribe`: what it takes, how it gives it back, and that nothing about the batch or the caller changes the text."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr
import torch

import sonant
from sonant.errors import AudioError, ConfigError, UnknownName
from sonant.results import Failure, Transcript
from sonant_asr.ctc.config import CtcConfig, CtcGreedyConfig
from sonant_asr.ctc.model import CtcHead
from sonant_asr.ctc.search import CtcGreedy
from sonant_asr.recognizer.model import Recognizer

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
A, B = CASES / "a.wav", CASES / "b.wav"
TEXTS = ["front center rear left", "side right"]
TDT, RNNT, CTC = "fastconformer_hybrid_tdt_ctc_bpe", "conformer_rnnt_char", "fastconformer_ctc_bpe"
HYBRIDS = [TDT, "fastconformer_hybrid_rnnt_ctc_char"]
each_model = pytest.mark.parametrize("name", [TDT, RNNT, CTC])

Samples = npt.NDArray[np.float32]


@cache
def model(name: str, dtype: str = "float32") -> Any:
    return sonant.load(CASES / f"{name}.nemo", device="cpu", dtype=dtype)


def samples(path: Path) -> Samples:
    return soundfile.read(path, dtype="float32")[0]


@cache
def recordings() -> tuple[Any, ...]:
    """The two recordings, and pieces of them of different lengths, as files and arrays."""
    a, b = samples(A), samples(B)
    resampled = np.stack([soxr.resample(a, 16000, 44100)] * 2, axis=1)
    return (A, b[:9000], (resampled, 44100), a[5000:30000], B, np.concatenate([b, a]), a[:4000])


def found(transcripts: list[Transcript]) -> list[tuple[Any, ...]]:
    return [(t.text, t.tokens, pytest.approx(t.score, rel=1e-3, abs=1e-3), t.duration) for t in transcripts]


@cache
def alone(name: str) -> list[tuple[Any, ...]]:
    """Every recording by itself."""
    return found([model(name).transcribe([recording], batch_size=1)[0] for recording in recordings()])


@each_model
@pytest.mark.parametrize(
    "options", [{"batch_size": n} for n in (1, 2, 3, 16)] + [{"batch_seconds": s} for s in (0.1, 3.0, 60.0)], ids=str
)
def test_the_batch_does_not_change_the_text(name: str, options: dict[str, Any]) -> None:
    assert found(model(name).transcribe(list(recordings()), **options)) == alone(name)


@each_model
@pytest.mark.parametrize("order", [[6, 5, 4, 3, 2, 1, 0], [3, 0, 6, 2, 5, 1, 4]], ids=str)
def test_results_come_in_the_order_of_the_recordings(name: str, order: list[int]) -> None:
    assert found(model(name).transcribe([recordings()[i] for i in order], batch_size=3)) == [alone(name)[i] for i in order]


def test_the_recordings_are_heard_as_different_things() -> None:
    """So that mixing them up would be seen."""
    assert len({expected[:2] for expected in alone(TDT)}) >= 4


@each_model
def test_padding_is_not_silence(name: str) -> None:
    """A recording that ends in zeros is another, longer one; zeros put behind it to fill a batch are not part of it."""
    a, b = samples(A), samples(B)
    silent = np.concatenate([b, np.zeros(len(a) - len(b), np.float32)])
    beside, longer = model(name).transcribe([b, a]), model(name).transcribe([silent, a])
    assert found(beside[:1]) == [alone(name)[4]]
    assert beside[0].duration == pytest.approx(len(b) / 16000) and longer[0].duration == pytest.approx(len(a) / 16000)
    assert longer[0].score != pytest.approx(beside[0].score, rel=1e-6)


def test_threads_share_a_model() -> None:
    """Each model, several calls at once in different batches: everyone gets their own."""
    jobs = [
        (name, options)
        for name in (TDT, RNNT, CTC)
        for options in ({"batch_size": 2}, {"batch_size": 5}, {"batch_seconds": 4.0}, {})
    ]
    expected = {name: alone(name) for name in (TDT, RNNT, CTC)}
    gathered: dict[int, list[Any]] = {}
    ready = threading.Barrier(len(jobs))

    def work(number: int, name: str, options: dict[str, Any]) -> None:
        order = np.random.default_rng(number).permutation(len(recordings())).tolist()
        ready.wait(timeout=60)
        result = found(model(name).transcribe([recordings()[i] for i in order], **options))
        gathered[number] = [result[order.index(i)] for i in range(len(order))]

    threads = [threading.Thread(target=work, args=(number, *job)) for number, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, (name, _) in enumerate(jobs):
        assert gathered[number] == expected[name]


def test_stream_gives_an_iterator_in_order() -> None:
    results = model(TDT).transcribe(list(recordings()), batch_size=2, stream=True)
    assert isinstance(results, Iterator)
    first = next(results)
    assert found([first, *results]) == alone(TDT)


def test_a_stream_begins_before_the_end_is_read(tmp_path: Path) -> None:
    """A file that fails in a later window does not keep the first results back."""
    many = [samples(B)] * 16 + [tmp_path / "none.wav"]
    results = model(CTC).transcribe(many, batch_size=1, stream=True)
    assert [next(results).text for _ in range(16)] == [TEXTS[1]] * 16
    with pytest.raises(AudioError, match=r"none\.wav"):
        next(results)


@pytest.mark.parametrize("name", HYBRIDS)
def test_the_second_head_of_a_hybrid(name: str) -> None:
    expected = json.loads((CASES / f"{name}.json").read_text("utf-8"))
    main, *_ = model(name).decoders
    assert [t.text for t in model(name).transcribe([A, B], decoder="ctc")] == expected["ctc_text"]
    assert found(model(name).transcribe([A, B], decoder=main)) == found(model(name).transcribe([A, B]))
    scores = {d: model(name).transcribe(A, decoder=d)[0].score for d in (main, "ctc")}
    assert scores[main] != scores["ctc"]


@pytest.mark.parametrize(
    ("name", "listed"), [(TDT, "tdt and ctc"), (HYBRIDS[1], "rnnt and ctc"), (RNNT, "has rnnt$"), (CTC, "has ctc$")]
)
def test_a_head_that_is_not_there(name: str, listed: str) -> None:
    with pytest.raises(ConfigError, match=f"decoder='bogus'.*{listed}"):
        model(name).transcribe(A, decoder="bogus")


def test_search_by_name_and_by_section() -> None:
    plain = found(model(RNNT).transcribe([A, B]))
    assert found(model(RNNT).transcribe([A, B], search="transducer_greedy")) == plain
    assert found(model(RNNT).transcribe([A, B], search={"name": "transducer_greedy", "max_symbols": 10})) == plain
    one = model(RNNT).transcribe(A, search={"name": "transducer_greedy", "max_symbols": 1}, timestamps="char")[0]
    starts = [span.start for span in one.chars]
    assert len(starts) == len(set(starts)) > 0  # at most one label a frame
    by_ctc = found(model(TDT).transcribe([A, B], decoder="ctc"))
    assert found(model(TDT).transcribe([A, B], decoder="ctc", search="ctc_greedy")) == by_ctc


def test_the_search_of_the_config_is_the_main_heads() -> None:
    """Where the config names one; the second head keeps its own, and a call can still choose."""
    one_label = {"name": "transducer_greedy", "max_symbols": 1}
    plain = model(HYBRIDS[1])
    recognizer: Any = sonant.build(plain.blueprint.config.to_dict() | {"search": one_label}).eval()
    recognizer.load_state_dict(plain.state_dict())
    expected = found(plain.transcribe([A, B], search=one_label))
    assert expected != found(plain.transcribe([A, B]))
    assert found(recognizer.transcribe([A, B])) == expected
    assert found(recognizer.transcribe([A, B], search="transducer_greedy")) == found(plain.transcribe([A, B]))
    assert found(recognizer.transcribe([A, B], decoder="ctc")) == found(plain.transcribe([A, B], decoder="ctc"))


@pytest.mark.parametrize(
    ("search", "error", "reason"),
    [
        ("transducer_gredy", UnknownName, "transducer_greedy"),
        ({"name": "transducer_greedy", "max_symbol": 1}, ConfigError, "max_symbols"),
        ({"name": "transducer_greedy", "max_symbols": 0}, ConfigError, "at least 1"),
    ],
)
def test_a_search_that_makes_no_sense(search: Any, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        model(RNNT).transcribe(A, search=search)


@each_model
@pytest.mark.parametrize(
    ("level", "spans"),
    [(None, ""), (False, ""), ("segment", "s"), ("word", "sw"), (True, "sw"), ("char", "swc")],
)
def test_timestamps_down_to_a_level(name: str, level: Any, spans: str) -> None:
    for transcript, text in zip(model(name).transcribe([A, B], timestamps=level), TEXTS, strict=True):
        assert transcript.text == text
        assert [bool(transcript.segments), bool(transcript.words), bool(transcript.chars)] == [key in spans for key in "swc"]
        if transcript.words:
            assert [w.text for w in transcript.words] == text.split()
            assert all(0 <= w.start <= w.end <= transcript.duration + model(name).frame_seconds for w in transcript.words)
            assert [w.start for w in transcript.words] == sorted(w.start for w in transcript.words)
        if transcript.chars:
            assert len(transcript.chars) == len(transcript.tokens)


@pytest.mark.parametrize("level", ["words", "", 1.5])
def test_a_level_that_is_not_there(level: Any) -> None:
    with pytest.raises(ConfigError, match="there are segment, word, char"):
        model(CTC).transcribe(A, timestamps=level)


def test_whatever_holds_a_recording(tmp_path: Path) -> None:
    a = samples(A)
    with A.open("rb") as stream:
        given = [A, str(A), stream, a, torch.from_numpy(a), (a, 16000), (soxr.resample(a, 16000, 48000), 48000), np.stack([a, a])]
        transcripts = model(TDT).transcribe(given)
    assert [t.text for t in transcripts] == [TEXTS[0]] * len(given)
    assert transcripts[0].source == str(A)
    for single in (A, str(A), a, torch.from_numpy(a), (a, 16000)):
        assert [t.text for t in model(TDT).transcribe(single)] == TEXTS[:1]
    with A.open("rb") as stream:
        assert [t.text for t in model(TDT).transcribe(stream)] == TEXTS[:1]


def test_a_folder_and_a_manifest(tmp_path: Path) -> None:
    for path in (A, B):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = tmp_path / "list.jsonl"
    rows = [
        {"audio_filepath": "b.wav", "duration": 1.0},
        {"audio_filepath": "a.wav", "offset": 0.0, "duration": len(samples(A)) / 16000},
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert [t.text for t in model(TDT).transcribe(tmp_path)] == TEXTS
    assert [t.text for t in model(TDT).transcribe(manifest)] == TEXTS[::-1]
    assert [t.text for t in model(TDT).transcribe([manifest, A])] == [*TEXTS[::-1], TEXTS[0]]


def test_one_channel_or_the_mean() -> None:
    both = np.zeros((len(samples(A)), 2), np.float32)
    both[:, 0] = samples(A)
    both[: len(samples(B)), 1] = samples(B)
    assert model(TDT).transcribe((both, 16000), channel=0)[0].text == TEXTS[0]
    assert model(TDT).transcribe((both[: len(samples(B))], 16000), channel=1)[0].text == TEXTS[1]
    with pytest.raises(AudioError, match="no channel 2"):
        model(TDT).transcribe((both, 16000), channel=2)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_failure_takes_the_place_of_its_recording(tmp_path: Path, batch_size: int) -> None:
    bad, missing = tmp_path / "bad.wav", tmp_path / "missing.wav"
    bad.write_bytes(A.read_bytes()[:5000])
    results = model(CTC).transcribe([missing, A, bad, np.full(9000, np.nan), B], on_error="return", batch_size=batch_size)
    assert [type(r) for r in results] == [Failure, Transcript, Failure, Failure, Transcript]
    assert [r.text for r in results if isinstance(r, Transcript)] == TEXTS
    assert [results[0].source, results[2].source] == [str(missing), str(bad)]
    with pytest.raises(AudioError, match=r"bad\.wav"):
        model(CTC).transcribe([A, bad], batch_size=batch_size)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_seconds": 0.0}, {"batch_seconds": -1.0}, {"workers": 0}])
def test_batches_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))}.* (at least 1|more than 0)"):
        model(CTC).transcribe(A, **options)


def test_recordings_from_a_generator() -> None:
    assert [t.text for t in model(CTC).transcribe(path for path in (B, A, B))] == [TEXTS[1], TEXTS[0], TEXTS[1]]


def test_no_recordings() -> None:
    assert model(CTC).transcribe([]) == []


@pytest.mark.parametrize("length", [1, 100, 1600])
@each_model
def test_recordings_too_short_for_a_word(name: str, length: int) -> None:
    """They are recordings all the same, and do not disturb the one beside them."""
    tiny, whole = model(name).transcribe([samples(A)[:length], A], timestamps="char")
    assert tiny.duration == pytest.approx(length / 16000) and len(tiny.chars) == len(tiny.tokens)
    assert found([whole]) == alone(name)[:1]


@each_model
def test_transcribing_leaves_the_model_as_it_was(name: str) -> None:
    recognizer = model(name)
    state = {key: tensor.clone() for key, tensor in recognizer.state_dict().items()}
    modules = [(path, module.training) for path, module in recognizer.named_modules()]
    config, attributes = recognizer.blueprint.config.to_dict(), sorted(vars(recognizer))
    recognizer.transcribe([A, B], timestamps="char", batch_size=1)
    if len(recognizer.decoders) > 1:
        recognizer.transcribe(A, decoder="ctc")
    after = recognizer.state_dict()
    assert list(after) == list(state) and all(torch.equal(after[key], state[key]) for key in state)
    assert [(path, module.training) for path, module in recognizer.named_modules()] == modules
    assert (recognizer.blueprint.config.to_dict(), sorted(vars(recognizer))) == (config, attributes)


@each_model
def test_no_gradients_are_kept(name: str) -> None:
    """A frozen model says the same, and in neither does anything remember how it was computed."""
    recognizer = sonant.load(CASES / f"{name}.nemo", device="cpu", dtype="float32")
    outputs: list[torch.Tensor] = []
    recognizer.encoder.register_forward_hook(lambda module, args, output: outputs.append(output[0]))
    plain = found(recognizer.transcribe([A, B]))
    assert any(p.requires_grad for p in recognizer.parameters()) and all(p.grad is None for p in recognizer.parameters())
    assert found(recognizer.requires_grad_(False).transcribe([A, B])) == plain
    assert outputs and not any(output.requires_grad for output in outputs)
    assert torch.is_grad_enabled()


@each_model
def test_bfloat16(name: str) -> None:
    recognizer = model(name, "bfloat16")
    assert next(recognizer.encoder.parameters()).dtype == torch.bfloat16
    for transcript, text in zip(recognizer.transcribe([A, B]), TEXTS, strict=True):
        assert transcript.score is not None and np.isfinite(transcript.score)
        assert transcript.text == text  # the models know these two by heart: rounding does not reach the text


def test_frames_of_the_encoder_are_so_long() -> None:
    assert (model(CTC).sample_rate, model(CTC).frame_seconds) == (16000, pytest.approx(0.08))
    assert model(RNNT).frame_seconds == pytest.approx(0.04)


class CifHead(CtcHead):
    """Somebody else's head, of a family that is not known here."""

    family = "cif"


class CifSearch(CtcGreedy):
    """And its search."""

    families = ("cif",)


def test_a_head_of_another_family() -> None:
    known = model(CTC)
    head = CifHead(CtcConfig(), d_in=known.decoder.d_in, vocab_size=known.decoder.vocab_size)
    head.load_state_dict(known.decoder.state_dict())
    parts = {key: getattr(known, key) for key in ("preprocessor", "tokenizer", "encoder")}
    own = Recognizer(known.config, **parts, decoder=head.eval(), search=CifSearch(CtcGreedyConfig()))
    assert list(own.decoders) == ["cif"]
    (transcript,) = own.transcribe(A, timestamps="word", decoder="cif")
    assert transcript == known.transcribe(A, timestamps="word")[0]  # nobody speaks punctuation marks here
    with pytest.raises(ConfigError, match="reads ctc heads, and this one is cif"):
        own.transcribe(A, search="ctc_greedy")
    unfit = Recognizer(known.config, **parts, decoder=head, search=CtcGreedy(CtcGreedyConfig()))
    with pytest.raises(ConfigError, match="search='CtcGreedy' reads ctc heads, and this one is cif"):
        unfit.transcribe(A)


def test_a_model_in_training_mode_is_asked_in_eval_mode() -> None:
    recognizer = sonant.load(CASES / f"{CTC}.nemo", device="cpu", dtype="float32").train()
    recognizer.encoder.layers[0].eval()  # as a part that is not to be trained
    modes = [module.training for module in recognizer.modules()]
    assert found(recognizer.transcribe([A, B])) == found(model(CTC).transcribe([A, B]))
    assert [module.training for module in recognizer.modules()] == modes
    assert any(modes) and not all(modes)
