"""What a command is told to listen to: phrases from the command line and from a file, a language model, and their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sonant.errors import ConfigError


def listened(
    boost: str | None, boost_file: str | None, boost_weight: float | None, lm: str | None, lm_weight: float | None
) -> dict[str, Any]:
    """The arguments of `transcribe` for the options `--boost`, `--boost-file`, `--boost-weight`, `--lm` and `--lm-weight`.

    Raises:
        ConfigError: the file cannot be read, or there are no phrases where there should be some.
    """
    phrases = {} if boost_file is None else read_phrases(Path(boost_file))
    phrases |= {} if boost is None else dict.fromkeys((p.strip() for p in boost.split(",") if p.strip()), 1.0)
    if boost is not None and not phrases:
        raise ConfigError(f"--boost {boost!r} has no phrases; write them with commas between, as --boost 'Sonant,Grace Hopper'")
    return {"boost": phrases or None, "boost_weight": boost_weight, "lm": lm, "lm_weight": lm_weight}


def read_phrases(path: Path) -> dict[str, float]:
    """The phrases of a file, one on each line; a number behind a tab is the phrase's weight, which is 1 otherwise.

    Raises:
        ConfigError: it cannot be read, a weight is no number, or there are no phrases (with the line).
    """
    try:
        lines = path.expanduser().read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the phrases of {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    found: dict[str, float] = {}
    for number, line in enumerate(lines, start=1):
        phrase, tab, weight = line.strip().partition("\t")
        if not phrase:
            continue
        try:
            found[phrase.strip()] = float(weight) if tab else 1.0
        except ValueError:
            raise ConfigError(f"{path}:{number}: {weight!r}, behind the tab, is not a weight, as 1.5 is") from None
    if not found:
        raise ConfigError(f"{path} has no phrases; write one on each line")
    return found
