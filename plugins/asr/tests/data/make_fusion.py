"""What NeMo and KenLM make of language models and phrases. Runs in an environment with both, not in ours:

    python plugins/asr/tests/data/make_fusion.py BUILD_BINARY

`BUILD_BINARY` is KenLM's program of that name. Writes `fusion.arpa`, a 4-gram model of random numbers over the tokens
`chr(id + 100)` of which it knows 90 of 96, the same as `fusion.KIND.kenlm`, and `fusion.json` and `fusion.npz`, whose contents
are said in `../test_fusion_nemo.py`. Made with nemo-toolkit 3.0.0, torch 2.13.0 and kenlm 0.3.0 on a CPU.
"""

import json
import subprocess
import sys
from pathlib import Path

import kenlm
import numpy as np
import soundfile
import torch
from nemo.collections.asr import models
from nemo.collections.asr.parts.context_biasing.boosting_graph_batched import BoostingTreeModelConfig, GPUBoostingTreeModel
from nemo.collections.asr.parts.context_biasing.context_graph_universal import ContextGraph
from nemo.collections.asr.parts.submodules.ngram_lm import NGramGPULanguageModel
from omegaconf import OmegaConf, open_dict

HERE = Path(__file__).resolve().parent
CASES = HERE.parents[3] / "tests" / "nemo-cases"
VOCAB, KNOWN, OFFSET = 96, 90, 100
KINDS = {
    "probing": ["probing"],
    "trie": ["trie"],
    "quantized": ["-q", "6", "-b", "5", "trie"],
    "compressed": ["-a", "3", "trie"],
    "both": ["-q", "6", "-b", "5", "-a", "3", "trie"],
    "wordless": ["-v", "probing"],
}
PHRASES = ["front center", "center", "rear left", "front", "left side right", "side", "then the side"]
TREES = {
    "default": {},
    "other": {"context_score": 0.7, "depth_scaling": 1.0, "unk_score": -0.2, "final_eos_score": 2.0},
    "deep": {"context_score": 1.5, "depth_scaling": 3.0},
}
NOISES = [["a.wav", 25, 2], ["a.wav", 15, 1], ["a.wav", 10, 4], ["b.wav", 10, 0]]
RUNS = [
    *([name, {"strategy": "greedy_batch"}, "greedy"] for name in ("ctc", "tdt", "rnnt")),
    ["ctc", {"strategy": "beam_batch"}, "beam"],
    *([name, {"strategy": "malsd_batch"}, "beam"] for name in ("tdt", "rnnt")),
]
BOOSTS = [[], ["center"], ["rear left", "center"]]


def write_arpa(random: np.random.Generator) -> None:
    """N-grams whose beginnings and ends are there too, as NeMo wants."""
    tokens = [chr(id + OFFSET) for id in sorted(random.permutation(VOCAB)[:KNOWN])]
    orders = [[("<unk>",), ("<s>",), ("</s>",), *((token,) for token in tokens)]]
    firsts = [("<s>",), *((token,) for token in tokens[:12])]
    likely = [*tokens[:12], "</s>"]
    for size in (0.5, 0.4, 0.4):
        known, found = set(orders[-1]), []
        for gram in firsts:
            for word in likely:
                if (*gram[1:], word) in known and random.random() < size:
                    found.append((*gram, word))
        orders.append(found)
        firsts = [gram for gram in found if gram[-1] != "</s>"]
    lines = ["\\data\\", *(f"ngram {n}={len(grams)}" for n, grams in enumerate(orders, 1))]
    for n, grams in enumerate(orders, 1):
        lines += ["", f"\\{n}-grams:"]
        for gram in grams:
            score, backoff = -random.uniform(0.05, 3), random.uniform(-1, 0.2)
            behind = f"\t{backoff:.5f}" if n < len(orders) and gram[-1] != "</s>" else ""
            lines.append(f"{score:.5f}\t{' '.join(gram)}{behind}")
    (HERE / "fusion.arpa").write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")


def walks(model, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores `(B, U, V)` before each label of `(B, U)`, and `(B,)` of ending there."""
    states = model.get_init_states(len(labels), bos=True)
    found = []
    for column in torch.from_numpy(labels).T:
        scores, following = model.advance(states)
        found.append(scores.detach().numpy())
        states = following.gather(1, column[:, None]).squeeze(1).long()
    return np.stack(found, 1), model.get_final(states).detach().numpy()


def by_kenlm(path: str, labels: np.ndarray) -> np.ndarray:
    """Scores `(B, U + 1)` of each label and of the end, natural logarithms."""
    model = kenlm.Model(path)
    rows = []
    for sentence in labels.tolist():
        state, following, row = kenlm.State(), kenlm.State(), []
        model.BeginSentenceWrite(state)
        for word in [*(chr(label + OFFSET) for label in sentence), "</s>"]:
            row.append(model.BaseScore(state, word, following) * np.log(10))
            state, following = following, kenlm.State()
        rows.append(row)
    return np.array(rows)


def boosted(random: np.random.Generator, phrases: list[list[int]]) -> np.ndarray:
    """Sequences that go along phrases, and leave them now and then."""
    rows = []
    for _ in range(12):
        row: list[int] = []
        while len(row) < 14:
            phrase = phrases[random.integers(len(phrases))]
            row += phrase[: random.integers(1, len(phrase) + 1)]
            row += random.integers(VOCAB, size=random.integers(0, 2)).tolist()
        rows.append(row[:14])
    return np.array(rows)


def noisy(name: str, decibels: float, seed: int) -> np.ndarray:
    sound = soundfile.read(CASES / name, dtype="float32")[0]
    noise = np.random.default_rng(seed).standard_normal(len(sound)).astype(np.float32)
    return sound + noise * np.sqrt((sound**2).mean()) * np.float32(10 ** (-decibels / 20))


def recognize(name: str, decoding: dict, kind: str) -> list:
    """The tokens of each recording for each list of phrases and language model."""
    model = models.ASRModel.restore_from(str(CASES / f"fastconformer_{name}_bpe.nemo"), map_location="cpu").eval()
    model.preprocessor.featurizer.dither = 0.0
    found = []
    for phrases in BOOSTS:
        for weight in (0.0, 0.5):
            config = OmegaConf.create(OmegaConf.to_container(model.cfg.decoding))
            with open_dict(config):
                config.strategy, config.compute_timestamps, config.preserve_alignments = decoding["strategy"], False, False
                section = {"boosting_tree": {"key_phrases_list": phrases} if phrases else None, "boosting_tree_alpha": 1.0}
                section |= {"ngram_lm_model": str(HERE / "fusion.arpa") if weight else None, "ngram_lm_alpha": weight}
                section |= {"beam_size": 4, "return_best_hypothesis": True, "allow_cuda_graphs": False} if kind == "beam" else {}
                config[kind] = {**(config.get(kind) or {}), **section} if kind == "greedy" else section
            model.change_decoding_strategy(config)
            for noise in NOISES:
                with torch.no_grad():
                    wave = torch.from_numpy(noisy(*noise))[None]
                    enc, size = model(input_signal=wave, input_signal_length=torch.tensor([wave.shape[1]]))[:2]
                    decode = model.decoding.ctc_decoder_predictions_tensor if name == "ctc" else None
                    best = decode(enc, size) if decode else model.decoding.rnnt_decoder_predictions_tensor(enc, size)
                hypothesis = best[0][0] if isinstance(best[0], list) else best[0]
                tokens = [int(token) for token in hypothesis.y_sequence]
                found.append({"boost": phrases, "lm_weight": weight, "noise": noise, "tokens": tokens, "text": hypothesis.text})
    return found


def main() -> None:
    random = np.random.default_rng(0)
    write_arpa(random)
    arrays, words = {}, {}
    labels = np.where(random.random((12, 14)) < 0.9, random.integers(0, 12, (12, 14)), random.integers(0, VOCAB, (12, 14)))
    model = NGramGPULanguageModel.from_arpa(HERE / "fusion.arpa", vocab_size=VOCAB)
    arrays["lm_labels"] = labels
    arrays["lm_scores"], arrays["lm_final"] = walks(model, labels)
    for kind, options in KINDS.items():
        path = HERE / f"fusion.{kind}.kenlm"
        subprocess.run([sys.argv[1], *options[:-1], options[-1], HERE / "fusion.arpa", path], check=True, capture_output=True)
        arrays[f"kenlm_{kind}"] = by_kenlm(str(path), labels)
    arrays["kenlm_arpa"] = by_kenlm(str(HERE / "fusion.arpa"), labels)
    tokenizer = models.ASRModel.restore_from(str(CASES / "fastconformer_ctc_bpe.nemo"), map_location="cpu").tokenizer
    words["phrases"] = {phrase: tokenizer.text_to_ids(phrase) for phrase in PHRASES}
    sequences = boosted(random, list(words["phrases"].values()))
    arrays["tree_labels"] = sequences
    for name, options in TREES.items():
        config = BoostingTreeModelConfig(key_phrases_list=PHRASES, use_triton=False, **options)
        tree = GPUBoostingTreeModel.from_config(config, tokenizer)
        arrays[f"tree_{name}_scores"], arrays[f"tree_{name}_final"] = walks(tree, sequences)
    weights = [3.0, 2.0, 1.5, 1.0, 1.0, 0.5, 0.25]  # the greatest first: NeMo lets the first phrase decide what is shared
    graph = ContextGraph(context_score=1.0, depth_scaling=2.0)
    graph.build(token_ids=list(words["phrases"].values()), scores=weights, phrases=PHRASES)
    tree = GPUBoostingTreeModel.from_context_graph(graph, VOCAB, final_eos_score=1.0, use_triton=False)
    arrays["tree_weighted_scores"], arrays["tree_weighted_final"] = walks(tree, sequences)
    words |= {"trees": TREES, "weights": weights, "note": "nemo-toolkit 3.0.0, torch 2.13.0, kenlm 0.3.0, CPU, float32"}
    words["runs"] = {f"{name} {kind}": recognize(name, decoding, kind) for name, decoding, kind in RUNS}
    np.savez_compressed(
        HERE / "fusion.npz",
        **{key: value.astype(np.float32) if value.dtype.kind == "f" else value for key, value in arrays.items()},
    )
    (HERE / "fusion.json").write_text(json.dumps(words, ensure_ascii=False) + "\n", encoding="utf-8")


main()
