"""Models that are not there, damaged, or made to harm: each is refused with one line that names the thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoint_cases import CASES, refusal
from sonant.errors import UnknownName

# Names -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none.nemo", "./none", "/none/none", "~/none", "none.yaml"])
def test_a_path_that_is_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(name) == f"there is no file or folder {name}"
    assert refusal(tmp_path / name.strip("~./")) == f"there is no file or folder {tmp_path / name.strip('~./')}"


def test_a_name_that_is_not_known_is_explained() -> None:
    text = refusal("parakeet-tdt-0.6b-v9", UnknownName)
    assert "Did you mean 'parakeet-tdt-0.6b-v" in text and "`sonant models`" in text


def test_a_folder_or_file_of_something_else(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path} is not a model: it has none of config.yaml, model_config.yaml, config.json"
    assert "a.wav is not a whole .nemo archive" in refusal(CASES / "a.wav")
