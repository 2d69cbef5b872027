"""Language models and phrases as scores of the next token, against slow references that follow the published formulas."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sonant.errors import ConfigError
from sonant.files import Files
from sonant_asr.fusion.boosting import PhraseBoosting
from sonant_asr.fusion.building import language_model, scorers_of
from sonant_asr.fusion.config import FusionConfig
from sonant_asr.fusion.estimating import arpa_of
from sonant_asr.fusion.scorer import TokenScorer
from sonant_asr.fusion.trie import plant
from sonant_asr.tokenizers.aggregate import Aggregate
from sonant_asr.tokenizers.char import Char
from sonant_asr.tokenizers.config import AggregateConfig, CharConfig

LABELS = [" ", *"abcdefg"]
CHAR = Char(CharConfig(labels=LABELS))
CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"
Gram = tuple[str, ...]


def follow(scorer: TokenScorer, labels: list[int]) -> Tensor:
    """The state behind some labels, `(1,)`."""
    state = scorer.start(1, "cpu")
    for label in labels:
        state = scorer.advance(state)[1][:, label]
    return state


# N-gram models


def arpa(grams: dict[Gram, tuple[float, float]]) -> str:
    """The text of a model: n-grams to logarithms of probability and backoff weight, to base 10."""
    order = max(map(len, grams))
    found = [[gram for gram in grams if len(gram) == n] for n in range(1, order + 1)]
    lines = ["\\data\\", *(f"ngram {n}={len(of_length)}" for n, of_length in enumerate(found, 1))]
    for n, of_length in enumerate(found, 1):
        lines += ["", f"\\{n}-grams:"]
        lines += ["\t".join([f"{grams[g][0]}", " ".join(g)] + ([f"{grams[g][1]}"] if n < order else [])) for g in of_length]
    return "\n".join([*lines, "", "\\end\\", ""])


def random_model(seed: int, *, order: int, unknown: float | None = None, whole: bool = True) -> dict[Gram, tuple[float, float]]:
    """Random n-grams whose beginnings are there. Without `whole`, some of their ends are not, as after pruning."""
    random = np.random.default_rng(seed)
    words = ["<space>", *"abcde"]
    grams: list[Gram] = [("<s>",), ("</s>",), *((word,) for word in words)]
    known = set(grams)
    for n in range(2, order + 1):
        contexts = [gram for gram in known if len(gram) == n - 1 and gram[-1] != "</s>"]
        for context in sorted(contexts):
            for word in [*words, "</s>"]:
                if random.random() < 0.4 and (not whole or (*context[1:], word) in known):
                    known.add((*context, word))
    found = {g: (-random.uniform(0.1, 2), random.uniform(-1, 0.3)) for g in sorted(known, key=lambda g: (len(g), g))}
    return found | ({("<unk>",): (unknown, 0.0)} if unknown is not None else {})


def katz(grams: dict[Gram, tuple[float, float]], context: Gram, word: str) -> float:
    """Of Katz (1987), to base 10: the n-gram's probability, or its context's weight and what the shorter context says."""
    if (*context, word) in grams:
        return grams[*context, word][0]
    if not context:
        return grams["<unk>",][0] if ("<unk>",) in grams else -100.0
    return grams.get(context, (0.0, 0.0))[1] + katz(grams, context[1:], word)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_an_n_gram_model_scores_by_the_formula_of_backing_off(order: int, whole: bool) -> None:
    grams = random_model(order, order=order, whole=whole, unknown=-1.5)
    scorer = language_model(arpa(grams).encode(), "lm", CHAR, weight=0.7)
    random = np.random.default_rng(0)
    words = [" ", *"abcde"]
    for _ in range(20):
        text = random.choice(words, random.integers(0, 7)).tolist()
        state = follow(scorer, CHAR.encode("".join(text)))
        context = ("<s>", *("<space>" if word == " " else word for word in text))[-(order - 1) or len(text) + 1 :]
        expected = [katz(grams, context, "<space>" if label == " " else label) for label in LABELS]
        shared = [0.0 if label in words else math.log10(len(LABELS) - len(words)) for label in LABELS]
        scores = scorer.advance(state)[0][0].double() / 0.7 / math.log(10)
        torch.testing.assert_close(scores, torch.tensor(expected).double() - torch.tensor(shared), rtol=1e-5, atol=1e-5)
        end = float(scorer.final(state)) / 0.7 / math.log(10)
        assert end == pytest.approx(katz(grams, context, "</s>"), abs=1e-5)


def test_rows_do_not_change_each_other() -> None:
    scorer = language_model(arpa(random_model(5, order=4)).encode(), "lm", CHAR)
    assert isinstance(scorer, TokenScorer)
    states = torch.arange(scorer.automaton.size)
    together = scorer.advance(states)
    for state in states.tolist():
        alone = scorer.advance(torch.tensor([state]))
        assert torch.equal(alone[0][0], together[0][state])
        assert torch.equal(alone[1][0], together[1][state])


def test_a_model_without_a_mark_is_read() -> None:
    """Without `</s>` nothing is said of endings, and without `<s>` a text begins like anything."""
    grams = random_model(1, order=2)
    bare = {gram: numbers for gram, numbers in grams.items() if not {"<s>", "</s>"} & set(gram)}
    scorer = language_model(arpa(bare).encode(), "lm", CHAR)
    start = scorer.start(2, "cpu")
    assert scorer.final(start).tolist() == [0.0, 0.0]
    assert float(scorer.advance(start)[0][0, 1]) == pytest.approx(bare["a",][0] * math.log(10), rel=1e-6)


def test_n_grams_with_unknown_words_are_left_out() -> None:
    grams = random_model(2, order=2, unknown=-2.0)
    more = grams | {("a", "<unk>"): (-0.1, 0.0), ("<unk>", "a"): (-0.2, 0.0)}
    ordered = dict(sorted(more.items(), key=lambda item: len(item[0])))
    one, other = (language_model(arpa(of).encode(), "lm", CHAR) for of in (grams, ordered))
    states = torch.arange(one.automaton.size)
    assert torch.equal(one.advance(states)[0], other.advance(states)[0])


def test_tokens_are_told_by_piece_or_by_character() -> None:
    grams = random_model(3, order=3)
    ids = {"<s>": "<s>", "</s>": "</s>", "<space>": chr(100), **{c: chr(101 + n) for n, c in enumerate("abcde")}}
    coded = {tuple(ids[word] for word in gram): numbers for gram, numbers in grams.items()}
    tokenizer = Char(CharConfig(labels=[" ", *"abcABC", "x", "y"]))  # of which none is chr(100), …
    with pytest.raises(ConfigError, match=r"its words are not the tokens of this model: as pieces it has 'd', 'e' and as ids it"):
        language_model(arpa(grams).encode(), "lm", tokenizer)
    one = language_model(arpa(coded).encode(), "lm", tokenizer)
    other = language_model(arpa(grams).encode(), "lm", CHAR)
    states = torch.arange(one.automaton.size)
    assert torch.equal(one.advance(states)[0][:, :6], other.advance(states)[0][:, :6])


def test_words_that_can_be_read_in_two_ways_have_to_be_told() -> None:
    tokenizer = Char(CharConfig(labels=list("fedfed"[:3])))  # d, e and f are chr(100), chr(101) and chr(102)
    text = arpa({("<s>",): (-99, 0.0), ("</s>",): (-1, 0.0), ("d",): (-0.5, 0.0), ("e",): (-0.7, 0.0)}).encode()
    with pytest.raises(ConfigError, match="say which by lm_tokens, pieces or ids"):
        language_model(text, "lm", tokenizer)
    for writing, label in (("pieces", 2), ("ids", 0)):
        scorer = language_model(text, "lm", tokenizer, writing=writing)  # type: ignore[arg-type]
        assert float(scorer.advance(scorer.start(1, "cpu"))[0][0, label]) == pytest.approx(-0.5 * math.log(10), rel=1e-6)


def test_two_languages_with_one_piece_are_told_by_character() -> None:
    part = {"name": "char", "labels": ["a", "b"]}
    tokenizer = Aggregate(AggregateConfig(langs={"en": part, "de": part}), files=Files.of({}, "nothing"))
    text = arpa({("<s>",): (-99, 0.0), ("</s>",): (-1, 0.0), (chr(102),): (-0.5, 0.0)}).encode()
    scorer = language_model(text, "lm", tokenizer)
    assert float(scorer.advance(scorer.start(1, "cpu"))[0][0, 2]) == pytest.approx(-0.5 * math.log(10), rel=1e-6)
    with pytest.raises(ConfigError, match=r"the tokens 0 and 2 are both written 'a'.*say lm_tokens='ids'"):
        language_model(text, "lm", tokenizer, writing="pieces")


def test_a_gzipped_file_is_read_as_it_is() -> None:
    data = arpa(random_model(4, order=3)).encode()
    one, other = language_model(data, "lm", CHAR), language_model(gzip.compress(data), "lm.gz", CHAR)
    assert torch.equal(one.automaton.scores, other.automaton.scores)


GOOD = arpa(random_model(6, order=2))
FAULTS = {
    "": r"the language model lm: it has no \\data\\ line",
    "\\data\\\n": "declares no n-grams",
    "\\data\\\nngram 2=1\n": "line 2 must declare the 1-grams, not 'ngram 2=1'",
    GOOD[: GOOD.index("\\2-grams:")]: "it ends before its",
    GOOD[: GOOD.index("\\end\\") - 30]: "2-grams and has .*: it is cut off or damaged",
    GOOD.replace("\\2-grams:", "\\3-grams:"): r"must be \\2-grams:",
    GOOD.replace("\\end\\", "end"): r"must be \\end\\",
    GOOD.replace("\ta\t", "\ta b c\t", 1): "the line .* is not one of 1 words",
    GOOD.replace("\ta b\n", "\ta z\n")
    if "\ta b\n" in GOOD
    else GOOD.replace(" b\n", " z\n"): "the word 'z' of a 2-gram is not among",
    GOOD.replace("\ta\t-0", "\ta\tnan-0", 1).replace("\ta\t0", "\ta\tnan0", 1): "its 1-grams have numbers that cannot be read",
    arpa(random_model(6, order=1) | {("f",): (math.nan, 0.0)}): "are not logarithms of probabilities",
    arpa(random_model(6, order=1) | {("f",): (0.5, 0.0)}): "are not logarithms of probabilities",
    arpa({("<s>",): (-9, 0.0), ("a",): (-1, 0.0), ("b",): (-1, 0.0), ("a", "b", "a"): (-1, 0.0)}): "has a beginning that is not",
    arpa({("<s>",): (-9, 0.0), ("a",): (-1, 0.0), ("a", "<s>"): (-1, 0.0)}): "<s> stands behind another word",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_file_that_is_no_language_model_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=FAULTS[text]):
        language_model(text.encode(), "lm", CHAR)


def test_an_n_gram_that_occurs_twice_is_refused() -> None:
    text = (
        GOOD.replace("ngram 1=8", "ngram 1=9").replace("\\2-grams:", "-1\ta\t0\n\n\\2-grams:", 1).replace("\n\n-1\ta", "\n-1\ta")
    )
    with pytest.raises(ConfigError, match="a 1-gram occurs twice"):
        language_model(text.encode(), "lm", CHAR)


def test_an_archive_is_refused() -> None:
    with pytest.raises(ConfigError, match="it is an archive, as NeMo keeps models in; give the ARPA file that it was made from"):
        language_model((CASES / "fastconformer_ctc_bpe.nemo").read_bytes(), "lm.nemo", CHAR)


def test_a_damaged_gzip_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="the language model lm: it is not a whole gzip file"):
        language_model(gzip.compress(GOOD.encode())[:-20], "lm", CHAR)


# Estimating


TEXTS = ["abc abc", "abd abc", "cab", "bad cab abc", "a bad cab", "dab"]


@pytest.mark.parametrize("order", [1, 2, 4])
def test_an_estimated_model_spreads_a_probability_of_one(order: int) -> None:
    text = arpa_of(TEXTS, CHAR, order=order)
    scorer = language_model(text.encode(), "lm", CHAR)
    states = torch.arange(scorer.automaton.size)
    total = scorer.advance(states)[0].double().exp().sum(1) + scorer.final(states).double().exp()
    torch.testing.assert_close(total, torch.ones(len(states), dtype=torch.float64), rtol=0, atol=1e-5)


def test_an_estimated_model_knows_its_text() -> None:
    scorer = language_model(arpa_of(TEXTS, CHAR, order=3).encode(), "lm", CHAR)
    best = scorer.advance(follow(scorer, CHAR.encode("ab")))[0][0].argmax()
    assert LABELS[int(best)] == "c"


def test_kneser_and_ney_count_what_words_follow() -> None:
    """Unigrams in proportion to how many different tokens come before, less the discount that is spread evenly."""
    lines = arpa_of(["ab", "cb", "db", "aaaa"], CHAR, order=2).split("\n")
    at = lines.index("\\1-grams:")
    found = {line.split("\t")[1]: 10 ** float(line.split("\t")[0]) for line in lines[at + 1 : lines.index("", at)]}
    before = {"a": 2, "b": 3, "c": 1, "d": 1, "</s>": 2}  # <s> and a; a, c and d; <s>; <s>; b and a
    total, discount = 9, 2 / (2 + 2 * 2)
    spread = discount * len(before) / total / (len(LABELS) + 1)
    for token in [*"abcdefg", "</s>"]:
        assert found[token] == pytest.approx(max(before.get(token, 0) - discount, 0) / total + spread, rel=1e-5)


def test_a_model_is_estimated_for_one_language_of_several() -> None:
    langs = {"en": {"name": "char", "labels": ["a", "b"]}, "de": {"name": "char", "labels": ["a", "ä"]}}
    tokenizer = Aggregate(AggregateConfig(langs=langs), files=Files.of({}, "nothing"))
    text = arpa_of(["aäa"], tokenizer, writing="ids", language="de", order=2)
    scorer = language_model(text.encode(), "lm", tokenizer, writing="ids")
    assert int(scorer.advance(scorer.start(1, "cpu"))[0].argmax()) == 2
    with pytest.raises(ValueError, match="no language 'fr'"):
        arpa_of(["aäa"], tokenizer, writing="ids", language="fr")


def test_texts_without_a_model_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no text"):
        arpa_of([], CHAR)
    with pytest.raises(ValueError, match="order 0 must be at least 1"):
        arpa_of(["a"], CHAR, order=0)


# Phrases


def tree_of(phrases: dict[str, float], **options: Any) -> PhraseBoosting:
    tokens = [CHAR.encode(phrase) for phrase in phrases]
    return PhraseBoosting(tokens, list(phrases.values()), vocab_size=len(LABELS), config=FusionConfig(**options))


class Reference:
    """The published tree, node by node: a node is the beginning of a phrase, as text."""

    def __init__(self, phrases: dict[str, float], *, context: float, depth: float, unknown: float) -> None:
        self.phrases, self.unknown = phrases, unknown
        self.nodes = {phrase[:n] for phrase in phrases for n in range(len(phrase) + 1)}
        self.scores = {}
        for node in self.nodes - {""}:
            strength = context * max(weight for phrase, weight in phrases.items() if phrase.startswith(node))
            self.scores[node] = strength if len(node) == 1 else strength * depth + math.log(len(node))

    def total(self, node: str) -> float:
        return sum(self.scores[node[:n]] for n in range(1, len(node) + 1))

    def step(self, node: str, label: str) -> tuple[float, str]:
        if node + label in self.nodes:
            return self.scores[node + label], node + label
        if not node:
            return self.unknown, ""
        shorter = next(node[n:] for n in range(1, len(node) + 1) if node[n:] in self.nodes)
        back = 0.0 if node in self.phrases else self.total(shorter) - self.total(node)
        score, behind = self.step(shorter, label)
        return back + score, behind


@pytest.mark.parametrize("unknown", [0.0, -0.3])
def test_phrases_score_as_the_tree_says(unknown: float) -> None:
    phrases = {"abcab": 1.0, "bca": 2.0, "ab": 0.5, "c": 1.0, "cabbage": 1.0, "a bad cab": 1.5}
    reference = Reference(phrases, context=0.8, depth=1.7, unknown=unknown)
    scorer = tree_of(phrases, context_score=0.8, depth_scaling=1.7, unk_score=unknown, boost_weight=1.3)
    random = np.random.default_rng(1)
    node, state = "", scorer.start(1, "cpu")
    for _ in range(400):
        scores, following = scorer.advance(state)
        expected = [reference.step(node, label)[0] for label in LABELS]
        torch.testing.assert_close(scores[0].double() / 1.3, torch.tensor(expected).double(), rtol=1e-5, atol=1e-5)
        assert float(scorer.final(state)) == pytest.approx(1.3 * (node in phrases))
        along = [label for label in LABELS if node + label in reference.nodes]
        label = str(random.choice(along if along and random.random() < 0.7 else LABELS))
        node, state = reference.step(node, label)[1], following[:, LABELS.index(label)]


def test_who_leaves_a_phrase_gives_everything_back() -> None:
    scorer = tree_of({"abcdef": 1.0})
    state, total = scorer.start(1, "cpu"), 0.0
    for label in CHAR.encode("abcdeg"):
        scores, following = scorer.advance(state)
        total, state = total + float(scores[0, label]), following[:, label]
    assert total == pytest.approx(0.0, abs=1e-5)
    assert int(state) == 0


def test_the_end_token_gets_at_least_what_the_best_label_gets() -> None:
    scorer = tree_of({"ab": 1.0, "abc": 1.0}, final_eos_score=0.5)
    states = torch.cat([follow(scorer, CHAR.encode(text)) for text in ("", "a", "ab", "abc")])
    scores, _ = scorer.advance(states)
    best = scores.amax(1)
    assert torch.equal(scorer.eos(states, scores), best.clamp(min=0) + torch.tensor([0.0, 0.0, 0.5, 0.5]))
    model = language_model(GOOD.encode(), "lm", CHAR)
    start = model.start(2, "cpu")
    assert torch.equal(model.eos(start, model.advance(start)[0]), model.final(start))


def test_a_tree_finds_the_longest_suffix_that_begins_a_phrase() -> None:
    random = np.random.default_rng(3)
    phrases = [random.integers(3, size=random.integers(1, 8)).tolist() for _ in range(60)]
    trie, ends = plant(phrases, 3)
    paths: list[tuple[int, ...]] = [()]
    for parent, label in zip(trie.parents, trie.labels, strict=True):
        paths.append((*paths[parent], int(label)))
    assert [paths[end] for end in ends] == [tuple(phrase) for phrase in phrases]
    known = {path: node for node, path in enumerate(paths)}
    expected = [next(known[path[n:]] for n in range(1, len(path) + 1) if path[n:] in known) if path else 0 for path in paths]
    assert trie.failures().tolist() == expected


# From a config


def test_a_config_names_what_there_is_to_listen_to(tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text(GOOD, encoding="utf-8")
    files = Files.beside(tmp_path)
    assert scorers_of(FusionConfig(), CHAR, files) == ()
    lm, phrases = scorers_of(FusionConfig(lm="lm.arpa", lm_weight=0.5, boost=["abc"], boost_weight=2.0), CHAR, files)
    assert float(phrases.advance(phrases.start(1, "cpu"))[0][0, 1]) == 2.0
    whole = language_model(GOOD.encode(), "lm", CHAR)
    start = lm.start(1, "cpu")
    torch.testing.assert_close(lm.advance(start)[0] * 2, whole.advance(start)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boost": "abc"}, "boost must be a list of phrases or a mapping of phrases to weights, not 'abc'"),
        ({"boost": [False]}, "a phrase is text, not False; quote words that YAML reads otherwise"),
        ({"boost": ["a", " "]}, "a phrase is text, not ' '"),
        ({"boost": {"a": 0}}, "the weight of 'a' must be a number above 0, not 0"),
        ({"boost": {"a": "much"}}, "the weight of 'a' must be a number above 0, not 'much'"),
        ({"lm_weight": math.inf}, "lm_weight inf must be a finite number"),
    ],
)
def test_a_config_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FusionConfig(**options)


def test_phrases_that_cannot_be_written_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"this model cannot write 'Abc', 'xyz', 'é', 'z', 'y' and 1 more: it has no token"):
        scorers_of(FusionConfig(boost=["Abc", "abc", "xyz", "é", "z", "y", "x"]), CHAR, None)
    with pytest.raises(ConfigError, match="boost_language 'de': this model's tokenizer is of one language only"):
        scorers_of(FusionConfig(boost=["abc"], boost_language="de"), CHAR, None)


def test_phrases_are_of_all_languages_that_can_write_them_or_of_one() -> None:
    langs = {"en": {"name": "char", "labels": ["a", "b"]}, "de": {"name": "char", "labels": ["a", "ä"]}}
    tokenizer = Aggregate(AggregateConfig(langs=langs), files=Files.of({}, "nothing"))
    for language, phrase, labels in ((None, "a", [0, 2]), ("en", "a", [0]), ("de", "a", [2]), (None, "ä", [3])):
        (scorer,) = scorers_of(FusionConfig(boost=[phrase], boost_language=language), tokenizer, None)
        assert scorer.advance(scorer.start(1, "cpu"))[0][0].nonzero().flatten().tolist() == labels
    with pytest.raises(ConfigError, match="boost_language 'fr': this model's tokenizer has en, de"):
        scorers_of(FusionConfig(boost=["a"], boost_language="fr"), tokenizer, None)


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match=r"lm: the config names the file 'none\.arpa', which cannot be read"):
        scorers_of(FusionConfig(lm="none.arpa"), CHAR, None)
    with pytest.raises(ConfigError, match="a language model and phrases are read with a tokenizer, and there is none"):
        scorers_of(FusionConfig(lm="none.arpa"), None, None)
