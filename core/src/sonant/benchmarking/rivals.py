"""What Sonant can be measured against: other programs that open the same weights, in environments that have them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from attrs import frozen

from sonant import folder as folders
from sonant.benchmarking.worker import Worker, trouble
from sonant.errors import CheckpointError, ConfigError, SonantError

_WORKERS: Final = Path(__file__).parent / "workers"


@frozen(kw_only=True)
class Rival:
    """A program: the file that runs it, the package it comes in, the form of model it opens."""

    script: Path
    requirement: str
    form: Literal["nemo", "huggingface"]


RIVALS: Final[Mapping[str, Rival]] = MappingProxyType(
    {
        "nemo": Rival(script=_WORKERS / "nemo_worker.py", requirement="nemo_toolkit[asr]", form="nemo"),
        "transformers": Rival(script=_WORKERS / "transformers_worker.py", requirement="transformers", form="huggingface"),
    }
)


def interpreters(names: Sequence[str], environments: Sequence[str]) -> dict[str, str]:
    """The Python of each rival: `PYTHON` is for all, `RIVAL=PYTHON` for one; without either it is the one that runs this.

    Raises:
        ConfigError: there is no such rival.
    """
    general, own = sys.executable, {}
    for text in environments:
        name, equals, python = text.partition("=")
        if equals and name in RIVALS:
            own[name] = python
        else:
            general = text
    unknown = [name for name in names if name not in RIVALS]
    if unknown:
        raise ConfigError(f"--against {unknown[0]}: there are {' and '.join(RIVALS)}")
    unused = own.keys() - set(names)
    if unused or (environments and not names):
        raise ConfigError(f"--env says where a rival is: name it too, as --against {' '.join(sorted(unused)) or 'nemo'}")
    return {name: own.get(name, general) for name in names}


def start(name: str, python: str, threads: int) -> tuple[Worker, dict[str, str]]:
    """Its process, with everything imported, and what was imported.

    Raises:
        ConfigError: the environment cannot be run, or lacks the rival; the text says how to install it.
    """
    rival = RIVALS[name]
    worker = Worker(python, rival.script, threads)
    try:
        answer = worker.answer(do="versions", threads=threads)
    except SonantError:
        worker.close()
        raise
    if "value" not in answer:
        worker.close()
        advice = f"; install it with: {python} -m pip install '{rival.requirement}'" if "missing" in answer else ""
        raise ConfigError(f"--against {name}: {python}: {trouble(answer)}{advice}")
    return worker, answer["value"]


def in_its_form(name: str, path: Path, model: Any, folder: Path) -> str:
    """The file that a rival opens: the model's own where it has that form, else the same weights written into `folder`.

    Raises:
        ConfigError: the model has no counterpart there.
    """
    form = RIVALS[name].form
    if path.suffix == ".nemo" and path.is_file() if form == "nemo" else path.is_dir() and folders.is_huggingface(path):
        return str(path.resolve())
    from sonant.checkpoint import save

    try:
        return str(save(model, folder / ("model.nemo" if form == "nemo" else "huggingface"), form=form).resolve())
    except CheckpointError as error:
        raise ConfigError(f"--against {name}: {path} cannot be written for it: {error}") from error
