"""The attention encoder-decoder head, its searches, prompts and pieces, without NeMo."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from sonant import lengths
from sonant.errors import ConfigError
from sonant.protocols import Hypothesis
from sonant.results import Span, Transcript
from sonant_asr.aed import pieces
from sonant_asr.aed.canary import CanaryPrompt
from sonant_asr.aed.config import AedBeamConfig, AedConfig, AedGreedyConfig
from sonant_asr.aed.layers import Attention, sinusoids
from sonant_asr.aed.model import AedHead, Tokens
from sonant_asr.aed.search import AedBeam, AedGreedy
from sonant_asr.aed.transcripts import written
from sonant_asr.long.chunking import Chunking
from sonant_asr.recognizer.config import AsrConfig
from sonant_asr.recognizer.padding import lengthen
from sonant_asr.recognizer.prompt import Prompt

WIDTH, LABELS, END = 16, 5, 1
TINY: dict[str, Any] = {"d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 24, "max_positions": 40, "prompt_format": "none"}


def head(seed: int = 0, spread: float = 1.0, **fields: Any) -> AedHead:
    torch.manual_seed(seed)
    made = AedHead(AedConfig(**(TINY | fields)), d_in=WIDTH, vocab_size=LABELS).eval()
    with torch.no_grad():
        made.embed.weight.mul_(spread)
    return made


def frames(*lens: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return torch.randn(len(lens), max(lens), WIDTH), torch.tensor(lens)


def probability(made: AedHead, enc: Tensor, ids: list[int]) -> float:
    """The log-probability of the ids behind the first, one pass over all."""
    scores = made.scores(enc, torch.tensor([enc.shape[1]]), torch.tensor([ids[:-1]]))[0].double().log_softmax(-1)
    return float(sum(scores[n, token] for n, token in enumerate(ids[1:])))


class Special:
    """A tokenizer of special tokens alone, with two languages."""

    def __init__(self, *more: str) -> None:
        self.tokens = (
            *("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|pnc|>", "<|nopnc|>", "<|transcribe|>"),
            *("<|translate|>", *more),
        )
        self.vocab_size = len(self.tokens)

    def special(self, piece: str) -> int | None:
        return self.tokens.index(piece) if piece in self.tokens else None

    languages: tuple[str, ...] = ("spl_tokens",)

    def pieces(self, ids: Any) -> list[str]:
        return [self.tokens[i] for i in ids]

    def encode(self, text: str) -> list[int]:
        raise AssertionError

    def decode(self, ids: Any) -> str:
        return "".join(self.pieces(ids))


@torch.no_grad()
def test_a_step_at_a_time_is_the_same_as_all_at_once() -> None:
    made = head(transf_encoder_layers=1, transf_encoder_heads=2, transf_encoder_d_ff=8)
    enc, lens = frames(9, 4)
    ids = torch.randint(0, LABELS, (2, 12))
    whole = made.scores(enc, lens, ids).log_softmax(-1)
    tokens = Tokens(made.memory(enc, lens))
    steps = [made.next_scores(tokens, ids[:, :3])] + [made.next_scores(tokens, ids[:, n : n + 1]) for n in range(3, 12)]
    for n, step in enumerate(steps):
        torch.testing.assert_close(step, whole[:, n + 2, :LABELS], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_attention_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    layer = Attention(8, 2, 0.0).double()
    x, mask = torch.randn(1, 5, 8).double(), torch.tensor([True, True, False, True, False])
    found = layer(x, *layer.keys_values(x), mask=mask[None, None, None])
    heads = []
    for n in range(2):
        part = slice(4 * n, 4 * n + 4)
        q, k, v = (getattr(layer, name)(x)[0, :, part] for name in "qkv")
        scores = (q @ k.T / 4**0.5).masked_fill(~mask, -torch.inf)
        heads.append(scores.softmax(-1) @ v)
    torch.testing.assert_close(found[0], layer.out(torch.cat(heads, dim=-1)))


def test_positions() -> None:
    found = sinusoids(4, 6).double() * 6**0.5
    for position, pair in itertools.product(range(4), range(3)):
        angle = torch.tensor(position / 10000 ** (2 * pair / 6)).double()
        torch.testing.assert_close(
            found[position, 2 * pair : 2 * pair + 2], torch.stack([angle.sin(), angle.cos()]), atol=1e-6, rtol=0
        )


@torch.no_grad()
def test_the_widest_beam_finds_the_best_of_all_texts() -> None:
    """Of at most four tokens, the end among them, each by itself."""
    made, (enc, lens) = head(spread=2.0), frames(3)
    most = 4  # tokens: the decoder takes in the prefix and three more
    ended = [(*text, END) for count in range(most) for text in itertools.product([0, 2, 3, 4], repeat=count)]
    cut = list(itertools.product([0, 2, 3, 4], repeat=most))
    scored = {text: probability(made, enc, [0, *text]) for text in ended + cut}
    best = sorted(scored, key=lambda text: -scored[text])
    search = AedBeam(AedBeamConfig(beam_size=5**4, n_best=20, max_generation_delta=1))
    (found,) = search(made, enc, lens)
    ours = [found, *found.alternatives]
    assert [one.tokens for one in ours] == [tuple(token for token in text if token != END) for text in best[:20]]
    assert [one.score for one in ours] == [pytest.approx(scored[text], abs=1e-4) for text in best[:20]]


@torch.no_grad()
def test_a_beam_of_one_is_greedy() -> None:
    made, (enc, lens) = head(spread=3.0), frames(12, 7, 1)
    one = AedBeam(AedBeamConfig(beam_size=1))(made, enc, lens)
    assert one == AedGreedy(AedGreedyConfig())(made, enc, lens)
    assert len({hypothesis.tokens for hypothesis in one}) > 1


@torch.no_grad()
def test_scores_are_those_of_the_text() -> None:
    made, (enc, lens) = head(3, spread=2.0), frames(6, 4)
    for search in (AedGreedy(AedGreedyConfig()), AedBeam(AedBeamConfig(beam_size=3))):
        for row, found in enumerate(search(made, enc, lens)):
            most = min(made.config.max_positions, int(lens[row]) + 50)
            ids = [0, *found.tokens, *([END] if len(found.tokens) < most else [])]
            assert found.score == pytest.approx(probability(made, enc[row : row + 1, : int(lens[row])], ids), rel=1e-4)


@torch.no_grad()
def test_a_length_penalty_finds_longer_texts() -> None:
    made, (enc, lens) = head(2), frames(6, 5, 4, 3, 2)
    made.bias.data[END] = 5.0
    counts = []
    for len_pen in (0.0, 1.0, 4.0):
        found = AedBeam(AedBeamConfig(beam_size=8, len_pen=len_pen, max_generation_delta=9))(made, enc, lens)
        counts.append(sum(len(one.tokens) for one in found))
    assert counts == sorted(counts) and counts[0] < counts[-1]


@torch.no_grad()
@pytest.mark.parametrize("search", [AedGreedy(AedGreedyConfig()), AedBeam(AedBeamConfig(beam_size=3))])
def test_a_text_without_an_end_is_bounded(search: Any) -> None:
    """By the frames and the delta, or by the positions of the decoder; what is put into it counts, the prefix included."""
    made = head()
    made.bias.data[END] = -1e9
    enc, lens = frames(9, 4)
    assert [len(one.tokens) for one in search(made, enc, lens)] == [40, 40]
    few = type(search)(type(search.config)(max_generation_delta=2))
    assert [len(one.tokens) for one in few(made, enc, lens)] == [11, 6]
    assert [len(one.tokens) for one in few(made, enc, lens, [(0, 2, 3), (0,) * 9])] == [9, 0]
    all_positions = type(search)(type(search.config)(max_generation_delta=None))
    assert [len(one.tokens) for one in all_positions(made, enc, lens, [(0, 2, 3), (0,)])] == [38, 40]


@torch.no_grad()
def test_prefixes_of_several_lengths_in_a_batch() -> None:
    """Each utterance is found as it is alone, with its own prefix."""
    made, (enc, lens) = head(spread=3.0), frames(12, 7, 5, 0, 9)
    prefixes = [(0,), (0, 2, 2), (0,), (0,), (0, 3, 4)]
    for search in (AedGreedy(AedGreedyConfig()), AedBeam(AedBeamConfig(beam_size=3, n_best=2))):
        together = search(made, enc, lens, prefixes)
        for row, size in enumerate(lens.tolist()):
            alone = search(made, enc[row : row + 1, :size], lens[row : row + 1], [prefixes[row]])[0]
            assert alone.tokens == together[row].tokens
            assert alone.score == pytest.approx(together[row].score, abs=1e-4)
        assert together[3] == Hypothesis(tokens=(), starts=(), ends=())
        assert together[1].tokens != search(made, enc[1:2], lens[1:2])[0].tokens or len(prefixes[1]) == 1


class Favourite:
    """Gives a bonus to one label, and the end at least as much as the best label, as phrases do."""

    def start(self, batch: int, device: Any) -> Tensor:
        return torch.zeros(batch, dtype=torch.long, device=device)

    def advance(self, states: Tensor) -> tuple[Tensor, Tensor]:
        scores = torch.zeros(len(states), LABELS)
        scores[:, 3] = torch.where(states < 2, 50.0, 0.0)  # for the first two tokens
        return scores, (states + 1)[:, None].expand(-1, LABELS)

    def final(self, states: Tensor) -> Tensor:
        return torch.zeros(len(states))

    def eos(self, states: Tensor, scores: Tensor) -> Tensor:
        return torch.zeros(len(states))


@torch.no_grad()
@pytest.mark.parametrize("search", [AedGreedy(AedGreedyConfig()), AedBeam(AedBeamConfig(beam_size=3))])
def test_scorers_are_listened_to(search: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, (enc, lens) = head(7, spread=2.0), frames(5, 3)
    monkeypatch.setattr(search, "scorers", (Favourite(),))
    for row, found in enumerate(search(made, enc, lens)):
        assert found.tokens[:2] == (3, 3)
        most = min(made.config.max_positions, int(lens[row]) + 50)
        ids = [0, *found.tokens, *([END] if len(found.tokens) < most else [])]
        expected = probability(made, enc[row : row + 1, : int(lens[row])], ids) + 100.0
        assert found.score == pytest.approx(expected, rel=1e-4)


def test_configs_that_make_no_sense() -> None:
    for fields, message in (
        ({"n_heads": 3}, "n_heads 3 does not divide d_model 16"),
        ({"d_model": 15, "n_heads": 3}, "d_model 15 must be even"),
        ({"transf_encoder_layers": 1, "transf_encoder_heads": 5}, "transf_encoder_heads 5 does not divide"),
    ):
        with pytest.raises(ValueError, match=message):
            AedConfig(**(TINY | fields))
    with pytest.raises(ValueError, match="max_generation_delta -1 must be 0 or more, or none"):
        AedGreedyConfig(max_generation_delta=-1)
    with pytest.raises(ValueError, match="n_best 5 must be between 1 and beam_size"):
        AedBeamConfig(n_best=5)


def test_canary_prompts() -> None:
    prompt = CanaryPrompt("canary", {"target_lang": "<|de|>", "pnc": "no"}, Special())

    def named(asked: Prompt) -> list[str]:
        return Special().pieces(prompt.encode(prompt.fill(asked)))

    begin = "<|startoftranscript|>"
    assert named(Prompt()) == [begin, "<|en|>", "<|transcribe|>", "<|de|>", "<|nopnc|>"]
    assert named(Prompt(source_lang="de")) == [begin, "<|de|>", "<|transcribe|>", "<|de|>", "<|nopnc|>"]
    assert named(Prompt(source_lang="en")) == [begin, "<|en|>", "<|transcribe|>", "<|en|>", "<|nopnc|>"]
    assert named(Prompt(target_lang="de")) == [begin, "<|en|>", "<|translate|>", "<|de|>", "<|nopnc|>"]
    assert named(Prompt(source_lang="en", task="translate"))[2:] == ["<|translate|>", "<|de|>", "<|nopnc|>"]
    assert named(Prompt(target_lang="de", task="asr", punctuation=True))[2:] == ["<|transcribe|>", "<|de|>", "<|pnc|>"]
    with pytest.raises(ConfigError, match=r"target_lang='fr': this model knows de, en"):
        prompt.fill(Prompt(target_lang="fr"))
    with pytest.raises(ConfigError, match="timestamps: this model writes none"):
        prompt.fill(Prompt(timestamps=True))
    with pytest.raises(ConfigError, match=r"no token <\|emo:undefined\|>|no token <\|startofcontext\|>"):
        CanaryPrompt("canary2", {}, Special()).fill(Prompt())
    with pytest.raises(ValueError, match="there is no slot 'colour'"):
        CanaryPrompt("canary", {"colour": "red"}, Special())
    with pytest.raises(ConfigError, match=r"no token <\|endoftext\|>"):
        CanaryPrompt("canary", {}, type("Plain", (), {"vocab_size": 4})())


def test_tokens_of_time_are_taken_for_what_they_say() -> None:
    tokenizer: Any = type("Pieces", (), {"decode": lambda _, ids: "".join(ids)})()
    tokens: Any = ("<|3|>", " Front", "<|6|>", "<|6|>", " row.", "<|9|>", "<|9|>", " ", "<|10|>", "<|11|>", " Left", "<|12|>")
    hypothesis = Hypothesis(tokens=tokens, starts=(0,) * 12, ends=(9,) * 12)
    found = written(hypothesis, tokenizer, 0.08, "word", AsrConfig())
    assert found.text == "Front row. Left"
    assert [(w.text, round(w.start, 2), round(w.end, 2)) for w in found.words] == [
        ("Front", 0.24, 0.48),
        ("row.", 0.48, 0.72),
        ("Left", 0.88, 0.96),
    ]
    assert [(s.text, round(s.start, 2), round(s.end, 2)) for s in found.segments] == [
        ("Front row.", 0.24, 0.72),
        ("Left", 0.88, 0.96),
    ]
    assert written(hypothesis, tokenizer, 0.08, "segment", AsrConfig()).words == ()
    plain = Hypothesis(tokens=(" no", " times"), starts=(0, 0), ends=(9, 9))  # type: ignore[arg-type]
    assert written(plain, tokenizer, 0.08, "word", AsrConfig()).text == "no times"
    assert written(plain, tokenizer, 0.08, None, AsrConfig()).text == " no times"


def test_silence_around_short_recordings() -> None:
    wav, lens = lengths.pad([torch.ones(3), torch.ones(8), torch.ones(0), torch.ones(10)])
    padded, sizes, before = lengthen(wav, lens, 8)
    assert sizes.tolist() == [8, 8, 0, 10] and before.tolist() == [3, 0, 0, 0]
    assert padded[0].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0] and padded[1, :8].tolist() == [1] * 8
    assert lengthen(wav, lens, 0)[0] is wav


def test_long_recordings_are_cut_where_it_is_quiet() -> None:
    rate = 1000
    torch.manual_seed(0)
    wav = torch.randn(100 * rate)
    for second in (12, 33, 36, 71, 95):
        wav[second * rate : second * rate + 400] *= 0.01 if second != 36 else 0.001
    ends = pieces.cuts(wav, rate, 40.0)
    assert [36.0 < ends[0] / rate < 36.4, 71.0 < ends[1] / rate < 71.4] == [True, True]
    assert len(ends) == 2
    assert pieces.cuts(wav[: 40 * rate], rate, 40.0) == []
    even = pieces.cuts(torch.ones(95 * rate), rate, 10.0)  # nowhere quieter than elsewhere
    assert max(b - a for a, b in itertools.pairwise([0, *even, 95 * rate])) <= 10 * rate


def test_pieces_are_joined() -> None:
    words = (Span("a", 0.5, 1.0), Span("b.", 1.0, 1.5))
    one = Transcript(text=" a b.", source="x", duration=2.0, words=words, segments=words[:1], tokens=(1, 2), score=-1.0)
    found = pieces.joined([one, Transcript(text="", duration=3.0, score=0.0), one], [0.0, 2.0, 5.0])
    assert found.text == "a b. a b." and found.duration == 7.0 and found.score == -2.0 and found.tokens == (1, 2, 1, 2)
    assert [(span.text, span.start, span.end) for span in found.words] == [
        *(("a", 0.5, 1.0), ("b.", 1.0, 1.5)),
        *(("a", 5.5, 6.0), ("b.", 6.0, 6.5)),
    ]


def test_when_recordings_are_cut() -> None:
    made = head()
    assert pieces.longest(made, Chunking()) == 40.0
    assert pieces.longest(made, Chunking("chunks", 10.0)) == 10.0
    assert pieces.longest(made, Chunking("full")) is None
    assert pieces.longest(object(), Chunking()) is None


class Spelling(Special):
    """Special tokens and two languages beside them, one called as Canary's newer tokenizers call it."""

    languages = ("spl_tokens", "en-US", "de")

    def encode(self, text: str, language: str | None = None) -> list[int]:
        return [1000 * self.languages.index(str(language)) + len(word) for word in text.split()]


def test_text_that_came_before_is_spelt_in_the_language_to_write() -> None:
    slots = ("<|startofcontext|>", "<|emo:undefined|>", "<|noitn|>", "<|notimestamp|>", "<|nodiarize|>", "<|fr|>")
    tokenizer = Spelling(*slots)
    prompt = CanaryPrompt("canary2", {}, tokenizer)
    plain = prompt.encode(prompt.fill(Prompt()))
    assert tokenizer.pieces(plain)[:3] == ["<|startofcontext|>", "<|startoftranscript|>", "<|emo:undefined|>"]
    assert prompt.encode(prompt.fill(Prompt(context="so it"))) == (plain[0], 1002, 1002, *plain[1:])
    assert prompt.encode(prompt.fill(Prompt(context="und da", target_lang="de")))[1:3] == (2003, 2002)
    with pytest.raises(ConfigError, match="context: the tokenizer has no language 'fr'; it has spl_tokens, en-US, de"):
        prompt.fill(Prompt(context="et la", target_lang="fr"))
    assert "task" not in prompt.fields and prompt.fill(Prompt(target_lang="fr")).target_lang == "fr"
