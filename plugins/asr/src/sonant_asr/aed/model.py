"""The attention encoder-decoder head: a Transformer that writes one token after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonant import lengths
from sonant.protocols import Tokenizer
from sonant_asr.aed.canary import CanaryPrompt
from sonant_asr.aed.config import AedConfig
from sonant_asr.aed.layers import Cache, DecoderLayer, EncoderLayer, Memory, sinusoids
from sonant_asr.recognizer.prompt import Prompt

_MULTIPLE = 8  # of which the number of scores is, for the sake of tensor cores; what is added has no label


class Tokens:
    """The tokens written so far, of each row: what the decoder's layers keep of them, and the memory they attend to."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.caches = [Cache() for _ in memory.layers]

    @property
    def length(self) -> int:
        """How many tokens a row has."""
        return self.caches[0].length

    def select(self, rows: Tensor, utterances: Tensor | None = None) -> None:
        """Keep these rows, in this order, and the memory of these utterances (None: of all)."""
        for cache in self.caches:
            cache.select(rows)
        if utterances is not None:
            self.memory = self.memory.select(utterances)


class AedHead(nn.Module):
    """An autoregressive Transformer decoder, told by a prompt what to write (Vaswani et al., 2017; Puvvada et al., 2024).

    Args:
        config: an `AedConfig`.
        d_in: width of the encoder.
        vocab_size: labels.
        tokenizer: makes tokens of prompts, and knows that which ends a text.
    """

    positions: Tensor

    family: ClassVar = "aed"
    search: ClassVar = "aed_greedy"
    beam_search: ClassVar = "aed_beam"
    shortest_seconds: ClassVar = 1.0
    """Recordings are filled up to this with silence, as Canary's were in training."""
    longest_seconds: ClassVar = 40.0
    """Longer ones are heard in pieces, unless something else is asked for; Canary was trained on up to 40 seconds."""

    def __init__(self, config: AedConfig, *, d_in: int, vocab_size: int, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        width = config.d_model
        self.config, self.d_in, self.vocab_size = config, d_in, vocab_size
        self.prompt = CanaryPrompt(config.prompt_format, config.prompt_defaults, tokenizer)
        self.eos = self.prompt.eos
        self.proj = nn.Linear(d_in, width) if d_in != width else nn.Identity()
        self.transf_encoder = nn.ModuleList(
            EncoderLayer(width, config.transf_encoder_heads, config.transf_encoder_d_ff, config.activation, config.dropout)
            for _ in range(config.transf_encoder_layers)
        )
        self.transf_encoder_norm = nn.LayerNorm(width) if config.transf_encoder_layers else nn.Identity()
        self.embed = nn.Embedding(-(-vocab_size // _MULTIPLE) * _MULTIPLE, width)
        self.register_buffer("positions", sinusoids(config.max_positions, width))
        self.embed_norm = nn.LayerNorm(width)
        self.embed_dropout = nn.Dropout(config.embedding_dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(width, config.n_heads, config.d_ff, config.activation, config.dropout) for _ in range(config.n_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(self.embed.num_embeddings))  # the scores' weights are those of `embed`

    @property
    def prompt_fields(self) -> tuple[str, ...]:
        """What the model can be asked for; see `sonant_asr.recognizer.prompt`."""
        return self.prompt.fields

    def fill_prompt(self, prompt: Prompt) -> Prompt:
        """`prompt` with the model's own choice where nothing was asked.

        Raises:
            ConfigError: the model cannot do that.
        """
        return self.prompt.fill(prompt)

    def prompted(self, enc: Tensor, lens: Tensor, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """What a search is called with: the frames, and the tokens that each utterance's text begins with."""
        return {"enc": enc, "lens": lens, "prefixes": [self.prompt.encode(prompt) for prompt in prompts]}

    def labels_of(self, text: str, prompt: Prompt) -> list[int]:
        """The labels of a text in the language that `prompt` asks for.

        Raises:
            ValueError: with the prompt they are more than `max_positions`.
        """
        labels = self.prompt.spell(text, prompt.target_lang)
        self.check_length(len(self.prompt.encode(prompt)) + len(labels))
        return labels

    def check_length(self, tokens: int) -> None:
        """Raise a `ValueError` if these are more tokens, the prompt included, than there are positions."""
        if tokens > len(self.positions):
            raise ValueError(
                f"its text takes {tokens} tokens with the prompt, and the model writes at most {len(self.positions)}"
            )

    def forward(
        self, enc: Tensor, lens: Tensor, labels: Tensor, label_lens: Tensor, prompts: Sequence[Prompt] | None = None
    ) -> dict[str, Tensor]:
        """`(B, T, D)`, `(B,)`, labels `(B, U)`, `(B,)` to what training compares: `logits` `(B, N, V')` of each token, from the
        second of the prompt to that which ends the text, beside `targets` `(B, N)`, what it should have been, and
        `target_lens` `(B,)`.

        Args:
            prompts: what was asked, an utterance each; None stands for a model that was asked for nothing.
        """
        asked = [self.prompt.fill(Prompt())] * len(labels) if prompts is None else prompts
        rows = [
            torch.cat([labels.new_tensor(self.prompt.encode(prompt)), row[:size], labels.new_tensor([self.eos])])
            for prompt, row, size in zip(asked, labels, label_lens.tolist(), strict=True)
        ]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.eos)
        target_lens = torch.tensor([len(row) - 1 for row in rows], device=labels.device)
        return {"logits": self.scores(enc, lens, ids[:, :-1]), "targets": ids[:, 1:], "target_lens": target_lens}

    def scores(self, enc: Tensor, lens: Tensor, ids: Tensor) -> Tensor:
        """`(B, T, D)`, `(B,)`, all tokens `(B, U)`, prompt included, to the logits `(B, U, V')` of the token behind each.

        `V'` is the vocabulary's size rounded up to a multiple of 8.
        """
        return self._logits(self.extend(Tokens(self.memory(enc, lens)), ids))

    def memory(self, enc: Tensor, lens: Tensor) -> Memory:
        """`(B, T, D)`, `(B,)`, no length 0, to what the decoder attends to."""
        seen = lengths.mask(lens, enc.shape[1])[:, None, None]
        x = self.proj(enc)
        for layer in self.transf_encoder:
            x = layer(x, seen)
        x = self.transf_encoder_norm(x)
        return Memory([layer.remember(x) for layer in self._decoder_layers()], seen)

    def extend(self, tokens: Tokens, ids: Tensor) -> Tensor:
        """Write more tokens `(R, U)`; returns the decoder's vectors `(R, U, D)` behind each."""
        start = tokens.length
        x = self.embed(ids) + self.positions[start : start + ids.shape[1]]
        x = self.embed_dropout(self.embed_norm(x))
        for layer, cache, memory in zip(self._decoder_layers(), tokens.caches, tokens.memory.layers, strict=True):
            x = layer(x, cache, memory, tokens.memory.mask)
        return self.norm(x)

    def next_scores(self, tokens: Tokens, ids: Tensor) -> Tensor:
        """Write more tokens `(R, U)`; returns the log-probabilities `(R, V)` of the next, float32."""
        return self._logits(self.extend(tokens, ids)[:, -1]).float().log_softmax(-1)[:, : self.vocab_size]

    def _decoder_layers(self) -> Iterator[DecoderLayer]:
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            yield layer

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(x, self.embed.weight, self.bias)
