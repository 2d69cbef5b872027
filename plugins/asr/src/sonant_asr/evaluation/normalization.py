"""What is done to reference and hypothesis before they are compared.

`basic` knows no language and spells nothing out (`7` and `seven` differ). In order:

1. Unicode NFKC: one form for each character (`ﬁ` is `fi`, full-width letters and digits are plain ones).
2. Lower case.
3. Typographic apostrophes (U+2018, U+2019, U+02BB, U+02BC) become `'`. One inside a word stays, as in `don't`; any other becomes
   a space.
4. Hyphens, all other punctuation (Unicode's categories P), symbols (S) and control characters (Cc) become a space: `well-known`
   is two words, `U.S.` is `u s`, `<unk>` is `unk`, `5 %` is `5`.
5. Characters that cannot be seen, as soft hyphens and zero-width joiners (Cf), are left out.
6. White space is collapsed: one space between words, none around them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from sonant.errors import ConfigError

Normalizer = Callable[[str], str]

_APOSTROPHES: Final = "'\u2018\u2019\u02bb\u02bc"
_NOT_IN_A_WORD: Final = re.compile(r"(?<![^\s'])'|'(?![^\s'])")  # an apostrophe at the edge of a word or beside another


class _Plain(dict[int, str | None]):
    """What becomes of each character: a table for `str.translate`, filled as characters are met."""

    def __missing__(self, code: int) -> str | None:
        c = chr(code)
        category = unicodedata.category(c)
        if c in _APOSTROPHES:
            self[code] = "'"
        elif category[0] in "PS" or category == "Cc":
            self[code] = " "
        else:
            self[code] = None if category == "Cf" else c
        return self[code]


_PLAIN: Final = _Plain()


def none(text: str) -> str:
    """As it is: case, punctuation and all count."""
    return text


def basic(text: str) -> str:
    """Letters and digits in lower case, with single spaces; this module's docstring says it exactly."""
    lower = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return " ".join(_NOT_IN_A_WORD.sub(" ", lower.translate(_PLAIN)).split())


NORMALIZERS: Final[Mapping[str, Normalizer]] = MappingProxyType({"basic": basic, "none": none})


def find(normalize: str | Normalizer) -> tuple[str, Normalizer]:
    """A normalizer and its name.

    Raises:
        ConfigError: none has this name.
    """
    if callable(normalize):
        return getattr(normalize, "__name__", type(normalize).__name__), normalize
    if normalize not in NORMALIZERS:
        raise ConfigError(f"normalize={normalize!r}: there are {' and '.join(NORMALIZERS)}, or give a function from text to text")
    return normalize, NORMALIZERS[normalize]
