"""Write the manifests of the recipe: `train.jsonl`, `dev.jsonl`, `test.jsonl`, `test_speakers.jsonl`, and `train.txt`.

What is done to the subtitles, in order:

1. Numbers, of which there are few, are spelled out as they are said (`SPOKEN`).
2. In what is learned from (`train`), stage directions, `(sigh)` and `<gulp>`, are left out, and clips that hold nothing else. In
   `dev`, `test` and `test_speakers` they stay: what is measured is measured on every clip, against all words of its subtitle.
3. Lower case, no punctuation, apostrophes inside words kept: the normalization `basic` of `sonant evaluate`.

Left out of `train` are the clips that lie in another split too, under another name (`COPIES`).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sonant_asr.evaluation.normalization import basic

HERE: Final = Path(__file__).resolve().parent
SPLITS: Final = ("train", "dev", "test", "test_speakers")

SPOKEN: Final = {
    "1940's": "nineteen forty's",
    "24 Hour": "twenty four hour",
    "1948": "nineteen forty eight",
    "1844": "eighteen forty four",
    "19:00": "nineteen hundred",
    "100 miles": "a hundred miles",
    "13th July, 1922": "thirteenth july nineteen twenty two",
    "X7": "x seven",
    "26 years": "twenty six years",
    "2B or not 2B": "to be or not to be",
}
COPIES: Final = frozenset(
    f"queen/{name}.mp3" for name in ("CDINT061", "CDINT091", "CDINT361", "CINTR241", "CINTR261", "CINTR441")
)
"""Clips of `train` that are, byte for byte, clips of `dev` or `test`, as `sonant data validate` on all manifests shows."""

_DIRECTION: Final = re.compile(r"\([^)]*\)|<[^>]*>")


def spoken(text: str, *, directions: bool) -> str:
    """What is said in a clip, normalized; with or without stage directions.

    Raises:
        ValueError: it has a number that nobody spelled out.
    """
    for written, said in SPOKEN.items():
        text = text.replace(written, said)
    found = basic(text if directions else _DIRECTION.sub(" ", text))
    if re.search(r"\d", found):
        raise ValueError(f"{text!r} has a number: add how it is said to SPOKEN")
    return found


def manifest(rows: list[dict[str, Any]], split: str) -> Iterator[dict[str, Any]]:
    """The rows of one split, as a manifest has them."""
    for row in rows:
        if row["split"] == split and not (split == "train" and row["audio_filepath"] in COPIES):
            text = spoken(row["text"], directions=split != "train")
            if text:
                yield {**{key: value for key, value in row.items() if key != "split"}, "text": text}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("data"), help="folder of the clips; default: data")
    output: Path = parser.parse_args(arguments).output
    with (HERE / "queen.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    for split in SPLITS:
        chosen = list(manifest(rows, split))
        (output / f"{split}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen), "utf-8")
        hours = sum(row["duration"] for row in chosen) / 3600
        print(f"{split}: {len(chosen)} clips, {hours:.2f} h, {sum(len(row['text'].split()) for row in chosen)} words")
        if split == "train":
            (output / "train.txt").write_text("".join(row["text"] + "\n" for row in chosen), "utf-8")


if __name__ == "__main__":
    main()
