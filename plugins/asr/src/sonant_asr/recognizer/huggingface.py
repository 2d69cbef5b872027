"""Hugging Face's Parakeet models as the task `asr`, and back; its streaming Nemotron models are read only."""

from __future__ import annotations

from typing import Any, Final

from sonant.config import ModelConfig
from sonant.errors import CheckpointError
from sonant.files import Files
from sonant.huggingface.convert import FORM, Reader, Writer
from sonant.layout import HF_PREPROCESSOR, HF_PROCESSOR
from sonant.mapping import ForeignSection, Placed, TaskMapping
from sonant_asr.tokenizers import huggingface as tokenizers

_HEADS: Final = {  # our head: their type of config, architecture, the key of the blank
    "ctc": ("parakeet_ctc", "ParakeetForCTC", "pad_token_id"),
    "rnnt": ("parakeet_rnnt", "ParakeetForRNNT", "blank_token_id"),
    "tdt": ("parakeet_tdt", "ParakeetForTDT", "blank_token_id"),
}
_PARTS: Final = {"preprocessor", "augmentation", "tokenizer", "encoder", "decoder", "search"}
"""What there is, or what is not kept in weights."""
_HEAD_KEYS: Final = (
    *("ctc_loss_reduction", "ctc_zero_infinity"),
    *("decoder_hidden_size", "num_decoder_layers", "hidden_act", "max_symbols_per_step", "durations"),
)


def read(document: ForeignSection, reader: Reader) -> tuple[dict[str, Any], dict[str, Placed]]:
    """Split the document, and the files beside it, into the parts of the task."""
    kind = str(document.take("model_type"))
    size = _labels(document, "pad_token_id" if kind == _HEADS["ctc"][0] else "blank_token_id")
    features = reader.feature_extractor()
    parts = {"preprocessor": reader.component("preprocessor", str(features.peek("feature_extractor_type")), features, "")}
    parts["tokenizer"] = _read_tokenizer(size, reader)
    encoder = ForeignSection(document.take("encoder_config") | _look_aheads(reader), "encoder_config", FORM)
    parts["encoder"] = reader.component("encoder", str(encoder.peek("model_type")), encoder, "encoder.")
    head = {key: document.take(key) for key in _HEAD_KEYS if key in document}
    parts["decoder"] = reader.component("decoder", kind, ForeignSection(head, "", FORM), "")
    return {}, parts


def _labels(document: ForeignSection, blank: str) -> int:
    """How many labels the model knows besides the blank, which must be the last of its vocabulary."""
    size = int(document.take("vocab_size")) - 1
    document.expect(blank, size)
    return size


def _look_aheads(reader: Reader) -> dict[str, Any]:
    """The choice that a streaming encoder offers, which transformers keeps with the processor."""
    known = reader.folder.json(HF_PROCESSOR) if HF_PROCESSOR in reader.folder else {}
    return {key: known[key] for key in ("supported_num_lookahead_tokens",) if known.get(key) is not None}


def _read_tokenizer(size: int, reader: Reader) -> Placed:
    content = tokenizers.sentencepiece_model(reader.folder.json(tokenizers.FILE), size)
    section = ForeignSection({"file": reader.store("tokenizer.model", content)}, tokenizers.FILE, FORM)
    return reader.component("tokenizer", tokenizers.FILE, section, "")


def write(config: ModelConfig, writer: Writer) -> tuple[dict[str, Any], dict[str, Placed]]:
    """Put the parts together as their document, and the files beside it."""
    head = config.parts["decoder"].name
    more = sorted(config.parts.keys() - _PARTS)
    if head not in _HEADS or more:
        what = more[0] if more else f"decoder {head!r}"
        raise CheckpointError(f"{FORM}'s Parakeet has no {what}: it has one decoder of {', '.join(_HEADS)}, and nothing besides")
    kind, architecture, blank = _HEADS[head]
    sizes = writer.parts()
    labels = int(sizes["tokenizer"].vocab_size)
    parts: dict[str, Placed] = {}
    features, parts["preprocessor"] = writer.component("preprocessor", "")
    encoder, parts["encoder"] = writer.component("encoder", "encoder.", d_in=int(sizes["preprocessor"].d_out))
    tokenizer, parts["tokenizer"] = writer.component("tokenizer", "")
    decoder, parts["decoder"] = writer.component("decoder", "")
    document = {"architectures": [architecture], "model_type": kind, "dtype": "float32", "encoder_config": encoder}
    document |= decoder | {"vocab_size": labels + 1, "pad_token_id": labels, blank: labels}
    if head != "ctc":  # where `generate` begins; and scores of durations are no labels
        durations = [labels + 1 + n for n in range(len(decoder.get("durations", [])))]
        start = {"decoder_start_token_id": labels, "pad_token_id": labels}
        writer.store("generation_config.json", start | ({"suppress_tokens": durations} if durations else {}))
    _write_processor(features, head, writer)
    _write_tokenizer(tokenizer["file"], head, writer)
    return document, parts


def _write_processor(features: dict[str, Any], head: str, writer: Writer) -> None:
    processor = {"processor_class": "ParakeetProcessor"}
    writer.store(HF_PREPROCESSOR, features | processor)  # where releases before 5 look for them
    # A processor takes CTC to be meant where the blank token that it names is absent.
    writer.store(HF_PROCESSOR, processor | {"blank_token": "<blank>", "decoder_type": head, "feature_extractor": features})


def _write_tokenizer(file: str, head: str, writer: Writer) -> None:
    content = Files.of(dict(writer.blueprint.files), "the model").read(file)
    blank = "<pad>" if head == "ctc" else "<blank>"
    writer.store(tokenizers.FILE, tokenizers.tokenizer_document(content, [blank]))
    writer.store(
        "tokenizer_config.json",
        {
            "tokenizer_class": "ParakeetTokenizer",
            "clean_up_tokenization_spaces": False,
            "pad_token": blank,
            "unk_token": "<unk>",
            "processor_class": "ParakeetProcessor",
        },
    )


MAPPING = TaskMapping(read=read, write=write)
