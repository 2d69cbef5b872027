"""Makes the checkpoints of less usual parts: stateless prediction networks, HAT, prompted models, end-of-utterance models,
the Transformer encoder, ContextNet, Jasper and linear adapters. Runs in NeMo's environment, not in ours:

    python tests/nemo-cases/make_variants.py [NAME ...]

The models are overfitted to the two recordings, so their text is right.
What is stored is said in `../test_nemo_fidelity.py`. Made with nemo-toolkit 3.0.0 and torch 2.13.0 on a CPU, in float32.
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import sentencepiece
import soundfile
import torch
from nemo.collections.asr import models
from nemo.collections.asr.modules import TransformerEncoder
from omegaconf import OmegaConf
from overfitting import fit, ids

HERE = Path(__file__).resolve().parent
AUDIO = ["a.wav", "b.wav"]
MODULES = "nemo.collections.asr.modules."
LABELS = [" ", *"abcdefghijklmnopqrstuvwxyz", "'"]
TEXTS = {
    "": ["front center rear left", "side right"],
    "eou": ["front center<EOU> rear left<EOU>", "side right<EOB>"],
    "de-DE": ["vorn mitte hinten links", "seite rechts"],
}
SENTENCES = [*TEXTS[""], *TEXTS["de-DE"]] * 3
EOU = ["<EOU>", "<EOB>"]
PROMPTS = {"en-US": 0, "en": 0, "de-DE": 1, "auto": 5}
WIDTH, PRED, JOINT = 32, 24, 24

PREPROCESSOR = {
    "_target_": f"{MODULES}AudioToMelSpectrogramPreprocessor",
    "sample_rate": 16000, "normalize": "per_feature", "window_size": 0.025, "window_stride": 0.01, "window": "hann",
    "features": 40, "n_fft": 512, "frame_splicing": 1, "dither": 0.0, "pad_to": 0,
}  # fmt: skip
UNNORMALIZED = PREPROCESSOR | {"normalize": "NA"}  # as models have that stream
FASTCONFORMER = {
    "_target_": f"{MODULES}ConformerEncoder",
    "feat_in": 40, "feat_out": -1, "n_layers": 1, "d_model": WIDTH, "n_heads": 4, "ff_expansion_factor": 2,
    "subsampling": "dw_striding", "subsampling_factor": 8, "subsampling_conv_channels": 8, "conv_kernel_size": 9,
}  # fmt: skip
STREAMING = FASTCONFORMER | {
    "causal_downsampling": True, "att_context_size": [[8, 3], [8, 0]], "att_context_style": "chunked_limited",
    "conv_context_size": "causal", "conv_norm_type": "layer_norm",
}  # fmt: skip
TRANSFORMER = {
    "_target_": f"{MODULES}TransformerEncoder",
    "feat_in": 40, "n_layers": 2, "d_model": WIDTH, "n_heads": 2, "ff_expansion": 2.0, "subsampling_factor": 4,
}  # fmt: skip


def block(filters: int, kernel: int, **options) -> dict:
    """A block as NeMo's configs write it."""
    numbers = {"kernel": [kernel], "stride": [options.pop("stride", 1)], "dilation": [options.pop("dilation", 1)]}
    return {"filters": filters, "repeat": 1, "dropout": 0.0, "residual": False} | numbers | options


def convolutional(*blocks: dict, **options) -> dict:
    return {"_target_": f"{MODULES}ConvASREncoder", "feat_in": 40, "conv_mask": True, "jasper": list(blocks)} | options


# Han et al., 2020: separable convolutions with excitation over a context, swish, strides with `stride_add`; fewer and narrower.
EXCITED = {"separable": True, "se": True, "se_context_size": -1, "kernel_size_factor": 0.6}
CONTEXTNET = convolutional(
    block(24, 5, **EXCITED),
    block(24, 9, repeat=3, stride=2, stride_last=True, residual=True, residual_mode="stride_add", **EXCITED),
    block(24, 9, repeat=2, residual=True, **EXCITED),
    block(24, 9, repeat=2, stride=2, stride_last=True, residual=True, residual_mode="stride_add", **EXCITED),
    block(WIDTH, 9, stride=2, **EXCITED),
    activation="swish",
)
# Li et al., 2019: full convolutions, and each block adds what all blocks before it took in.
DENSE = {"repeat": 2, "residual": True, "residual_dense": True}
JASPER = convolutional(
    block(16, 11, stride=2),
    block(16, 11, **DENSE),
    block(24, 13, **DENSE),
    block(24, 17, dilation=2),
    block(WIDTH, 1),
    activation="relu",
)


def rnnt(decoder: str = "RNNTDecoder", joint: str = "RNNTJoint", **options) -> dict:
    prednet = {"pred_hidden": PRED, "dropout": 0.1} | ({"pred_rnn_layers": 1} if decoder == "RNNTDecoder" else {})
    return {
        "decoder": {"_target_": MODULES + decoder, "prednet": prednet} | options,
        "joint": {
            "_target_": MODULES + joint,
            "log_softmax": None,
            "preserve_memory": False,
            "fuse_loss_wer": False,
            "jointnet": {"joint_hidden": JOINT, "activation": "relu", "dropout": 0.1},
        },
        "decoding": {"strategy": "greedy_batch", "greedy": {"max_symbols": 10}},
        "loss": {"loss_name": "default"},
    }


def tdt(durations: list[int], **options) -> dict:
    found = rnnt(**options)
    found["joint"]["num_extra_outputs"] = len(durations)
    found["decoding"] |= {"model_type": "tdt", "durations": durations}
    found["loss"] = {"loss_name": "tdt", "tdt_kwargs": {"durations": durations, "sigma": 0.02, "omega": 0.1}}
    found["model_defaults"] = {"tdt_durations": durations, "num_tdt_durations": len(durations)}
    return found


def sampled(count: int) -> dict:
    found = rnnt(joint="SampledRNNTJoint")
    found["joint"]["n_samples"] = count
    return found


def ctc(**options) -> dict:
    return {"_target_": f"{MODULES}ConvASRDecoder", "feat_in": WIDTH, "num_classes": -1, "vocabulary": []} | options


AUX = {"aux_ctc": {"ctc_loss_weight": 0.3, "use_cer": False, "ctc_reduction": "mean_batch", "decoder": ctc()}}
PROMPTED = {"initialize_prompt_feature": True, "num_prompts": 6, "prompt_dictionary": PROMPTS}
CHARACTERS = ctc(num_classes=len(LABELS), vocabulary=LABELS)

LINEAR = "nemo.collections.common.parts.adapter_modules.LinearAdapter"
ADAPTERS = {  # the last one is off
    "first": {"dim": 8},
    "second": {"dim": 6, "activation": "relu", "norm_position": "post", "dropout": 0.1},
    "off": {"dim": 4},
}

CASES = {
    "adapted_ctc_bpe": (
        "EncDecCTCModelBPE",
        "linear adapters behind each layer, one of three switched off",
        {"encoder": FASTCONFORMER, "decoder": ctc()},
    ),
    "stateless_rnnt_bpe": (
        "EncDecRNNTBPEModel",
        "stateless prediction network of two labels, normalized",
        {"encoder": FASTCONFORMER} | rnnt("StatelessTransducerDecoder", context_size=2, normalization_mode="layer"),
    ),
    "stateless_tdt_bpe": (
        "EncDecRNNTBPEModel",
        "stateless prediction network of three labels, with durations",
        {"encoder": FASTCONFORMER} | tdt([0, 1, 2, 4], decoder="StatelessTransducerDecoder", context_size=3),
    ),
    "hat_rnnt_char": (
        "EncDecRNNTModel",
        "hybrid autoregressive transducer, characters",
        {"encoder": FASTCONFORMER, "labels": LABELS} | rnnt(joint="HATJoint"),
    ),
    "hat_stateless_rnnt_bpe": (
        "EncDecRNNTBPEModel",
        "hybrid autoregressive transducer on a stateless prediction network of one label",
        {"encoder": FASTCONFORMER} | rnnt("StatelessTransducerDecoder", "HATJoint", context_size=1),
    ),
    "sampled_rnnt_bpe": (
        "EncDecRNNTBPEModel",
        "a joint network that samples labels in training",
        {"encoder": FASTCONFORMER} | sampled(8),
    ),
    "contextnet_rnnt_bpe": ("EncDecRNNTBPEModel", "ContextNet transducer", {"encoder": CONTEXTNET} | rnnt()),
    "jasper_ctc_char": (
        "EncDecCTCModel",
        "Jasper with dense residual connections, characters",
        {"encoder": JASPER, "decoder": CHARACTERS, "labels": LABELS},
    ),
    "transformer_ctc_bpe": (
        "EncDecCTCModelBPE",
        "Transformer encoder, relative positions",
        {"encoder": TRANSFORMER | {"qkv_bias": True, "qk_norm": True}, "decoder": ctc()},
    ),
    "transformer_rnnt_bpe": (
        "EncDecRNNTBPEModel",
        "causal Transformer encoder, absolute positions",
        {
            "encoder": TRANSFORMER
            | {"self_attention_model": "abs_pos", "attn_mode": "causal", "subsampling_factor": 8}
            | {"xscaling": True, "pre_block_norm": False, "feat_out": 24}
        }
        | rnnt(),
    ),
    "prompt_rnnt_bpe": (
        "EncDecRNNTBPEModelWithPrompt",
        "transducer that is told the language, cache-aware streaming",
        {"encoder": STREAMING, "preprocessor": UNNORMALIZED, "model_defaults": PROMPTED} | rnnt(),
    ),
    "prompt_hybrid_bpe": (
        "EncDecHybridRNNTCTCBPEModelWithPrompt",
        "hybrid that is told the language",
        {"encoder": FASTCONFORMER, "model_defaults": PROMPTED} | rnnt() | AUX,
    ),
    "eou_rnnt_bpe": (
        "EncDecRNNTBPEEOUModel",
        "transducer that marks ends of utterances, cache-aware streaming",
        {"encoder": STREAMING, "preprocessor": UNNORMALIZED} | rnnt(),
    ),
    "eou_hybrid_bpe": (
        "EncDecHybridRNNTCTCBPEEOUModel",
        "hybrid that marks ends of utterances",
        {"encoder": FASTCONFORMER} | rnnt() | AUX,
    ),
}


def tokenizer(folder: Path, symbols: list[str]) -> dict:
    """A small subword model; without normalization rules it takes a few kilobytes."""
    text = folder / "text.txt"
    text.write_text("\n".join(SENTENCES), "utf-8")
    options = {"vocab_size": 40, "model_type": "bpe", "normalization_rule_name": "identity", "bos_id": -1, "eos_id": -1}
    prefix = str(folder / "tokenizer")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=prefix, user_defined_symbols=symbols, minloglevel=2, **options
    )
    model = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    pieces = [model.id_to_piece(i) for i in range(model.vocab_size())]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), "utf-8")
    return {"dir": str(folder), "type": "bpe"}


def build(name: str, folder: Path):
    class_name, _, parts = CASES[name]
    width = parts["encoder"].get("feat_out", -1)
    sizes = {"enc_hidden": width if width > 0 else WIDTH, "pred_hidden": PRED, "joint_hidden": JOINT}
    data = {"manifest_filepath": None, "sample_rate": 16000, "use_start_end_token": False, "defer_setup": True}
    config = {"sample_rate": 16000, "preprocessor": PREPROCESSOR, "train_ds": data, "validation_ds": data, "test_ds": data}
    config |= parts | {"model_defaults": sizes | parts.get("model_defaults", {})}
    if class_name.endswith(("CTCModel", "RNNTModel")):
        if "joint" in config:
            config["joint"] = config["joint"] | {"num_classes": len(LABELS), "vocabulary": LABELS}
            config["decoder"] = config["decoder"] | {"vocab_size": len(LABELS)}
            jointnet = config["joint"]["jointnet"] | {"encoder_hidden": WIDTH, "pred_hidden": PRED}
            config["joint"]["jointnet"] = jointnet
    else:
        config["tokenizer"] = tokenizer(folder, EOU if "EOU" in class_name else [])
    if "EOU" in class_name:  # NeMo looks for the class of these two in another module than the rest
        from nemo.collections.asr.models import asr_eou_models

        cls = getattr(asr_eou_models, class_name)
    elif "Prompt" in class_name:
        from nemo.collections.asr.models import hybrid_rnnt_ctc_bpe_models_prompt, rnnt_bpe_models_prompt

        cls = getattr(hybrid_rnnt_ctc_bpe_models_prompt if "Hybrid" in class_name else rnnt_bpe_models_prompt, class_name)
    else:
        cls = getattr(models, class_name)
    torch.manual_seed(0)
    config["target"] = f"{cls.__module__}.{cls.__qualname__}"
    model = cls(cfg=OmegaConf.create(config), trainer=None)
    if name.startswith("adapted"):
        model.replace_adapter_compatible_modules()
        for adapter, options in ADAPTERS.items():
            model.add_adapter(adapter, OmegaConf.create({"_target_": LINEAR, "in_features": WIDTH} | options))
        model.set_enabled_adapters("off", enabled=False)
    return model.eval()


def draw(model) -> None:
    """Weights from a seed, of a size that keeps signals in range."""
    random = np.random.default_rng(0)
    for key, tensor in model.state_dict().items():
        if not tensor.is_floating_point() or key.startswith("preprocessor."):
            continue
        values = random.standard_normal(tuple(tensor.shape))
        if key.endswith("running_var"):
            values = 0.5 + abs(values)
        elif tensor.ndim == 1:
            values = 0.1 * values + (1.0 if key.endswith("weight") else 0.0)
        elif "embed" not in key:
            values = values / np.prod(tensor.shape[1:]) ** 0.5
        with torch.no_grad():
            tensor.copy_(torch.tensor(values, dtype=torch.float32))
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx] = 0.0


def encode(model, wav, lens, prompt: int | None = None):
    mel, mel_len = model.preprocessor(input_signal=wav, length=lens)
    if prompt is None:
        enc, enc_len = model.encoder(audio_signal=mel, length=mel_len)
    else:
        enc, enc_len = model(input_signal=wav, input_signal_length=lens, prompt_indices=torch.full((len(wav),), prompt))
    return mel, mel_len, enc, enc_len


def reencode(model, wav, lens, prompt: int | None):
    """With gradients, where the encoder can do that on a CPU."""
    with torch.set_grad_enabled(not isinstance(model.encoder, TransformerEncoder)):
        return encode(model, wav, lens, prompt)[2:]


def labels_of(model, text: str) -> list[int]:
    return model.tokenizer.text_to_ids(text) if hasattr(model, "tokenizer") else [LABELS.index(c) for c in text]


def spell(model, enc, enc_len) -> dict:
    found = model.decoding.rnnt_decoder_predictions_tensor(enc, enc_len, return_hypotheses=True)
    return {"tokens": ids(found), "text": [h.text for h in found], "score": [float(h.score) for h in found]}


def transducer(model, enc, enc_len) -> tuple[dict, dict]:
    size = int(model.decoder.blank_idx)
    targets = torch.tensor(np.random.default_rng(1).integers(0, size, (2, 5)))
    pred = model.decoder(targets=targets, target_length=torch.tensor([5, 5]))[0]
    joint = model.joint.joint(enc[:, :, :4].transpose(1, 2), pred.transpose(1, 2))
    return {"targets": targets, "pred": pred, "joint": joint}, spell(model, enc, enc_len)


def connectionist(head, decoding, enc, enc_len, prefix: str) -> tuple[dict, dict]:
    logprobs = head(encoder_output=enc)
    found = decoding.ctc_decoder_predictions_tensor(logprobs, decoder_lengths=enc_len, return_hypotheses=True)
    best = [row[:n].tolist() for row, n in zip(logprobs.argmax(-1), enc_len, strict=True)]
    return {f"{prefix}logprobs": logprobs}, {f"{prefix}tokens": best, f"{prefix}text": [h.text for h in found]}


def simple(value):
    """Plain numbers and lists of what NeMo gives."""
    if isinstance(value, dict):
        return {key: simple(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [simple(v) for v in value]
    return value.item() if isinstance(value, (np.generic, torch.Tensor)) else value


def transcribe(model) -> dict:
    found = [model.transcribe([str(HERE / name)], timestamps=True, verbose=False)[0] for name in AUDIO]
    return {"transcribe_text": [h.text for h in found], "timestamp": [simple(h.timestamp) for h in found]}


@torch.no_grad()
def make(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = build(name, Path(folder))
        draw(model)
        model.preprocessor.featurizer.dither = 0.0
        waves = [torch.from_numpy(soundfile.read(HERE / file, dtype="float32")[0]) for file in AUDIO]
        lens = torch.tensor([len(wave) for wave in waves])
        wav = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
        prompted = name.startswith("prompt")
        langs = ("auto", "de-DE") if prompted else (None,)
        texts = [TEXTS.get(lang or name.split("_")[0], TEXTS[""]) for lang in langs]
        prompts = [PROMPTS.get(lang) for lang in langs]
        with torch.enable_grad():
            wanted = [[labels_of(model, text) for text in pair] for pair in texts]
            fit(model, [partial(reencode, model, wav, lens, prompt) for prompt in prompts], wanted)
        mel, mel_len, enc, enc_len = encode(model, wav, lens, prompts[0])
        model.save_to(str(HERE / f"{name}.nemo"))
        arrays = {"mel": mel, "mel_len": mel_len, "enc": enc, "enc_len": enc_len}
        cls = type(model)
        info = {"class": f"{cls.__module__}.{cls.__qualname__}", "seed": 0, "audio": AUDIO, "note": CASES[name][1]}
        if hasattr(model, "joint"):
            found = transducer(model, enc, enc_len)
        else:
            found = connectionist(model.decoder, model.decoding, enc, enc_len, "")
        arrays, info = arrays | found[0], info | found[1]
        if hasattr(model, "ctc_decoder"):
            found = connectionist(model.ctc_decoder, model.ctc_decoding, enc, enc_len, "ctc_")
            arrays, info = arrays | found[0], info | found[1]
        if prompted:
            info["langs"] = {}
            for lang in ("auto", "de-DE"):
                _, _, told, _ = encode(model, wav, lens, PROMPTS[lang])
                arrays[f"prompted_enc_{lang}"] = told
                info["langs"][lang] = spell(model, told, enc_len)
        elif not name.startswith("eou"):  # NeMo transcribes these two kinds by another data loader
            info |= transcribe(model)
        np.savez_compressed(HERE / f"{name}.npz", **{key: value.numpy() for key, value in arrays.items()})
        (HERE / f"{name}.json").write_text(json.dumps(info, indent=1, ensure_ascii=False) + "\n", "utf-8")
        sizes = [(HERE / f"{name}.{end}").stat().st_size // 1000 for end in ("nemo", "npz", "json")]
        print(name, sizes, info.get("tokens"), info.get("text"), info.get("langs"), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(2)
    for wanted in sys.argv[1:] or CASES:
        make(wanted)
