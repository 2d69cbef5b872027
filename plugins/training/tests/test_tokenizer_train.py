"""`sonant tokenizer train`: against byte-pair merges counted by hand, and against the components that use what it makes."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from sonant import config
from sonant.build import instantiate
from sonant.cli.main import app
from sonant.errors import ConfigError
from sonant.files import Files
from sonant_training.tokenizing import report
from sonant_training.tokenizing.texts import Text, read
from sonant_training.tokenizing.training import Trained, Wish, train

SENTENCES = (
    "she sells sea shells on the sea shore",
    "the shells that she sells are sea shells for sure",
    "peter piper picked a peck of pickled peppers",
    "if peter piper picked a peck of pickled peppers where is the peck that peter piper picked",
    "how much wood would a woodchuck chuck",
    "Ça coûte 1 234 €",
)
TEXTS = [Text(sentence, len(sentence) / 12) for sentence in SENTENCES]


def component(section: dict[str, Any], folder: Path) -> Any:
    """The tokenizer of a config that lies in a folder."""
    filled = config.fill_section("tokenizer", section, "tokenizer")
    return instantiate(filled, "tokenizer", {"files": Files.beside(folder)})


def merges_by_hand(sentences: Sequence[str], count: int) -> list[set[str]]:
    """For each merge, what may be merged: the most frequent pairs of neighbours (Sennrich et al., 2016)."""
    words = Counter(tuple(f"▁{word}") for sentence in sentences for word in sentence.split())
    best: list[set[str]] = []
    for _ in range(count):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                pairs[pair] += times
        most = max(pairs.values())
        tied = [pair for pair, times in pairs.items() if times == most]
        best.append({a + b for a, b in tied})
        if len(tied) > 1:
            return best
        words = Counter({_merged(word, tied[0]): times for word, times in words.items()})
    return best


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    found: list[str] = []
    for piece in word:
        if found and (found[-1], piece) == pair:
            found[-1] += piece
        else:
            found.append(piece)
    return tuple(found)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_pairs_are_merged_in_the_order_of_their_number(seed: int) -> None:
    """On words whose most frequent pairs have no tie, so that there is one right answer."""
    drawn, expected, sentence = random.Random(seed), [set[str]()], ""
    while len(expected) < 6 or any(len(tied) > 1 for tied in expected):
        words = ["".join(drawn.sample("abcdefgh", drawn.randint(3, 6))) for _ in range(8)]
        sentence = " ".join(drawn.choices(words, weights=[drawn.random() for _ in words], k=200))
        expected = merges_by_hand([sentence], 6)
    letters = set(sentence) - {" "} | {"▁"}
    pieces = train([Text(sentence)], Wish(size=1 + 6 + len(letters))).pieces
    assert [{piece} for piece in pieces[1:7]] == expected
    assert set(pieces[7:]) == letters


NEMO = json.loads((Path(__file__).parent / "data" / "tokenizer_pieces.json").read_text("utf-8"))


@pytest.mark.parametrize("case", NEMO["cases"], ids=lambda case: "-".join(map(str, case["wish"])))
def test_nemo_makes_the_same_of_the_same_texts(case: dict[str, Any]) -> None:
    wish = case["wish"] | {"symbols": tuple(case["wish"].get("symbols", ()))}
    trained = train([Text(sentence) for sentence in NEMO["sentences"]], Wish(**wish))
    if wish["type"] == "bpe":
        assert list(trained.pieces) == case["pieces"]
    assert sorted(trained.pieces) == sorted(case["pieces"])  # those that are as likely stand in an order that rounding decides
    for sentence, ids in zip(NEMO["sentences"], case["ids"], strict=True):
        assert [trained.pieces[id] for id in trained.encode(sentence)[0]] == [case["pieces"][id] for id in ids]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_subwords_are_used_as_they_were_made(kind: str, tmp_path: Path, run: Callable[..., Result]) -> None:
    (tmp_path / "m.jsonl").write_text("".join(json.dumps({"audio_filepath": "x", "text": s}) + "\n" for s in SENTENCES))
    done = run("m.jsonl", "-o", "made", "--type", kind, "--size", "50")
    assert done.exit_code == 0, done.output
    printed = yaml.safe_load(done.stdout.partition("relative to:\n")[2])
    written = yaml.safe_load((tmp_path / "made" / "tokenizer.yaml").read_text("utf-8"))
    tokenizer = component(printed["tokenizer"], tmp_path)
    assert component(written["tokenizer"], tmp_path / "made").vocab_size == tokenizer.vocab_size == 50
    direct = train(TEXTS, Wish(type=kind, size=50))  # type: ignore[arg-type]
    for sentence in SENTENCES:
        assert tokenizer.decode(tokenizer.encode(sentence)) == sentence
        assert direct.encode(sentence) == (tokenizer.encode(sentence), 0)
    assert direct.pieces == tuple(tokenizer.pieces(range(50)))
    assert not {"<s>", "</s>"} & set(direct.pieces)


def test_the_same_texts_give_the_same_tokenizer() -> None:
    for kind in ("bpe", "unigram"):
        first, second = (train(TEXTS, Wish(type=kind, size=50)) for _ in range(2))  # type: ignore[arg-type]
        assert first.model == second.model


def test_characters_are_all_there_are(tmp_path: Path, run: Callable[..., Result]) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(SENTENCES), "utf-8")
    done = run("texts.txt", "-o", "made", "--type", "char")
    assert done.exit_code == 0, done.output
    printed = yaml.safe_load(done.stdout.partition("relative to:\n")[2])
    assert printed == yaml.safe_load((tmp_path / "made" / "tokenizer.yaml").read_text("utf-8"))
    assert printed["tokenizer"]["labels"] == sorted(set("".join(SENTENCES)))
    tokenizer = component(printed["tokenizer"], tmp_path)
    assert [tokenizer.decode(tokenizer.encode(sentence)) for sentence in SENTENCES] == list(SENTENCES)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["tokenizer.yaml"]


def test_labels_survive_yaml(tmp_path: Path, run: Callable[..., Result]) -> None:
    """Those too that YAML would read as something else."""
    letters = " yn~-'\":#{}[],&*!|>%@`0189…é中\u00a0"
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio_filepath": "x", "text": letters}))
    run("m.jsonl", "-o", "made", "--type", "char")
    written = yaml.safe_load((tmp_path / "made" / "tokenizer.yaml").read_text("utf-8"))
    assert written["tokenizer"]["labels"] == sorted(letters)


def test_the_rarest_characters_are_left_out() -> None:
    trained = train([Text("aaaa bbb cc d")], Wish(type="char", size=3))
    assert trained.section["labels"] == [" ", "a", "b"]
    assert trained.left_out == ("c", "d")
    assert trained.encode("abcd") == ([1, 2], 2)


def test_options_of_subwords(tmp_path: Path) -> None:
    plain = train(TEXTS, Wish(size=100))
    lower = train(TEXTS, Wish(size=100, lower_case=True))
    assert lower.encode("SHE SELLS ÇA") == lower.encode("she sells ça")
    assert lower.encode("ÇA")[1] == 0
    assert plain.encode("日本")[1] > 0
    assert train(TEXTS, Wish(size=330, byte_fallback=True)).encode("日本")[1] == 0
    for split, joined in ((False, True), (True, False)):
        pieces = train([Text("12 12 12 12 ab")], Wish(size=8, split_digits=split)).pieces
        assert any(any(c.isdigit() for c in piece) and len(piece) > 1 for piece in pieces) == joined
    symbols = train(TEXTS, Wish(size=100, symbols=("<noise>", "a,b")))
    assert {"<noise>", "a,b"} <= set(symbols.pieces)
    ids, _ = symbols.encode("sea<noise>shells")
    assert symbols.pieces.index("<noise>") in ids
    covered = train([Text("aaaa" * 500 + "b")], Wish(size=5, coverage=0.999))
    assert "b" not in covered.pieces


def test_a_long_text_counts_too() -> None:
    """SentencePiece leaves out sentences of more than 4192 bytes unless it is told."""
    assert "z" in train([Text("ab"), Text("z " * 5000)], Wish(size=6)).pieces


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"size": 5000}, r"--size 5000 is more than these texts have subwords for: at most \d+"),
        ({"size": 5000, "type": "unigram"}, r"--size 5000 is more than .* at most \d+"),
        ({"size": 10}, r"--size 10 is less than there are characters: at least \d+"),
        ({"size": 100, "byte_fallback": True}, r"--size 100 is less than there are characters: at least \d+"),
        ({"type": "char", "lower_case": True, "symbols": ("x",)}, "--lower-case, --symbol: only subwords have this"),
    ],
)
def test_what_cannot_be_made_says_what_can(wish: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        train(TEXTS, Wish(**wish))


def test_the_sizes_that_errors_name_are_right() -> None:
    for wish, word in (({"type": "bpe"}, "most"), ({"type": "unigram"}, "most"), ({"type": "bpe"}, "least")):
        with pytest.raises(ConfigError) as error:
            train(TEXTS, Wish(size=5000 if word == "most" else 3, **wish))  # type: ignore[arg-type]
        limit = int(str(error.value).partition(f"at {word} ")[2].partition(",")[0])
        assert len(train(TEXTS, Wish(size=limit, **wish)).pieces) == limit  # type: ignore[arg-type]
        with pytest.raises(ConfigError):
            train(TEXTS, Wish(size=limit + (1 if word == "most" else -1), **wish))  # type: ignore[arg-type]


# What is said of its use


@pytest.mark.parametrize("ids", [ids for n in range(5) for ids in product(range(2), repeat=n)])
def test_the_frames_that_ctc_needs_are_where_its_loss_becomes_finite(ids: tuple[int, ...]) -> None:
    needed = report.frames_for_ctc(ids)
    for frames in range(max(1, needed - 2), needed + 2):
        loss = torch.nn.functional.ctc_loss(
            torch.zeros(frames, 1, 3).log_softmax(-1),
            torch.tensor([ids], dtype=torch.long),
            torch.tensor([frames]),
            torch.tensor([len(ids)]),
            blank=2,
        )
        assert bool(loss.isfinite()) == (frames >= needed)


def test_what_is_said_of_its_use_is_counted() -> None:
    def encode(text: str) -> tuple[list[int], int]:
        return [ord(c) for c in text if c != "?"], text.count("?")

    trained = Trained(section={}, model=None, pieces=("a",) * 7, left_out=(), encode=encode)
    texts = [Text("ab ab", 0.4), Text("aabb", 0.2), Text("a?", 10.0), Text("abcdef?")]
    found = report.use(trained, texts)
    assert (found.vocabulary, found.texts, found.words, found.tokens, found.longest) == (7, 4, 5, 16, 6)
    assert (found.unknown, found.unknown_texts) == (2, 2)
    # 5 tokens in 10 frames or 5; 4 tokens and 2 blanks in 5 frames or 2.5; 1 token; the last has no duration.
    assert (found.timed, found.too_long) == (3, (1, 1))


# The command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, ["tokenizer", "train", *args], prog_name="sonant")


def test_texts_are_those_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"audio_filepath": "x", "text": "one", "duration": 2}\n{"audio_filepath": "x", "text": " "}\n'
    )
    (tmp_path / "b.txt").write_text("\ufefftwo\n\n three \n", "utf-8")
    assert read([tmp_path / "a.jsonl", tmp_path / "b.txt"]) == [Text("one", 2.0), Text("two"), Text("three")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"audio_filepath": "x"}', 'a.jsonl:1: no "text"'),
        ("a.jsonl", b"\nnonsense", "a.jsonl:2: not JSON"),
        ("a.jsonl", b'{"audio_filepath": "x", "text": ""}', "there is no text in"),
        ("a.txt", b"\n \n", "there is no text in"),
        ("a.bin", b"\xff\xfe\x00", "neither a manifest"),
    ],
)
def test_what_holds_no_text_is_an_error(name: str, content: bytes, said: str, run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    done = run(name, "-o", "made")
    assert done.exit_code == 1
    assert said in done.stderr
    assert not (tmp_path / "made").exists()


def test_what_is_there_is_kept_unless_it_may_be_replaced(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(SENTENCES), "utf-8")
    assert run("texts.txt", "-o", "made", "--size", "64").exit_code == 0
    before = (tmp_path / "made" / "tokenizer.model").read_bytes()
    refused = run("texts.txt", "-o", "made", "--size", "80")
    assert refused.exit_code == 1
    assert "already there; pass --overwrite" in refused.stderr
    assert (tmp_path / "made" / "tokenizer.model").read_bytes() == before
    assert run("texts.txt", "-o", "made", "--size", "80", "--overwrite").exit_code == 0
    assert (tmp_path / "made" / "tokenizer.model").read_bytes() != before
    assert run("texts.txt", "-o", "made", "--type", "char", "--overwrite").exit_code == 0
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["tokenizer.yaml"], "no file of the other kind is left"


def test_json_says_it_all(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(SENTENCES), "utf-8")
    printed = json.loads(run("texts.txt", "-o", "made", "--size", "64", "--json").stdout)
    assert printed["tokenizer"] == {"name": "sentencepiece", "file": "made/tokenizer.model"}
    assert (printed["vocabulary"], printed["texts"], printed["unknown"]) == (64, len(SENTENCES), 0)
