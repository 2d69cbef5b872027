"""What a tokenizer promises: text to ids and back."""

from __future__ import annotations

from typing import Any

from sonant.testing import samples
from sonant.testing.check import require
from sonant.testing.construction import attributes
from sonant.testing.subject import Subject


def vocabulary(subject: Subject) -> None:
    """Each of `vocab_size` ids has its piece."""
    built = subject.build()
    size = built.vocab_size
    pieces = list(built.pieces(range(size)))
    require(len(pieces) == size, f"pieces() gives {len(pieces)} pieces for {size} ids")
    require(all(isinstance(piece, str) for piece in pieces), f"pieces() gives other things than text: {pieces[:8]}")


def text_round_trip(subject: Subject) -> None:
    """Texts made of its own pieces come back, white space aside, and their ids are of the vocabulary."""
    built = subject.build()
    for text in _texts(built):
        found = list(built.encode(text))
        strangers = [i for i in found if not (isinstance(i, int) and 0 <= i < built.vocab_size)]
        require(not strangers, f"the text {text!r} has ids {strangers}, and vocab_size says {built.vocab_size}")
        again = built.decode(found)
        require(_plain(again) == _plain(text), f"the text {text!r} comes back as {again!r}")


def tells_texts_apart(subject: Subject) -> None:
    """Its texts do not all have one and the same id."""
    built = subject.build()
    found = {}
    for text in sorted({built.decode([i]) for i in range(built.vocab_size)}):
        try:
            found[text] = list(built.encode(text))
        except ValueError:  # not a text this tokenizer takes
            continue
    used = {id for ids in found.values() for id in ids}
    texts = [text for text, ids in found.items() if ids]
    require(len(used) != 1 or len(texts) < 2, f"the texts {', '.join(map(repr, texts[:4]))} … have no other id than {used}")


def _texts(tokenizer: Any) -> list[str]:
    """Random sequences of those ids whose text, alone, encodes to something and comes back."""
    alone = [i for i in range(tokenizer.vocab_size) if _comes_back(tokenizer, i)]
    require(alone, "none of its ids decodes to a text that encodes and decodes to itself")
    draws = (samples.ids(1 + n % 12, below=len(alone), seed=n).tolist() for n in range(24))
    return [tokenizer.decode([alone[i] for i in draw]) for draw in draws]


def _comes_back(tokenizer: Any, id: int) -> bool:
    text = tokenizer.decode([id])
    try:
        return bool(text) and tokenizer.decode(tokenizer.encode(text)) == text
    except ValueError:  # not a text this tokenizer takes, such as the mark of an unknown word
        return False


def _plain(text: str) -> str:
    return " ".join(text.split())


CHECKS = (attributes, vocabulary, text_round_trip, tells_texts_apart)
