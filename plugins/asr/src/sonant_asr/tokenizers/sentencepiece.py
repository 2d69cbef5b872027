"""Subword tokenizer of SentencePiece models (Kudo and Richardson, 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import sentencepiece

from sonant.errors import CheckpointError
from sonant.files import Files
from sonant_asr.tokenizers.config import SentencePieceConfig


class SentencePiece:
    """A SentencePiece model, unigram or BPE."""

    def __init__(self, config: SentencePieceConfig, *, files: Files) -> None:
        self.config = config
        self._model = sentencepiece.SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(files.read(config.file))
        except RuntimeError as error:
            raise CheckpointError(f"{config.file} is not a SentencePiece model") from error
        self.vocab_size: int = self._model.GetPieceSize()

    def encode(self, text: str) -> list[int]:
        """Text to ids."""
        return list(self._model.EncodeAsIds(text))

    def spell(self, text: str) -> list[str]:
        """The pieces of a text, one for each id that `encode` gives; what has no piece as it stands there."""
        return [str(piece) for piece in self._model.EncodeAsPieces(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text."""
        return str(self._model.DecodeIds(list(ids)))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The pieces as the model writes them; `▁` begins a word."""
        return [str(self._model.IdToPiece(i)) for i in ids]

    def special(self, piece: str) -> int | None:
        """The id of a special token, as `<|en|>`; None where there is none."""
        id = self._model.PieceToId(piece)
        return int(id) if self._model.IdToPiece(id) == piece else None
