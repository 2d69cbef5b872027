"""From a search's config to its scorers."""

from __future__ import annotations

import gzip
import zlib
from io import BytesIO
from pathlib import Path
from typing import Literal

from sonant.errors import ConfigError
from sonant.files import Files
from sonant.protocols import Tokenizer
from sonant_asr.fusion import arpa
from sonant_asr.fusion.boosting import boosting_of
from sonant_asr.fusion.config import FusionConfig
from sonant_asr.fusion.kenlm import reading
from sonant_asr.fusion.kenlm.header import MAGIC
from sonant_asr.fusion.ngram import NgramModel, Order
from sonant_asr.fusion.scorer import TokenScorer
from sonant_asr.fusion.tokens import Writing, choose

_GZIP, _TAR = b"\x1f\x8b", b"ustar"
_EXPANSION, _ALWAYS = 100, 2**24  # ARPA text becomes some 3 to 10 times smaller; and bytes that are never too many


def scorers_of(config: FusionConfig, tokenizer: Tokenizer | None, files: Files | None) -> tuple[TokenScorer, ...]:
    """The scorers that a config names, weighted; none if it names none. What a search calls when it is built.

    Raises:
        ConfigError: the language model cannot be read or is not over these tokens; a phrase cannot be written in them; there are
            phrases or a language model, and no tokenizer.
    """
    if config.is_empty:
        return ()
    if tokenizer is None:
        raise ConfigError("fusion: a language model and phrases are read with a tokenizer, and there is none")
    found: list[TokenScorer] = []
    if config.lm is not None:
        data = _read(config.lm, files or Files.beside(Path.cwd()))
        found.append(language_model(data, config.lm, tokenizer, weight=config.lm_weight, writing=config.lm_tokens))
    if config.boost:
        found.append(boosting_of(config, tokenizer))
    return tuple(found)


def language_model(
    data: bytes, name: str, tokenizer: Tokenizer, *, weight: float = 1.0, writing: Writing | Literal["auto"] = "auto"
) -> NgramModel:
    """The language model in a file.

    Args:
        data: of the file: ARPA text, plain or gzipped, or KenLM's binary format.
        name: for errors.
        tokenizer: of the recognizer.
        weight: the scorer's.
        writing: how the model writes tokens: `pieces`, `ids` or `auto`.

    Raises:
        ConfigError: it is none of these, is damaged, or is not over these tokens.
    """
    try:
        orders = _orders(_unzipped(data), tokenizer, writing)
        return NgramModel(orders, vocab_size=tokenizer.vocab_size, weight=weight)
    except ValueError as error:  # of which a ConfigError is one
        raise ConfigError(f"the language model {name}: {error}") from error


def _read(name: str, files: Files) -> bytes:
    try:
        return files.read(name)
    except ConfigError as error:
        raise ConfigError(f"lm: {error}") from error


def _orders(data: bytes, tokenizer: Tokenizer, writing: Writing | Literal["auto"]) -> list[Order]:
    if data[257:262] == _TAR:
        raise ValueError("it is an archive, as NeMo keeps models in; give the ARPA file that it was made from")
    if data.startswith(MAGIC):
        return reading.read(data, lambda strangers: choose(tokenizer, writing, strangers))
    return arpa.read(data, lambda words: choose(tokenizer, writing, lambda known: _strangers(words, known)))


def _strangers(words: list[bytes], known: dict[bytes, int]) -> str:
    lost = [word.decode("utf-8", "replace") for word in words if word not in known]
    return ", ".join(map(repr, lost[:3])) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")


def _unzipped(data: bytes) -> bytes:
    if not data.startswith(_GZIP):
        return data
    most = max(_ALWAYS, _EXPANSION * len(data))
    try:
        with gzip.open(BytesIO(data)) as source:
            found = source.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"it is not a whole gzip file: {error}") from error
    if len(found) > most:
        raise ValueError(
            f"it is a gzip file that holds more than {_EXPANSION} times its size, as no language model does; refused"
        )
    return found
