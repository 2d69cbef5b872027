"""The second model of Canary's files, which finds the times of words, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import evolve

from sonant.config import ModelConfig
from sonant.errors import CheckpointError
from sonant.nemo import NemoSection, Placed
from sonant.nemo.convert import Reader, Writer

NAME: Final = "timestamps_asr_model"
_PARTS: Final = ("preprocessor", "tokenizer", "encoder", "decoder")

ReadModel = Callable[[NemoSection, Reader], tuple[dict[str, Any], dict[str, Placed]]]


def read(reader: Reader, read_model: ReadModel) -> dict[str, Placed]:
    """The parts `aligner_*`, none where the archive holds no second model.

    Raises:
        CheckpointError: it is no CTC model.
    """
    document = reader.second(NAME)
    if document is None:
        return {}
    target = str(document.take("target", ""))
    _, parts = read_model(document, reader)
    reader.finish(document)
    if ".ctc_models." not in target and ".ctc_bpe_models." not in target:
        raise CheckpointError(f"{NAME} is {target!r}; Sonant aligns with CTC models only")
    return {f"aligner_{key}": evolve(parts[key], prefix=f"{NAME}.{parts[key].prefix}") for key in _PARTS}


def write(
    config: ModelConfig, writer: Writer, write_model: Callable[..., tuple[dict[str, Any], dict[str, Placed]]]
) -> dict[str, Placed]:
    """Store the second model, if there is one; returns its parts."""
    if "aligner_decoder" not in config.parts:
        return {}
    document, parts = write_model(config, writer, "aligner_")
    writer.second(NAME, document)
    return {f"aligner_{key}": evolve(placed, prefix=f"{NAME}.{placed.prefix}") for key, placed in parts.items()}
