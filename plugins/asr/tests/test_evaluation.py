"""Error rates: against edit distance computed the slow way, published examples, NeMo's numbers; and what normalization does."""

from __future__ import annotations

import random
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from sonant.errors import ConfigError
from sonant_asr.evaluation import Pair, Scores, evaluate
from sonant_asr.evaluation.errors import Errors, Unit, align, count
from sonant_asr.evaluation.normalization import basic

TEXTBOOK = (  # Jurafsky and Martin, Speech and Language Processing, on word error rate: 6 substitutions, 3 insertions, 1 deletion
    "i um the phone is i left the portable phone upstairs last night",
    "i got it to the fullest i love to portable form of stores last night",
)
SMALL = [
    TEXTBOOK,
    ("front center rear left", "front rear left left"),
    ("side right", "side write now"),
    ("", "noise"),
    ("gone away", ""),
]


def distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Wagner and Fischer, 1974."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(diagonal + (x != y), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def random_texts(number: int, alphabet: str) -> list[tuple[str, str]]:
    """A text, and the same with words lost, replaced and put in."""
    rng = random.Random(number)
    words = ["".join(rng.choices(alphabet, k=rng.randint(1, 3))) for _ in range(9)]
    pairs = []
    for _ in range(60):
        reference = rng.choices(words, k=rng.randint(0, 12))
        heard = [w if rng.random() < 0.7 else rng.choice(words) for w in reference if rng.random() < 0.85]
        heard += rng.choices(words, k=rng.choice([0, 0, 0, 2]))
        pairs.append((" ".join(reference), " ".join(heard)))
    return pairs


@pytest.mark.parametrize("alphabet", ["ab", "abcdefgh", "дж例é"])
@pytest.mark.parametrize("unit", ["word", "char"])
def test_no_alignment_has_fewer_errors(unit: Unit, alphabet: str) -> None:
    pairs = random_texts(len(alphabet), alphabet)
    for (reference, hypothesis), errors in zip(pairs, count(*zip(*pairs, strict=True), unit), strict=True):  # type: ignore[arg-type]
        a, b = (reference.split(), hypothesis.split()) if unit == "word" else (list(reference), list(hypothesis))
        assert errors.errors == distance(a, b)
        assert (errors.reference, errors.hypothesis) == (len(a), len(b))


@pytest.mark.parametrize("unit", ["word", "char"])
def test_an_alignment_holds_both_texts_and_the_counts(unit: Unit) -> None:
    for reference, hypothesis in random_texts(0, "abc") + SMALL:
        steps = align(reference, hypothesis, unit)
        between = " " if unit == "word" else ""
        assert between.join(s.reference for s in steps if s.reference is not None) == reference
        assert between.join(s.hypothesis for s in steps if s.hypothesis is not None) == hypothesis
        told = Counter(s.outcome for s in steps)
        errors = count([reference], [hypothesis], unit)[0]
        assert (told["hit"], told["substitution"], told["deletion"], told["insertion"]) == attrs.astuple(errors)
        for step in steps:
            assert (step.outcome == "hit") == (step.reference == step.hypothesis)
            assert (step.outcome == "insertion") == (step.reference is None)
            assert (step.outcome == "deletion") == (step.hypothesis is None)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "unit", "expected"),
    [
        (*TEXTBOOK, "word", Errors(hits=6, substitutions=6, deletions=1, insertions=3)),
        ("kitten", "sitting", "char", Errors(hits=4, substitutions=2, insertions=1)),
        ("saturday", "sunday", "char", Errors(hits=5, substitutions=1, deletions=2)),
        ("a b c", "a b c", "word", Errors(hits=3)),
        ("a b c", "", "word", Errors(deletions=3)),
        ("", "a b", "word", Errors(insertions=2)),
        ("", "", "char", Errors()),
        (" \n", "\t", "word", Errors()),
        ("a b", "ab", "char", Errors(hits=2, deletions=1)),
        ("A", "a", "char", Errors(substitutions=1)),
    ],
)
def test_examples(reference: str, hypothesis: str, unit: Unit, expected: Errors) -> None:
    assert count([reference], [hypothesis], unit) == [expected]


def test_the_textbook_rate() -> None:
    assert evaluate([TEXTBOOK]).word_error_rate == pytest.approx(0.769, abs=5e-4)


def test_nemo_counts_the_same() -> None:
    """`nemo.collections.asr.metrics.wer.word_error_rate` (3.0.0) on the same texts, and its parts."""
    scores = evaluate(SMALL, normalize="none")
    assert scores.word_error_rate == pytest.approx(0.8095238095238095, abs=1e-12)
    assert scores.character_error_rate == pytest.approx(0.5673076923076923, abs=1e-12)
    words = scores.words
    parts = [n / words.reference for n in (words.insertions, words.deletions, words.substitutions)]
    assert parts == pytest.approx([0.23809523809523808, 0.14285714285714285, 0.42857142857142855], abs=1e-12)


def test_rates_are_of_all_together() -> None:
    """Not the mean of the utterances' rates; what is heard in silence counts, too."""
    scores = evaluate([("a b c d", "a b c d"), ("e", "f"), ("", "g")])
    assert scores.words == Errors(hits=4, substitutions=1, insertions=1)
    assert scores.word_error_rate == 2 / 5
    assert [u.words.rate for u in scores.utterances] == [0, 1, None]


@pytest.mark.parametrize("pairs", [[], [("", "")], [("", "a")], [("?!", "…")]])
def test_without_words_a_rate_is_undefined(pairs: list[tuple[str, str]]) -> None:
    scores = evaluate(pairs)
    assert scores.word_error_rate is None and scores.character_error_rate is None
    assert scores.to_dict()["words"]["error_rate"] is None
    assert scores.words.errors == sum("a" in hypothesis for _, hypothesis in pairs)


def test_a_rate_may_be_above_one() -> None:
    assert evaluate([("a", "b c d")]).word_error_rate == 3


def test_scripts_without_spaces_are_told_by_characters() -> None:
    scores = evaluate([("今天天气很好", "今天天器很好")])
    assert scores.word_error_rate == 1
    assert scores.character_error_rate == pytest.approx(1 / 6)


def test_the_worst_come_first() -> None:
    texts = {"perfect": ("a b", "a b"), "half": ("a b", "a c"), "long half": ("a b", "a cdefg"), "all": ("a", "b"), "": ("", "x")}
    scores = evaluate([Pair(reference=r, hypothesis=h, name=name) for name, (r, h) in texts.items()])
    assert [u.pair.name for u in scores.worst()] == ["", "all", "long half", "half", "perfect"]
    assert [u.pair.name for u in scores.worst(2)] == ["", "all"]
    assert [u.pair.name for u in scores.worst(3, unit="char")] == ["", "long half", "all"]  # 5 of 3, 1 of 1 characters


def test_time_and_audio_are_of_what_is_known() -> None:
    a = Pair(reference="a", hypothesis="a", duration=10.0, elapsed=1.0)
    untimed, unknown = attrs.evolve(a, elapsed=None, duration=5.0), attrs.evolve(a, duration=None)
    scores = evaluate([a, untimed, unknown])
    assert scores.audio_seconds == 15
    assert scores.real_time_factor == pytest.approx(0.1)
    assert evaluate([untimed, unknown]).real_time_factor is None
    assert evaluate([unknown]).audio_seconds is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("  so\tmuch \n space ", "so much space"),
        ("Don’t stop; don't", "don't stop don't"),
        ("‘quoted’ 'words' rock 'n' roll dogs'", "quoted words rock n roll dogs"),
        ("well-known – e‑mail—now", "well known e mail now"),
        ("U.S. 3.14 1,000", "u s 3 14 1 000"),
        ("5 % of €20 <unk> [noise] ♪ a_b", "5 of 20 unk noise a b"),
        ("ﬁne Ａ１ ① ½", "fine a1 1 1 2"),
        ("STRASSE Straße ΑΣ Σ", "strasse straße ας σ"),
        ("İstanbul I", "i̇stanbul i"),
        ("cafe\u0301 caf\u00e9", "café café"),
        ("soft\u00adhyphen zero\u200bwidth \ufeffmark", "softhyphen zerowidth mark"),
        ("नमस्ते, दुनिया।", "नमस्ते दुनिया"),
        ("今天，天气很好。", "今天 天气很好"),
        ("السَّلام، عليكم؟", "السَّلام عليكم"),
        ("Oʻzbekiston O‘zbekiston", "o'zbekiston o'zbekiston"),
        ("''' - !", ""),
        ("a''b o'-c 'd' e' 'f", "a b o c d e f"),
        ("don\u00ad’t 7's 5'8", "don't 7's 5'8"),
        ("a\x00b\x07", "a b"),
    ],
)
def test_basic_normalization(text: str, expected: str) -> None:
    assert basic(text) == unicodedata.normalize("NFKC", expected)


def test_basic_normalization_of_every_script() -> None:
    """Nothing that it should take out is left, and doing it again changes nothing. Beyond these planes are ideographs only."""
    for first in (*range(0, 0x20000, 64), 0xE0000, 0xE0040):
        text = " ".join(f"x{chr(c)}'y" for c in range(first, first + 64) if unicodedata.category(chr(c)) != "Cs")
        plain = basic(text)
        assert basic(plain) == plain
        left = {unicodedata.category(c) for c in plain if c not in "' "}
        assert left.isdisjoint({"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Cf", "Zs", "Zl", "Zp"})
        assert plain == " ".join(plain.split())


def test_normalization_is_of_both_sides_and_named() -> None:
    pairs = [("It's well-known.", "it's Well known")]
    rates = {name: evaluate(pairs, normalize=name).word_error_rate for name in ("basic", "none")}
    assert rates == {"basic": 0, "none": 1.5}
    assert [evaluate(pairs, normalize=name).normalization for name in rates] == list(rates)


def test_normalization_by_a_function() -> None:
    def no_vowels(text: str) -> str:
        return "".join(c for c in text if c not in "aeiou")

    scores = evaluate([("right", "rght"), ("write", "rt")], normalize=no_vowels)
    assert scores.normalization == "no_vowels"
    assert scores.words == Errors(hits=1, substitutions=1)
    assert scores.utterances[1].reference == "wrt" and scores.utterances[1].pair.reference == "write"


def test_a_normalization_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="normalize='english': there are basic and none"):
        evaluate([("a", "a")], normalize="english")


def test_texts_that_no_file_can_hold() -> None:
    assert evaluate([("a \ud800", "a")], normalize="none").words == Errors(hits=1, deletions=1)


def test_scores_do_not_change() -> None:
    scores: Any = evaluate([("a", "a")])
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        scores.words = Errors()
    assert isinstance(scores, Scores) and hash(scores)


_WITHOUT_JIWER = """
import sys
sys.modules["jiwer"] = None
from sonant.errors import PluginError
from sonant_asr.evaluation import evaluate
try:
    evaluate([("a", "b")])
except PluginError as error:
    print(error)
"""


def test_without_jiwer_the_error_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT_JIWER], capture_output=True, text=True, check=True)
    assert done.stdout == "error rates need jiwer, which is not installed: pip install 'sonant-asr[evaluate]'\n"


def test_importing_the_evaluation_is_light() -> None:
    code = "import sys, sonant_asr.evaluation; print({'torch', 'jiwer', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
