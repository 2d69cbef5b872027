"""Writes `tokenizer_pieces.json`: the vocabularies that NeMo makes of a few sentences, and the ids it writes them with.

Run in an environment with nemo-toolkit[asr]; the file says which versions made it.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

SENTENCES = [
    "She sells sea shells on the sea shore.",
    "The shells that she sells are sea shells, for sure!",
    "Peter Piper picked a peck of pickled peppers.",
    "If Peter Piper picked a peck of pickled peppers, where is the peck that Peter Piper picked?",
    "How much wood would a woodchuck chuck if a woodchuck could chuck wood?",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
]
CASES = [
    {"type": "bpe", "size": 70},
    {"type": "unigram", "size": 60},
    {"type": "bpe", "size": 60, "lower_case": True},
    {"type": "bpe", "size": 340, "byte_fallback": True},
    {"type": "bpe", "size": 72, "symbols": ["<noise>", "Peter"]},
]


def main() -> None:
    from nemo.collections.common.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer, create_spt_model

    made = []
    for case in CASES:
        with TemporaryDirectory() as folder:
            texts = Path(folder, "texts.txt")
            texts.write_text("\n".join(SENTENCES), "utf-8")
            model, _ = create_spt_model(
                str(texts),
                case["size"],
                -1,
                case.get("lower_case", False),
                case["type"],
                folder,
                byte_fallback=case.get("byte_fallback", False),
                user_defined_symbols=case.get("symbols"),
                remove_extra_whitespaces=True,
            )
            tokenizer = SentencePieceTokenizer(model)
            pieces = tokenizer.ids_to_tokens(list(range(tokenizer.vocab_size)))
            made.append({"wish": case, "pieces": pieces, "ids": [tokenizer.text_to_ids(s) for s in SENTENCES]})
    versions = {name: version(name) for name in ("nemo-toolkit", "sentencepiece")}
    Path(__file__).with_name("tokenizer_pieces.json").write_text(
        json.dumps({"versions": versions, "sentences": SENTENCES, "cases": made}, ensure_ascii=False) + "\n", "utf-8"
    )


if __name__ == "__main__":
    sys.exit(main())
