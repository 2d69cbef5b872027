"""What `sonant transcribe --live` does."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from attrs import evolve

from sonant import audio, live, outputs
from sonant.errors import AudioError, ConfigError
from sonant.inputs import Item
from sonant.live import Piece
from sonant.results import Transcript
from sonant_asr.live.display import Display, Rows, Terminal, Text
from sonant_asr.live.heard import Heard
from sonant_asr.live.interrupting import ControlC
from sonant_asr.live.latency import Latency
from sonant_asr.settings import Settings
from sonant_asr.transcribing import open_recognizer

_AS_IT_COMES = ("txt", "jsonl")


def run_live(
    source: str | None,
    settings: Settings,
    *,
    format_name: str | None,
    output: str | None,
    overwrite: bool,
    look_ahead: float | None,
    microphone: str | None,
) -> Transcript:
    """Show what is said while it is heard; with `output`, write it whole in the end. Control-C ends a stream well.

    Args:
        source: None is the microphone, `-` standard input, anything else a recording, heard at the pace at which it was spoken.
        settings: how it is recognized.
        format_name: on standard output, `txt` or `jsonl`; with `output`, that of the file.
        output: a file for the whole transcript, in the format that its suffix says.
        overwrite: whether `output` may exist.
        look_ahead: seconds that the model may hear ahead of what it says, at most; None is what it was made for.
        microphone: name or number of the device.

    Raises:
        ConfigError: the model does not stream, or an option does not fit.
        AudioError: the source cannot be heard.
    """
    shown, written = _formats(format_name, output, overwrite)
    recognizer = open_recognizer(settings)
    pool = recognizer.streams(att_context_size=context_for(recognizer, look_ahead), **settings.listening())
    pool.open().push(np.zeros(2 * round(pool.latency * pool.sample_rate), dtype=np.float32))  # the first step is the slowest
    name = "microphone" if source is None else "standard input" if source == "-" else source
    pieces = _open(source, pool.sample_rate, settings.channel, microphone)
    click.echo(f"listening to {name}, in steps of {pool.latency:.2f} s; Control-C ends", err=True)
    heard = Heard(name, recognizer.config.segment_separators)
    latency = _listen(pool.open(**settings.prompt), pieces, _display(shown), heard, pool)
    click.echo(latency.summary(), err=True)
    transcript = heard.transcript(latency.heard)
    if output is not None and written is not None:
        sink = outputs.open_sink(output, written, [Item(None, name)], overwrite=overwrite)
        bare = written == "txt"  # the text alone, as without --live
        sink.write(Item(None, name), evolve(transcript, words=(), segments=()) if bare else transcript)
        sink.close()
    return transcript


def context_for(recognizer: Any, look_ahead: float | None) -> Sequence[int] | None:
    """The encoder's context that looks furthest ahead, `look_ahead` seconds at most.

    Raises:
        ConfigError: it has none that looks so little ahead.
    """
    if look_ahead is None:
        return None
    contexts = getattr(recognizer.encoder, "contexts", None)
    if not contexts:
        raise ConfigError("--look-ahead: this model's encoder has no choice of contexts")
    seconds = {tuple(context): context[1] * recognizer.frame_seconds for context in contexts}
    fitting = {context: ahead for context, ahead in seconds.items() if 0 <= ahead <= look_ahead + 1e-6}
    if not fitting:
        there_are = ", ".join(f"{ahead:g}" for ahead in sorted(seconds.values()))
        raise ConfigError(f"--look-ahead {look_ahead:g}: this model looks ahead {there_are} s; leave the option out")
    return max(fitting, key=lambda context: fitting[context])


def _formats(format_name: str | None, output: str | None, overwrite: bool) -> tuple[str, str | None]:
    """The format of standard output, and that of the file."""
    if output is None:
        if format_name not in (None, *_AS_IT_COMES):
            raise ConfigError(
                f"--format {format_name} is written in the end: name a file with --output; txt and jsonl come as heard"
            )
        return format_name or "txt", None
    path = Path(output)
    if path.is_dir() or not path.suffix:
        raise ConfigError(f"--output {output}: --live writes one file, as talk.srt")
    if path.exists() and not overwrite:
        raise ConfigError(f"--output {output} exists; --overwrite replaces it")
    suffix = path.suffix.removeprefix(".")
    return "txt", format_name or (suffix if suffix in outputs.EXTENSIONS else "txt")


def _open(source: str | None, rate: int, channel: int | None, microphone: str | None) -> Iterator[Piece]:
    if source is None:
        device = int(microphone) if microphone is not None and microphone.isdecimal() else microphone
        return live.microphone(rate, device=device)
    if source == "-":
        # Without its buffer, whose lock a thread that waits for more would hold while the program ends.
        return live.piped(getattr(sys.stdin.buffer, "raw", sys.stdin.buffer), rate, channel=channel)
    try:
        samples = audio.read(source, rate, channel=channel)
    except AudioError as error:
        raise AudioError(f"{source}: {error}") from error
    return live.paced(samples, rate)


def _display(shown: str) -> Display:
    if shown == "jsonl":
        return Rows(sys.stdout)
    return Terminal(sys.stdout) if sys.stdout.isatty() else Text(sys.stdout)


def _listen(session: Any, source: Iterator[Piece], display: Display, heard: Heard, pool: Any) -> Latency:
    latency: Latency | None = None
    warned = False
    with ControlC() as control:
        for piece in control.pieces(source):
            seconds = len(piece.samples) / pool.sample_rate
            latency = latency or Latency(piece.arrived - seconds, pool.latency)
            _work(session.push, [piece.samples], piece.arrived, seconds, latency, display, heard)
            if latency.is_slow and not warned:
                click.echo(f"falling behind ({latency.behind:.1f} s): try a larger --look-ahead, or a smaller model", err=True)
                warned = True
        latency = latency or Latency(time.monotonic(), pool.latency)
        _work(session.finish, [], time.monotonic(), 0.0, latency, display, heard)
    return latency


def _work(
    act: Any, arguments: list[Any], arrived: float, seconds: float, latency: Latency, display: Display, heard: Heard
) -> None:
    began = time.monotonic()
    events = act(*arguments)
    done = time.monotonic()
    for event in events:
        heard.add(event)
        display.show(event, done - arrived)
    latency.add(events, seconds=seconds, arrived=arrived, began=began, done=done)
