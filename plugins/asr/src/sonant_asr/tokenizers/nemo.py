"""NeMo's tokenizers as ours, and back. NeMo names them by `type`, and files by `nemo:` values that the reader resolves first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.errors import CheckpointError
from sonant.nemo import ComponentMapping, NemoSection
from sonant_asr.tokenizers.config import AggregateConfig, CharConfig, SentencePieceConfig

_CANARY = "nemo.collections.common.tokenizers.canary_tokenizer."
CUSTOM = {"agg": f"{_CANARY}CanaryTokenizer", "bpe": f"{_CANARY}CanaryBPETokenizer"}
"""The tokenizers of Canary models: the usual ones that know where their special tokens are, as ours do."""


def _read_sentencepiece(section: NemoSection) -> dict[str, Any]:
    values = {"file": section.take("model_path")}
    _expect_custom(section, "bpe")
    section.drop("dir", "vocab_path", "spe_tokenizer_vocab")
    return values


def _write_sentencepiece(config: SentencePieceConfig) -> dict[str, Any]:
    return {"dir": "tokenizer", "type": "bpe", "model_path": config.file}


def _read_char(section: NemoSection) -> dict[str, Any]:
    return {"labels": section.take("labels")}


def _write_char(config: CharConfig) -> dict[str, Any]:
    return {"labels": list(config.labels)}


def _read_aggregate(section: NemoSection) -> dict[str, Any]:
    langs = section.section("langs")
    found = {}
    for lang in list(langs.keys()):
        one = langs.section(lang)
        one.expect("type", "bpe")
        found[lang] = {"name": "sentencepiece"} | _read_sentencepiece(one)
        section.dropped += one.finish()
    section.drop("dir")
    _expect_custom(section, "agg")
    return {"langs": found}


def _expect_custom(section: NemoSection, kind: str) -> None:
    custom = section.take("custom_tokenizer", None)
    target = custom.get("_target_") if isinstance(custom, Mapping) else custom
    if target not in (None, CUSTOM[kind]):
        raise CheckpointError(
            f"{section.path}.custom_tokenizer is {target!r}, which Sonant does not support; supported: {CUSTOM[kind]!r}"
        )


def _write_aggregate(config: AggregateConfig) -> dict[str, Any]:
    langs = {}
    for lang, values in config.langs.items():
        if not isinstance(values, Mapping) or values.get("name") != "sentencepiece":
            raise CheckpointError(f"tokenizer.langs.{lang} is {values!r}: NeMo aggregates sentencepiece tokenizers only")
        langs[lang] = _write_sentencepiece(SentencePieceConfig(file=values["file"]))
    return {"type": "agg", "langs": langs}


SENTENCEPIECE = ComponentMapping(read=_read_sentencepiece, write=_write_sentencepiece)
CHAR = ComponentMapping(read=_read_char, write=_write_char)
AGGREGATE = ComponentMapping(read=_read_aggregate, write=_write_aggregate)
