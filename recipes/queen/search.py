"""The beam search with the n-gram: choose its weights on one manifest (`tune`), find words with it in another (`hear`)."""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any, Final

import yaml

import sonant
from sonant_asr.evaluation import evaluate

LM_WEIGHTS: Final = (0.6, 0.8, 1.0, 1.2)
BONUSES: Final = (1.5, 2.0, 2.5)  # `beam_beta`: a language model makes texts shorter, and this makes them longer again
BEAM: Final = 128


def section(lm: str, weight: float, bonus: float) -> dict[str, Any]:
    """The section `search` of these weights."""
    return {
        "name": "ctc_beam",
        "beam_size": BEAM,
        "merge": "sum",
        "beam_beta": bonus,
        "fusion": {"lm": lm, "lm_weight": weight},
    }


def read(manifest: Path) -> list[dict[str, Any]]:
    """Its rows, with the paths of the recordings from the current folder on."""
    rows = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    return [row | {"file": str(manifest.parent / row["audio_filepath"])} for row in rows]


def heard(model: Any, rows: list[dict[str, Any]], search: dict[str, Any]) -> list[str]:
    """The texts that a search finds."""
    return [found.text for found in model.transcribe([row["file"] for row in rows], search=search)]


def tune(model: Any, rows: list[dict[str, Any]], lm: str) -> dict[str, Any]:
    """The section `search` with the fewest word errors; of equal ones the first, with the lower weights."""
    said = [row["text"] for row in rows]
    best: tuple[float, dict[str, Any]] | None = None
    for weight, bonus in itertools.product(LM_WEIGHTS, BONUSES):
        search = section(lm, weight, bonus)
        rate = evaluate(list(zip(said, heard(model, rows, search), strict=True))).word_error_rate
        assert rate is not None
        print(f"lm_weight {weight:.1f}  beam_beta {bonus:.1f}  words wrong {rate:.2%}", flush=True)
        if best is None or rate < best[0]:
            best = rate, search
    assert best is not None
    return best[1]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("do", choices=["tune", "hear"])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--model", required=True, help="the folder of the model")
    parser.add_argument("--lm", help="tune: the ARPA file")
    parser.add_argument("--search", type=Path, help="hear: the file that tune wrote")
    parser.add_argument("--output", type=Path, required=True, help="tune: the search, as YAML; hear: rows with what was heard")
    options = parser.parse_args(arguments)
    model, rows = sonant.load(options.model, device="cpu"), read(options.manifest)
    if options.do == "tune":
        text = yaml.safe_dump(tune(model, rows, options.lm), sort_keys=False)
    else:
        texts = heard(model, rows, yaml.safe_load(options.search.read_text("utf-8")))
        found = [{"audio_filepath": row["audio_filepath"], "text": text} for row, text in zip(rows, texts, strict=True)]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
