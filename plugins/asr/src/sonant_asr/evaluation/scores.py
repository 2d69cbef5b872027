"""Error rates of pairs of reference and hypothesis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from attrs import frozen

from sonant_asr.evaluation import normalization
from sonant_asr.evaluation.errors import Errors, Step, Unit, align, count
from sonant_asr.evaluation.normalization import Normalizer


@frozen(kw_only=True)
class Pair:
    """What was said and what was recognized, as written; the rest where it is known.

    `name` and `offset` (seconds) say where it is from, `duration` is in seconds of audio, `elapsed` in seconds of computing.
    """

    reference: str
    hypothesis: str
    name: str = ""
    offset: float | None = None
    duration: float | None = None
    speaker: str | None = None
    elapsed: float | None = None


@frozen(kw_only=True)
class Utterance:
    """A pair as it was compared: its texts normalized, the errors of its words and characters counted."""

    pair: Pair
    reference: str
    hypothesis: str
    words: Errors
    characters: Errors

    def errors(self, unit: Unit) -> Errors:
        """Of its words or of its characters."""
        return self.words if unit == "word" else self.characters

    def aligned(self, unit: Unit) -> tuple[Step, ...]:
        """Reference and hypothesis side by side, word by word or character by character."""
        return align(self.reference, self.hypothesis, unit)

    def to_dict(self) -> dict[str, Any]:
        """Where it is from, its texts as they were compared, its counts."""
        pair = self.pair
        row: dict[str, Any] = {"audio_filepath": pair.name}
        known = {"offset": pair.offset, "duration": pair.duration, "speaker": pair.speaker}
        row |= {key: value for key, value in known.items() if value is not None}
        row |= {"reference": self.reference, "hypothesis": self.hypothesis}
        return row | {"words": self.words.to_dict(), "characters": self.characters.to_dict()}


@frozen(kw_only=True)
class Scores:
    """The error rates of many utterances. Rates are over all of them together, so that a long one counts for more."""

    normalization: str
    utterances: tuple[Utterance, ...]
    words: Errors
    characters: Errors

    @property
    def word_error_rate(self) -> float | None:
        """Word errors for each word of the references; None where these have no word."""
        return self.words.rate

    @property
    def character_error_rate(self) -> float | None:
        """Character errors for each character of the references, spaces included; None where these have none."""
        return self.characters.rate

    @property
    def audio_seconds(self) -> float | None:
        """Of the utterances whose duration is known; None where there are none."""
        known = [u.pair.duration for u in self.utterances if u.pair.duration is not None]
        return math.fsum(known) if known else None

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of computing for each second of audio, of the utterances where both are known; None where there are none."""
        known = [(u.pair.elapsed, u.pair.duration) for u in self.utterances if u.pair.elapsed is not None and u.pair.duration]
        return math.fsum(e for e, _ in known) / math.fsum(d for _, d in known) if known else None

    def errors(self, unit: Unit) -> Errors:
        """Of words or of characters."""
        return self.words if unit == "word" else self.characters

    def worst(self, count: int | None = None, *, unit: Unit = "word") -> list[Utterance]:
        """Utterances from the highest error rate down, where equal from the most errors of characters down, then in order.

        Errors against an empty reference come first.
        """
        ranked = sorted(self.utterances, key=lambda u: (-_badness(u.errors(unit)), -u.characters.errors))
        return ranked[:count]

    def to_dict(self) -> dict[str, Any]:
        """All of it but the alignments, for JSON."""
        audio, factor = self.audio_seconds, self.real_time_factor
        return {
            "normalization": self.normalization,
            "utterances": len(self.utterances),
            "audio_seconds": None if audio is None else round(audio, 3),
            "real_time_factor": None if factor is None else round(factor, 6),
            "words": self.words.to_dict(),
            "characters": self.characters.to_dict(),
            "rows": [u.to_dict() for u in self.utterances],
        }


def _badness(errors: Errors) -> float:
    if errors.rate is None:
        return math.inf if errors.errors else 0.0
    return errors.rate


def evaluate(pairs: Iterable[Pair | tuple[str, str]], *, normalize: str | Normalizer = "basic") -> Scores:
    """Compare what was recognized with what was said.

    Args:
        pairs: `(reference, hypothesis)` each, or a `Pair`, which knows more.
        normalize: what is done to both before: `basic`, `none`, or a function from text to text.

    Returns:
        Word and character error rates, with the counts and alignments they come from.

    Raises:
        ConfigError: there is no such normalization.
        PluginError: jiwer is not installed.
    """
    name, plain = normalization.find(normalize)
    known = [pair if isinstance(pair, Pair) else Pair(reference=pair[0], hypothesis=pair[1]) for pair in pairs]
    references, hypotheses = [plain(p.reference) for p in known], [plain(p.hypothesis) for p in known]
    words, characters = count(references, hypotheses, "word"), count(references, hypotheses, "char")
    utterances = tuple(
        Utterance(pair=pair, reference=reference, hypothesis=hypothesis, words=of_words, characters=of_characters)
        for pair, reference, hypothesis, of_words, of_characters in zip(
            known, references, hypotheses, words, characters, strict=True
        )
    )
    return Scores(normalization=name, utterances=utterances, words=sum(words, Errors()), characters=sum(characters, Errors()))
