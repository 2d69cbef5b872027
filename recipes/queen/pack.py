"""Put a trained model into the distribution `models/en-small`: weights in bfloat16, the n-gram and the search
with it, which the model then uses unless it is asked for another, the scores, and the card.

The scores are those that `sonant evaluate` wrote: `REPORTS/SPLIT/scores.json`, greedy, and `REPORTS/SPLIT-ngram/scores.json`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import yaml

import sonant
from sonant.layout import FOLDER_CONFIG

HERE: Final = Path(__file__).resolve().parent
PACKAGE: Final = HERE.parent.parent / "models" / "en-small" / "src" / "sonant_model_en_small"
LARGEST: Final = 25_000_000  # bytes of the whole package
SPLITS: Final = ("test", "test_speakers")


def card(weights: Path, parameters: int) -> dict[str, Any]:
    """The model's card, as `cards.yaml` holds it."""
    content = weights.read_bytes()
    return {
        "task": "asr",
        "summary": "Small FastConformer CTC, English, lower case; learned from four hours of acted speech.",
        "languages": ["en"],
        "parameters": f"{parameters / 1e6:.1f}M",
        "source": {
            "package": "sonant_model_en_small:model",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
        },
        "requires": ["sonant-model-en-small"],
        "license": "Apache-2.0 AND LicenseRef-Flight-of-the-Amazon-Queen",
    }


def rates(reports: Path) -> dict[str, dict[str, float]]:
    """Word error rates in per cent: of each split, greedy and with the n-gram."""
    found: dict[str, dict[str, float]] = {}
    for split in SPLITS:
        for way, folder in (("greedy", split), ("ngram", f"{split}-ngram")):
            scores = json.loads((reports / folder / "scores.json").read_text("utf-8"))
            found.setdefault(split, {})[way] = round(100 * scores["words"]["error_rate"], 2)
    return found


def add_search(folder: Path, search: Path) -> None:
    """Give a model's folder the search of a file, and the n-gram that this names."""
    section = yaml.safe_load(search.read_text("utf-8"))
    ngram = Path(section["fusion"]["lm"])
    (folder / "lm.arpa.gz").write_bytes(gzip.compress(ngram.read_bytes(), 9, mtime=0))
    section["fusion"]["lm"] = "lm.arpa.gz"
    with (folder / FOLDER_CONFIG).open("a", encoding="utf-8") as file:
        file.write(yaml.safe_dump({"search": section}, sort_keys=False))


def pack(model: Path, search: Path, reports: Path, package: Path) -> int:
    """Write the files of the distribution; returns how many bytes they are.

    Raises:
        ValueError: they are more than the distribution may have.
    """
    folder = package / "model"
    shutil.rmtree(folder, ignore_errors=True)
    opened = sonant.load(model, device="cpu", dtype="bfloat16")
    sonant.save(opened, folder)
    add_search(folder, search)
    (folder / "scores.json").write_text(json.dumps(rates(reports), indent=2) + "\n", "utf-8")
    parameters = sum(weight.numel() for weight in opened.parameters())
    entry = card(folder / "model.safetensors", parameters)
    text = yaml.safe_dump({"models": {"en-small": entry}}, sort_keys=False, default_flow_style=None, width=110)
    (package / "cards.yaml").write_text("# Written by recipes/queen/pack.py.\n" + text, "utf-8")
    size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
    if size > LARGEST:
        raise ValueError(f"the package has {size / 1e6:.1f} MB, and may have {LARGEST / 1e6:.0f}")
    return size


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the folder of the trained model")
    parser.add_argument("--search", type=Path, required=True, help="the search with the n-gram, as `search.py tune` wrote it")
    parser.add_argument("--reports", type=Path, required=True, help="the folder of the evaluations")
    parser.add_argument("--package", type=Path, default=PACKAGE, help="folder of the import package; default: that of models/")
    options = parser.parse_args(arguments)
    try:
        size = pack(options.model, options.search, options.reports, options.package)
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
    print(f"{options.package}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
