"""One name belongs to one distribution, and every failed lookup explains itself."""

from __future__ import annotations

from typing import Any

import pytest

from sonant import index
from sonant.errors import DuplicateName, SonantError, UnknownName
from sonant.plugins import Plugin
from sonant.registry import Registry
from sonant.spec import KINDS, ComponentSpec, KernelSpec, NemoSpec, Part


def spec(kind: str, name: str, **fields: Any) -> ComponentSpec:
    return ComponentSpec(kind=kind, name=name, target="acme.net:Net", config="acme.net:Config", doc="", **fields)


def plugin(distribution: str, *specs: ComponentSpec, version: str = "0.1", error: str = "") -> Plugin:
    return Plugin(distribution=distribution, version=version, module="m", components=specs, error=error)


ENCODERS = plugin("sonant-encoders", spec("encoder", "fastconformer"), spec("encoder", "transformer"))
ASR = plugin("sonant-asr", spec("task", "asr"), spec("decoder", "ctc"))
BROKEN = plugin("sonant-tts", error="ImportError: no")


def refusal(registry: Registry, kind: str, name: str) -> str:
    with pytest.raises(UnknownName) as caught:
        registry.get(kind, name)
    return str(caught.value)


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that knows a component of a distribution that is not installed, and one of one that is."""
    components = {"decoder": {"fastpitch": "sonant-tts"}, "encoder": {"squeezeformer": "sonant-encoders"}}
    monkeypatch.setattr(index, "packaged", lambda: {"components": components, "models": {}})


def test_finds_by_kind_and_name() -> None:
    found = Registry((ENCODERS, ASR)).get("decoder", "ctc")
    assert (found.spec, found.plugin) == (ASR.components[1], ASR)


def test_a_misspelt_name_gets_a_suggestion_and_the_choice() -> None:
    text = refusal(Registry((ENCODERS, ASR)), "encoder", "fastconfomer")
    assert text == (
        "no encoder named 'fastconfomer'. Did you mean 'fastconformer' or 'transformer'? Installed: fastconformer, transformer."
    )


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    assert refusal(Registry((ENCODERS,)), "encoder", "lstm") == "no encoder named 'lstm'. Installed: fastconformer, transformer."


def test_a_name_of_another_kind() -> None:
    assert "There is a decoder of that name." in refusal(Registry((ENCODERS, ASR)), "encoder", "ctc")


def test_a_kind_of_which_nothing_is_installed() -> None:
    assert refusal(Registry((ENCODERS,)), "codec", "dac") == "no codec named 'dac'. No codec is installed."


def test_plugins_that_failed_are_mentioned() -> None:
    text = refusal(Registry((ENCODERS, BROKEN)), "encoder", "lstm")
    assert text.endswith("1 plugin failed to load: sonant-tts (run `sonant plugins`).")
    text = refusal(Registry((BROKEN, plugin("acme-x", error="SyntaxError"))), "encoder", "lstm")
    assert text.endswith("2 plugins failed to load: sonant-tts, acme-x (run `sonant plugins`).")


def test_an_unknown_kind() -> None:
    text = refusal(Registry((ENCODERS,)), "encoders", "fastconformer")
    assert text.startswith("no kind named 'encoders'. Did you mean 'encoder'")
    assert all(kind in text for kind in KINDS)


@pytest.mark.usefixtures("indexed")
def test_the_distribution_that_would_provide_it() -> None:
    registry = Registry((ENCODERS,))
    wanted = "decoder 'fastpitch' is provided by sonant-tts, which is not installed: pip install sonant-tts"
    assert refusal(registry, "decoder", "fastpitch") == wanted
    assert refusal(registry, "decoder", "fastpitch.v1").endswith("pip install sonant-tts")


@pytest.mark.usefixtures("indexed")
def test_no_advice_to_install_what_is_installed() -> None:
    assert "pip install" not in refusal(Registry((ENCODERS,)), "encoder", "squeezeformer")
    assert "failed to load: sonant-tts" in refusal(Registry((BROKEN,)), "decoder", "fastpitch")


def test_two_claims_on_a_name_raise_when_it_is_asked_for() -> None:
    other = plugin("acme-speech", spec("encoder", "fastconformer"), spec("encoder", "acme/zipformer"), version="0.2")
    registry = Registry((ENCODERS, other))
    assert registry.get("encoder", "transformer").plugin is ENCODERS
    assert registry.get("encoder", "acme/zipformer").plugin is other
    wanted = (
        "encoder 'fastconformer' is registered by both sonant-encoders 0.1 and acme-speech 0.2; uninstall one.*SONANT_PLUGINS"
    )
    with pytest.raises(DuplicateName, match=wanted):
        registry.get("encoder", "fastconformer")
    ((first, second),) = registry.conflicts()
    assert (first.plugin, second.plugin) == (ENCODERS, other)
    assert registry.names("encoder") == ["acme/zipformer", "fastconformer", "transformer"]
    assert len(list(registry)) == 4


def test_three_claims() -> None:
    registry = Registry(tuple(plugin(name, spec("codec", "dac")) for name in ("a", "b", "c")))
    with pytest.raises(DuplicateName, match=r"registered by a 0\.1 and b 0\.1 and c 0\.1;"):
        registry.get("codec", "dac")


def test_one_name_of_two_kinds_is_no_conflict() -> None:
    registry = Registry((plugin("a", spec("codec", "dac")), plugin("b", spec("decoder", "dac"))))
    assert registry.conflicts() == []
    assert registry.get("codec", "dac").plugin.distribution == "a"


def test_a_bare_name_is_version_1() -> None:
    registry = Registry((plugin("a", spec("encoder", "conv.v1"), spec("encoder", "conv.v2"), spec("encoder", "acme/conv")),))
    assert registry.get("encoder", "conv") is registry.get("encoder", "conv.v1")
    assert registry.get("encoder", "conv.v2").spec.name == "conv.v2"
    assert registry.get("encoder", "acme/conv.v1").spec.name == "acme/conv"
    assert registry.names("encoder") == ["acme/conv", "conv", "conv.v2"]
    clash = Registry((plugin("a", spec("encoder", "conv")), plugin("b", spec("encoder", "conv.v1"))))
    with pytest.raises(DuplicateName, match=r"both a 0\.1 and b 0\.1"):
        clash.get("encoder", "conv")


def test_what_is_refused_has_a_reason() -> None:
    """By the class, wherever in NeMo it stood."""
    nemo = NemoSpec(mapping="acme.nemo:MAPPING", refused={"Old": "it is gone"})
    registry = Registry((plugin("a", spec("encoder", "w"), spec("encoder", "x", nemo=nemo)), BROKEN))
    assert registry.refusal("encoder", "nemo.old.Old") == registry.refusal("encoder", "Old") == "it is gone"
    assert registry.refusal("decoder", "nemo.old.Old") == registry.refusal("encoder", "nemo.Older") == ""


def test_nemo_targets() -> None:
    nemo = NemoSpec(mapping="acme.nemo:MAPPING", targets=("nemo.Encoder",))
    ours, theirs = plugin("a", spec("encoder", "x", nemo=nemo)), plugin("b", spec("encoder", "y", nemo=nemo))
    found = Registry((ours,)).stands_for("encoder", "nemo.Encoder")
    assert found is not None
    assert found.plugin is ours
    assert Registry((ours,)).stands_for("decoder", "nemo.Encoder") is None
    assert Registry((ours,)).stands_for("encoder", "os.system") is None
    with pytest.raises(DuplicateName, match=r"NeMo's 'nemo.Encoder' is claimed by both a 0\.1 and b 0\.1"):
        Registry((ours, theirs)).stands_for("encoder", "nemo.Encoder")


@pytest.mark.parametrize("name", ["fastconformer", "log_mel", "a", "a1.v12", "acme/zipformer", "acme-speech/net.v2"])
def test_names_that_are_allowed(name: str) -> None:
    assert spec("encoder", name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Conformer",
        "fast-conformer",
        "1conv",
        "_a",
        "conv.v",
        "conv.2",
        "conv.v1.v2",
        "a/b/c",
        "/a",
        "a/",
        "a b",
        "é",
        "a\n",
        "os.system",
    ],
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a component name"):
        spec("encoder", name)


@pytest.mark.parametrize(
    "target", ["", "acme.net", "acme.net:", ":Net", "acme.net:Net.build", "acme.net:Net()", "acme net:Net", "1a:B"]
)
def test_targets_that_are_refused(target: str) -> None:
    with pytest.raises(ValueError, match=r"is not of the form 'package\.module:attribute'"):
        ComponentSpec(kind="encoder", name="x", target=target, config="acme.net:Config", doc="")
    with pytest.raises(ValueError, match="is not of the form"):
        KernelSpec(op="attention", backend="triton", target=target)


def test_kinds_that_are_refused() -> None:
    with pytest.raises(ValueError, match="kind 'encoders' is not a kind; the kinds are task, preprocessor"):
        spec("encoders", "x")
    with pytest.raises(ValueError, match="is not a kind"):
        Part(key="encoder", kind="network")


def test_specs_cannot_be_changed() -> None:
    tiny = {"layers": 1}
    made = spec("encoder", "x", tiny=tiny)
    tiny["layers"] = 2
    assert made.tiny == {"layers": 1}
    with pytest.raises(TypeError):
        made.tiny["layers"] = 3  # type: ignore[index]


@pytest.mark.parametrize(("error", "builtin"), [(UnknownName, LookupError), (DuplicateName, ValueError)])
def test_errors_are_also_built_in_ones(error: type[SonantError], builtin: type[Exception]) -> None:
    assert issubclass(error, SonantError)
    assert issubclass(error, builtin)
