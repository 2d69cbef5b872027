"""Make an n-gram language model from text, over the tokens of a recognizer, as an ARPA file that the searches read.

Interpolated Kneser-Ney smoothing, by `sonant_asr.fusion.estimating`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sonant.build import instantiate
from sonant.config import fill_section
from sonant.files import Files
from sonant_asr.fusion.estimating import arpa_of


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="one sentence a line, spelt as the recognizer spells")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the recognizer's SentencePiece model")
    parser.add_argument("--order", type=int, default=8, help="tokens in the longest n-grams; default: 8")
    parser.add_argument("--output", type=Path, required=True, help="the ARPA file")
    options = parser.parse_args(arguments)
    section = fill_section("tokenizer", {"name": "sentencepiece", "file": options.tokenizer.name}, "tokenizer")
    tokenizer = instantiate(section, "tokenizer", {"files": Files.beside(options.tokenizer.parent)})
    lines = options.text.read_text("utf-8").splitlines()
    options.output.write_text(arpa_of(lines, tokenizer, order=options.order), "utf-8")
    print(f"{options.output}: {options.order}-grams of {len(lines)} lines")


if __name__ == "__main__":
    main()
