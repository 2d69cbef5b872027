"""Language models and phrases against NeMo 3.0.0 and KenLM, by what `data/make_fusion.py` stored of them. `fusion.npz` holds

    lm_labels                       sequences `(B, U)`
    lm_scores, lm_final             NeMo's scores `(B, U, V)` of all tokens before each label, and `(B,)` of ending behind the
                                    last, for `fusion.arpa`
    kenlm_KIND                      KenLM's scores `(B, U + 1)` of the labels and of the end, natural logarithms, for
                                    `fusion.KIND.kenlm`; for `arpa`, of the ARPA file itself
    tree_labels                     sequences `(B, U)` that go along phrases and leave them
    tree_NAME_scores, …_final       NeMo's bonuses, as above

and `fusion.json`

    phrases                         the tokens that NeMo's tokenizer makes of them
    trees                           the options of the tree of each NAME; `weighted` has its `weights` instead
    runs                            of each search of each head: phrases, weight of `fusion.arpa`, recording with its noise, and
                                    the tokens that NeMo found
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import sonant
from sonant import lengths
from sonant_asr.fusion.boosting import PhraseBoosting, boosting_of
from sonant_asr.fusion.building import language_model
from sonant_asr.fusion.config import FusionConfig
from sonant_asr.fusion.scorer import TokenScorer
from sonant_asr.recognizer import searching
from sonant_asr.timestamps import ctc_spans

DATA = Path(__file__).resolve().parent / "data"
CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
VOCAB = 96
KINDS = ("probing", "trie", "quantized", "compressed", "both", "wordless")
FACTS: dict[str, Any] = json.loads((DATA / "fusion.json").read_text("utf-8"))


@cache
def arrays() -> dict[str, Tensor]:
    with np.load(DATA / "fusion.npz") as found:
        return {key: torch.from_numpy(found[key]) for key in found}


@cache
def model(name: str) -> Any:
    return sonant.load(CASES / f"fastconformer_{name}_bpe.nemo", device="cpu", dtype="float32")


def walk(scorer: TokenScorer, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The scores `(B, U, V)` before each label of `(B, U)`, and `(B,)` of ending behind them."""
    states = scorer.start(len(labels), "cpu")
    found = []
    for column in labels.T:
        scores, following = scorer.advance(states)
        found.append(scores)
        states = following.gather(1, column[:, None]).squeeze(1)
    return torch.stack(found, 1), scorer.final(states)


def file_model(name: str) -> TokenScorer:
    return language_model((DATA / name).read_bytes(), name, model("ctc").tokenizer)


# Language models


def test_an_arpa_file_scores_as_in_nemo() -> None:
    scores, final = walk(file_model("fusion.arpa"), arrays()["lm_labels"])
    torch.testing.assert_close(scores, arrays()["lm_scores"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(final, arrays()["lm_final"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kenlm_file_scores_as_in_kenlm(kind: str) -> None:
    labels, expected = arrays()["lm_labels"], arrays()[f"kenlm_{kind}"]
    scores, final = walk(file_model(f"fusion.{kind}.kenlm"), labels)
    spoken = torch.cat([scores.gather(2, labels[..., None]).squeeze(2), final[:, None]], 1)
    # KenLM gives each token that it does not know the whole probability of <unk>; here they share it.
    shared = torch.cat([unknown()[labels], torch.zeros(len(labels), 1, dtype=torch.bool)], 1)
    torch.testing.assert_close(spoken + shared * np.log(int(unknown().sum())), expected, rtol=1e-5, atol=1e-5)
    assert unknown().sum() == VOCAB - 90


def unknown() -> Tensor:
    """Which tokens `fusion.arpa` does not know, by its text."""
    text = (DATA / "fusion.arpa").read_text("utf-8")
    words = {line.split("\t")[1] for line in text.split("\\2-grams:")[0].split("\n") if line.count("\t") >= 1}
    return torch.tensor([chr(id + 100) not in words for id in range(VOCAB)])


def test_numbers_that_are_not_quantized_are_those_of_the_arpa_file() -> None:
    from_text, final = walk(file_model("fusion.arpa"), arrays()["lm_labels"])
    for kind in ("probing", "trie", "compressed", "wordless"):
        scores, ends = walk(file_model(f"fusion.{kind}.kenlm"), arrays()["lm_labels"])
        torch.testing.assert_close(scores, from_text, rtol=1e-6, atol=2e-6)
        torch.testing.assert_close(ends, final, rtol=1e-6, atol=2e-6)


# Phrases


@pytest.mark.parametrize("name", ["default", "other", "deep"])
def test_phrases_score_as_in_nemo(name: str) -> None:
    config = FusionConfig(boost=list(FACTS["phrases"]), **FACTS["trees"][name])
    scores, final = walk(boosting_of(config, model("ctc").tokenizer), arrays()["tree_labels"])
    torch.testing.assert_close(scores, arrays()[f"tree_{name}_scores"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(final, arrays()[f"tree_{name}_final"], rtol=0, atol=0)


def test_phrases_of_different_weights_score_as_in_nemo() -> None:
    config = FusionConfig(boost=dict(zip(FACTS["phrases"], FACTS["weights"], strict=True)))
    scores, final = walk(boosting_of(config, model("ctc").tokenizer), arrays()["tree_labels"])
    torch.testing.assert_close(scores, arrays()["tree_weighted_scores"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(final, arrays()["tree_weighted_final"], rtol=0, atol=0)


def test_phrases_are_written_in_the_tokens_that_nemo_gives_them() -> None:
    assert {phrase: model("ctc").tokenizer.encode(phrase) for phrase in FACTS["phrases"]} == FACTS["phrases"]


def test_the_order_of_phrases_does_not_matter() -> None:
    """As it does in NeMo where they weigh different things."""
    tokens, weights = list(FACTS["phrases"].values()), FACTS["weights"]
    one = PhraseBoosting(tokens, weights, vocab_size=VOCAB, config=FusionConfig())
    other = PhraseBoosting(tokens[::-1], weights[::-1], vocab_size=VOCAB, config=FusionConfig())
    assert torch.equal(walk(one, arrays()["tree_labels"])[0], walk(other, arrays()["tree_labels"])[0])


# Searches


def noisy(name: str, decibels: float, seed: int) -> np.ndarray:
    """A recording with white noise, `decibels` below it."""
    sound = soundfile.read(CASES / name, dtype="float32")[0]
    noise = np.random.default_rng(seed).standard_normal(len(sound)).astype(np.float32)
    return sound + noise * np.sqrt((sound**2).mean()) * np.float32(10 ** (-decibels / 20))


SEARCHES: dict[str, dict[str, Any]] = {
    "ctc beam": {"name": "ctc_beam", "beam_beta": 1.0},  # as NeMo has it when nothing is said
    "ctc greedy": {"name": "ctc_greedy"},
    "tdt greedy": {"name": "transducer_greedy"},
    "rnnt greedy": {"name": "transducer_greedy"},
    "tdt beam": {"name": "transducer_beam"},
    "rnnt beam": {"name": "transducer_beam"},
}


@cache
def encoded(name: str) -> tuple[Tensor, Tensor]:
    noises = [run["noise"] for run in FACTS["runs"]["ctc beam"][:4]]
    with torch.inference_mode():
        return model(name).encode(*lengths.pad([torch.from_numpy(noisy(*noise)) for noise in noises]))


@pytest.mark.parametrize("run", SEARCHES)
def test_searches_find_the_tokens_that_nemo_finds(run: str) -> None:
    recognizer = model(run.split()[0])
    expected = FACTS["runs"][run]
    for first in range(0, len(expected), 4):
        asked = {"boost": expected[first]["boost"], "lm": str(DATA / "fusion.arpa"), "lm_weight": expected[first]["lm_weight"]}
        asked = {name: value for name, value in asked.items() if expected[first]["lm_weight"] or name == "boost"}
        search = searching.choose(recognizer.decoder, recognizer.tokenizer, SEARCHES[run], asked=asked)
        with torch.inference_mode():
            found = search(recognizer.decoder, *encoded(run.split()[0]))
        tokens = [row["tokens"] for row in expected[first : first + 4]]
        if run == "ctc greedy":  # of which there is one for every frame
            tokens = [list(ctc_spans(frames, recognizer.decoder.blank)[0]) for frames in tokens]
        assert [list(hypothesis.tokens) for hypothesis in found] == tokens


def test_a_phrase_that_is_misheard_is_found_when_it_is_boosted() -> None:
    recording = noisy("a.wav", 15, 1)
    (without,), (boosted,) = (
        model("ctc").transcribe([recording], search="ctc_beam", boost=phrases) for phrases in (None, ["center"])
    )
    assert (without.text, boosted.text) == ("front ct rear left", "front center rear left")
