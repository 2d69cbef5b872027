"""The files of a Hugging Face model: plain JSON, and tensors in one safetensors file or in several with an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sonant import weights
from sonant.errors import CheckpointError
from sonant.files import check_inside, check_member_name
from sonant.layout import HF_INDEX, HF_WEIGHTS
from sonant.weights import State

_LONGEST = 2**28  # bytes of a JSON file; tokenizers of large vocabularies have some 2**25


class HuggingFaceFolder:
    """A folder with a `config.json`, as transformers' `save_pretrained` writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __contains__(self, name: str) -> bool:
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """The content of file `name`.

        Raises:
            CheckpointError: it is absent, too large, or lies outside the folder.
        """
        file = self.path / name
        check_inside(file, self.path)
        if not file.is_file():
            raise CheckpointError(f"{self.path} lacks the file {name}")
        if file.stat().st_size > _LONGEST:
            raise CheckpointError(f"{file} is larger than {_LONGEST:,} bytes; refused")
        return file.read_bytes()

    def json(self, name: str) -> dict[str, Any]:
        """The object that file `name` holds.

        Raises:
            CheckpointError: as `read`, or it is not a JSON object.
        """
        try:
            found = json.loads(self.read(name))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{self.path / name} is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise CheckpointError(f"{self.path / name} holds a {type(found).__name__}, not an object")
        return found

    def weight_files(self) -> list[Path]:
        """The files that hold the tensors.

        Raises:
            CheckpointError: there are none, or the index names what is not there or lies outside.
        """
        if HF_WEIGHTS in self:
            names = {HF_WEIGHTS}
        elif HF_INDEX in self:
            names = set(self._index().values())
        else:
            raise CheckpointError(
                f"{self.path} has neither {HF_WEIGHTS} nor {HF_INDEX}; weights are read from safetensors alone, and a file of "
                "pickled ones (pytorch_model.bin) is not opened"
            )
        files = [self.path / name for name in sorted(names)]
        for file in files:
            check_inside(file, self.path)
            if not file.is_file():
                raise CheckpointError(f"{self.path / HF_INDEX} names the file {file.name}, which is not there")
        return files

    def state(self) -> State:
        """All tensors, mapped from disk.

        Raises:
            CheckpointError: a file is missing or damaged, or holds other tensors than the index says.
        """
        state: State = {}
        for file in self.weight_files():
            state |= weights.read_safetensors(file)
        if HF_WEIGHTS not in self:
            unlike = sorted(self._index().keys() ^ state.keys())
            if unlike:
                raise CheckpointError(f"{self.path / HF_INDEX} does not fit its files: {', '.join(unlike[:4])}")
        return state

    def _index(self) -> dict[str, str]:
        """Which file each tensor is in."""
        found = self.json(HF_INDEX).get("weight_map")
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
            raise CheckpointError(f"{self.path / HF_INDEX} has no weight_map from tensors to files")
        for name in found.values():
            check_member_name(name)
        return found
