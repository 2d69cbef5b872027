"""The kernel of an operation: the best that can run here, or the one asked for by name, never another in its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from sonant import kernels, plugins
from sonant.errors import ConfigError, DuplicateName, KernelUnavailable, PluginError, UnknownName

Install = Callable[..., Any]

FUNCTIONS = "\n".join(f"def {name}():\n    return {name!r}\n" for name in ("plain", "fused", "fast", "cpu_only", "impossible"))


def providing(*specs: str) -> str:
    """The source of a plugin with these kernels, each `op backend function rank requirement…`."""
    made = []
    for spec in specs:
        op, backend, function, rank, *requires = spec.split()
        target = f"acme_kernels:{function}"
        made.append(f"KernelSpec(op={op!r}, backend={backend!r}, target={target!r}, rank={rank}, requires={tuple(requires)!r})")
    return (
        "from sonant import KernelSpec, hookimpl\nSONANT_API = 1\n\n\n"
        f"@hookimpl\ndef sonant_kernels():\n    return [{', '.join(made)}]\n"
    )


@pytest.fixture
def acme(install: Install) -> None:
    """Kernels of `acme_scan`, in no order of rank; the highest requires what no machine has."""
    source = providing(
        "acme_scan reference plain 0",
        "acme_scan triton fast 20 cuda",
        "acme_scan sdpa fused 10",
        "acme_scan odd impossible 30 antigravity",
        "acme_scan vector cpu_only 15 cpu",
    )
    install("acme-speech", source, modules={"acme_kernels": FUNCTIONS})


def test_all_that_implement_an_operation_best_first(acme: None) -> None:
    assert [spec.backend for spec, _ in kernels.available("acme_scan")] == ["odd", "triton", "vector", "sdpa", "reference"]
    assert {plugin.distribution for _, plugin in kernels.available("acme_scan")} == {"acme-speech"}
    assert kernels.available("acme_absent") == []


@pytest.mark.parametrize(("device", "chosen"), [("cpu", "cpu_only"), ("cuda", "fast"), ("mps", "fused")])
def test_the_highest_rank_whose_requirements_hold(device: str, chosen: str, acme: None) -> None:
    assert kernels.get("acme_scan", device)() == chosen


@pytest.mark.parametrize(("backend", "function"), [("reference", "plain"), ("sdpa", "fused"), ("vector", "cpu_only")])
def test_a_backend_asked_for_by_name_is_taken(backend: str, function: str, acme: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.get("acme_scan", "cpu", backend)() == function
    monkeypatch.setenv("SONANT_KERNELS", f"acme_scan={backend}")
    assert kernels.get("acme_scan", "cpu")() == function


@pytest.mark.parametrize(
    ("device", "backend", "lacking"),
    [("cpu", "triton", "cuda"), ("cuda", "vector", "cpu"), ("cuda", "odd", "antigravity")],
)
def test_a_backend_that_cannot_run_here(
    device: str, backend: str, lacking: str, acme: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = f"the {backend!r} kernel of 'acme_scan' needs {lacking}, which {device} tensors here do not have"
    with pytest.raises(KernelUnavailable, match=wanted):
        kernels.get("acme_scan", device, backend)
    monkeypatch.setenv("SONANT_KERNELS", f"acme_scan={backend}")
    with pytest.raises(KernelUnavailable, match=wanted):
        kernels.get("acme_scan", device)


def test_none_that_can_run_here(install: Install) -> None:
    install("acme-speech", providing("acme_scan triton fast 1 cuda", "acme_scan odd plain 2 cuda triton"))
    with pytest.raises(KernelUnavailable, match="no kernel of 'acme_scan' runs on cpu; there are: odd, triton"):
        kernels.get("acme_scan", "cpu")


def test_the_variable_may_change_and_names_several(acme: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONANT_KERNELS", " acme_scan=sdpa , rel_pos_attention=reference,")
    assert kernels.get("acme_scan", "cpu")() == "fused"
    assert kernels.get("rel_pos_attention", "cpu").__module__.endswith(".reference")
    monkeypatch.setenv("SONANT_KERNELS", "acme_scan=reference")
    assert kernels.get("acme_scan", "cpu")() == "plain"
    monkeypatch.delenv("SONANT_KERNELS")
    assert kernels.get("acme_scan", "cpu")() == "cpu_only"


def test_the_argument_goes_before_the_variable(acme: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONANT_KERNELS", "acme_scan=sdpa")
    assert kernels.get("acme_scan", "cpu", "reference")() == "plain"


@pytest.mark.parametrize("setting", ["acme_scan", "acme_scan=", "=sdpa", "acme_scna=sdpa", "acme_scan=sdpa,odd"])
def test_a_variable_that_cannot_be_read(setting: str, acme: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONANT_KERNELS", setting)
    item = setting.split(",")[-1]
    with pytest.raises(ConfigError, match=re.escape(f"SONANT_KERNELS: {item!r} is not op=backend with an op of: acme_scan, ")):
        kernels.get("acme_scan", "cpu")


def test_unknown_operations_and_backends(acme: None) -> None:
    with pytest.raises(UnknownName, match="no installed plugin implements the operation 'acme_absent'"):
        kernels.get("acme_absent", "cpu")
    with pytest.raises(UnknownName, match="has no backend 'cutlass'; there are: odd, triton, vector, sdpa, reference"):
        kernels.get("acme_scan", "cpu", "cutlass")


def test_a_plugin_that_failed_is_mentioned(install: Install) -> None:
    install("acme-broken", "1 / 0")
    with pytest.raises(UnknownName, match=r"'acme_absent'\. 1 plugin failed to load: acme-broken"):
        kernels.get("acme_absent", "cpu")


def test_two_distributions_with_one_kernel(acme: None, install: Install) -> None:
    install("acme-other", providing("acme_scan sdpa plain 0", "acme_other sdpa plain 0"), modules={"acme_kernels": FUNCTIONS})
    assert kernels.get("acme_other", "cpu")() == "plain"
    with pytest.raises(
        DuplicateName, match=r"the 'sdpa' kernel of 'acme_scan' comes from both acme-other 0\.1 and acme-speech 0\.1"
    ):
        kernels.get("acme_scan", "cpu")


def test_two_distributions_with_kernels_of_one_operation(acme: None, install: Install) -> None:
    install("acme-other", providing("acme_scan cutlass plain 40"), modules={"acme_kernels": FUNCTIONS})
    assert kernels.get("acme_scan", "cpu")() == "plain"


def test_a_kernel_that_does_not_import(install: Install) -> None:
    install("acme-speech", providing("acme_scan sdpa absent 0"), modules={"acme_kernels": FUNCTIONS})
    with pytest.raises(
        PluginError, match=r"kernel acme_scan 'sdpa' \(acme-speech 0\.1\): 'acme_kernels' has no attribute 'absent'"
    ):
        kernels.get("acme_scan", "cpu")


def test_what_was_chosen_is_forgotten_with_the_plugins(acme: None, install: Install) -> None:
    assert kernels.get("acme_scan", "cpu")() == "cpu_only"
    install("acme-other", providing("acme_scan best plain 50"), modules={"acme_kernels": FUNCTIONS})
    assert kernels.get("acme_scan", "cpu")() == "plain"
    assert "acme-other" in {p.distribution for p in plugins.installed()}


def test_triton_is_required_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for found in (None, object()):
        monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name, found=found: found if name == "triton" else None)
        assert kernels.REQUIREMENTS["triton"]("cuda") is (found is not None)


PICKY = """
from sonant import KernelSpec, hookimpl
SONANT_API = 1


@hookimpl
def sonant_kernels():
    return [
        KernelSpec(op="acme_scan", backend="fast", target="acme_scans:fast", rank=20, refuses="acme_scans:fast_refuses"),
        KernelSpec(op="acme_scan", backend="small", target="acme_scans:small", rank=10, refuses="acme_scans:small_refuses"),
        {reference}
    ]
"""
PICKY_FUNCTIONS = """
def fast(n, *, flag=False):
    return "fast"


def fast_refuses(n, *, flag=False):
    return "it wants no flag" if flag else f"{n} is odd" if n % 2 else None


def small(n, *, flag=False):
    return "small"


def small_refuses(n, *, flag=False):
    return f"{n} is large" if n > 9 else None


def plain(n, *, flag=False):
    return "plain"
"""
PLAIN = 'KernelSpec(op="acme_scan", backend="reference", target="acme_scans:plain"),'


@pytest.fixture
def picky(install: Install) -> None:
    """Two kernels that refuse some inputs, and one that does not."""
    install("acme-picky", PICKY.replace("{reference}", PLAIN), modules={"acme_scans": PICKY_FUNCTIONS})


def test_the_highest_rank_that_takes_the_inputs(picky: None) -> None:
    scan = kernels.get("acme_scan", "cpu")
    assert [scan(2), scan(3), scan(2, flag=True), scan(11)] == ["fast", "small", "small", "plain"]


def test_a_backend_asked_for_by_name_takes_the_inputs_or_is_an_error(picky: None, monkeypatch: pytest.MonkeyPatch) -> None:
    message = "the 'fast' kernel of 'acme_scan' does not take these inputs: 3 is odd"
    fast = kernels.get("acme_scan", "cpu", "fast")
    assert fast(2) == "fast"
    with pytest.raises(KernelUnavailable, match=message):
        fast(3)
    monkeypatch.setenv("SONANT_KERNELS", "acme_scan=fast")
    with pytest.raises(KernelUnavailable, match=message):
        kernels.get("acme_scan", "cpu")(3)


def test_none_that_takes_the_inputs(install: Install) -> None:
    install("acme-picky", PICKY.replace("{reference}", ""), modules={"acme_scans": PICKY_FUNCTIONS})
    assert kernels.get("acme_scan", "cpu")(12) == "fast"
    with pytest.raises(
        KernelUnavailable, match="no kernel of 'acme_scan' takes these inputs; the last one, 'small': 11 is large"
    ):
        kernels.get("acme_scan", "cpu")(11)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_the_choice_can_be_compiled(picky: None) -> None:
    torch = pytest.importorskip("torch")

    def twice(x: Any, n: int) -> Any:
        return x * (2.0 if kernels.get("acme_scan", "cpu")(n) == "small" else 3.0)

    compiled = torch.compile(twice, backend="eager", fullgraph=False)
    x = torch.ones(2)
    assert compiled(x, 3).tolist() == [2.0, 2.0]
    assert compiled(x, 2).tolist() == [3.0, 3.0]
