"""Train the small recognizer `words.nemo`, which the tests of long recordings use, and write it beside this file.

    python make_words_model.py

It knows the six words in `tests/nemo-cases/{a,b}.wav`, in any order and with any pauses, which the overfitted checkpoints there
do not. A FastConformer with full attention, a transducer and a CTC head on it; trained on random sequences of the words in a few
minutes on a CPU.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn import functional

import sonant
from sonant import lengths

HERE = Path(__file__).parent
CASES = HERE.parents[3] / "tests" / "nemo-cases"
RATE = 16000
WORDS = {  # the seconds each lies at
    "a.wav": {"front": (0.04, 0.56), "center": (0.76, 1.36), "rear": (1.62, 2.14), "left": (2.40, 2.93)},
    "b.wav": {"side": (0.0, 0.60), "right": (0.78, 1.30)},
}
LABELS = " acdefghilnorst"
CONFIG: dict[str, Any] = {
    "task": "asr",
    "preprocessor": {"name": "log_mel", "features": 40},
    "tokenizer": {"name": "char", "labels": list(LABELS)},
    "encoder": {
        "name": "fastconformer",
        "n_layers": 3,
        "d_model": 48,
        "n_heads": 4,
        "subsampling_factor": 4,
        "subsampling_conv_channels": 16,
        "ff_expansion_factor": 2,
        "dropout": 0.05,
        "dropout_pre_encoder": 0.0,
    },
    "decoder": {"name": "rnnt", "pred_hidden": 32, "joint_hidden": 48, "dropout": 0.1, "joint_dropout": 0.0},
    "aux_decoder": {"name": "ctc"},
}


def clips() -> dict[str, np.ndarray]:
    """Each word's samples."""
    found = {}
    for file, words in WORDS.items():
        sound, _ = soundfile.read(CASES / file, dtype="float32")
        found |= {word: sound[int(start * RATE) : int(stop * RATE)] for word, (start, stop) in words.items()}
    return found


def example(words: dict[str, np.ndarray], draw: random.Random, most: int = 12) -> tuple[Tensor, str]:
    """At most so many words, with pauses between them."""
    chosen = draw.choices(list(words), k=draw.randint(1, most))
    longest = draw.choice((0.2, 0.6, 1.5))
    parts = [np.zeros(int(draw.uniform(0.0, longest) * RATE), np.float32)]
    for word in chosen:
        parts += [words[word] * draw.uniform(0.6, 1.4), np.zeros(int(draw.uniform(0.02, longest) * RATE), np.float32)]
    sound = np.concatenate(parts)
    noise = np.random.default_rng(draw.getrandbits(32)).standard_normal(len(sound)) * 10 ** draw.uniform(-5, -2.7)
    return torch.from_numpy((sound + noise).astype(np.float32)), " ".join(chosen)


def transducer_loss(logits: Tensor, lens: Tensor, labels: Tensor, label_lens: Tensor, blank: int) -> Tensor:
    """Graves, 2012: the log-probability of all alignments, `(B, T, U + 1, V + 1)` to a mean over labels."""
    scores = logits.log_softmax(-1)
    stay = scores[..., blank]  # (B, T, U + 1)
    emit = scores[:, :, :-1].gather(-1, labels[:, None, :, None].expand(-1, scores.shape[1], -1, -1)).squeeze(-1)
    upward = functional.pad(emit.cumsum(-1), (1, 0))  # from label 0 to label u within a frame
    alphas = [upward[:, 0]]
    for t in range(1, scores.shape[1]):
        alphas.append(upward[:, t] + (alphas[-1] + stay[:, t - 1] - upward[:, t]).logcumsumexp(-1))
    alpha = torch.stack(alphas, dim=1)
    rows = torch.arange(len(lens))
    last = alpha[rows, lens - 1, label_lens] + stay[rows, lens - 1, label_lens]
    return -last.sum() / label_lens.sum()


def batches(words: dict[str, np.ndarray], draw: random.Random, steps: int, size: int, most: int) -> Iterator[Any]:
    """Padded samples and labels, with their lengths."""
    for _ in range(steps):
        sounds, texts = zip(*(example(words, draw, most) for _ in range(size)), strict=True)
        ids = [torch.tensor([LABELS.index(character) for character in text]) for text in texts]
        yield (*lengths.pad(list(sounds)), *lengths.pad(ids))


def train(modules: list[torch.nn.Module], losses: Iterator[Tensor], steps: int, peak: float) -> None:
    """Adam, with a rate that rises for a tenth of the steps and then falls to zero."""
    parameters = [p for module in modules for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=1e-3)
    for step, loss in enumerate(losses):
        optimizer.param_groups[0]["lr"] = peak * min(1.0, 10 * (step + 1) / steps, 1.3 * (1 - step / steps))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(step, f"{float(loss.detach()):.3f}", flush=True)


def main() -> None:
    """Train and write."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    draw, words = random.Random(0), clips()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "words.yaml"
        config.write_text(json.dumps(CONFIG))
        model: Any = sonant.load(config, device="cpu", dtype="float32")
    model.train()

    def ctc() -> Iterator[Tensor]:
        for wav, lens, labels, label_lens in batches(words, draw, 900, 8, 8):
            enc, frames = model.encode(wav, lens)
            scores = model.aux_decoder(enc).log_softmax(-1).transpose(0, 1)
            yield functional.ctc_loss(scores, labels, frames, label_lens, blank=len(LABELS), zero_infinity=True)

    def transducer() -> Iterator[Tensor]:
        for wav, lens, labels, label_lens in batches(words, draw, 400, 3, 3):
            with torch.no_grad():
                enc, frames = model.encode(wav, lens)
            yield transducer_loss(model.decoder(enc, labels), frames, labels, label_lens, len(LABELS))

    train([model.encoder, model.aux_decoder], ctc(), 900, 2e-3)
    model.eval()
    model.decoder.train()
    train([model.decoder], transducer(), 400, 4e-3)
    model.eval()
    checks = [example(words, draw) for _ in range(40)]
    for head in ("ctc", "rnnt"):
        found = model.transcribe([sound for sound, _ in checks], decoder=head)
        print(head, sum(f.text == text for f, (_, text) in zip(found, checks, strict=True)), "of", len(checks))
    sonant.save(model.half(), HERE / "words.nemo")


if __name__ == "__main__":
    main()
