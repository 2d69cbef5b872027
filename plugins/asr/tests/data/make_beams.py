"""Makes `beams.json`, `beams.npz` and `beams.arpa`: what NeMo 3.0's beam searches find. Runs in NeMo's environment, not in ours:

    python plugins/asr/tests/data/make_beams.py

The heads are random and small, and their encoder output is noise, so that many hypotheses are near each other; and those of the
checkpoints in `tests/nemo-cases`, with noise added to NeMo's encoder output. Everything is float32 on a CPU. CTC is searched one
utterance at a time: in a batch, NeMo's search goes on into the padding. Made with nemo-toolkit 3.0.0 and torch 2.13.0.
"""

import json
from pathlib import Path

import nemo
import numpy as np
import torch
from nemo.collections.asr.models import ASRModel
from nemo.collections.asr.modules import RNNTDecoder, RNNTJoint
from nemo.collections.asr.parts.submodules.ctc_batched_beam_decoding import BatchedBeamCTCComputer
from nemo.collections.asr.parts.submodules.ngram_lm import NGramGPULanguageModel
from nemo.collections.asr.parts.submodules.rnnt_beam_decoding import BeamBatchedRNNTInfer, BeamRNNTInfer
from nemo.collections.asr.parts.submodules.tdt_beam_decoding import BeamBatchedTDTInfer, BeamTDTInfer

HERE = Path(__file__).resolve().parent
CASES = HERE.parents[3] / "tests" / "nemo-cases"
VOCAB, D_IN, LENS = 8, 6, (24, 17, 30)
DURATIONS = [0, 1, 2, 3, 4]
OFFSET = 100  # NeMo writes a token of a language model as the character chr(id + 100)

BEAM = [
    {"beam_size": 1},
    {"beam_size": 2, "max_symbols": 2},
    {"beam_size": 4},
    {"beam_size": 4, "score_norm": False, "max_symbols": 3},
    {"beam_size": 8},
]
FUSED = [
    {"beam_size": 4, "lm_weight": weight, "pruning_mode": pruning, "blank_lm_score_mode": blank}
    for weight, pruning, blank in [
        (0.3, "late", "lm_weighted_full"),
        (0.8, "late", "no_score"),
        (0.8, "early", "no_score"),
        (0.5, "early", "lm_weighted_full"),
    ]
]
MAES = [
    {"beam_size": 2},
    {"beam_size": 4},
    {"beam_size": 4, "score_norm": False, "maes_expansion_gamma": 5.0},
    {"beam_size": 3, "maes_num_steps": 3, "maes_prefix_alpha": 3, "maes_expansion_gamma": 3.5},
    {"beam_size": 4, "maes_prefix_alpha": 0, "maes_expansion_beta": 0},
]
CTC = [
    {"beam_size": 1},
    {"beam_size": 4},
    {"beam_size": 4, "beam_beta": 1.5},
    {"beam_size": 16, "beam_threshold": 3.0},
    {"beam_size": 8, "lm_weight": 0.7},
    {"beam_size": 8, "lm_weight": 1.0, "beam_beta": 1.0},
]
CHECKPOINTS = {  # NeMo has no batched beam search of stateless prediction networks
    "citrinet_ctc_bpe": "ctc",
    "conformer_ctc_bpe": "ctc",
    "conformer_rnnt_char": "beam maes",
    "fastconformer_ctc_bpe": "ctc",
    "fastconformer_hybrid_rnnt_ctc_char": "ctc beam maes",
    "fastconformer_hybrid_tdt_ctc_bpe": "ctc beam maes",
    "fastconformer_local_ctc_bpe": "ctc",
    "fastconformer_rnnt_bpe": "beam maes",
    "fastconformer_tdt_bpe": "beam maes",
    "hat_rnnt_char": "beam maes",
    "quartznet_ctc_char": "ctc",
    "stateless_rnnt_bpe": "maes",
    "stateless_tdt_bpe": "maes",
}


def write_arpa(path: Path) -> None:
    """A trigram model with made-up numbers, in which many n-grams are missing."""
    rng = np.random.default_rng(3)
    words = [chr(OFFSET + n) for n in range(VOCAB - 1)]  # the last token is unknown to it
    number = lambda low: f"{rng.uniform(low, -0.1):.4f}"  # noqa: E731
    unigrams = [f"{number(-2)}\t<unk>", f"-99\t<s>\t{number(-1)}", f"{number(-2)}\t</s>"]
    unigrams += [f"{number(-2)}\t{word}\t{number(-1)}" for word in words]
    pairs = [(a, b) for a in ["<s>", *words] for b in [*words, "</s>"] if rng.random() < 0.5]
    triples = [(a, b, c) for a, b in pairs if b != "</s>" for c in [*words, "</s>"] if (b, c) in pairs and rng.random() < 0.5]
    bigrams = [f"{number(-2)}\t{a} {b}" + ("" if b == "</s>" else f"\t{number(-1)}") for a, b in pairs]
    trigrams = [f"{number(-2)}\t{a} {b} {c}" for a, b, c in triples]
    lines = ["\\data\\", f"ngram 1={len(unigrams)}", f"ngram 2={len(bigrams)}", f"ngram 3={len(trigrams)}", ""]
    for order, grams in enumerate((unigrams, bigrams, trigrams), start=1):
        lines += [f"\\{order}-grams:", *grams, ""]
    path.write_text("\n".join([*lines, "\\end\\", ""]), "utf-8")


def head(durations: list[int], seed: int) -> tuple[RNNTDecoder, RNNTJoint]:
    torch.manual_seed(seed)
    prediction = RNNTDecoder(
        prednet={"pred_hidden": 10, "pred_rnn_layers": 1 + seed % 2, "dropout": 0.0}, vocab_size=VOCAB, blank_as_pad=True
    ).eval()
    network = {"encoder_hidden": D_IN, "pred_hidden": 10, "joint_hidden": 12, "activation": "relu", "dropout": 0.0}
    joint = RNNTJoint(jointnet=network, num_classes=VOCAB, num_extra_outputs=len(durations)).eval()
    with torch.no_grad():
        joint.joint_net[1].weight *= 3
        joint.joint_net[1].bias[VOCAB] += 2.5
    return prediction, joint


def weights(prediction: RNNTDecoder, joint: RNNTJoint) -> dict[str, np.ndarray]:
    """The tensors under Sonant's names."""
    named = {"prediction.embed.weight": prediction.prediction["embed"].weight}
    named |= {f"prediction.lstm.{key}": value for key, value in prediction.prediction["dec_rnn"].lstm.state_dict().items()}
    named |= {f"joint.enc.{key}": value for key, value in joint.enc.state_dict().items()}
    named |= {f"joint.pred.{key}": value for key, value in joint.pred.state_dict().items()}
    named |= {f"joint.out.{key}": value for key, value in joint.joint_net[1].state_dict().items()}
    return {key: value.detach().numpy() for key, value in named.items()}


def written(found, durations: list[int]) -> list[dict]:
    """An n-best list. NeMo says where tokens start, or end (maes of TDT, and CTC)."""
    rows = []
    for one in found.n_best_hypotheses:
        row = {"tokens": [int(n) for n in one.y_sequence], "score": float(one.score)}
        row["times"] = [int(t) for t in one.timestamp]
        if getattr(one, "token_duration", None) is not None and len(durations):
            row["durations"] = [int(d) for d in one.token_duration]
        rows.append(row)
    return rows


def beam(prediction, joint, durations, enc, lens, options) -> list[list[dict]]:
    options = dict(options)
    lm_weight = options.pop("lm_weight", None)
    made = {
        "decoder_model": prediction, "joint_model": joint, "blank_index": prediction.blank_idx, "search_type": "malsd_batch",
        "max_symbols_per_step": options.pop("max_symbols", 10), "allow_cuda_graphs": False, "return_best_hypothesis": False,
        **options,
    }  # fmt: skip
    if lm_weight is not None:
        made |= {"fusion_models": [LM], "fusion_models_alpha": [lm_weight]}
    search = BeamBatchedTDTInfer(durations=durations, **made) if durations else BeamBatchedRNNTInfer(**made)
    (found,) = search(encoder_output=enc, encoded_lengths=lens)
    return [written(one, durations) for one in found]


def maes(prediction, joint, durations, enc, lens, options) -> list[list[dict]]:
    made = {"decoder_model": prediction, "joint_model": joint, "search_type": "maes", "return_best_hypothesis": False, **options}
    search = BeamTDTInfer(durations=durations, **made) if durations else BeamRNNTInfer(**made)
    (found,) = search(encoder_output=enc, encoded_lengths=lens)
    return [written(one, []) for one in found]


def ctc(logits: torch.Tensor, lens: torch.Tensor, options: dict) -> list[list[dict]]:
    options = dict(options)
    lm_weight = options.pop("lm_weight", None)
    fusion = {} if lm_weight is None else {"fusion_models": [LM], "fusion_models_alpha": [lm_weight]}
    search = BatchedBeamCTCComputer(
        blank_index=logits.shape[-1] - 1, return_best_hypothesis=False, allow_cuda_graphs=False, **fusion, **options
    )
    found = []
    for row, length in zip(logits.log_softmax(-1), lens.tolist(), strict=True):
        hyps = search(row[None, :length].clone(), torch.tensor([length]))
        found.append(written(hyps.to_nbest_hyps_list(score_norm=False)[0], []))
    return found


def noisy(enc: np.ndarray, scale: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(enc.shape)
    return (enc + scale * enc.std() * noise).astype(np.float32)


def transducers(prediction, joint, durations, enc, lens, beams, expansions) -> list[dict]:
    rows = [{"search": "transducer_beam", "fields": o, "found": beam(prediction, joint, durations, enc, lens, o)} for o in beams]
    rows += [
        {"search": "transducer_maes", "fields": o, "found": maes(prediction, joint, durations, enc, lens, o)} for o in expansions
    ]
    return rows


def main() -> None:
    arrays, results = {}, {}
    for kind, durations in (("rnnt", []), ("tdt", DURATIONS)):
        for seed in (1, 2):
            name = f"{kind}{seed}"
            prediction, joint = head(durations, seed)
            arrays |= {f"{name}.{key}": value for key, value in weights(prediction, joint).items()}
            enc = 1.5 * torch.randn(len(LENS), max(LENS), D_IN)
            arrays[f"{name}.enc"] = enc.numpy()
            expansions = MAES
            beams, expansions = (BEAM + FUSED, MAES) if seed == 1 else (BEAM[2:3] + FUSED[::2], MAES[1::2])
            with torch.inference_mode():
                results[name] = transducers(
                    prediction, joint, durations, enc.transpose(1, 2), torch.tensor(LENS), beams, expansions
                )
    torch.manual_seed(5)
    logits = 2.0 * torch.randn(len(LENS), max(LENS), VOCAB + 1)
    logits[..., VOCAB] += 1.5
    arrays["ctc.logits"] = logits.numpy()
    results["ctc"] = [{"search": "ctc_beam", "fields": o, "found": ctc(logits, torch.tensor(LENS), o)} for o in CTC]

    for name, searches in CHECKPOINTS.items():
        path = CASES / f"{name}.nemo"
        with np.load(path.with_suffix(".npz")) as found:
            case = {key: found[key] for key in found}
        key = "logprobs" if "logprobs" in case else "ctc_logprobs"
        lens = torch.tensor(case["enc_len"])
        rows = []
        if "ctc" in searches:
            for scale, seed in ((0.0, 0), (0.7, 1)):
                options = {"beam_size": 4}
                logits = torch.from_numpy(noisy(case[key], scale, seed))
                rows.append(
                    {"search": "ctc_beam", "fields": options, "noise": [scale, seed], "found": ctc(logits, lens, options)}
                )
        if "beam" in searches or "maes" in searches:
            model = ASRModel.restore_from(str(path), map_location="cpu").eval()
            durations = list(model.cfg.get("model_defaults", {}).get("tdt_durations", []) or [])
            for scale, seed in ((0.0, 0), (2.0, 2)):
                enc = torch.from_numpy(noisy(case["enc"], scale, seed))
                with torch.inference_mode():
                    more = transducers(
                        model.decoder,
                        model.joint,
                        durations,
                        enc,
                        lens,
                        [{"beam_size": 4}] if "beam" in searches else [],
                        [{"beam_size": 4}] if "maes" in searches else [],
                    )
                rows += [row | {"noise": [scale, seed]} for row in more]
        results[f"nemo-cases/{name}"] = rows
    note = "What NeMo's beam searches find; made by make_beams.py, which says how."
    versions = {"nemo": nemo.__version__, "torch": torch.__version__}
    text = json.dumps({"note": note, "versions": versions, "lens": LENS, "results": results})
    (HERE / "beams.json").write_text(text + "\n", "utf-8")
    np.savez_compressed(HERE / "beams.npz", **arrays)


if __name__ == "__main__":
    write_arpa(HERE / "beams.arpa")
    LM = NGramGPULanguageModel.from_file(HERE / "beams.arpa", vocab_size=VOCAB)
    main()
