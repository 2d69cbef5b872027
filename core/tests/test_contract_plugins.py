"""The contract of a plugin as a whole, and of its kernels."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import pytest

from contract_cases import BROKEN_KERNELS, BROKEN_PLUGINS, assert_fails, by_subject, outcomes
from sonant import plugins
from sonant.testing import contract

METADATA = ("Summary: Somebody's.", "Requires-Dist: sonant>=0.1,<0.2")

HEAD = "from sonant import ComponentSpec, KernelSpec, NemoSpec, hookimpl\nSONANT_API = 1\n"
SPEC = """ComponentSpec(
    kind="encoder", name={name!r}, target="good_parts.encoder:RunningMean", config="good_parts.config:RunningMean",
    doc="Somebody's.", tiny={{"width": 8}}, nemo=NemoSpec(mapping="good_parts.config:Empty", targets={targets!r}),
),
"""


def components(*names: str, targets: tuple[str, ...] = ()) -> str:
    """The source of a plugin with encoders of these names."""
    specs = "".join(SPEC.format(name=name, targets=targets) for name in names)
    return f"{HEAD}@hookimpl\ndef sonant_components():\n    return [\n{indent(specs, ' ' * 8)}    ]\n"


def commands(body: str) -> str:
    """The source of a hook that adds commands."""
    return f"import click\n@hookimpl\ndef sonant_commands(app):\n{indent(body, ' ' * 4)}\n"


def cards(path: Path) -> str:
    """The source of a hook that returns a file of model cards."""
    return f"from pathlib import Path\n@hookimpl\ndef sonant_model_cards():\n    return [Path({str(path)!r})]\n"


CLASHING = """
@hookimpl
def sonant_kernels():
    return [KernelSpec(op="good_scan", backend="plain", target="good_parts.kernel:scan", doc="Another.")]
"""
SINGS = '@app.group("acme", help="Of acme.")\ndef acme():\n    pass\n@acme.command()\ndef sing():\n    pass\n'
CARD = "models:\n  {name}:\n    task: asr\n    summary: Mine.\n    source: {source}\n"


pytestmark = pytest.mark.usefixtures("contract_path")


@pytest.fixture
def package(install, monkeypatch):
    """Installs a plugin with metadata as pip writes it, beside the good and the dear ones of the test data."""
    allowed = ["good-parts", "heavy-config", "slow-plugin"]
    monkeypatch.setenv("SONANT_PLUGINS", ",".join(allowed))

    def add(name: str, source: str, metadata: tuple[str, ...] = METADATA, **options: dict[str, str]) -> None:
        info = install(name, source, **options)
        with (info / "METADATA").open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in metadata)
        allowed.append(name)
        monkeypatch.setenv("SONANT_PLUGINS", ",".join(allowed))
        plugins.refresh()

    return add


@pytest.fixture
def broken(package, tmp_path):
    """Each of the broken plugins, installed when it is asked for."""
    (tmp_path / "cards.yaml").write_text(CARD.format(name="tiny", source="{web: here}"), "utf-8")
    (tmp_path / "lost.yaml").write_text(CARD.format(name="tiny", source="{file: weights/tiny.nemo}"), "utf-8")
    sources = {
        "acme-clash": (components("acme/gru", "running_mean"),),
        "acme-renamed": (components("acme/gru.v2", "acme/lstm", "acme/lstm.v2", "acme/lstm.v3"),),
        "acme-cards": (HEAD + cards(tmp_path / "cards.yaml"),),
        "acme-lost": (HEAD + cards(tmp_path / "lost.yaml"),),
        "acme-commands": (HEAD + commands('raise RuntimeError("no such luck")'),),
        "acme-mute": (HEAD + commands(SINGS),),
        "acme-untitled": (HEAD, METADATA[1:]),
        "acme-lonely": (HEAD, (METADATA[0], "Requires-Dist: torch<99", 'Requires-Dist: sonant<1; extra == "all"')),
        "acme-unbounded": (HEAD, (METADATA[0], "Requires-Dist: sonant>=0.1")),
    }

    def get(name: str) -> str:
        if name in sources:
            package(name, *sources[name])
        return name

    return get


@pytest.mark.parametrize("name", BROKEN_PLUGINS)
def test_a_broken_promise_fails_there_and_only_there(broken, name):
    assert_fails(by_subject([broken(name)])[f"plugin {name}"], BROKEN_PLUGINS[name])


def test_every_clash_is_named(package, tmp_path):
    """Those with the core's commands too."""
    (tmp_path / "cards.yaml").write_text(CARD.format(name="good", source="{url: https://example.com/a.nemo}"), "utf-8")
    taken = 'for name in ("good", "models", "mine"):\n    app.add_command(click.Command(name, help="Does something."))'
    package("acme-twin", components("acme/twin", targets=("acme.Twin",)))
    source = components("running_mean", targets=("acme.Twin", "acme.Mine")) + CLASHING + cards(tmp_path / "cards.yaml")
    package("acme-clash", source + commands(taken))
    (fault,) = outcomes(by_subject(["acme-clash"])["plugin acme-clash"], "failed").values()
    for clash in (
        "encoder 'running_mean' (of good-parts 1.0)",
        "NeMo's encoder 'acme.Twin' (of acme-twin 0.1)",
        "kernel good_scan/plain (of good-parts 1.0)",
        "model card 'good' (of good-parts 1.0)",
        "command 'good' (of good-parts 1.0)",
        "command 'models' (of sonant",
    ):
        assert clash in fault
    assert "ine'" not in fault  # what is called `mine` is nobody else's


def test_an_older_name_may_come_from_another_module_of_the_distribution(package, site):
    package("acme-gru", components("acme/gru.v2"), modules={"acme_old": components("acme/gru")})
    (info,) = site.glob("acme_gru-*.dist-info")
    (info / "entry_points.txt").write_text("[sonant.plugins]\nnew = acme_gru\nold = acme_old\n", "utf-8")
    plugins.refresh()
    assert outcomes(by_subject(["acme-gru"])["plugin acme-gru"], "failed") == {}


@pytest.mark.parametrize("bound", ["sonant~=0.1", "Sonant[extras] (<1)", "sonant==0.1.*"])
def test_a_bound_may_be_written_in_many_ways(package, bound):
    package("acme-gru", HEAD, (METADATA[0], f"Requires-Dist: {bound}"))
    assert outcomes(contract.checks("acme-gru"), "failed") == {}


KERNELS = """
@hookimpl
def sonant_kernels():
    same = {"op": "acme_scan", "target": "acme_kernels:scan", "doc": "A loop."}
    return [
        KernelSpec(**same, backend="plain"),
        KernelSpec(**same, backend="cuda", requires=("cuda",)),
        KernelSpec(**same, backend="abacus", requires=("cpu", "abacus")),
        KernelSpec(**same | {"target": "acme_gone:scan"}, backend="gone", requires=("cuda",)),
        KernelSpec(**same | {"target": "acme_kernels:TABLE"}, backend="data"),
        KernelSpec(**same, backend="picky", refuses="acme_kernels:TABLE"),
        KernelSpec(**same | {"doc": ""}, backend="mute"),
    ]
"""


def test_kernels(package):
    package("acme-scan", HEAD + KERNELS, modules={"acme_kernels": "TABLE = {}\ndef scan(values):\n    return values\n"})
    found = by_subject(["acme-scan"])
    failed = {subject: outcomes(checks, "failed") for subject, checks in found.items() if subject.startswith("kernel")}
    assert failed.keys() == BROKEN_KERNELS.keys() | {"kernel acme_scan/plain", "kernel acme_scan/cuda"}
    for subject in failed:
        assert_fails(found[subject], BROKEN_KERNELS.get(subject, {}))
