"""Makes `timestamps.json`: what NeMo 3.0 computes from made-up hypotheses. Runs in NeMo's environment, not in ours:

    python plugins/asr/tests/data/make_timestamps.py

CTC goes through NeMo's greedy search from one-hot scores; RNN-T and TDT through the decoding objects of the checkpoints
in `tests/nemo-cases`, given other tokenizers, from emission frames (and durations) on. Made with nemo-toolkit 3.0.0.
"""

import base64
import io
import json
import random
from pathlib import Path

import sentencepiece
import torch
from nemo.collections.asr.models import ASRModel
from nemo.collections.asr.parts.submodules.ctc_decoding import (
    CTCBPEDecoding,
    CTCBPEDecodingConfig,
    CTCDecoding,
    CTCDecodingConfig,
)
from nemo.collections.asr.parts.submodules.rnnt_decoding import RNNTBPEDecoding, RNNTDecoding
from nemo.collections.asr.parts.utils.rnnt_utils import Hypothesis
from nemo.collections.common.tokenizers import SentencePieceTokenizer
from omegaconf import OmegaConf, open_dict

HERE = Path(__file__).resolve().parent
CASES = HERE.parents[3] / "tests" / "nemo-cases"

TEXTS = [
    "Hello, world! It's a test.",
    'Well... he said: "don\'t go" - twice?! Then he left.',
    "a aa  aaa , bb . cc",
    "rock'n'roll isn't dead, is it? No.",
    "Привет, мир! Как дела?",
    "नमस्ते दुनिया। आप कैसे हैं?",
    "你好，世界。 今天 天气 很好！",
    "naïve café; 3.14 costs 2,50!",
    "'quoted' (and more) , then . . . done",
    "q@z unknown ☃ signs",
    "front center rear left",
    "?",
    "",
]
LABELS = [" ", *"abcdefghijklmnopqrstuvwxyz", *"'.,?!-:", *"éяж"]
WORDPIECES = ["[UNK]", "front", "##er", "##ing", "##.", "run", "##s", ".", ",", "?", "'", "it", "##n", "t", "s", "##'", "a"]


def train(**options: object) -> bytes:
    """A small SentencePiece model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS[:9] * 20), model_writer=model, bos_id=-1, eos_id=-1, character_coverage=1.0,
        normalization_rule_name="identity", minloglevel=2, num_threads=1, **options,
    )  # fmt: skip
    return model.getvalue()


class WordPiece:
    """A stand-in for a WordPiece tokenizer, joining tokens as BERT's does."""

    class tokenizer:
        vocab_size = len(WORDPIECES)

    vocab = WORDPIECES

    def ids_to_tokens(self, ids):
        return [WORDPIECES[i] for i in ids]

    def tokens_to_text(self, tokens):
        return " ".join(tokens).replace(" ##", "").strip()


def sentencepiece_tokenizer(model: bytes, folder: Path) -> SentencePieceTokenizer:
    path = folder / f"{len(model)}.model"
    path.write_bytes(model)
    tokenizer = SentencePieceTokenizer(str(path))
    tokenizer.tokenizer.vocab_size = tokenizer.vocab_size
    return tokenizer


def options_of(rng: random.Random) -> dict:
    chosen = {}
    if rng.random() < 0.3:
        chosen["segment_gap"] = rng.choice([1, 2, 4])
    if rng.random() < 0.15:
        chosen["word_separator"] = rng.choice([",", "a", "."])
    if rng.random() < 0.15:
        chosen["segment_separators"] = rng.choice([[","], [",", "it"], ["?", "!"], []])
    return chosen


def configured(cfg, options: dict):
    with open_dict(cfg):
        cfg.compute_timestamps = True
        cfg.word_seperator = options.get("word_separator", " ")
        cfg.segment_seperators = options.get("segment_separators", [".", "!", "?"])
        cfg.segment_gap_threshold = options.get("segment_gap")
    return cfg


def result(hypothesis) -> dict:
    stamps = hypothesis.timestamp

    def rows(kind: str) -> list:
        return [
            [s[kind][0] if isinstance(s[kind], list) else s[kind], int(s["start_offset"]), int(s["end_offset"])]
            for s in stamps[kind]
        ]

    return {"text": hypothesis.text, "chars": rows("char"), "words": rows("word"), "segments": rows("segment")}


def ctc(tokenizer, ids: list[int], options: dict, rng: random.Random) -> dict:
    is_char = isinstance(tokenizer, list)
    cfg = configured(OmegaConf.structured(CTCDecodingConfig() if is_char else CTCBPEDecodingConfig()), options)
    decoding = (CTCDecoding if is_char else CTCBPEDecoding)(cfg, tokenizer)
    blank = decoding.blank_id
    frames = [blank] * rng.choice([0, 0, 1, 3])
    for i in ids:
        if frames and frames[-1] == i and rng.random() < 0.7:
            frames.append(blank)
        frames += [i] * rng.choice([1, 1, 2, 4]) + [blank] * rng.choice([0, 0, 0, 1, 5])
    frames = frames or [blank] * 3
    scores = torch.nn.functional.one_hot(torch.tensor(frames), blank + 1).float().log_softmax(-1)
    found = decoding.ctc_decoder_predictions_tensor(scores[None], torch.tensor([len(frames)]), return_hypotheses=True)
    return {"frames": frames, "blank": blank, **result(found[0])}


def transducer(model, tokenizer, ids: list[int], options: dict, rng: random.Random, is_tdt: bool) -> dict:
    kind = RNNTDecoding if isinstance(tokenizer, list) else RNNTBPEDecoding
    decoding = kind(configured(model.cfg.decoding.copy(), options), model.decoder, model.joint, tokenizer)
    starts, durations, now = [], [], rng.choice([0, 0, 2])
    for _ in ids:
        starts.append(now)
        durations.append(rng.choice([0, 1, 1, 2, 3, 4]))
        now += (durations[-1] if is_tdt else rng.choice([0, 0, 1, 2])) + rng.choice([0, 0, 0, 1, 6])
    hypothesis = Hypothesis(
        score=0.0, y_sequence=torch.tensor(ids, dtype=torch.long), timestamp=torch.tensor(starts, dtype=torch.long)
    )
    if is_tdt:
        hypothesis.token_duration = torch.tensor(durations, dtype=torch.long)
    hypothesis = decoding.compute_rnnt_timestamps(decoding.decode_hypothesis([hypothesis])[0])
    ends = [s + (d if is_tdt else 1) for s, d in zip(starts, durations, strict=True)]
    return {"tokens": ids, "starts": starts, "ends": ends, **result(hypothesis)}


def inputs(name: str, tokenizer, rng: random.Random, size: int) -> list[list[int]]:
    """Ids of every text that the tokenizer can write, and of random tokens."""
    if name == "char":
        found = [[LABELS.index(c) for c in text.lower() if c in LABELS] for text in TEXTS]
    elif name == "wordpiece":
        found = [[]]
    else:
        found = [tokenizer.text_to_ids(text) for text in TEXTS]
    return found + [[rng.randrange(size) for _ in range(rng.choice([1, 5, 12, 20]))] for _ in range(4)]


def main() -> None:
    import tempfile

    torch.set_num_threads(1)
    rng = random.Random(0)
    folder = Path(tempfile.mkdtemp())
    models = {
        "bpe": train(vocab_size=170, model_type="bpe"),
        "bytes": train(vocab_size=400, model_type="unigram", byte_fallback=True, hard_vocab_limit=False),
        "symbols": train(vocab_size=120, model_type="char", user_defined_symbols=["<en-US>", "[noise]", "..."],
                         hard_vocab_limit=False),
    }  # fmt: skip
    tokenizers = {name: sentencepiece_tokenizer(model, folder) for name, model in models.items()}
    tokenizers |= {"char": LABELS, "wordpiece": WordPiece()}
    families = {
        "ctc": None,
        "rnnt": ASRModel.restore_from(str(CASES / "fastconformer_rnnt_bpe.nemo"), map_location="cpu"),
        "rnnt_char": ASRModel.restore_from(str(CASES / "conformer_rnnt_char.nemo"), map_location="cpu"),
        "tdt": ASRModel.restore_from(str(CASES / "fastconformer_tdt_bpe.nemo"), map_location="cpu"),
    }
    cases = []
    for name, tokenizer in tokenizers.items():
        size = {"char": len(LABELS), "wordpiece": len(WORDPIECES)}.get(name) or tokenizer.vocab_size
        for family in ("ctc", "rnnt", "tdt"):
            if (family, name) == ("tdt", "char"):
                continue  # NeMo's character transducers know no durations here.
            model = families["rnnt_char" if (family, name) == ("rnnt", "char") else family]
            for ids in inputs(name, tokenizer, rng, size):
                options = options_of(rng)
                try:
                    if family == "ctc":
                        found = ctc(tokenizer, ids, options, rng)
                    else:
                        found = transducer(model, tokenizer, ids, options, rng, family == "tdt")
                except IndexError:
                    continue  # NeMo fails on a mark behind a word without text.
                cases.append({"family": family, "tokenizer": name, "options": options, **found})
    written = {name: {"model": base64.b64encode(model).decode()} for name, model in models.items()}
    written |= {"char": {"labels": LABELS}, "wordpiece": {"labels": WORDPIECES}}
    rows = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    text = f'{{"tokenizers": {json.dumps(written, ensure_ascii=False)},\n"cases": [\n{rows}\n]}}\n'
    (HERE / "timestamps.json").write_text(text, encoding="utf-8")
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
