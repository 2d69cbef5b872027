"""Transcripts in the formats of others, read back by the rules those publish: SubRip, WebVTT, NIST's CTM, JSON."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable

import pytest
from attrs import evolve

from sonant.results import Alternative, Failure, Span, Transcript

CLIP = Transcript(
    text="hello world. second one",
    source="clips/a b.wav",
    duration=3.2,
    words=(
        Span("hello", 0.08, 0.4),
        Span("world.", 0.48, 1.04, confidence=0.5),
        Span("second", 2.0, 2.4),
        Span("one", 2.48, 2.96),
    ),
    segments=(Span("hello world.", 0.08, 1.04), Span("second one", 2.0, 2.96)),
    chars=(Span("h", 0.08, 0.16),),
)

Reader = Callable[[str], list[tuple[float, float, str]]]

SRT_TIME = r"(\d{2,}):([0-5]\d):([0-5]\d),(\d{3})"
VTT_TIME = r"(?:(\d{2,}):)?([0-5]\d):([0-5]\d)\.(\d{3})"


def seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, whole, thousandths = (int(part or 0) for part in parts)
    return 3600 * hours + 60 * minutes + whole + thousandths / 1000


def read_srt(text: str) -> list[tuple[float, float, str]]:
    """SubRip: a number from 1, the times, lines of text, an empty line."""
    cues = []
    for number, block in enumerate(re.split(r"\n\n", text.removesuffix("\n")) if text else [], start=1):
        first, times, *lines = block.split("\n")
        match = re.fullmatch(f"{SRT_TIME} --> {SRT_TIME}", times)
        assert first == str(number) and match and lines and all(lines)
        cues.append((seconds(match.groups()[:4]), seconds(match.groups()[4:]), "\n".join(lines)))
    return cues


def read_vtt(text: str) -> list[tuple[float, float, str]]:
    """WebVTT (W3C): the signature, then blocks apart by empty lines.

    A cue ends after it begins, follows the one before it, and its text has neither `-->` nor a bare `&` or `<`.
    """
    assert text.endswith("\n")
    header, *blocks = text.removesuffix("\n").split("\n\n")
    assert header == "WEBVTT"
    cues: list[tuple[float, float, str]] = []
    for block in blocks:
        times, *lines = block.split("\n")
        match = re.fullmatch(f"{VTT_TIME} --> {VTT_TIME}", times)
        assert match and lines and all(lines)
        start, end = seconds(match.groups()[:4]), seconds(match.groups()[4:])
        assert end > start and (not cues or start >= cues[-1][0])
        body = "\n".join(lines)
        assert "-->" not in body and "<" not in body and not re.search(r"&(?!(amp|lt|gt|nbsp|lrm|rlm);)", body)
        cues.append((start, end, html.unescape(body)))
    return cues


def read_ctm(text: str) -> list[tuple[str, str, float, float, str]]:
    """NIST's sctk: `<file> <channel> <begin> <duration> <word> [<confidence>]`, apart by white space; `;;` begins a comment."""
    rows = []
    for line in text.split("\n") if text else []:
        assert not line.startswith(";;")
        file, channel, begin, duration, word, *confidence = line.split()
        assert all(0 <= float(number) <= 1 for number in confidence) and len(confidence) < 2
        rows.append((file, channel, float(begin), float(duration), word))
    return rows


@pytest.mark.parametrize(("read", "format"), [(read_srt, "srt"), (read_vtt, "vtt")])
def test_subtitles_have_a_cue_for_each_segment(read: Reader, format: str) -> None:
    assert read(CLIP.format(format)) == [(s.start, s.end, s.text) for s in CLIP.segments]


@pytest.mark.parametrize(("read", "format"), [(read_srt, "srt"), (read_vtt, "vtt")])
def test_subtitles_without_segments_are_one_cue_over_all(read: Reader, format: str) -> None:
    assert read(Transcript(text="hello", duration=3.2).format(format)) == [(0.0, 3.2, "hello")]


def test_every_format_to_the_letter() -> None:
    assert CLIP.to_srt() == ("1\n00:00:00,080 --> 00:00:01,040\nhello world.\n\n2\n00:00:02,000 --> 00:00:02,960\nsecond one\n")
    assert CLIP.to_vtt() == (
        "WEBVTT\n\n00:00:00.080 --> 00:00:01.040\nhello world.\n\n00:00:02.000 --> 00:00:02.960\nsecond one\n"
    )
    assert CLIP.to_ctm().split("\n")[0] == "clips/a_b.wav 1 0.08 0.32 hello"
    assert CLIP.to_txt() == "0.08 0.40 hello\n0.48 1.04 world.\n2.00 2.40 second\n2.48 2.96 one"
    assert evolve(CLIP, words=()).to_txt() == "0.08 1.04 hello world.\n2.00 2.96 second one"
    assert evolve(CLIP, words=(), segments=()).to_txt() == "hello world. second one"


@pytest.mark.parametrize(
    ("time", "written"),
    [
        (0.0, "00:00:00,000"),
        (0.0004, "00:00:00,000"),
        (0.9996, "00:00:01,000"),
        (59.9994, "00:00:59,999"),
        (59.9996, "00:01:00,000"),
        (3599.9996, "01:00:00,000"),
        (3661.5, "01:01:01,500"),
        (36000.25, "10:00:00,250"),
        (360000.0, "100:00:00,000"),
    ],
)
def test_times_carry_over_and_hours_have_no_end(time: float, written: str) -> None:
    found = Transcript(text="a", segments=(Span("a", time, time + 1),))
    assert found.to_srt().split("\n")[1].split(" --> ")[0] == written
    assert found.to_vtt().split("\n")[2].split(" --> ")[0] == written.replace(",", ".")
    assert read_srt(found.to_srt())[0][0] == pytest.approx(time, abs=0.0005001)


def test_a_cue_without_length_is_shown_all_the_same() -> None:
    found = Transcript(text="a b", segments=(Span("a", 1.0, 1.0), Span("b", 59.9996, 59.9996)))
    assert read_vtt(found.to_vtt()) == [(1.0, 1.001, "a"), (60.0, 60.001, "b")]
    assert read_srt(found.to_srt()) == read_vtt(found.to_vtt())
    assert read_vtt(Transcript(text="of unknown length").to_vtt()) == [(0.0, 0.001, "of unknown length")]


@pytest.mark.parametrize("text", ["AT&T <unk> a-->b", "&amp; 1<2>0", "naïve — 語 🎤", "'quoted' \"text\""])
def test_signs_that_mean_something_in_subtitles_stay_what_they_are(text: str) -> None:
    found = Transcript(text=text, segments=(Span(text, 0, 1),))
    assert read_vtt(found.to_vtt()) == [(0, 1, text)]
    assert read_srt(found.to_srt()) == [(0, 1, text)]


def test_ctm_rows_are_the_words() -> None:
    rows = read_ctm(CLIP.to_ctm())
    assert [(r[2], pytest.approx(r[2] + r[3]), r[4]) for r in rows] == [(w.start, w.end, w.text) for w in CLIP.words]
    assert {r[:2] for r in rows} == {("clips/a_b.wav", "1")}


def test_ctm_fields_stay_five_whatever_the_names() -> None:
    odd = evolve(CLIP, source="my\tclip \u3000.wav", words=(Span("New York", 0, 1),))
    assert read_ctm(odd.to_ctm()) == [("my_clip__.wav", "1", 0, 1, "New_York")]
    assert read_ctm(evolve(odd, source="").to_ctm())[0][0] == "audio"


def test_silence_is_empty_in_every_format() -> None:
    silence = Transcript(text="", source="a.wav", duration=2.0)
    assert read_srt(silence.to_srt()) == read_vtt(silence.to_vtt()) == read_ctm(silence.to_ctm()) == []
    assert silence.to_txt() == ""
    assert json.loads(silence.to_json()) == {"audio_filepath": "a.wav", "text": "", "duration": 2.0}


def test_json_is_a_manifest_row_with_what_is_known() -> None:
    row = json.loads(CLIP.to_json())
    assert list(row) == ["audio_filepath", "text", "duration", "words", "segments", "chars"]
    assert (row["audio_filepath"], row["text"], row["duration"]) == ("clips/a b.wav", CLIP.text, 3.2)
    assert row["words"][1] == {"text": "world.", "start": 0.48, "end": 1.04, "confidence": 0.5}
    assert row["words"][0] == {"text": "hello", "start": 0.08, "end": 0.4}
    assert json.loads(evolve(CLIP, language="de").to_json())["lang"] == "de"
    assert json.loads(evolve(CLIP, duration=1.23456).to_json())["duration"] == 1.235
    others = (Alternative("hello word.", -2.5), Alternative("yellow world.", -3.0))
    several = json.loads(evolve(CLIP, score=-0.25, alternatives=others).to_json())
    assert several["alternatives"] == [{"text": "hello word.", "score": -2.5}, {"text": "yellow world.", "score": -3.0}]
    assert several["score"] == -0.25


def test_jsonl_is_one_line_whatever_the_text_and_json_is_indented() -> None:
    odd = evolve(CLIP, text='line\nfeed\u2028 "quote" 語')
    assert "\n" not in odd.format("jsonl")
    assert "語" in odd.format("jsonl")
    assert json.loads(odd.format("jsonl")) == json.loads(odd.format("json")) == odd.to_dict()
    assert odd.format("json").startswith('{\n  "audio_filepath"')


def test_a_file_name_that_is_not_unicode_comes_back_as_it_was() -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    found = evolve(CLIP, source=name)
    written = found.to_json().encode("utf-8")
    assert json.loads(written)["audio_filepath"] == name
    found.to_ctm().encode("utf-8")


@pytest.mark.parametrize("format", ["txt", "json", "jsonl", "srt", "vtt", "ctm"])
def test_formats_go_by_name(format: str) -> None:
    method = {"jsonl": CLIP.to_json, "json": lambda: CLIP.to_json(indent=2)}.get(format) or getattr(CLIP, f"to_{format}")
    assert CLIP.format(format) == method()


def test_a_failure_says_what_failed_and_why() -> None:
    assert str(Failure("a.wav", ValueError("too short"))) == "a.wav: too short"
    assert str(Failure("a.wav", MemoryError())) == "a.wav: MemoryError"
