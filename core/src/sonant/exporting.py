"""Writing what a model computes as a graph that other runtimes run: ONNX files, or programs of `torch.export`.

A task says which graphs it consists of (`sonant.protocols.Exportable`); this writes them, whatever the task. What somebody needs
to use them (sample rate, features, vocabulary) goes into each file, and once more beside them as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from attrs import field, frozen
from torch import Tensor, nn

from sonant import runtime
from sonant.errors import ConfigError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

FACTS: Final = "sonant"
"""Where in a file the facts are: the key in an ONNX file's metadata; in a `.pt2` an extra file, with `.json` behind."""
SUFFIXES: Final = (".onnx", ".pt2")
_PACKAGES: Final = ("onnx", "onnxscript")


@frozen(kw_only=True)
class Graph:
    """One graph of a model.

    `inputs` are examples by name, in the order in which `module` takes them, of three recordings or more: what has the size 1
    counts as fixed. `axes` names, for each input, those of its axes that may have any size. `outputs` are names.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    axes: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]


@frozen(kw_only=True)
class Export:
    """What a task exports: graphs by name, `""` where there is but one, and plain facts that a user of them needs."""

    graphs: Mapping[str, Graph]
    facts: Mapping[str, Any] = field(factory=dict)


def export(model: nn.Module, target: str | Path, **options: Any) -> list[Path]:
    """Write the graphs of a model.

    Args:
        model: a task's model, on a CPU; `sonant.load(…, device="cpu", dtype="float32")` gives one.
        target: a file that ends in `.onnx` or `.pt2`. A model of several graphs gives several files, each with the graph's
            name and a `-` before that of `target`; the facts go to a file that ends in `.json` instead.
        options: what the task offers to choose, as `decoder="ctc"` of a hybrid recognizer.

    Returns:
        The files written.

    Raises:
        ConfigError: the model cannot be exported, or not so, or a package is missing that this needs.
    """
    path = Path(target)
    check_target(path)
    made = getattr(model, "graphs", None)
    if made is None:
        raise ConfigError(f"{type(model).__name__} says of no graphs to export: it lacks the method graphs()")
    if any(parameter.device.type != "cpu" for parameter in model.parameters()):
        raise ConfigError("a model is exported from a CPU: open it with device='cpu'")
    path.parent.mkdir(parents=True, exist_ok=True)
    with runtime.in_eval(model), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        export: Export = made(**options)
        programs = {f"{name}-{path.name}" if name else path.name: _trace(graph) for name, graph in export.graphs.items()}
        graphs = {file: _shapes(graph) for file, graph in zip(programs, export.graphs.values(), strict=True)}
        facts = {"graphs": graphs, **export.facts}
        write = _write_onnx if path.suffix == ".onnx" else _write_pt2
        for graph, (file, program) in zip(export.graphs.values(), programs.items(), strict=True):
            write(program, graph, facts, Path(folder) / file)
        (Path(folder) / path.with_suffix(".json").name).write_text(_text(facts) + "\n", "utf-8")
        written = sorted(Path(folder).iterdir())
        for whole in written:
            os.replace(whole, path.parent / whole.name)
    return [path.parent / file.name for file in written]


def check_target(path: Path) -> None:
    """Whether such a file can be written.

    Raises:
        ConfigError: its suffix says of no form, or packages that the form needs are not installed.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path} ends in neither of {', '.join(SUFFIXES)}, which say what to write")
    absent = [name for name in _PACKAGES if path.suffix == ".onnx" and find_spec(name) is None]
    if absent:
        raise ConfigError(f"ONNX files are written with {' and '.join(absent)}, not installed here: pip install 'sonant[export]'")


def _text(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=1, ensure_ascii=False)


def _shapes(graph: Graph) -> dict[str, Any]:
    """Inputs with their types and axes, sizes that may vary by name; and the names of the outputs."""
    return {
        "inputs": {
            name: {
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "shape": [graph.axes.get(name, {}).get(axis, size) for axis, size in enumerate(tensor.shape)],
            }
            for name, tensor in graph.inputs.items()
        },
        "outputs": list(graph.outputs),
    }


def _trace(graph: Graph) -> ExportedProgram:
    """The graph, for any size of the axes it names.

    With gradients on and nothing that wants one: code that chooses by size or content then takes the way that is right for all.
    """
    shapes = {name: dict.fromkeys(graph.axes.get(name, ()), torch.export.Dim.DYNAMIC) or None for name in graph.inputs}
    wanted = [parameter for parameter in graph.module.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad(), _quiet():
            return torch.export.export(graph.module.eval(), tuple(graph.inputs.values()), dynamic_shapes=tuple(shapes.values()))
    except Exception as error:  # torch raises a dozen types for code that it cannot follow
        reason = next(filter(None, str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"{type(graph.module).__name__} cannot be written as a graph for inputs of any size: {reason}"
        ) from error
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def _write_pt2(program: ExportedProgram, graph: Graph, facts: Mapping[str, Any], path: Path) -> None:
    with _quiet():
        torch.export.save(program, path, extra_files={f"{FACTS}.json": _text(facts)})


def _write_onnx(program: ExportedProgram, graph: Graph, facts: Mapping[str, Any], path: Path) -> None:
    with _quiet():
        made: Any = torch.onnx.export(
            program, (), dynamo=True, input_names=list(graph.inputs), output_names=list(graph.outputs), verbose=False
        )
        _name_axes(made.model.graph, graph)
        made.model.metadata_props[FACTS] = _text(facts)
        made.save(path)


def _name_axes(onnx: Any, graph: Graph) -> None:
    """Axes by the names that the task gives them, instead of symbols; those of outputs follow from those of inputs."""
    names: dict[str, str] = {}
    for value in onnx.inputs:
        for axis, name in graph.axes.get(value.name, {}).items():
            names[str(value.shape[axis])] = name
            value.shape[axis] = name
    for value in onnx.outputs:
        for axis, size in enumerate(value.shape or ()):
            if not isinstance(size, int):
                value.shape[axis] = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), str(size))


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch says of its own ways is not for whoever exports."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
