"""lhotse's cuts: manifests of them, and its Shar format, where the audio stands in tar files beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sonant_training.errors import DataError

Row = dict[str, Any]


def cut_row(line: Row) -> Row:
    """A cut as a row: `text` and `lang` of its supervisions, `audio_filepath`, `offset` and `duration` of its piece.

    Raises:
        ValueError: it is not a plain piece of one file. What lhotse would run or fetch to get at its audio is refused.
    """
    from lhotse.cut import MultiCut
    from lhotse.serialization import deserialize_item

    try:
        cut = deserialize_item(line)
        recording = cut.recording
    except Exception as error:  # whatever lhotse's classes raise on what they do not know
        raise ValueError(f"not one of lhotse's cuts with a recording ({type(error).__name__}: {error})") from error
    if len(recording.sources) != 1 or recording.transforms or recording.sources[0].type not in ("file", "shar"):
        kinds = ", ".join(source.type for source in recording.sources)
        raise ValueError(f"the recording of a cut must be one plain file (here: {kinds}); save the cuts with their audio first")
    supervisions = sorted(cut.supervisions, key=lambda supervision: float(supervision.start))
    row: Row = {"audio_filepath": str(cut.id), "duration": float(cut.duration)}
    if recording.sources[0].type == "file":
        row |= {"audio_filepath": str(recording.sources[0].source), "offset": float(cut.start)}
    row["text"] = " ".join(s.text.strip() for s in supervisions if s.text)
    row |= _first("lang", [s.language for s in supervisions]) | _first("speaker", [s.speaker for s in supervisions])
    if isinstance(cut.channel, int) and not isinstance(cut, MultiCut) and recording.num_channels > 1:
        row["channel"] = recording.channel_ids.index(cut.channel)
    return row | {key: value for key, value in (cut.custom or {}).items() if isinstance(value, (str, int, float, bool))}


def _first(key: str, values: list[str | None]) -> Row:
    found = next((value for value in values if value), None)
    return {} if found is None else {key: found}


def shards(folder: Path) -> list[tuple[Path, Path]]:
    """The manifest and the tar file of each shard of a folder in lhotse's Shar format.

    Raises:
        DataError: there is none, or one lacks the other.
    """
    manifests = sorted([*folder.glob("cuts.*.jsonl.gz"), *folder.glob("cuts.*.jsonl")])
    if not manifests:
        raise DataError(f"{folder}: no shards of lhotse's here; looked for cuts.*.jsonl.gz")
    found = [(path, folder / f"recording.{path.name.split('.')[1]}.tar") for path in manifests]
    for manifest, tar in found:
        if not tar.exists():
            raise DataError(f"{manifest}: its audio, {tar.name}, is not there")
    return found
