"""Which words or characters of a reference were recognized: alignment with the fewest errors, and counts.

An error is a substitution, a deletion (in the reference only) or an insertion (in the hypothesis only). Their least number is the
Levenshtein distance (1966); the error rate is that over the length of the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from attrs import frozen

from sonant.errors import PluginError

Unit = Literal["word", "char"]
"""What is compared: words, as white space separates them, or characters, spaces between words included."""

Outcome = Literal["hit", "substitution", "deletion", "insertion"]

_OUTCOMES: Final[dict[str, Outcome]] = {
    "equal": "hit",
    "substitute": "substitution",
    "delete": "deletion",
    "insert": "insertion",
}


@frozen
class Errors:
    """How many units were hit, and how many errors of each sort there are."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        """All of them."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference(self) -> int:
        """Units in the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def hypothesis(self) -> int:
        """Units in the hypothesis."""
        return self.hits + self.substitutions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors for each unit of the reference; above 1 where much is inserted. None where the reference is empty: undefined."""
        return self.errors / self.reference if self.reference else None

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    def to_dict(self) -> dict[str, Any]:
        """The counts, and the rate to six digits."""
        return {
            "error_rate": None if self.rate is None else round(self.rate, 6),
            "errors": self.errors,
            "substitutions": self.substitutions,
            "deletions": self.deletions,
            "insertions": self.insertions,
            "hits": self.hits,
            "reference": self.reference,
            "hypothesis": self.hypothesis,
        }


@frozen
class Step:
    """One place of an alignment: a unit of the reference and what stands there in the hypothesis; None where nothing does."""

    outcome: Outcome
    reference: str | None
    hypothesis: str | None


def align(reference: str, hypothesis: str, unit: Unit = "word") -> tuple[Step, ...]:
    """Two texts side by side, unit by unit, with as few errors as there can be.

    Raises:
        PluginError: jiwer is not installed.
    """
    found = _process([reference], [hypothesis], unit)
    (ref,), (hyp,), (chunks,) = found.references, found.hypotheses, found.alignments
    return tuple(step for chunk in chunks for step in _steps(chunk, ref, hyp))


def count(references: Sequence[str], hypotheses: Sequence[str], unit: Unit = "word") -> list[Errors]:
    """The errors of each hypothesis against its reference.

    Raises:
        PluginError: jiwer is not installed.
    """
    if not references:
        return []
    return [_count(chunks) for chunks in _process(references, hypotheses, unit).alignments]


def require_jiwer() -> Any:
    """The library that aligns.

    Raises:
        PluginError: it is not installed.
    """
    try:
        import jiwer
    except ImportError as error:
        raise PluginError("error rates need jiwer, which is not installed: pip install 'sonant-asr[evaluate]'") from error
    return jiwer


def _words(texts: list[str]) -> list[list[str]]:
    return [text.split() for text in texts]


def _characters(texts: list[str]) -> list[list[str]]:
    return [list(text) for text in texts]


def _process(references: Sequence[str], hypotheses: Sequence[str], unit: Unit) -> Any:
    split = _words if unit == "word" else _characters
    return require_jiwer().process_words(list(references), list(hypotheses), split, split)


def _count(chunks: Sequence[Any]) -> Errors:
    lengths = dict.fromkeys(_OUTCOMES, 0)
    for chunk in chunks:
        lengths[chunk.type] += max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
    return Errors(
        hits=lengths["equal"],
        substitutions=lengths["substitute"],
        deletions=lengths["delete"],
        insertions=lengths["insert"],
    )


def _steps(chunk: Any, reference: Sequence[str], hypothesis: Sequence[str]) -> Iterator[Step]:
    """A run of equal outcomes, one by one."""
    refs: Sequence[str | None] = reference[chunk.ref_start_idx : chunk.ref_end_idx]
    hyps: Sequence[str | None] = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
    size = max(len(refs), len(hyps))
    for ref, hyp in zip(refs or [None] * size, hyps or [None] * size, strict=True):
        yield Step(_OUTCOMES[chunk.type], ref, hyp)
