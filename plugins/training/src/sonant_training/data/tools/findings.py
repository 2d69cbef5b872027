"""What can be wrong with a row of a manifest, and finding it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from attrs import frozen

from sonant.errors import AudioError
from sonant_training.data.tools.measuring import Sound, measure
from sonant_training.data.tools.rows import Row
from sonant_training.data.tools.texts import odd_characters

PROBLEMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "row": "not a row of a manifest",
        "missing": "there is no such file",
        "unreadable": "the recording is damaged, cut short or empty",
        "silent": "nothing can be heard",
        "clipped": "cut off at its peaks: recorded too loud",
        "length": "too short or too long",
        "duration": "not as long as the manifest says",
        "pace": "more or fewer characters a second than people speak",
        "empty": "no text",
        "characters": "characters that nobody meant to write",
        "duplicate": "the same audio as in an earlier row",
    }
)
"""Every problem by name, and what it is."""

CLOSE: Final = 0.01
"""A stated duration may be wrong by this part of it, or by the tolerance of the limits if that is more."""


@frozen(kw_only=True)
class Limits:
    """From where on something is a problem. Seconds, characters a second, dB of full scale, parts of all samples."""

    silence: float = -60.0
    clipping: float = 0.005
    shortest: float = 0.1
    longest: float | None = None
    tolerance: float = 0.2
    slowest: float = 0.5
    fastest: float = 30.0
    characters: frozenset[str] | None = None


@frozen
class Finding:
    """One problem, by its name in `PROBLEMS`, and what it looks like here."""

    problem: str
    detail: str


@frozen
class Checked:
    """A row, what its audio is where it can be read, and what is wrong."""

    row: Row
    sound: Sound | None
    findings: tuple[Finding, ...]


def check(row: Row, limits: Limits) -> Checked:
    """All that can be found in a row by itself, its audio read to the end."""
    if row.fault:
        return Checked(row, None, (Finding("row", row.fault),))
    found = _measured(row)
    if isinstance(found, Finding):
        return Checked(row, None, (found, *_of_text(row, limits)))
    return Checked(row, found, (*_of_audio(row, found, limits), *_of_text(row, limits), *_of_pace(row, found, limits)))


def _measured(row: Row) -> Sound | Finding:
    try:
        if not row.path.exists():
            return Finding("missing", f"there is no file {row.path}")
        if not row.path.is_file():  # reading a pipe would wait for ever
            return Finding("unreadable", f"{row.path} is a folder or a device, not a recording")
        return measure(row.path, *row.piece)
    except AudioError as error:
        return Finding("unreadable", str(error))
    except (OSError, ValueError) as error:  # a name too long for a file, a folder closed to us, a null in a name
        return Finding("missing", f"{row.name!r} cannot be looked for: {getattr(error, 'strerror', None) or error}")


def _of_audio(row: Row, sound: Sound, limits: Limits) -> Iterator[Finding]:
    if sound.level < limits.silence:
        yield Finding("silent", f"its loudest 25 ms are at {sound.level:.0f} dB of full scale")
    elif sound.clipped > limits.clipping:
        yield Finding("clipped", f"{100 * sound.clipped:.1f} % of its samples are cut off")
    if sound.seconds < limits.shortest:
        yield Finding("length", f"{sound.seconds:.3f} s, and the shortest allowed is {limits.shortest:g} s")
    if limits.longest is not None and sound.seconds > limits.longest:
        yield Finding("length", f"{sound.seconds:.3f} s, and the longest allowed is {limits.longest:g} s")
    if is_misstated(row, sound, limits):
        yield Finding("duration", f"{row.duration:.3f} s in the manifest, {sound.seconds:.3f} s in the file")


def is_misstated(row: Row, sound: Sound, limits: Limits) -> bool:
    """Whether the manifest gives another duration than the file, beyond the tolerance. None is not another."""
    if row.duration is None:
        return False
    return abs(row.duration - sound.seconds) > max(limits.tolerance, CLOSE * row.duration)


def _of_text(row: Row, limits: Limits) -> Iterator[Finding]:
    if row.text is None:
        stated = row.values.get("text")
        yield Finding("empty", "there is no text" if stated is None else f"the text is {stated!r}, not a string")
    elif not row.text.strip():
        yield Finding("empty", "the text is empty")
    else:
        yield from (Finding("characters", odd) for odd in odd_characters(row.text, limits.characters))


def _of_pace(row: Row, sound: Sound, limits: Limits) -> Iterator[Finding]:
    count = len((row.text or "").strip())
    if count == 0:
        return
    pace = count / sound.seconds
    if not limits.slowest <= pace <= limits.fastest:
        extreme = "fewer" if pace < limits.slowest else "more"
        than = limits.slowest if pace < limits.slowest else limits.fastest
        yield Finding("pace", f"{count} characters in {sound.seconds:.2f} s: {pace:.2g} a second, {extreme} than {than:g}")
