"""Making a tokenizer: subwords by SentencePiece, or a list of characters."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import sentencepiece
from attrs import frozen

from sonant.errors import ConfigError
from sonant_training.tokenizing.texts import Text

Type = Literal["bpe", "unigram", "char"]
MODEL: Final = "tokenizer.model"


@frozen(kw_only=True)
class Wish:
    """What kind of tokenizer is to be made.

    `size` is that of the vocabulary; None takes 1024 subwords, or all characters. The others are of subwords: `lower_case` makes
    the tokenizer write lower case whatever it is given; `coverage` is the part of all characters that get a piece, the rarest
    have none; with `byte_fallback` these are written as bytes instead; `split_digits` writes numbers digit by digit; `symbols`
    are pieces that are never taken apart, as `<noise>`.
    """

    type: Type = "bpe"
    size: int | None = None
    lower_case: bool = False
    coverage: float = 1.0
    byte_fallback: bool = False
    split_digits: bool = False
    symbols: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        of_subwords = {
            "lower_case": self.lower_case,
            "coverage": self.coverage != 1.0,
            "byte_fallback": self.byte_fallback,
            "split_digits": self.split_digits,
            "symbol": bool(self.symbols),
        }
        wrong = [f"--{name.replace('_', '-')}" for name, given in of_subwords.items() if given]
        if self.type == "char" and wrong:
            raise ConfigError(
                f"{', '.join(wrong)}: only subwords have this, as --type bpe makes; characters are taken as they are"
            )


@frozen(kw_only=True)
class Trained:
    """A tokenizer: its section in a config (but for where its file lies), the file's content if it has one, and its function.

    `encode` gives the ids of a text, and how many of its characters it does not know. `left_out` are characters without a label.
    """

    section: dict[str, Any]
    model: bytes | None
    pieces: tuple[str, ...]
    left_out: tuple[str, ...]
    encode: Callable[[str], tuple[list[int], int]]


def train(texts: Sequence[Text], wish: Wish) -> Trained:
    """The tokenizer of these texts. The same texts give the same one.

    Raises:
        ConfigError: they have too few different characters or words for the size, or too many.
    """
    return _characters(texts, wish) if wish.type == "char" else _subwords(texts, wish)


def _characters(texts: Sequence[Text], wish: Wish) -> Trained:
    """Labels in the order of their code points; the rarest are left out where there are more than wished for."""
    counts = Counter(character for text in texts for character in text.text)
    by_frequency = sorted(counts, key=lambda character: (-counts[character], character))
    labels = sorted(by_frequency[: wish.size])
    ids = {label: id for id, label in enumerate(labels)}

    def encode(text: str) -> tuple[list[int], int]:
        known = [ids[character] for character in text if character in ids]
        return known, len(text) - len(known)

    return Trained(
        section={"name": "char", "labels": labels},
        model=None,
        pieces=tuple(labels),
        left_out=tuple(by_frequency[len(labels) :]),
        encode=encode,
    )


_DEFAULT_SIZE: Final = 1024
_AT_MOST = re.compile(r"value <= (\d+)")
_AT_LEAST = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")


def _subwords(texts: Sequence[Text], wish: Wish) -> Trained:
    written = io.BytesIO()
    size = wish.size or _DEFAULT_SIZE
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(text.text for text in texts),
            model_writer=written,
            model_type=wish.type,
            vocab_size=size,
            character_coverage=wish.coverage,
            byte_fallback=wish.byte_fallback,
            split_digits=wish.split_digits,
            user_defined_symbols=list(wish.symbols),
            normalization_rule_name="nmt_nfkc_cf" if wish.lower_case else "nmt_nfkc",
            bos_id=-1,  # recognizers have no use for marks of a text's begin and end
            eos_id=-1,
            max_sentence_length=max(len(text.text.encode()) for text in texts) + 1,  # longer ones are left out, silently
            num_threads=1,  # sums in another order would make another tokenizer
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ConfigError(_explained(str(error), size, wish)) from error
    model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    unknown = model.unk_id()

    def encode(text: str) -> tuple[list[int], int]:
        ids = list(model.EncodeAsIds(text))
        return ids, ids.count(unknown)

    return Trained(
        section={"name": "sentencepiece", "file": MODEL},
        model=written.getvalue(),
        pieces=tuple(model.IdToPiece(id) for id in range(model.GetPieceSize())),
        left_out=(),
        encode=encode,
    )


def _explained(reason: str, size: int, wish: Wish) -> str:
    if most := _AT_MOST.search(reason):
        return f"--size {size} is more than these texts have subwords for: at most {most[1]}, or more text"
    if least := _AT_LEAST.search(reason):
        return (
            f"--size {size} is less than there are characters: at least {least[1]}, or leave the rarest out with "
            "--coverage 0.9995"
        )
    return f"SentencePiece cannot make a {wish.type} tokenizer of size {size}: {' '.join(reason.split())}"
