"""Confidence: its measures against their published formulas, from frames to tokens, and through a recognizer.

The numbers of whole searches are compared with NeMo's in `test_greedy_nemo.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from click.testing import CliRunner

import sonant
from sonant.cli.main import app
from sonant.errors import ConfigError
from sonant.protocols import Hypothesis
from sonant_asr.confidence.config import ConfidenceConfig
from sonant_asr.confidence.measures import aggregate, measure
from sonant_asr.confidence.tokens import Step, ctc_tokens, transducer_tokens
from sonant_asr.ctc.config import CtcGreedyConfig
from sonant_asr.timestamps import timestamps
from sonant_asr.tokenizers.char import Char
from sonant_asr.tokenizers.config import CharConfig
from sonant_asr.transducer.config import TransducerGreedyConfig

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
TDT, HYBRID = CASES / "fastconformer_tdt_bpe.nemo", CASES / "fastconformer_hybrid_rnnt_ctc_char.nemo"
MEASURES: list[dict[str, Any]] = [{"method": "max_prob", "alpha": alpha} for alpha in (0.33, 1.0, 2.0)] + [
    {"entropy_type": kind, "entropy_norm": norm, "alpha": alpha}
    for kind in ("gibbs", "tsallis", "renyi")
    for norm in ("lin", "exp")
    for alpha in (0.33, 1.0, 1.5)
    if (kind, alpha) != ("gibbs", 1.5)  # beyond the range in which this entropy is largest where all are equally likely
]


def published(p: Sequence[float], config: ConfidenceConfig) -> float:
    """The paper's formulas, a probability at a time."""
    v, a = len(p), config.alpha
    power = sum(x**a for x in p)
    if config.method == "max_prob":
        return float((max(p) ** a * v**a - 1) / (v**a - 1))
    if config.entropy_type == "gibbs" or a == 1:
        entropy, largest = -sum(x**a * math.log(x) for x in p), v ** (1 - a) * math.log(v)
        entropy, largest = (entropy, largest) if config.entropy_norm == "lin" else (a * entropy, a * largest)
    elif config.entropy_type == "tsallis":
        entropy, largest = (1 - power) / (a - 1), (1 - v ** (1 - a)) / (a - 1)
    else:
        entropy, largest = math.log(power) / (1 - a), math.log(v)
    if config.entropy_norm == "lin":
        return 1 - entropy / largest
    return (math.exp(-entropy) - math.exp(-largest)) / (1 - math.exp(-largest))


@pytest.mark.parametrize("fields", MEASURES)
def test_measures_are_as_published(fields: dict[str, Any]) -> None:
    config = ConfidenceConfig(**fields)
    torch.manual_seed(0)
    log_probs = (3 * torch.randn(6, 11, dtype=torch.float64)).log_softmax(-1)
    expected = [published(row, config) for row in log_probs.exp().tolist()]
    assert measure(log_probs, config).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("fields", MEASURES)
def test_none_likelier_is_0_and_one_certain_is_1(fields: dict[str, Any]) -> None:
    certain = torch.full((7,), -torch.inf)
    certain[3] = 0.0
    found = measure(torch.stack([torch.zeros(7).log_softmax(-1), certain]), ConfidenceConfig(**fields))
    assert found.tolist() == pytest.approx([0.0, 1.0], abs=1e-5)


@pytest.mark.parametrize("fields", MEASURES)
def test_the_surer_the_head_the_higher(fields: dict[str, Any]) -> None:
    torch.manual_seed(1)
    logits = torch.randn(9)
    found = measure(torch.stack([(scale * logits).log_softmax(-1) for scale in (0.5, 1.0, 2.0, 4.0)]), ConfidenceConfig(**fields))
    assert found.tolist() == sorted(found.tolist()) and len(set(found.tolist())) == 4


def test_aggregations() -> None:
    assert [aggregate([0.5, 0.25, 0.75], how) for how in ("mean", "min", "max", "prod")] == [0.5, 0.25, 0.75, 0.09375]


_ = -1
CONFIGS = [ConfidenceConfig(aggregation="mean"), ConfidenceConfig(aggregation="mean", exclude_blank=False)]


@pytest.mark.parametrize(
    ("labels", "last", "without", "with_"),
    [
        ([_, 1, 1, _, 2, _, 2, 2], _, [1.5, 4, 6.5], [2, 4.5, 6.5]),
        ([1, 1, _, 3], 1, [3], [3]),  # the first two go on with the token before
        ([1, _, 1], 2, [0, 2], [0.5, 2]),
        ([_, _], 1, [], []),
        ([], _, [], []),
    ],
)
def test_a_ctc_token_counts_its_frames(labels: list[int], last: int, without: list[float], with_: list[float]) -> None:
    steps = [Step(t, label, float(t)) for t, label in enumerate(labels)]
    assert [ctc_tokens(steps, _, config, last) for config in CONFIGS] == [tuple(without), tuple(with_)]


@pytest.mark.parametrize(("family", "with_"), [("rnnt", [1, 3.5, 5]), ("tdt", [1, 3.5, 5.5])])
def test_a_transducer_token_counts_its_step_and_the_blanks_behind(family: str, with_: list[float]) -> None:
    """In RNN-T the blank that leaves the token's own frame counts for none."""
    steps = [Step(0, _, 0.0), Step(1, 7, 1.0), Step(1, 8, 2.0), Step(2, _, 5.0), Step(3, 9, 5.0), Step(3, _, 6.0)]
    assert [transducer_tokens(steps, _, config, family) for config in CONFIGS] == [(1.0, 2.0, 5.0), tuple(with_)]


def test_words_and_segments_count_their_tokens() -> None:
    """Spaces count for nothing, and a mark counts for the word it is written with."""
    tokenizer = Char(CharConfig(labels=[" ", "a", "b", "."]))
    sure = tuple(number / 10 for number in range(1, 9))
    found = Hypothesis(tokens=(1, 2, 0, 1, 3, 0, 2, 2), starts=tuple(range(8)), ends=tuple(range(1, 9)), token_confidence=sure)
    spans = timestamps(found, tokenizer, 1.0, family="rnnt", aggregation="mean")
    assert [c.confidence for c in spans.chars] == list(sure)
    assert [(w.text, w.confidence) for w in spans.words] == [
        ("ab", pytest.approx(0.15)),
        ("a.", pytest.approx(0.45)),
        ("bb", 0.75),
    ]
    assert [(s.text, s.confidence) for s in spans.segments] == [("ab a.", pytest.approx(0.3)), ("bb", 0.75)]
    assert spans.token_confidence == (0.1, 0.2, 0.4, 0.5, 0.7, 0.8)
    without = timestamps(evolve(found, token_confidence=()), tokenizer, 1.0, family="rnnt")
    assert {span.confidence for span in (*without.chars, *without.words, *without.segments)} == {None}


@pytest.mark.parametrize(("path", "decoder"), [(TDT, None), (HYBRID, "rnnt"), (HYBRID, "ctc")])
def test_a_transcript_with_confidence(path: Path, decoder: str | None) -> None:
    model = sonant.load(path, device="cpu")
    options: dict[str, Any] = {"decoder": decoder, "timestamps": "char"}
    audio = [CASES / "a.wav", CASES / "b.wav"]
    plain = model.transcribe(audio, **options)
    measured = model.transcribe(audio, confidence={"aggregation": "mean", "method": "max_prob"}, **options)
    least = model.transcribe(audio, confidence="max_prob", **options)
    for one, other, lowest in zip(plain, measured, least, strict=True):
        assert one.confidence is None and "confidence" not in json.dumps(one.to_dict())
        spans = (*other.words, *other.segments, *other.chars)
        assert all(0 < span.confidence <= 1 for span in spans)
        assert other.text == one.text
        bare = [evolve(span, confidence=None) for span in other.words]
        assert bare == list(one.words)
        said = [word.confidence for word in lowest.words]
        assert lowest.confidence == min(said) and all(x <= y.confidence for x, y in zip(said, other.words, strict=True))
        assert other.to_dict()["confidence"] == round(other.confidence, 4)
        fields = [line.split() for line in other.to_ctm().split("\n")]
        assert [float(row[5]) for row in fields] == [pytest.approx(word.confidence, abs=1e-4) for word in other.words]
    (alone,) = model.transcribe(audio[0], decoder=decoder, confidence="max_prob")
    assert alone.confidence == pytest.approx(least[0].confidence) and alone.words == ()


def test_the_fields_of_a_search_are_kept() -> None:
    model = sonant.load(TDT, device="cpu")
    search = {"name": "transducer_greedy", "confidence": {"method": "max_prob", "aggregation": "max"}}
    (by_search,) = model.transcribe(CASES / "a.wav", search=search)
    (over,) = model.transcribe(CASES / "a.wav", search=search, confidence={"aggregation": "min"})
    (by_call,) = model.transcribe(CASES / "a.wav", confidence="max_prob")
    assert over.confidence == by_call.confidence < by_search.confidence


def test_streams_have_confidence_too() -> None:
    model = sonant.load(CASES / "fastconformer_streaming_rnnt_bpe.nemo", device="cpu")
    session = model.stream(confidence={"method": "max_prob", "aggregation": "mean"})
    words = [
        word for event in (*session.push(sonant.audio.read(CASES / "b.wav", 16000)), *session.finish()) for word in event.words
    ]
    whole = model.transcribe(CASES / "b.wav", timestamps=True, confidence={"method": "max_prob", "aggregation": "mean"})[0].words
    assert [word.text.strip() for word in words] == [word.text for word in whole] != []
    assert [word.confidence for word in words] == pytest.approx([word.confidence for word in whole], abs=1e-3)


def test_the_option_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = CliRunner().invoke(
        app,
        ["transcribe", str(CASES / "b.wav"), "-m", str(TDT), "--confidence", "-f", "jsonl", "-t", "word"],
        catch_exceptions=False,
    )
    row = json.loads(done.stdout)
    assert row["confidence"] == min(word["confidence"] for word in row["words"])


@pytest.mark.parametrize(
    ("asked", "search", "reason"),
    [
        ({"metod": "entropy"}, None, r"confidence\.metod: unknown key\. Did you mean 'method'"),
        ("sure", None, r"confidence\.method: .*'sure'.*'entropy', 'max_prob'"),
        ({"alpha": 0.0}, None, "alpha 0.0 must be a number above 0"),
        ({"alpha": math.inf}, None, "alpha inf must be a number above 0"),
        (3, None, "confidence=3: True, a method"),
        (True, "transducer_beam", "search='transducer_beam' does not say how sure it is; greedy searches"),
    ],
)
def test_what_cannot_be_asked(asked: Any, search: str | None, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        sonant.load(TDT, device="cpu").transcribe([], confidence=asked, search=search)


def test_no_confidence_unless_it_is_wanted() -> None:
    assert CtcGreedyConfig().confidence is None and TransducerGreedyConfig().confidence is None


@pytest.mark.parametrize("form", ["txt", "srt", "vtt"])
def test_a_format_without_a_place_for_confidence_says_so(form: str) -> None:
    result = CliRunner().invoke(app, ["transcribe", str(CASES / "b.wav"), "-m", str(TDT), "--confidence", "-f", form])
    assert result.exit_code == 1
    assert f"--confidence: {form} has no place for it; take --format json or jsonl or ctm" in result.output
