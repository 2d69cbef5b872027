"""What NeMo's greedy searches make of noisy encoder output: confidence, and a language model and phrases. Runs in NeMo's
environment, not in ours:

    python plugins/asr/tests/data/make_greedy.py

Writes `greedy.json`, whose contents are said in `../test_greedy_nemo.py`. The language model is `fusion.arpa`.
Made with nemo-toolkit 3.0.0 and torch 2.13.0 on a CPU, in float32.
"""

import json
from pathlib import Path

import numpy as np
import torch
from nemo.collections.asr import models
from omegaconf import OmegaConf, open_dict

HERE = Path(__file__).resolve().parent
CASES = HERE.parents[3] / "tests" / "nemo-cases"
MODELS = ["fastconformer_ctc_bpe", "fastconformer_rnnt_bpe", "fastconformer_tdt_bpe", "conformer_rnnt_char"]
NOISES = [0.0, 1.0, 2.0]
MEASURES = [
    {},
    {"method": "max_prob"},
    {"method": "max_prob", "alpha": 1.0},
    *({"entropy_type": kind, "entropy_norm": "lin", "alpha": 0.5} for kind in ("gibbs", "tsallis", "renyi")),
    *({"entropy_type": kind, "entropy_norm": "exp", "alpha": 0.5} for kind in ("gibbs", "tsallis", "renyi")),
    *({"entropy_type": kind, "entropy_norm": "exp", "alpha": 1.0} for kind in ("gibbs", "tsallis")),
]
CONFIGS = [
    *({**measure, "aggregation": how} for measure, how in zip(MEASURES, ["min", "mean", "max", "prod"] * 3, strict=False)),
    *({"exclude_blank": False, "aggregation": how} for how in ("min", "mean", "max", "prod")),
    *({"tdt_include_duration": True, "aggregation": how} for how in ("min", "mean", "max", "prod")),
    {"tdt_include_duration": True, "exclude_blank": False, "aggregation": "mean"},
]
FUSIONS = [
    {"lm_weight": 0.5},
    {"lm_weight": 2.0},
    {"boost": ["center", "rear left", "side"], "boost_weight": 2.0},
    {"boost": ["front left", "right", "is"], "boost_weight": 6.0},
    {"lm_weight": 1.0, "boost": ["front", "right"], "boost_weight": 2.0},
]


def utterances(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Encoder output `(B, T, D)` of the recordings, with more and more noise, and the lengths `(B,)`."""
    case = np.load(CASES / f"{name}.npz")
    enc, lens = case["enc"].transpose(0, 2, 1), case["enc_len"]
    noise = np.random.default_rng(0).standard_normal((len(NOISES), *enc.shape)).astype(np.float32) * enc.std()
    return np.concatenate([enc + np.float32(size) * one for size, one in zip(NOISES, noise, strict=True)]), np.tile(
        lens, len(NOISES)
    )


def section(config: dict) -> dict:
    method = {key: config[key] for key in ("entropy_type", "alpha", "entropy_norm") if key in config}
    return {
        **{f"preserve_{what}_confidence": True for what in ("frame", "token", "word")},
        **{key: config[key] for key in ("aggregation", "exclude_blank", "tdt_include_duration") if key in config},
        "method_cfg": {"name": config.get("method", "entropy"), **method},
    }


def decode(model, decoding: dict, enc: np.ndarray, lens: np.ndarray, **changes) -> list:
    config = OmegaConf.create(decoding)  # not the model's, which keeps what it is changed to
    with open_dict(config):
        config.strategy = "greedy_batch"
        config.compute_timestamps = not hasattr(model, "joint")  # NeMo cannot give confidence with the times of transducers
        config.greedy = {**(config.get("greedy") or {}), **changes.pop("greedy", {})}
        for key, value in changes.items():
            config[key] = value
    model.change_decoding_strategy(config, verbose=False)
    values, sizes = torch.from_numpy(enc).transpose(1, 2), torch.from_numpy(lens)
    with torch.no_grad():
        if hasattr(model, "joint"):
            return model.decoding.rnnt_decoder_predictions_tensor(values, sizes, return_hypotheses=True)
        return model.decoding.ctc_decoder_predictions_tensor(model.decoder(encoder_output=values), sizes, return_hypotheses=True)


def numbers(values) -> list:
    """Nested lists of numbers, rounded."""
    if isinstance(values, torch.Tensor):
        values = values.tolist()
    return [numbers(value) for value in values] if isinstance(values, (list, tuple)) else round(float(values), 6)


def tokens(hypothesis, model) -> list[int]:
    found = [int(token) for token in hypothesis.y_sequence]
    if hasattr(model, "joint"):
        return found
    blank = model.decoder.num_classes_with_blank - 1
    return [token for token, last in zip(found, [blank, *found], strict=False) if token not in (blank, last)]


def confidences(model, decoding: dict, enc: np.ndarray, lens: np.ndarray, config: dict) -> dict:
    rows = []
    alignments = {"preserve_alignments": True} if hasattr(model, "joint") else {}
    for n in range(len(lens)):
        asked = section(config)
        try:
            (hypothesis,) = decode(model, decoding, enc[n : n + 1], lens[n : n + 1], confidence_cfg=asked, **alignments)
        except RuntimeError:  # NeMo loses count of the words
            asked["preserve_word_confidence"] = False
            (hypothesis,) = decode(model, decoding, enc[n : n + 1], lens[n : n + 1], confidence_cfg=asked, **alignments)
        words = hypothesis.word_confidence
        row = {"token": numbers(hypothesis.token_confidence), "word": None if words is None else numbers(words)}
        if "tdt_include_duration" not in config and not (set(config) & {"exclude_blank"}):
            row["frame"] = numbers(hypothesis.frame_confidence)
        rows.append(row)
    return {"config": config, "rows": rows}


def main() -> None:
    torch.set_num_threads(2)
    found = {}
    for name in MODELS:
        model = models.ASRModel.restore_from(str(CASES / f"{name}.nemo"), map_location="cpu").eval()
        decoding = OmegaConf.to_container(model.cfg.decoding)
        enc, lens = utterances(name)
        plain = decode(model, decoding, enc, lens)
        case = {"tokens": [tokens(h, model) for h in plain], "text": [h.text for h in plain]}
        configs = [config for config in CONFIGS if "tdt" in name or "tdt_include_duration" not in config]
        case["confidence"] = [confidences(model, decoding, enc, lens, config) for config in configs]
        case["fusion"] = []
        for fusion in FUSIONS if "bpe" in name else []:  # NeMo boosts no characters
            greedy = {"allow_cuda_graphs": False, "boosting_tree_alpha": fusion.get("boost_weight", 0.0)}
            if "boost" in fusion:
                greedy["boosting_tree"] = {"key_phrases_list": fusion["boost"]}
            if "lm_weight" in fusion:
                greedy |= {"ngram_lm_model": str(HERE / "fusion.arpa"), "ngram_lm_alpha": fusion["lm_weight"]}
            fused = decode(model, decoding, enc, lens, greedy=greedy)
            case["fusion"].append({"config": fusion, "tokens": [tokens(h, model) for h in fused]})
        found[name] = case
    found["note"] = "nemo-toolkit 3.0.0, torch 2.13.0, CPU, float32"
    found["noises"] = NOISES
    (HERE / "greedy.json").write_text(json.dumps(found, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8")


main()
