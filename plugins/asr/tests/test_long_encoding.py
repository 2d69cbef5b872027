"""Long recordings, encoded in pieces: the same frames where an encoder sees no further than the pieces overlap."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import sonant
from sonant import memory
from sonant.build import instantiate
from sonant.config import fill_section
from sonant.errors import ConfigError
from sonant_asr.ctc import beam
from sonant_asr.long import chunking, chunks, deciding, encoding
from sonant_asr.long.chunking import Chunking

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
GIB = 2**30
FAST = {"n_layers": 2, "d_model": 16, "n_heads": 2, "subsampling_conv_channels": 4, "conv_kernel_size": 5}
NEAR = {"name": "fastconformer", "att_context_size": [3, 2], "self_attention_model": "rel_pos_local_attn", **FAST}
CONVOLUTIONAL = {
    "name": "convolutional",
    "blocks": [
        {"filters": 16, "kernel": 7, "stride": 2, "separable": True},
        {"filters": 16, "kernel": 5, "dilation": 2, "residual": True, "repeat": 2},
    ],
}


def encoder(**section: Any) -> Any:
    torch.manual_seed(0)
    return instantiate(fill_section("encoder", section, "encoder"), "encoder", {"d_in": 8}).eval()


# A chunk and the frames around it, with all that the encoders see of the features: their subsampling, attention, convolutions.


@pytest.mark.parametrize(("section", "context"), [(NEAR, 2 * (3 + 2) + 2), (CONVOLUTIONAL, 2 + 2 * 4 + 1)], ids=["near", "conv"])
@pytest.mark.parametrize("size", [5, 16, 1000])
@pytest.mark.parametrize("length", [1, 7, 640, 641, 647])
@torch.inference_mode()
def test_chunks_give_the_frames_of_the_whole(section: dict[str, Any], context: int, size: int, length: int) -> None:
    near, feats = encoder(**section), torch.randn(1, length, 8)
    whole, lens = near(feats, torch.tensor([length]))
    found, counts = chunks.encode(near, feats, length, size=size, context=context)
    assert counts.tolist() == lens.tolist() == [found.shape[1]]
    torch.testing.assert_close(found, whole[:, : int(lens)], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_too_little_context_would_be_seen() -> None:
    near, feats = encoder(**NEAR), torch.randn(1, 640, 8)
    whole, _ = near(feats, torch.tensor([640]))
    found, _ = chunks.encode(near, feats, 640, size=16, context=2)
    assert not torch.allclose(found, whole, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_what_lies_behind_the_length_is_not_heard() -> None:
    near = encoder(**NEAR)
    feats = torch.randn(1, 700, 8)
    short, _ = chunks.encode(near, feats[:, :640], 640, size=16, context=16)
    padded, _ = chunks.encode(near, feats, 640, size=16, context=16)
    torch.testing.assert_close(padded, short)


@torch.inference_mode()
def test_chunks_at_once_and_one_by_one_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    full, feats = encoder(name="fastconformer", **FAST), torch.randn(1, 640, 8)
    told: list[float] = []
    one_by_one, _ = chunks.encode(full, feats, 640, size=16, context=8, progress=told.append)
    monkeypatch.setattr(chunks, "_AT_ONCE", {})
    at_once, _ = chunks.encode(full, feats, 640, size=16, context=8)
    torch.testing.assert_close(at_once, one_by_one, atol=1e-5, rtol=1e-4)
    assert told == [0.2, 0.4, 0.6, 0.8, 1.0]


# What is asked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", Chunking()),
        ("full", Chunking("full")),
        ("local", Chunking("local")),
        ("chunks", Chunking("chunks", 30.0)),
        ("chunks:12.5", Chunking("chunks", 12.5)),
    ],
)
def test_what_can_be_asked(text: str, expected: Chunking) -> None:
    assert chunking.read(text) == expected


@pytest.mark.parametrize(
    "text", ["", "chunk", "auto:30", "full:1", "chunks:", "chunks:0.5", "chunks:nan", "chunks:inf", "chunks:a"]
)
def test_what_cannot(text: str) -> None:
    with pytest.raises(ConfigError, match="chunking='"):
        chunking.read(text)


def test_a_window_is_refused_where_the_encoder_takes_none() -> None:
    with pytest.raises(ConfigError, match="takes no window.*full and chunks"):
        model("quartznet_ctc_char").transcribe(clips(), chunking="local")


# What is decided


def decided(monkeypatch: pytest.MonkeyPatch, built: Any, seconds: float, free: float | None) -> list[str]:
    """The modes in the order that they are tried in, for features of a hundred frames a second."""
    monkeypatch.setattr(memory, "free", lambda device: None if free is None else int(free))
    return [mode for mode, _ in deciding.modes(built, int(100 * seconds), seconds, [128, 128])]


def test_the_mode_follows_from_length_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # As large as parakeet-tdt-0.6b, without its weights.
    with torch.device("meta"):
        large = instantiate(
            fill_section("encoder", {"name": "fastconformer", "n_layers": 24, "d_model": 1024}, "encoder"),
            "encoder",
            {"d_in": 128},
        )
    monkeypatch.setattr(deciding, "device_of", lambda encoder: torch.device("cpu"))
    minutes = 60.0
    assert decided(monkeypatch, large, 20 * minutes, 24 * GIB) == ["full", "local", "chunks"]
    assert decided(monkeypatch, large, 20 * minutes, None) == ["full", "local", "chunks"]
    assert decided(monkeypatch, large, 20 * minutes, 2 * GIB) == ["local", "chunks"]
    assert decided(monkeypatch, large, 20 * minutes, 0.5 * GIB) == ["chunks"]
    assert decided(monkeypatch, large, 180 * minutes, 24 * GIB) == ["local", "chunks"]
    assert decided(monkeypatch, large, 180 * minutes, None) == ["local", "chunks"]
    assert decided(monkeypatch, large, 180 * minutes, 1 * GIB) == ["chunks"]


def test_convolutions_take_any_length_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    built = encoder(**CONVOLUTIONAL)
    assert decided(monkeypatch, built, 10800, 24 * GIB) == ["full", "chunks"]
    assert decided(monkeypatch, built, 10800, 0.05 * GIB) == ["chunks"]


def test_an_encoder_that_tells_nothing_is_taken_to_attend_to_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unknown(torch.nn.Linear):
        d_out, subsampling = 16, 4

    built = Unknown(8, 16)
    assert decided(monkeypatch, built, 600, 24 * GIB) == ["full", "chunks"]
    assert decided(monkeypatch, built, 1200, 8 * GIB) == ["chunks"]  # 30000 squared, eight times, in float32, is 27 GiB
    assert decided(monkeypatch, built, 1500, None) == ["chunks"]


# What is heard


@cache
def model(name: str) -> Any:
    return sonant.load(CASES / f"{name}.nemo", device="cpu", dtype="float32")


@cache
def clips() -> Any:
    """The two recordings, again and again, for two and a half minutes."""
    both = [soundfile.read(CASES / name, dtype="float32")[0] for name in ("a.wav", "b.wav")]
    return np.concatenate(both * 36)


@pytest.mark.parametrize("seconds", [2, 5, 30])
def test_a_transcript_of_chunks_is_that_of_the_whole(seconds: int) -> None:
    """Of an encoder that sees less than the overlap: words, times and score."""
    quartznet = model("quartznet_ctc_char")
    whole = quartznet.transcribe(clips(), chunking="full", timestamps="char")[0]
    found = quartznet.transcribe(clips(), chunking=f"chunks:{seconds}", timestamps="char")[0]
    assert len(whole.words) > 100
    assert (found.text, found.tokens, found.words, found.chars) == (whole.text, whole.tokens, whole.words, whole.chars)
    assert found.score == pytest.approx(whole.score, rel=1e-4)
    assert found.duration == whole.duration


@pytest.mark.parametrize("decoder", ["tdt", "ctc"])
def test_local_attention_is_the_encoder_s_own(decoder: str) -> None:
    """`chunking="local"` gives what the encoder and the search give with that window."""
    hybrid = model("fastconformer_hybrid_tdt_ctc_bpe")
    found = hybrid.transcribe(clips(), chunking="local", decoder=decoder)[0]
    with torch.inference_mode():
        feats, lens = hybrid.preprocessor(torch.from_numpy(clips())[None], torch.tensor([len(clips())]))
        enc, lens = hybrid.encoder(feats, lens, att_context_size=[128, 128])
        head = hybrid.decoders[decoder]
        expected = hybrid.search_for(head, None)(head, enc, lens)[0]
    assert found.tokens == tuple(expected.tokens)
    assert found.tokens


def test_a_beam_that_gets_its_scores_block_by_block_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, options = model("fastconformer_ctc_bpe"), {"search": {"name": "ctc_beam", "beam_size": 4}, "timestamps": "char"}
    whole = fast.transcribe([CASES / "a.wav", CASES / "b.wav"], **options)
    monkeypatch.setattr(beam, "_BLOCK", 5)
    found = fast.transcribe([CASES / "a.wav", CASES / "b.wav"], **options)
    assert [(f.text, f.chars) for f in found] == [(f.text, f.chars) for f in whole]
    assert [f.score for f in found] == pytest.approx([f.score for f in whole], rel=1e-5)
    assert [f.text for f in found] == ["front center rear left", "side right"]


def test_a_long_recording_among_short_ones_changes_none() -> None:
    quartznet = model("quartznet_ctc_char")
    short = [CASES / "a.wav", CASES / "b.wav"]
    for options in ({}, {"chunking": "chunks:20"}):
        alone = [quartznet.transcribe(one, **options)[0] for one in (*short, clips())]
        together = quartznet.transcribe([clips(), *short, clips()], **options)
        texts = [found.text for found in together]
        assert texts == [alone[2].text, alone[0].text, alone[1].text, alone[2].text]
        assert texts[1:3] == ["front center rear left", "side right"]


def test_long_recordings_share_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    quartznet, sizes = model("quartznet_ctc_char"), []
    infer = type(quartznet).infer

    def watched(self: Any, batch: Any, **options: Any) -> Any:
        sizes.append(tuple(batch.wav.shape))
        return infer(self, batch, **options)

    monkeypatch.setattr(type(quartznet), "infer", watched)
    quartznet.transcribe([clips(), CASES / "a.wav", clips()[:-5], CASES / "b.wav"])
    assert sizes == [(1, len(clips())), (1, len(clips()) - 5), (2, 47051)]


def test_where_memory_runs_out_the_next_mode_is_taken(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    fast = model("fastconformer_ctc_bpe")
    monkeypatch.setattr(deciding, "LONGEST_FULL", 1e9)
    expected = fast.transcribe(clips(), chunking="chunks")[0].text
    forward = type(fast.encoder).forward

    def greedy_for_memory(self: Any, feats: Any, lens: Any, **options: Any) -> Any:
        if feats.shape[1] > 6000:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried …")
        return forward(self, feats, lens, **options)

    monkeypatch.setattr(type(fast.encoder), "forward", greedy_for_memory)
    assert fast.transcribe(clips())[0].text == expected
    assert [line.split(": ")[1].split(" (")[0] for line in caplog.messages] == [
        "local attention, 128 frames to either side",
        "chunks of 30 s with 5 s around each",
    ]
    with pytest.raises(RuntimeError, match="allocate memory"):
        fast.transcribe(clips(), chunking="full")


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = model("fastconformer_ctc_bpe")

    def broken(self: Any, feats: Any, lens: Any, **options: Any) -> Any:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(type(fast.encoder), "forward", broken)
    with pytest.raises(RuntimeError, match="multiplied"):
        fast.transcribe(clips())


def test_the_decision_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    fast = model("fastconformer_ctc_bpe")
    monkeypatch.setattr(deciding, "LONGEST_FULL", 120.0)
    with caplog.at_level("INFO", "sonant_asr"):
        fast.transcribe([(clips(), 16000), (clips(), 16000), CASES / "a.wav"])
    assert caplog.messages == [
        f"input {n} (3 min): local attention, 128 frames to either side (attention to everything is for up to 2 min)"
        for n in (0, 1)
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(130, "2 min"), (59 * 60, "59 min"), (3600, "1 h 0 min"), (10800, "3 h 0 min"), (20, "20 s")]
)
def test_lengths_are_said_in_hours_and_minutes(seconds: float, text: str) -> None:
    assert encoding._duration(seconds) == text
