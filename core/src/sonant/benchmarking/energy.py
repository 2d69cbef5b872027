"""How many joules a device has used, as far as it tells: a GPU through NVML, a CPU through RAPL."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from attrs import frozen

POWERCAP: Final = Path("/sys/class/powercap")
_NVML: Final = ("libnvidia-ml.so.1", "nvml.dll")


class Meter(Protocol):
    """A counter of joules; only differences mean something."""

    @property
    def source(self) -> str:
        """What counts, and what is counted."""
        ...

    def joules(self) -> float:
        """Since some time in the past."""
        ...


class Rapl:
    """The packages of the processor, cores and caches; all that runs on them counts. The counters begin anew at a largest value.

    Args:
        packages: a folder for each, with `energy_uj` and `max_energy_range_uj`, both in microjoules.
    """

    source = "RAPL, the whole processor"

    def __init__(self, packages: Sequence[Path]) -> None:
        self._packages = packages
        self._ranges = [_number(package / "max_energy_range_uj") for package in packages]
        self._last = self._read()
        self._total = 0

    def _read(self) -> list[int]:
        return [_number(package / "energy_uj") for package in self._packages]

    def joules(self) -> float:
        """Since this was made; right as long as it is asked before a counter comes round twice, which takes minutes at least."""
        now = self._read()
        steps = zip(now, self._last, self._ranges, strict=True)
        self._total += sum(new - old if new >= old else new - old + most for new, old, most in steps)
        self._last = now
        return self._total / 1e6


@frozen
class Nvml:
    """A GPU's own counter, in millijoules, by NVIDIA's management library; updated some ten times a second."""

    library: Any
    handle: Any
    source: str = "NVML, the whole GPU"

    def joules(self) -> float:
        """Since the driver was loaded."""
        count = ctypes.c_ulonglong()
        self.library.nvmlDeviceGetTotalEnergyConsumption(self.handle, ctypes.byref(count))
        return count.value / 1e3


def meter(device: Any) -> Meter | None:
    """What counts the energy of a `torch.device`; None where nothing does, or not for us."""
    if device.type == "cuda":
        return _nvml(device)
    return rapl(POWERCAP) if device.type == "cpu" else None


def rapl(root: Path) -> Meter | None:
    """That of all packages below `root`; only root may read them on most systems."""
    packages = [path for path in sorted(root.glob("intel-rapl:*")) if path.name.count(":") == 1]  # two: a part of one
    try:
        packages = [path for path in packages if (path / "name").read_text().startswith("package")]
        return Rapl(packages) if packages else None
    except (OSError, ValueError):
        return None


def _nvml(device: Any) -> Meter | None:
    import torch

    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    for name in _NVML:
        try:
            library: Any = ctypes.CDLL(name)
        except OSError:
            continue
        return None if uuid is None else nvml(library, f"GPU-{uuid}")
    return None


def nvml(library: Any, uuid: str) -> Meter | None:
    """The counter of the GPU with that id; None where it has none, or does not tell (older ones, and parts of one)."""
    handle, count = ctypes.c_void_p(), ctypes.c_ulonglong()
    failed = (  # each returns 0 for success
        library.nvmlInit_v2()
        or library.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle))
        or library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(count))
    )
    return None if failed else Nvml(library, handle)


def _number(path: Path) -> int:
    return int(path.read_text())
