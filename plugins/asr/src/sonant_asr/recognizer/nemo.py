"""NeMo's CTC, transducer and hybrid models as the task `asr`, and back."""

from __future__ import annotations

from typing import Any

from sonant.config import ModelConfig
from sonant.errors import CheckpointError
from sonant.files import Files
from sonant.nemo import NemoSection, Placed, TaskMapping
from sonant.nemo.convert import Reader, Writer
from sonant_asr.aed.nemo import SECTIONS
from sonant_asr.alignment import nemo as alignment
from sonant_asr.recognizer import variants
from sonant_asr.tokenizers.config import SentencePieceConfig
from sonant_asr.tokenizers.nemo import CUSTOM
from sonant_asr.tokenizers.sentencepiece import SentencePiece

_MODELS = "nemo.collections.asr.models."
_SWITCHES = (  # what only training and logging look at
    *("train_ds", "validation_ds", "test_ds", "optim", "loss", "ctc_reduction", "skip_nan_grad", "log_prediction", "use_cer"),
    *("compute_eval_loss", "variational_noise", "model_defaults", "nemo_version", "rnnt_reduction", "init_from_nemo_model"),
    *("init_from_pretrained_model", "init_from_ptl_ckpt", "name", "exp_manager", "trainer", "freeze_updates"),
)
_SHARED = ("repeat", "dropout", "separable")  # values that NeMo's QuartzNet configs define once and refer to in blocks


def read(document: NemoSection, reader: Reader) -> tuple[dict[str, Any], dict[str, Placed]]:
    """Split NeMo's document into the parts of the task."""
    parts = {"preprocessor": reader.component("preprocessor", document.section("preprocessor"), "preprocessor.")}
    if "spec_augment" in document:
        parts["augmentation"] = reader.component("augmentation", document.section("spec_augment"), "spec_augmentation.")
    document.drop("spec_augment")
    decoding = document.peek("decoding") or {}
    task = _read_task(decoding) | variants.read_task(reader.target)
    parts["tokenizer"] = _read_tokenizer(document, reader)
    parts["encoder"] = reader.component("encoder", _read_encoder(document), "encoder.")
    parts |= variants.read_prompt(document, reader)
    if "transf_decoder" in document:
        parts["decoder"] = _read_aed(document, reader)
        if document.take("restore_timestamps_model", True):
            parts |= alignment.read(reader, read)
    elif "joint" in document:
        durations = decoding.get("durations") or (document.peek("model_defaults") or {}).get("tdt_durations")
        parts["decoder"] = _read_transducer(document, durations, reader)
    else:
        parts["decoder"] = reader.component("decoder", document.section("decoder"), "decoder.")
    if "aux_ctc" in document and "Hybrid" in reader.target:  # other classes ignore the section, and have no weights for it
        aux = document.section("aux_ctc")
        parts["aux_decoder"] = reader.component("decoder", aux.section("decoder"), "ctc_decoder.")
        task["aux_loss_weight"] = aux.take("ctc_loss_weight", 0.5)
        aux.drop("use_cer", "ctc_reduction", "decoding")
        reader.finish(aux)
    task |= _read_interctc(document, parts)
    document.drop("aux_ctc", "decoding", "labels", "sample_rate", *_SHARED, *_SWITCHES)
    return task, parts


def _read_interctc(document: NemoSection, parts: dict[str, Placed]) -> dict[str, Any]:
    """Losses within the encoder, of models with a CTC head; NeMo's others ignore the section."""
    if not any(parts[key].section["name"] == "ctc" for key in ("decoder", "aux_decoder") if key in parts):
        document.drop("interctc")
        return {}
    values = document.take("interctc", None) or {}
    return {"interctc": dict(values)} if values.get("apply_at_layers") else {}


def _write_interctc(config: ModelConfig) -> dict[str, Any]:
    values = config.task.config.interctc
    layers, weights = list(values.apply_at_layers), list(values.loss_weights)
    return {"interctc": {"loss_weights": weights, "apply_at_layers": layers}} if layers else {}


def _read_encoder(document: NemoSection) -> NemoSection:
    """The encoder's section with its adapters, which stand in one of their own."""
    adapters = document.take("adapters", None)
    encoder = document.take("encoder")
    return NemoSection(encoder | {"adapters": adapters} if adapters else encoder, "encoder")


def _read_task(decoding: dict[str, Any]) -> dict[str, Any]:
    return {
        "word_separator": decoding.get("word_seperator") or " ",  # spelt so by NeMo
        "segment_separators": list(decoding.get("segment_seperators") or [".", "!", "?"]),
        "segment_gap": decoding.get("segment_gap_threshold"),
    }


def _read_tokenizer(document: NemoSection, reader: Reader) -> Placed:
    if "tokenizer" not in document:
        labels = document.peek("labels") or (document.peek("decoder") or {}).get("vocabulary")
        section = NemoSection({"labels": labels}, "labels")
        document.drop("tokenizer")
        return reader.component("tokenizer", section, "tokenizer.", target="char")
    section = document.section("tokenizer")
    kind = str(section.take("type"))
    values = {key: section.take(key) for key in list(section.keys())}
    if kind == "agg":
        values["langs"] = {lang: _fetch(one, reader) for lang, one in values["langs"].items()}
        return reader.component("tokenizer", NemoSection(values, "tokenizer"), "tokenizer.", target="agg")
    return reader.component("tokenizer", NemoSection(_fetch(values, reader), "tokenizer"), "tokenizer.", target=kind)


def _fetch(values: dict[str, Any], reader: Reader) -> dict[str, Any]:
    """The section with the model file taken from the archive; the vocabularies beside it are in the model file too."""
    return values | ({"model_path": reader.artifact(values["model_path"])} if values.get("model_path") else {})


def _read_transducer(document: NemoSection, durations: list[int] | None, reader: Reader) -> Placed:
    joint = document.take("joint")
    extra = NemoSection(joint, "joint").peek("num_extra_outputs") or 0
    if extra and len(durations or []) != extra:
        big = (document.peek("decoding") or {}).get("big_blank_durations")
        what = f"multi-blank transducers (big_blank_durations {big}) are not" if big else "only TDT is"
        raise CheckpointError(f"joint.num_extra_outputs is {extra} and the durations are {durations}: {what} supported")
    decoder = dict(document.take("decoder"))
    target = decoder.get("_target_")
    greedy = (document.peek("decoding") or {}).get("greedy") or {}
    limit = greedy.get("max_symbols") or greedy.get("max_symbols_per_step")  # the latter in older files; none is no limit
    values = {"decoder": decoder, "joint": joint, "durations": durations if extra else None, "max_symbols": limit}
    section = NemoSection(values, "")
    return reader.component("decoder", section, "", target=str(target))


def _read_aed(document: NemoSection, reader: Reader) -> Placed:
    document.drop("model_defaults", "label_smoothing", "context_len_for_AR_decoding", "use_loss_mask_for_prompt")
    document.drop("multitask_metrics_cfg")
    values = {key: document.take(key, None) for key in SECTIONS}
    decoder = dict(values["transf_decoder"])
    target = decoder.pop("_target_", None)
    section = NemoSection(values | {"transf_decoder": decoder}, "")
    return reader.component("decoder", section, "", target=str(target))


def write(config: ModelConfig, writer: Writer) -> tuple[dict[str, Any], dict[str, Placed]]:
    """Put the parts together as NeMo's document."""
    document, parts = _write(config, writer)
    return document, parts | alignment.write(config, writer, _write)


def _write(config: ModelConfig, writer: Writer, at: str = "") -> tuple[dict[str, Any], dict[str, Placed]]:
    """The document and parts of the model, or with `at`, which their names begin with, of a second one."""
    parts: dict[str, Placed] = {}
    sizes = _Sizes(writer, at)
    has = {key.removeprefix(at): section for key, section in config.parts.items() if key.startswith(at)}
    document: dict[str, Any] = {"sample_rate": sizes.sample_rate}
    document["preprocessor"], parts["preprocessor"] = writer.component(f"{at}preprocessor", "preprocessor.")
    if "augmentation" in has:
        document["spec_augment"], parts["augmentation"] = writer.component("augmentation", "spec_augmentation.")
    document["encoder"], parts["encoder"] = writer.component(f"{at}encoder", "encoder.", d_in=sizes.features)
    if "adapters" in document["encoder"]:
        document["adapters"] = document["encoder"].pop("adapters")
    is_char = has["tokenizer"].name == "char"
    tokenizer, parts["tokenizer"] = writer.component(f"{at}tokenizer", "tokenizer.")
    document |= tokenizer if is_char else {"tokenizer": _store(tokenizer, writer)}
    is_ctc, is_aed = (has["decoder"].name == name for name in ("ctc", "aed"))
    is_transducer = not is_ctc and not is_aed
    written, parts["decoder"] = writer.component(
        f"{at}decoder", "decoder." if is_ctc else "", d_in=sizes.width, vocabulary=sizes.vocabulary
    )
    document |= {"decoder": written} if is_ctc else written
    document["decoding"] = _write_decoding(config, written, has["decoder"].config)
    if "aux_decoder" in has:
        head, parts["aux_decoder"] = writer.component(
            "aux_decoder", "ctc_decoder.", d_in=sizes.width, vocabulary=sizes.vocabulary
        )
        document["aux_ctc"] = {
            "ctc_loss_weight": config.task.config.aux_loss_weight,
            "use_cer": False,
            "ctc_reduction": "mean_batch",
            "decoder": head,
        }
        document["aux_ctc"]["decoding"] = {"strategy": "greedy_batch"}
    if not at:
        document |= _write_interctc(config)
    if is_transducer:
        document["labels"] = sizes.vocabulary
    # NeMo refuses to transcribe without these sections, empty as they are.
    data = {"manifest_filepath": None, "sample_rate": sizes.sample_rate, "use_start_end_token": False, "defer_setup": True}
    document |= {"train_ds": dict(data), "validation_ds": dict(data), "test_ds": dict(data)}
    document["target"] = _MODELS + _CLASSES[is_transducer, "aux_decoder" in has, is_char]
    document = variants.write_variant(document, parts, config.task.config.end_of_utterance, writer)
    return (_as_canary(document) if is_aed else document), parts


def _as_canary(document: dict[str, Any]) -> dict[str, Any]:
    """What NeMo's `EncDecMultiTaskModel` has otherwise than other recognizers."""
    kind = document.get("tokenizer", {}).get("type")
    if kind not in CUSTOM:
        raise CheckpointError("NeMo's attention encoder-decoder models have sentencepiece or aggregate tokenizers")
    return document | {
        "target": f"{_MODELS}aed_multitask_models.EncDecMultiTaskModel",
        "tokenizer": document["tokenizer"] | {"custom_tokenizer": {"_target_": CUSTOM[kind]}},
        "decoding": {"strategy": "beam", "return_best_hypothesis": True}
        | {"beam": {"beam_size": 1, "len_pen": 0.0, "max_generation_delta": 50}},
    }


_CLASSES = {  # transducer, hybrid, characters
    (False, False, False): "ctc_bpe_models.EncDecCTCModelBPE",
    (False, False, True): "ctc_models.EncDecCTCModel",
    (True, False, False): "rnnt_bpe_models.EncDecRNNTBPEModel",
    (True, False, True): "rnnt_models.EncDecRNNTModel",
    (True, True, False): "hybrid_rnnt_ctc_bpe_models.EncDecHybridRNNTCTCBPEModel",
    (True, True, True): "hybrid_rnnt_ctc_models.EncDecHybridRNNTCTCModel",
}


def _write_decoding(config: ModelConfig, decoder: dict[str, Any], head: Any) -> dict[str, Any]:
    task = config.task.config
    decoding: dict[str, Any] = {
        "strategy": "greedy_batch",
        "word_seperator": task.word_separator,
        "segment_seperators": list(task.segment_separators),
        "segment_gap_threshold": task.segment_gap,
    }
    durations = decoder.get("model_defaults", {}).get("tdt_durations")
    if "joint" in decoder:
        decoding |= {"model_type": "tdt" if durations else "rnnt", "greedy": {"max_symbols": head.max_symbols}}
    if durations:
        decoding["durations"] = durations
    return decoding


def _store(tokenizer: dict[str, Any], writer: Writer) -> dict[str, Any]:
    """The section with its model files put into the archive, and beside each the list of its pieces, which NeMo asks for."""
    if "langs" in tokenizer:
        return tokenizer | {"langs": {lang: _store(values, writer) for lang, values in tokenizer["langs"].items()}}
    files = Files.of(dict(writer.blueprint.files), "the model")
    model = SentencePiece(SentencePieceConfig(file=tokenizer["model_path"]), files=files)
    vocabulary = "".join(f"{piece}\n" for piece in model.pieces(range(model.vocab_size)))
    return tokenizer | {
        "model_path": writer.artifact(tokenizer["model_path"]),
        "vocab_path": writer.store("vocab.txt", vocabulary.encode("utf-8")),
    }


class _Sizes:
    """Sizes that NeMo's config repeats and ours derives, read off the built parts."""

    def __init__(self, writer: Writer, at: str = "") -> None:
        parts = {key.removeprefix(at): part for key, part in writer.parts().items() if key.startswith(at)}
        self.sample_rate = int(parts["preprocessor"].sample_rate)
        self.features = int(parts["preprocessor"].d_out)
        self.width = int(parts["encoder"].d_out)
        self.vocabulary = parts["tokenizer"].pieces(range(parts["tokenizer"].vocab_size))


MAPPING = TaskMapping(read=read, write=write)
