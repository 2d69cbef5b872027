"""The measurement: every side does the same work in turn, and a row says what came of it."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import torch
from attrs import field, frozen

import sonant
from sonant import cpus, sources
from sonant.benchmarking import cases, comparing, energy, machine, rivals
from sonant.benchmarking.cases import Case
from sonant.benchmarking.own import Own, out_of_memory
from sonant.benchmarking.worker import Worker, trouble
from sonant.errors import ConfigError, SonantError

Part = Literal["encoder", "decoder", "memory", "files"]
USUAL: Final[tuple[Part, ...]] = ("encoder", "decoder", "files")
NAMES: Final[Mapping[Part, str]] = {
    "encoder": "encoder",
    "decoder": "decoder",
    "memory": "from memory",
    "files": "end to end",
}
_TURN = 0.25  # seconds that a turn lasts at least, if there are enough calls: meters of energy are slow, and caches cool down
Time = Callable[..., dict[str, Any]]
"""Called with a stage, a number of calls, `keep`, and the stage's arguments."""


@frozen(kw_only=True)
class Settings:
    """What to measure, and how."""

    model: str
    audio: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    seconds: tuple[float, ...] = (10.0, 30.0)
    batches: tuple[int, ...] = (1,)
    device: str = "auto"
    dtypes: tuple[str, ...] = ("auto",)
    threads: int | None = None
    repeat: int = 10
    warmup: int = 2
    rivals: Mapping[str, str] = field(factory=dict)
    label: str = ""
    registry: str | None = None


def measure(settings: Settings, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """A row for each measurement, as soon as it is made; `say` is told what is being done.

    Raises:
        ConfigError: a rival or a part is not there.
        AudioError, CheckpointError, UnknownName: the recordings or the model cannot be read.
    """
    cases.found(settings.audio)  # before anything that takes long
    path, _ = sources.find(settings.model, registry=settings.registry)
    threads = settings.threads or cpus.usable()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sonant-bench-")))
        stack.enter_context(_threads(threads))
        workers, versions = {}, {"sonant": {"name": f"sonant {sonant.__version__}", "torch": str(torch.__version__)}}
        for name, python in settings.rivals.items():
            say(f"starting {name}")
            worker, versions[name] = rivals.start(name, python, threads)
            workers[name] = stack.enter_context(worker)
        for number, dtype in enumerate(settings.dtypes):
            say(f"opening {settings.model}")
            own = Own(settings.model, device=settings.device, dtype=dtype, registry=settings.registry)
            facts = {
                "model": settings.label or Path(settings.model).name,
                "dtype": own.dtype,
                "device": str(own.device),
                "threads": threads,
                "versions": versions,
            } | _where(own.device)
            here = folder / str(number)
            here.mkdir()
            yield _opened(own, workers, path, here) | facts
            for row in _of_one(own, workers, settings, here, say):
                yield row | facts
            own.forget()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _where(device: torch.device) -> dict[str, str]:
    found = machine.about()
    if device.type == "cuda":
        found["machine"] = f"{torch.cuda.get_device_name(device)}; {found['machine']}"
    return found


def _opened(own: Own, workers: Mapping[str, Worker], path: Path, folder: Path) -> dict[str, Any]:
    """The row of opening the model, once on each side."""
    answers = {"sonant": own.opened}
    for name, worker in workers.items():
        file = rivals.in_its_form(name, path, own.model, folder)
        answers[name] = worker.ask("load", file=file, dtype=own.dtype, device=str(own.device))
    sizes = {name: answer["value"] for name, answer in answers.items()}
    others = [f"{name} has {size:,} parameters, not {sizes['sonant']:,}" for name, size in sizes.items()]
    differs = [text for text, size in zip(others, sizes.values(), strict=True) if size != sizes["sonant"]]
    row = {"what": "load", "part": "load", "parameters": sizes["sonant"], "note": "; ".join(differs)}
    row |= comparing.figures({name: [answer["seconds"]] for name, answer in answers.items()})
    return row | {"peak_gib": {name: answer["peak_gib"] for name, answer in answers.items()}}


def _of_one(
    own: Own, workers: Mapping[str, Worker], settings: Settings, folder: Path, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """The rows of one model in one dtype."""
    parts = _parts(own, settings, say)
    if settings.audio:
        found = cases.recordings(settings.audio, settings.batches, own.sample_rate, folder)
    else:
        found = cases.noise(settings.seconds, settings.batches, own.sample_rate, folder)
    meter = energy.meter(own.device)
    sides: dict[str, Time] = {"sonant": own.time} | {name: _asking(worker) for name, worker in workers.items()}
    for number, case in enumerate(found):
        try:
            arguments = _given(own, case, parts, str(folder / f"case-{number}"))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            say(f"left out: {case.name}, {own.dtype}: out of memory")
            continue
        for part in parts:
            say(f"{NAMES[part]}, {case.name}, {own.dtype}")
            asked = {name: dict(arguments[part]) for name in sides}
            if part == "encoder":
                for name in sides:
                    asked[name]["output"] = str(folder / f"encoded-by-{name}.npz")
            first, notes = _warmed(part, sides, asked, settings.warmup)
            if "sonant" not in first:
                say(f"left out: {notes[0]}")
                continue
            yield _measured(part, case, {name: sides[name] for name in first}, asked, first, notes, settings, meter)


def _warmed(
    part: Part, sides: Mapping[str, Time], asked: Mapping[str, dict[str, Any]], calls: int
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The first answers of those sides that can do it, and what is to be said of all."""
    first, notes = {}, []
    for name, time in sides.items():
        answer = time(part, calls, keep=True, **asked[name])
        if "times" in answer:
            first[name] = answer
        else:
            notes.append(f"{name}: {trouble(answer)}")
    if "sonant" in first:
        notes = comparing.outputs(part, first, {name: asked[name].get("output", "") for name in first}) + notes
    return first, notes


def _asking(worker: Worker) -> Time:
    def time(stage: str, calls: int, keep: bool = False, **arguments: Any) -> dict[str, Any]:
        return worker.answer(time=stage, calls=calls, keep=keep, **arguments)

    return time


def _parts(own: Own, settings: Settings, say: Callable[[str], None]) -> list[Part]:
    lacks = own.lacks
    for part in settings.parts:
        if part in lacks:
            raise ConfigError(f"--part {part}: {lacks[part]}")
    for part in USUAL if not settings.parts else ():
        if part in lacks:
            say(f"no {NAMES[part]} by itself: {lacks[part]}")
    return [part for part in dict.fromkeys(settings.parts or USUAL) if part not in lacks]


def _given(own: Own, case: Case, parts: Sequence[Part], prefix: str) -> dict[Part, dict[str, Any]]:
    """What each part is called with: the same files on every side."""
    batches = list(case.batches())
    feats, frames = ([f"{prefix}-{name}-{n}.npz" for n in range(len(batches))] for name in ("features", "frames"))
    if {"encoder", "decoder"} & set(parts):
        own.prepare(batches, feats, frames, decoded="decoder" in parts)
    whole = {"files": list(case.files), "batch": case.batch}
    return {"encoder": {"batches": feats}, "decoder": {"batches": frames}, "memory": whole, "files": whole}


def _measured(
    part: Part,
    case: Case,
    sides: Mapping[str, Time],
    asked: Mapping[str, dict[str, Any]],
    first: Mapping[str, dict[str, Any]],
    notes: Sequence[str],
    settings: Settings,
    meter: energy.Meter | None,
) -> dict[str, Any]:
    """The row of one part: turn by turn until every side has had all its passes."""
    calls = min(settings.repeat, math.ceil(_TURN / max(1e-6, *(min(one["times"]) for one in first.values()))))
    times: dict[str, list[float]] = {name: [] for name in sides}
    peaks, joules = dict.fromkeys(sides, 0.0), dict.fromkeys(sides, 0.0)
    while len(times["sonant"]) < settings.repeat:
        turn = min(calls, settings.repeat - len(times["sonant"]))
        for name, time in sides.items():
            before = meter.joules() if meter is not None else 0.0
            answer = time(part, turn, **asked[name])
            if "times" not in answer:
                raise SonantError(f"{name} failed in {NAMES[part]}, {case.name}: {trouble(answer)}")
            joules[name] += meter.joules() - before if meter is not None else 0.0
            times[name] += answer["times"]
            peaks[name] = max(peaks[name], answer["peak_gib"])
    row = {"what": f"{NAMES[part]}, {case.name}", "part": part, "batch": case.batch, "recordings": len(case.files)}
    row |= {"audio_seconds": case.seconds, "note": "; ".join(notes), "runs": settings.repeat}
    row |= comparing.figures(times, case.seconds) | {"peak_gib": peaks}
    if meter is not None:
        row |= {"joules": {name: spent / settings.repeat for name, spent in joules.items()}, "joules_by": meter.source}
    return row


def append(file: Path, row: Mapping[str, Any]) -> None:
    """One more row of a JSON lines file, as `benchmarks/results.jsonl` is."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(dict(row), ensure_ascii=False) + "\n")
