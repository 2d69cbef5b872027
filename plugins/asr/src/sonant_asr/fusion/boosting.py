"""Phrases that are favoured while a search goes on.

Andrusenko et al., "TurboBias: Universal ASR Context-Biasing powered by GPU-accelerated Phrase-Boosting Tree", 2025: the tree of
the phrases' tokens with the failure links of Aho and Corasick (1975). Every token that goes on with a phrase earns a bonus, later
tokens more than the first; who leaves a phrase before its end gives back what it earned, save for what the longest beginning of
a phrase that the last tokens still are is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sonant.errors import ConfigError
from sonant.protocols import Tokenizer
from sonant_asr.fusion.automaton import Automaton, from_trie
from sonant_asr.fusion.config import FusionConfig
from sonant_asr.fusion.trie import plant
from sonant_asr.tokenizers.aggregate import SPECIAL


class PhraseBoosting:
    """Bonuses for the tokens of phrases. A `TokenScorer`.

    Args:
        tokens: of each phrase, none empty.
        weights: of each phrase, a factor on `context_score`. Where phrases share tokens, the greatest counts.
        vocab_size: labels without the blank.
        config: gives the four scores, and `boost_weight`, which all is multiplied with.
    """

    def __init__(
        self, tokens: Sequence[Sequence[int]], weights: Sequence[float], *, vocab_size: int, config: FusionConfig
    ) -> None:
        self.automaton = _automaton(tokens, weights, vocab_size, config).times(config.boost_weight)

    def start(self, batch: int, device: torch.device | str) -> Tensor:
        """In no phrase."""
        return torch.zeros(batch, dtype=torch.int64, device=device)

    def advance(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States `(R,)` to bonuses `(R, V)` and next states `(R, V)`."""
        return self.automaton.on(states.device).advance(states)

    def final(self, states: Tensor) -> Tensor:
        """`final_eos_score` where a phrase has just ended, else 0."""
        return self.automaton.on(states.device).finals[states]

    def eos(self, states: Tensor, scores: Tensor) -> Tensor:
        """The best label's bonus, at least 0, and `final` on top."""
        return scores.amax(-1).clamp(min=0.0) + self.final(states)


def boosting_of(config: FusionConfig, tokenizer: Tokenizer) -> PhraseBoosting:
    """The scorer of the phrases that `config` names, in the tokens the tokenizer gives them as they are spelt.

    A tokenizer of several languages writes a phrase in each that can, if no language is named.

    Raises:
        ConfigError: phrases have characters that the tokenizer has no token for, or there is no such language.
    """
    languages = _languages(config.boost_language, tokenizer)
    tokens: list[list[int]] = []
    weights: list[float] = []
    lost = []
    for phrase, weight in config.phrases.items():
        found = [ids for ids in (_encode(phrase, tokenizer, options) for options in languages) if ids]
        tokens += found
        weights += [weight] * len(found)
        if not found:
            lost.append(phrase)
    if lost:
        shown = ", ".join(map(repr, lost[:5])) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        raise ConfigError(
            f"boost: this model cannot write {shown}: it has no token for some of the characters; "
            "spell phrases as the model writes text, e.g. in lower case, or leave them out"
        )
    return PhraseBoosting(tokens, weights, vocab_size=tokenizer.vocab_size, config=config)


def _languages(wanted: str | None, tokenizer: Tokenizer) -> list[dict[str, str]]:
    """What to give the tokenizer beside a phrase: one set of arguments for each language to write it in."""
    known = [language for language in getattr(tokenizer, "languages", ()) if language != SPECIAL]
    if wanted is None:
        return [{"language": language} for language in known] or [{}]
    if wanted not in known:
        there = f"has {', '.join(known)}" if known else "is of one language only"
        raise ConfigError(f"boost_language {wanted!r}: this model's tokenizer {there}")
    return [{"language": wanted}]


def _encode(phrase: str, tokenizer: Tokenizer, options: Mapping[str, str]) -> list[int]:
    """The tokens of a phrase; none if there is a character without one."""
    try:
        ids = list(tokenizer.encode(phrase, **options))
    except ValueError:  # a tokenizer of characters says so itself
        return []
    return [] if "<unk>" in tokenizer.pieces(ids) else ids


def _automaton(tokens: Sequence[Sequence[int]], weights: Sequence[float], vocab_size: int, config: FusionConfig) -> Automaton:
    trie, ends = plant(tokens, vocab_size)
    strengths = _strengths(trie.keys, vocab_size, ends, np.asarray(weights, np.float64))
    depths = np.repeat(np.arange(len(trie.levels)), np.diff((0, *trie.levels)))  # of every node
    later = config.context_score * strengths * config.depth_scaling + np.log(np.maximum(depths, 1))
    scores = np.where(depths == 1, config.context_score * strengths, later)
    scores[0] = 0.0
    totals = scores.copy()  # from the root to each node
    for first, end in zip(trie.levels, trie.levels[1:], strict=False):
        totals[first:end] += totals[trie.keys[first - 1 : end - 1] // vocab_size]
    failures = trie.failures()
    backoffs = totals[failures] - totals
    backoffs[ends] = 0.0  # a whole phrase keeps what it earned
    finals = np.zeros(len(totals))
    finals[ends] = config.final_eos_score
    return from_trie(trie, scores, backoffs, finals, failures, vocab_size=vocab_size, unknown=config.unk_score)


def _strengths(keys: np.ndarray, width: int, ends: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The greatest weight of the phrases through each node."""
    found = np.zeros(len(keys) + 1)
    np.maximum.at(found, ends, weights)
    for node in range(len(keys), 0, -1):  # children before parents
        parent = keys[node - 1] // width
        found[parent] = max(found[parent], found[node])
    return found
