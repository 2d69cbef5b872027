"""Hugging Face's `tokenizer.json` as a SentencePiece model, and back.

Such a file lists what the tokenizers library does, step by step. Those that were made from a SentencePiece model, as all of
NVIDIA's, hold all of it: pieces, the order of merges or the scores, and the rules of normalization. Any other is refused.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sonant.errors import CheckpointError
from sonant.mapping import ComponentMapping, ForeignSection
from sonant_asr.tokenizers.config import SentencePieceConfig
from sonant_asr.tokenizers.model_file import ModelFile, Piece, PieceType

FILE: Final = "tokenizer.json"
_SPACE: Final = "▁"


def sentencepiece_model(document: Mapping[str, Any], size: int) -> bytes:
    """The SentencePiece model file of the first `size` ids of a `tokenizer.json`; those behind are blank and padding.

    Raises:
        CheckpointError: the file describes a tokenizer of another kind.
    """
    model = _section(document, "model")
    kind = model.get("type")
    if kind not in ("BPE", "Unigram"):
        raise CheckpointError(
            f"{FILE}: its model is {kind!r}; supported: 'BPE' and 'Unigram', as made from a SentencePiece model"
        )
    pieces = _bpe(model) if kind == "BPE" else _unigram(model)
    types = {int(token["id"]): _type(token) for token in document.get("added_tokens") or []}
    known = {int(token["id"]): Piece(token["content"]) for token in document.get("added_tokens") or []} | pieces
    if any(id not in known for id in range(size)):
        missing = next(id for id in range(size) if id not in known)
        raise CheckpointError(f"{FILE} has no token {missing}, and the model knows {size} of them")
    unknown = _unknown(model, known)
    return ModelFile(
        algorithm=str(kind).lower(),
        pieces=tuple(
            Piece(known[id].text, known[id].score, _piece_type(known[id].text, id == unknown, types.get(id)))
            for id in range(size)
        ),
        charsmap=_charsmap(document),
        dummy_prefix=_begins_with_space(document),
    ).write()


def _section(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{FILE} has no {key}")
    return found


def _type(token: Mapping[str, Any]) -> PieceType:
    return PieceType.CONTROL if token.get("special") else PieceType.USER_DEFINED


def _piece_type(text: str, is_unknown: bool, added: PieceType | None) -> PieceType:
    if is_unknown:
        return PieceType.UNKNOWN
    is_byte = len(text) == 6 and text.startswith("<0x") and text.endswith(">")
    return added or (PieceType.BYTE if is_byte else PieceType.NORMAL)


def _unknown(model: Mapping[str, Any], known: Mapping[int, Piece]) -> int:
    if model.get("type") == "Unigram":
        return int(model["unk_id"])
    return next((id for id, piece in known.items() if piece.text == model.get("unk_token")), -1)


def _bpe(model: Mapping[str, Any]) -> dict[int, Piece]:
    """Pieces by id, each the better the earlier it is merged, as SentencePiece's training scores them."""
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(key):
            raise CheckpointError(f"{FILE}: model.{key} is {model[key]!r}, which a SentencePiece model does not know")
    ranks: dict[str, int] = {}
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        ranks.setdefault(left + right, len(ranks))
    last = len(ranks)
    return {int(id): Piece(text, -float(ranks.get(text, last + id))) for text, id in model["vocab"].items()}


def _unigram(model: Mapping[str, Any]) -> dict[int, Piece]:
    return {id: Piece(text, float(score)) for id, (text, score) in enumerate(model["vocab"])}


def _steps(value: Any, inner: str) -> Iterator[Mapping[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or decoder; sequences may lie in sequences."""
    if isinstance(value, Mapping) and value.get("type") == "Sequence":
        for step in value[inner]:
            yield from _steps(step, inner)
    elif value is not None:
        yield value


def _charsmap(document: Mapping[str, Any]) -> bytes:
    """The compiled rules of normalization. The steps behind them collapse and mark spaces, which SentencePiece does by itself.

    Raises:
        CheckpointError: there are steps that it does not know.
    """
    charsmap = b""
    for step in _steps(document.get("normalizer"), "normalizers"):
        if step["type"] == "Precompiled":
            charsmap = base64.b64decode(step["precompiled_charsmap"])
        elif step["type"] not in ("Strip", "Replace", "Prepend") or not _is_about_spaces(step):
            raise CheckpointError(f"{FILE}: its normalizer {step['type']!r} is not one of a SentencePiece model")
    return charsmap


def _is_about_spaces(step: Mapping[str, Any]) -> bool:
    if step["type"] == "Replace":
        pattern = step["pattern"].get("Regex") or step["pattern"].get("String")
        return pattern in (" ", " {2,}") and step["content"] in (" ", _SPACE)
    return step["type"] == "Strip" or step.get("prepend") == _SPACE


def _begins_with_space(document: Mapping[str, Any]) -> bool:
    """Whether the first word is marked as the others are.

    Raises:
        CheckpointError: words are not marked with a leading `▁`.
    """
    split = list(_steps(document.get("pre_tokenizer"), "pretokenizers"))
    if any(step["type"] != "Metaspace" or step.get("replacement", _SPACE) != _SPACE for step in split):
        raise CheckpointError(
            f"{FILE}: its pre-tokenizer is {', '.join(step['type'] for step in split)}; supported: 'Metaspace' with '{_SPACE}', "
            "as made from a SentencePiece model"
        )
    normalizers = list(_steps(document.get("normalizer"), "normalizers"))
    if not split and not any(step["type"] == "Replace" and step["content"] == _SPACE for step in normalizers):
        raise CheckpointError(f"{FILE} does not mark where words begin, as a tokenizer made from a SentencePiece model does")
    prepends = any(step["type"] == "Prepend" for step in normalizers)
    return prepends or any(step.get("prepend_scheme", "always") != "never" for step in split)


def tokenizer_document(content: bytes, behind: Sequence[str]) -> dict[str, Any]:
    """The `tokenizer.json` of a SentencePiece model file, with the tokens `behind` its own."""
    file = ModelFile.read(content)
    texts = [piece.text for piece in file.pieces]
    unknown = next((piece.text for piece in file.pieces if piece.type is PieceType.UNKNOWN), None)
    has_bytes = any(piece.type is PieceType.BYTE for piece in file.pieces)
    model: dict[str, Any]
    if file.algorithm == "bpe":
        model = {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": has_bytes,
            "ignore_merges": False,
            "vocab": {text: id for id, text in enumerate(texts)},
            "merges": _merges(file.pieces),
        }
    else:
        scores = [[piece.text, piece.score] for piece in file.pieces]
        model = {
            "type": "Unigram",
            "unk_id": None if unknown is None else texts.index(unknown),
            "vocab": scores,
            "byte_fallback": has_bytes,
        }
    special = [_token(id, piece) for id, piece in enumerate(file.pieces) if piece.type in _ADDED]
    special += [_token(len(texts) + n, Piece(text, 0.0, PieceType.CONTROL)) for n, text in enumerate(behind)]
    space = {
        "type": "Metaspace",
        "replacement": _SPACE,
        "prepend_scheme": "always" if file.dummy_prefix else "never",
        "split": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(file)},
        "pre_tokenizer": space,
        "post_processor": None,
        "decoder": space,
        "model": model,
    }


_ADDED = (PieceType.UNKNOWN, PieceType.CONTROL, PieceType.USER_DEFINED)


def _token(id: int, piece: Piece) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": piece.text} | flags | {"special": piece.type is not PieceType.USER_DEFINED}


def _normalizers(file: ModelFile) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    if file.charsmap:
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(file.charsmap).decode("ascii")})
    if file.remove_extra_whitespaces:
        steps.append({"type": "Strip", "strip_left": False, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": _SPACE})
    return steps


def _merges(pieces: Sequence[Piece]) -> list[list[str]]:
    """Every way to put two pieces together to a third, the best result first."""
    ids = {piece.text: id for id, piece in enumerate(pieces) if piece.type is PieceType.NORMAL}
    found = [
        (-piece.score, ids[piece.text[:cut]], ids[piece.text[cut:]])
        for piece in pieces
        if piece.text in ids
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in ids and piece.text[cut:] in ids
    ]
    return [[pieces[left].text, pieces[right].text] for _, left, right in sorted(found)]


def _read(section: ForeignSection) -> dict[str, Any]:
    return {"file": section.take("file")}


def _write(config: SentencePieceConfig) -> dict[str, Any]:
    return {"file": config.file}


SENTENCEPIECE = ComponentMapping(read=_read, write=_write)
