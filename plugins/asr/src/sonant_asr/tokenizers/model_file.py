"""The file of a SentencePiece model: a protocol buffer, of which this reads and writes what a tokenizer needs.

The layout is that of `sentencepiece_model.proto`: numbered fields, each a number, a float or bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from attrs import frozen

from sonant.errors import CheckpointError

_VARINT, _LONG, _BYTES, _FLOAT = 0, 1, 2, 5  # wire types
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3  # fields of the model
_PIECE, _SCORE, _TYPE = 1, 2, 3  # of a piece
_MODEL_TYPE, _BYTE_FALLBACK, _UNK_ID = 3, 35, 40  # of the trainer's settings
_CHARSMAP, _DUMMY_PREFIX, _EXTRA_WHITESPACE = 2, 3, 4  # of the normalizer's
_ALGORITHMS: Final = {1: "unigram", 2: "bpe"}


class PieceType(IntEnum):
    """What a piece is for."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@frozen
class Piece:
    """A piece of the vocabulary; its id is its place."""

    text: str
    score: float = 0.0
    type: PieceType = PieceType.NORMAL


@frozen(kw_only=True)
class ModelFile:
    """What a SentencePiece model consists of. `charsmap` are its rules of normalization, compiled."""

    algorithm: str
    pieces: tuple[Piece, ...]
    charsmap: bytes = b""
    dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True

    def write(self) -> bytes:
        """The content of the file."""
        number = {name: number for number, name in _ALGORITHMS.items()}[self.algorithm]
        types = [piece.type for piece in self.pieces]
        unknown = types.index(PieceType.UNKNOWN) if PieceType.UNKNOWN in types else -1
        trainer = _number(_MODEL_TYPE, number) + _number(_BYTE_FALLBACK, PieceType.BYTE in types) + _number(_UNK_ID, unknown)
        normalizer = (
            _content(_CHARSMAP, self.charsmap)
            + _number(_DUMMY_PREFIX, self.dummy_prefix)
            + _number(_EXTRA_WHITESPACE, self.remove_extra_whitespaces)
        )
        pieces = b"".join(_content(_PIECES, _write_piece(piece)) for piece in self.pieces)
        return pieces + _content(_TRAINER, trainer) + _content(_NORMALIZER, normalizer)

    @classmethod
    def read(cls, content: bytes) -> ModelFile:
        """What a file holds.

        Raises:
            CheckpointError: it is no such file, or of an algorithm other than unigram and BPE.
        """
        try:
            return cls._read(content)
        except (IndexError, struct.error, ValueError) as error:
            raise CheckpointError(f"not a SentencePiece model: {error}") from error

    @classmethod
    def _read(cls, content: bytes) -> ModelFile:
        pieces, trainer, normalizer = [], b"", b""
        for number, value in _fields(content):
            if number == _PIECES:
                pieces.append(_read_piece(_bytes(value)))
            elif number == _TRAINER:
                trainer = _bytes(value)
            elif number == _NORMALIZER:
                normalizer = _bytes(value)
        training, normal = dict(_fields(trainer)), dict(_fields(normalizer))
        algorithm = _int(training.get(_MODEL_TYPE, 1))
        if algorithm not in _ALGORITHMS:
            raise ValueError(f"its algorithm is number {algorithm!r}, neither unigram nor BPE")
        return cls(
            algorithm=_ALGORITHMS[algorithm],
            pieces=tuple(pieces),
            charsmap=_bytes(normal.get(_CHARSMAP, b"")),
            dummy_prefix=bool(normal.get(_DUMMY_PREFIX, 1)),
            remove_extra_whitespaces=bool(normal.get(_EXTRA_WHITESPACE, 1)),
        )


def _read_piece(content: bytes) -> Piece:
    found = dict(_fields(content))
    (score,) = struct.unpack("<f", _bytes(found.get(_SCORE, b"\0\0\0\0")))
    return Piece(_bytes(found[_PIECE]).decode("utf-8"), score, PieceType(_int(found.get(_TYPE, 1))))


def _write_piece(piece: Piece) -> bytes:
    score = _varint(_SCORE << 3 | _FLOAT) + struct.pack("<f", piece.score)
    return _content(_PIECE, piece.text.encode("utf-8")) + score + _number(_TYPE, piece.type)


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Each field's number and its value; floats as their bytes."""
    at = 0
    while at < len(content):
        key, at = _read_varint(content, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _read_varint(content, at)
            yield key >> 3, value
            continue
        size = {_LONG: 8, _FLOAT: 4}.get(kind)
        if kind == _BYTES:
            size, at = _read_varint(content, at)
        if size is None or at + size > len(content):
            raise ValueError("it is damaged")
        yield key >> 3, content[at : at + size]
        at += size


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where bytes are expected")
    return value


def _int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes stand where a number is expected")
    return value


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it is damaged")


def _varint(value: int) -> bytes:
    value &= 2**64 - 1  # negative numbers in two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(int(value))


def _content(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(value)) + value
