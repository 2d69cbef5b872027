"""What is odd in a text: characters that nobody meant to write."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Set
from typing import Final

_ODD: Final = {"Cc": "control", "Cf": "invisible", "Co": "private", "Cn": "unassigned", "Cs": "half a surrogate pair"}
_JOINERS: Final = "\u200c\u200d"  # invisible, and part of how Persian and the scripts of India are written
_ALIKE: Final = ("LATIN", "CYRILLIC", "GREEK")  # scripts that have letters which look the same


def odd_characters(text: str, allowed: Set[str] | None = None) -> Iterator[str]:
    """What is odd in it, one thing at a time.

    Controls, invisible and unassigned characters, the mark of what could not be decoded; UTF-8 that was read as another
    encoding; words with letters of two scripts that look alike. With `allowed`, every other character as well.
    """
    for character in sorted(set(text)):
        if allowed is not None and character not in allowed:
            yield f"{described(character)} is not among the characters"
        elif character == "\ufffd":
            yield f"{described(character)} stands for something that could not be decoded"
        elif (kind := _ODD.get(unicodedata.category(character))) and character not in _JOINERS:
            yield f"{described(character)} ({kind})"
    if (meant := _as_utf8(text)) is not None:
        yield f"UTF-8 that was read as Windows-1252: {text!r} is {meant!r}"
    for word in sorted(set(re.findall(r"[^\W\d_]+", text))):
        scripts = sorted({script for letter in word if (script := _script(letter)) in _ALIKE})
        if len(scripts) > 1:
            yield f"{word!r} has letters of {' and '.join(script.capitalize() for script in scripts)}"


def described(character: str) -> str:
    """`'a' U+0061`; only the number where there is nothing to see."""
    point = f"U+{ord(character):04X}"
    return f"{character!r} {point}" if character.isprintable() and not character.isspace() else point


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _as_utf8(text: str) -> str | None:
    """What was meant, if its characters are the bytes of UTF-8, one each. A text that was read right hardly ever is that."""
    if text.isascii():
        return None
    try:
        return text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return None
