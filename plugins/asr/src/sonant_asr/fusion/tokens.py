"""How a language model's words stand for a recognizer's tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from sonant.errors import ConfigError
from sonant.protocols import Tokenizer
from sonant_asr.fusion.ngram import Symbols

Writing = Literal["pieces", "ids"]
MARKS = (b"<s>", b"</s>", b"<unk>")
_OFFSET = 100  # id 0 is written as chr(100): below are characters that language model tools treat in their own ways
_SPACE = b"<space>"


def choose(
    tokenizer: Tokenizer, writing: Writing | Literal["auto"], strangers: Callable[[dict[bytes, int]], str]
) -> dict[bytes, int]:
    """The numbers of the words of a language model, which is asked what `strangers` it has: a few words for an error, or "".

    Raises:
        ConfigError: it has words that are no tokens, or may be read both ways.
    """
    tried: dict[Writing, dict[bytes, int]] = {}
    for way in ("pieces", "ids") if writing == "auto" else (writing,):
        try:
            tried[way] = numbers(tokenizer, way)
        except ConfigError:
            if writing != "auto":
                raise
    fitting = [way for way, found in tried.items() if not strangers(found)]
    if len(fitting) > 1:
        raise ConfigError("its words may be pieces or characters `chr(id + 100)`: say which by lm_tokens, pieces or ids")
    if not fitting:
        reasons = " and ".join(f"as {way} it has {strangers(found)}" for way, found in tried.items())
        raise ConfigError(f"its words are not the tokens of this model: {reasons}. Make it from text split into tokens")
    return tried[fitting[0]]


def numbers(tokenizer: Tokenizer, writing: Writing) -> dict[bytes, int]:
    """The number of every word that such a model can have: its tokens, and `<s>`, `</s>`, `<unk>`.

    With `pieces` a token is written as its piece, a space as `<space>`; with `ids` as the character `chr(id + 100)`.

    Raises:
        ConfigError: with `pieces`, when two tokens are written alike.
    """
    symbols = Symbols(tokenizer.vocab_size)
    marks = dict(zip(MARKS, (symbols.begin, symbols.end, symbols.unknown), strict=True))
    if writing == "ids":
        # Surrogates cannot be written, nor can what lies behind the last character.
        written = {_character(id): id for id in range(tokenizer.vocab_size)}
        return marks | {word: id for word, id in written.items() if word}
    found: dict[bytes, int] = {}
    for id, piece in enumerate(tokenizer.pieces(range(tokenizer.vocab_size))):
        word = _SPACE if piece == " " else piece.encode("utf-8")
        if word in found:
            raise ConfigError(
                f"lm_tokens='pieces': the tokens {found[word]} and {id} are both written {piece!r}; "
                "make the language model over characters `chr(id + 100)` instead, and say lm_tokens='ids'"
            )
        found[word] = id
    return found | marks


def _character(id: int) -> bytes:
    code = id + _OFFSET
    return b"" if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF else chr(code).encode("utf-8")
