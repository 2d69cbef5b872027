"""What `sonant bench` is made of: percentiles, meters, samples, pictures; and a task of one's own."""

from __future__ import annotations

import ctypes
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import Result

from sonant.benchmarking import cases, chart, comparing, energy, table
from sonant.benchmarking.percentiles import PERCENTILES, percentiles
from sonant.errors import ConfigError

Install = Callable[..., Path]
Command = Callable[..., Result]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 101])
def test_percentiles_are_those_of_numpy(count: int) -> None:
    values = np.random.default_rng(count).exponential(size=count)
    found = percentiles(values.tolist())
    assert found == {str(p): pytest.approx(np.percentile(values, p)) for p in PERCENTILES}


# Meters


def package(root: Path, name: str, label: str, joules: float) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{label}\n")
    (folder / "max_energy_range_uj").write_text("100000000\n")  # 100 J
    (folder / "energy_uj").write_text(f"{joules * 1e6:.0f}\n")
    return folder


def test_the_packages_of_a_processor_add_up(tmp_path: Path) -> None:
    first = package(tmp_path, "intel-rapl:0", "package-0", 10)
    second = package(tmp_path, "intel-rapl:1", "package-1", 98)
    for name, label in (("intel-rapl:0:0", "core"), ("intel-rapl:2", "psys"), ("intel-rapl-mmio:0", "package-0")):
        package(tmp_path, name, label, 0)  # parts of the above, all of the machine, the same once more
    meter = energy.rapl(tmp_path)
    assert meter is not None
    before = meter.joules()
    (first / "energy_uj").write_text("12500000")
    assert meter.joules() - before == pytest.approx(2.5)
    (second / "energy_uj").write_text("3000000")  # 2 J to the end of its range, and 3 on
    assert meter.joules() - before == pytest.approx(7.5)
    (tmp_path / "intel-rapl-mmio:0" / "energy_uj").write_text("50000000")
    assert meter.joules() - before == pytest.approx(7.5)


def test_a_processor_that_does_not_tell(tmp_path: Path) -> None:
    assert energy.rapl(tmp_path) is None
    package(tmp_path, "intel-rapl:0", "package-0", 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()  # as unreadable as to a user who is not root
    assert energy.rapl(tmp_path) is None


class Driver:
    """NVIDIA's management library with one GPU, or as far as it goes."""

    def __init__(self, millijoules: int, fails: str = "") -> None:
        self.millijoules, self.fails = millijoules, fails

    def nvmlInit_v2(self) -> int:
        return 9 * (self.fails == "init")

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:
        handle._obj.value = 77
        return 6 * (uuid != b"GPU-1-2")

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: ctypes.c_void_p, count: Any) -> int:
        assert handle.value == 77
        count._obj.value = self.millijoules
        return 3 * (self.fails == "energy")


def test_a_gpu_counts_in_millijoules() -> None:
    driver = Driver(2**40)
    meter = energy.nvml(driver, "GPU-1-2")
    assert meter is not None
    before = meter.joules()
    driver.millijoules += 1500
    assert meter.joules() - before == pytest.approx(1.5)
    assert energy.nvml(driver, "GPU-3-4") is None
    assert energy.nvml(Driver(0, "init"), "GPU-1-2") is None
    assert energy.nvml(Driver(0, "energy"), "GPU-1-2") is None


# Samples


def test_noise_is_of_that_length_and_the_same_again(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    found = cases.noise([0.5, 1.25], [1, 3], 8000, tmp_path)
    again = cases.noise([0.5], [3], 8000, tmp_path / "again")[0]
    assert [(c.name, len(c.files), c.batch, c.seconds) for c in found] == [
        ("0.5 s", 1, 1, 0.5),
        ("0.5 s x 3", 3, 3, 1.5),
        ("1.25 s", 1, 1, 1.25),
        ("1.25 s x 3", 3, 3, 3.75),
    ]
    sounds = [soundfile.read(file)[0] for file in found[1].files]
    assert [len(sound) for sound in sounds] == [4000] * 3
    assert not np.array_equal(sounds[0], sounds[1]) and 0.001 < np.abs(sounds).mean() < 0.1
    assert [soundfile.read(file)[0].tolist() for file in again.files] == [sound.tolist() for sound in sounds]


def test_recordings_come_as_a_model_hears_them(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (16000, 2))
    soundfile.write(tmp_path / "talk.flac", sound, 16000)
    rows = [{"audio_filepath": "talk.flac", "offset": 0.25, "duration": 0.5}, {"audio_filepath": "talk.flac"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    work = tmp_path / "work"
    work.mkdir()
    single, pairs = cases.recordings([str(tmp_path / "rows.jsonl"), str(tmp_path / "talk.flac")], [1, 2], 16000, work)
    assert (single.name, single.seconds) == ("3 recordings", 2.5)
    assert (pairs.name, [len(batch) for batch in pairs.batches()]) == ("3 recordings, by 2", [2, 1])
    mean = sound.mean(1)
    for file, wanted in zip(single.files, (mean[4000:12000], mean, mean), strict=True):
        found, rate = soundfile.read(file)
        assert rate == 16000
        np.testing.assert_allclose(found, wanted, atol=1e-4)


# Comparing


def test_only_frames_within_the_recordings_are_compared(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    ours = draw.standard_normal((2, 5, 3)).astype(np.float32)
    theirs = np.concatenate([ours, ours[:, :1]], 1)  # one more frame of padding
    theirs[0, 1, 2] += 0.25
    theirs[1, 3:] = 9.0  # behind the end
    np.savez(tmp_path / "ours.npz", x0=ours, lens0=np.array([5, 3]))
    np.savez(tmp_path / "theirs.npz", x0=theirs)
    np.savez(tmp_path / "short.npz", x0=theirs[:, :4])
    names = {"sonant": str(tmp_path / "ours.npz"), "rival": str(tmp_path / "theirs.npz")}
    first: dict[str, Any] = {"sonant": {}, "rival": {}}
    assert comparing.outputs("encoder", first, names) == ["rival: largest difference of outputs 2.5e-01"]
    names["rival"] = str(tmp_path / "short.npz")
    assert comparing.outputs("encoder", first, names) == ["rival: frames (4, 3), not (5, 3)"]


def test_words_are_compared() -> None:
    def said(*texts: str) -> dict[str, Any]:
        return {"value": list(texts)}

    first = {"sonant": said("a b", "c"), "rival": said(" a  b", "d")}
    assert comparing.outputs("files", first, {}) == ["rival: same words 1 of 2"]
    assert comparing.outputs("files", {"sonant": said(""), "rival": said("")}, {}) == ["no text on any side"]
    assert comparing.outputs("files", {"sonant": said("a")}, {}) == []


# What comes out

ROW: dict[str, Any] = {
    "what": "encoder, 10 s",
    "model": "<script>",
    "device": "cpu",
    "dtype": "float32",
    "audio_seconds": 10.0,
    "seconds": {"sonant": 0.5, "nemo": 1.0},
    "ratio": {"nemo": 2.0},
    "percentiles": {
        "sonant": {"20": 0.4, "50": 0.5, "80": 0.6, "90": 0.7, "99": 0.8},
        "nemo": {"20": 0.9, "50": 1.0, "80": 1.1, "90": 1.2, "99": 1.3},
    },
    "times_real_time": {"sonant": 20.0, "nemo": 10.0},
    "real_time_factor": {"sonant": 0.05, "nemo": 0.1},
    "peak_gib": {"sonant": 1.0, "nemo": 0},
    "joules": {"sonant": 12.34, "nemo": 20.0},
    "joules_by": "RAPL",
    "threads": 2,
    "machine": "2 cores",
    "versions": {"sonant": {"name": "sonant 1", "torch": "2"}, "nemo": {"name": "nemo 3", "torch": "2"}},
    "note": "",
}


def test_a_table() -> None:
    head, ours, theirs = table.lines([ROW])
    assert dict(zip(head, ours, strict=True)) == {
        "what": "encoder, 10 s",
        "dtype": "float32",
        "side": "sonant",
        "median": "500 ms",
        "20 to 80 %": "400 ms to 600 ms",
        "90 %": "700 ms",
        "99 %": "800 ms",
        "RTF": "0.05",
        "times real time": "20.0",
        "peak": "1.00 GiB",
        "joules": "12.3",
        "ratio": "",
    }
    found = dict(zip(head, theirs, strict=True))
    assert (found["peak"], found["ratio"], found["median"]) == ("not told by this device", "2.00", "1.00 s")
    assert [table.duration(x) for x in (0.000123, 0.00099951, 0.0123456, 0.1, 0.99, 1.0, 123.456)] == [
        "123 us",
        "1 ms",
        "12.3 ms",
        "100 ms",
        "990 ms",
        "1.00 s",
        "123.46 s",
    ]
    quiet = {key: value for key, value in ROW.items() if not key.startswith("joules")}
    assert "joules" not in table.lines([quiet])[0]
    assert table.remarks([quiet])[-1] == "energy: not told by this device"


@pytest.mark.parametrize("suffix", chart.SUFFIXES)
def test_a_picture(suffix: str, tmp_path: Path) -> None:
    """Bars are as long as speeds are high, lines reach from the 20th to the 80th percentile, names are text."""
    path = tmp_path / f"speed{suffix}"
    chart.write(
        path, [ROW, {"what": "load", "dtype": "float32", "seconds": {"sonant": 1.0}, "ratio": {}, "peak_gib": {}, "note": ""}]
    )
    text = path.read_text("utf-8")
    assert "<script>" not in text and "&lt;script&gt;" in text
    root = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    bars = {e.get("class"): e for e in root.iter() if e.tag.endswith("}rect")}
    assert bars.keys() == {"sonant", "nemo"}
    ours, theirs = (float(str(bars[side].get("width"))) for side in ("sonant", "nemo"))
    assert ours == pytest.approx(2 * theirs)
    spread = next(e for e in root.iter() if e.get("class") == "spread")
    left = float(str(bars["sonant"].get("x")))
    ends = [(float(str(spread.get(name))) - left) / ours * 20 for name in ("x1", "x2")]
    assert ends == pytest.approx([10 / 0.6, 10 / 0.4], abs=0.1)
    assert (suffix == ".html") == ("<td>400 ms to 600 ms</td>" in text)


def test_pictures_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a picture ends in one of \.html, \.svg"):
        chart.check_target(tmp_path / "speed.png")
    with pytest.raises(ConfigError, match="there is no folder"):
        chart.check_target(tmp_path / "absent" / "speed.svg")


# A task of somebody's own

TOY = """
from sonant import ComponentSpec, hookimpl

SONANT_API = 1

@hookimpl
def sonant_components():
    return [
        ComponentSpec(kind="task", name=f"toy/{name}", target=f"toy_model:{name.title()}", config="toy_config:Toy", doc="Toy.")
        for name in ("loud", "deaf")
    ]
"""
CONFIG = """
from attrs import frozen

@frozen(kw_only=True)
class Toy:
    pass
"""
MODEL = """
import torch
from torch import nn

class Deaf(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5))

    @classmethod
    def from_parts(cls, config, parts):
        return cls(config)

    def infer(self, batch):
        if len(batch.wav) > 3:
            raise MemoryError
        assert not torch.is_grad_enabled()
        return [float(wav[:n].square().mean()) for wav, n in zip(batch.wav, batch.lens.tolist())]

class Loud(Deaf):
    sample_rate = 8000
"""


@pytest.fixture
def toys(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("toy-tasks", TOY, modules={"toy_model": MODEL, "toy_config": CONFIG})
    for name in ("loud", "deaf"):
        (tmp_path / f"{name}.yaml").write_text(f"task: toy/{name}\n")
    monkeypatch.chdir(tmp_path)


SHORT = ["--seconds", "0.5", "--batch", "1,3", "--repeat", "2", "--warmup", "1", "--threads", "1"]


def test_a_task_without_an_encoder_is_measured_end_to_end(toys: None, command: Command) -> None:
    result = command("bench", "loud.yaml", *SHORT, "--json", "--output", "rows.jsonl")
    rows = json.loads(result.stdout)
    assert [row["what"] for row in rows] == ["load", "end to end, 0.5 s", "end to end, 0.5 s x 3"]
    assert [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()] == rows
    assert "no encoder by itself: Loud has no preprocessor and no encoder\n" in result.stderr
    load, _, last = rows
    assert load["parameters"] == 5
    assert (last["recordings"], last["batch"], last["audio_seconds"], last["runs"]) == (3, 3, 1.5, 2)
    assert last["times_real_time"]["sonant"] == pytest.approx(1.5 / last["seconds"]["sonant"])
    assert last["real_time_factor"]["sonant"] == pytest.approx(last["seconds"]["sonant"] / 1.5)
    assert last["ratio"] == {} and last["threads"] == 1 and last["device"] == "cpu" and last["dtype"] == "float32"
    memory = json.loads(command("bench", "loud.yaml", *SHORT, "--json", "--part", "memory").stdout)
    assert [row["what"] for row in memory] == ["load", "from memory, 0.5 s", "from memory, 0.5 s x 3"]


def test_what_memory_is_too_small_for_is_left_out(toys: None, command: Command) -> None:
    few = ["--seconds", "0.5", "--batch", "1,4,2", "--repeat", "1", "--part", "memory", "--json"]
    result = command("bench", "loud.yaml", *few)
    assert [row.get("batch") for row in json.loads(result.stdout)] == [None, 1, 2]
    assert "left out: sonant: out of memory\n" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["loud.yaml", "--part", "encoder"], "--part encoder: Loud has no preprocessor and no encoder"),
        (["loud.yaml", "--part", "decoder"], "--part decoder: Loud has no preprocessor and no encoder"),
        (["deaf.yaml"], "deaf.yaml is a Deaf, which has no sample_rate: it cannot be given audio"),
        (["loud.yaml", "absent.wav"], "Error: absent.wav: there is no such file"),
        (["loud.yaml", "loud.yaml"], "Error: loud.yaml: "),
        (["absent.nemo"], "there is no file or folder absent.nemo"),
        (["loud.yaml", "--dtype", "float33"], "dtype 'float33' is not known"),
        (["loud.yaml", "--seconds", "1,soon"], "'soon' is not a valid float range"),
        (["loud.yaml", "--against", "nemo", "--env", "no/python"], "no/python cannot be run: No such file or directory"),
        (["loud.yaml", "--plot", "speed.gif"], "a picture ends in one of .html, .svg"),
        (["loud.yaml", "--output", "absent/rows.jsonl"], "there is no folder absent"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_measured(toys: None, command: Command, arguments: list[str], said: str) -> None:
    result = command("bench", *arguments, status=2 if "soon" in said else 1)
    assert said in result.stderr
    assert result.stdout == ""
