"""What a text frontend promises: any text to the ids of what is spoken."""

from __future__ import annotations

from typing import Any, Final

from sonant.testing import samples
from sonant.testing.check import require
from sonant.testing.construction import attributes
from sonant.testing.subject import Subject

_TEXTS: Final = ("a", "one two three", "Dr. Smith has 2 cats, at 5 pm!", "Größe, año, où?", "привет", "你好", "0")


def _spoken(frontend: Any) -> dict[str, list[int]]:
    """The ids of texts in several scripts, and of what random ids stand for; those that it refuses are left out."""
    size = frontend.vocab_size
    found = {}
    for text in (*_TEXTS, *(frontend.decode(samples.ids(1 + seed, below=size, seed=seed).tolist()) for seed in range(6))):
        try:
            found[text] = list(frontend.encode(text))
        except ValueError:  # nothing it can speak
            continue
    return found


def ids(subject: Subject) -> None:
    """Texts give ids of the vocabulary, whole numbers from 0, and ids give text."""
    built = subject.build()
    found = _spoken(built)
    require(any(found.values()), f"none of these texts gives an id: {', '.join(map(repr, _TEXTS))}")
    for text, numbers in found.items():
        strangers = [i for i in numbers if not (isinstance(i, int) and 0 <= i < built.vocab_size)]
        require(not strangers, f"the text {text!r} has ids {strangers}, and vocab_size says {built.vocab_size}")
        again = built.decode(numbers)
        require(isinstance(again, str), f"decode gives a {type(again).__name__}, not text")


def tells_texts_apart(subject: Subject) -> None:
    """Texts do not all have one and the same id."""
    built = subject.build()
    found = {id for ids in _spoken(built).values() for id in ids}
    require(len(found) != 1 or built.vocab_size == 1, f"texts in several scripts have no other id than {found}")


def empty_text(subject: Subject) -> None:
    """The empty text, and one of blanks, are texts too."""
    built = subject.build()
    for text in ("", "  \n"):
        found = built.encode(text)
        require(isinstance(found, list), f"the text {text!r} gives {found!r}, not a list of ids")
        built.decode(found)


def deterministic(subject: Subject) -> None:
    """The same text gives the same ids, the next time and in another copy."""
    first, second = subject.build(seed=0), subject.build(seed=1)
    spoken = _spoken(first)
    for frontend, what in ((first, "a second time"), (second, "by another copy of it")):
        for text, found in reversed(spoken.items()):
            again = list(frontend.encode(text))
            require(again == found, f"the text {text!r}, encoded {what}, has other ids: {found} became {again}")


CHECKS = (attributes, ids, tells_texts_apart, empty_text, deterministic)
