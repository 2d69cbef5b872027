"""Model cards: names for models, where their weights are, and what was seen of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sonant import cards, index
from sonant.cards import ModelCard, ModelSource
from sonant.errors import CheckpointError, ConfigError, DuplicateName, UnknownName
from sonant.sources import locate

Install = Callable[..., Any]
Cli = Callable[..., Any]

CARD = {"task": "asr", "summary": "A model.", "source": {"hf": "acme/tiny"}}
PLUGIN = """
from pathlib import Path

from sonant import hookimpl

SONANT_API = 1


@hookimpl
def sonant_model_cards():
    return [Path(__file__).with_name("{file}")]
"""


def with_source(**source: Any) -> dict[str, Any]:
    return CARD | {"source": source}


@pytest.fixture
def registry_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a user's file of model cards."""

    def write(models: Any, name: str = "mine.yaml") -> Path:
        file = tmp_path / name
        file.write_text(yaml.safe_dump({"models": models}), "utf-8")
        return file

    return write


@pytest.fixture
def install_cards(install: Install, site: Path) -> Callable[..., None]:
    """Installs a distribution that provides model cards; `content` is the text of its file."""

    def add(distribution: str, content: str) -> None:
        file = f"{distribution}.yaml"
        (site / file).write_text(content, "utf-8")
        install(distribution, PLUGIN.format(file=file))

    return add


def test_a_card_is_filled(registry_file: Callable[..., Path]) -> None:
    source = {"hf": "acme/tiny", "revision": "abc", "file": "tiny.nemo", "sha256": "0" * 64, "size": 3}
    file = registry_file(
        {"tiny": {"task": "asr", "summary": "A model.", "source": source, "languages": ["en"], "license": "MIT"}}
    )
    assert cards.find("tiny", file) == ModelCard(
        name="tiny", task="asr", summary="A model.", source=ModelSource(**source), languages=["en"], license="MIT"
    )


@pytest.mark.parametrize(
    ("card", "wanted"),
    [
        (CARD | {"licence": "MIT"}, "models.tiny.licence: unknown key. Did you mean 'license'?"),
        (with_source(hf="acme/tiny", shaa256="0"), "models.tiny.source.shaa256: unknown key. Did you mean 'sha256'?"),
        (with_source(hf="acme/tiny", size="big"), "models.tiny.source.size: value 'big'"),
        (CARD | {"format": "onnx"}, "models.tiny.format: unknown key."),
        ({"task": "asr", "source": {"hf": "acme/tiny"}}, "models.tiny.summary: a value is required here"),
        ({"task": "asr", "summary": "A model."}, "models.tiny.source: a value is required here"),
        (with_source(), "models.tiny: source needs one of hf, url, package or file"),
        (
            with_source(hf="acme/tiny", url="https://acme.example/tiny.nemo"),
            "models.tiny: source needs one of hf, url, package or file",
        ),
        (with_source(url="https://acme.example/a", file="b.nemo"), "models.tiny: source needs one of hf, url, package or file"),
        (with_source(file="tiny.nemo", revision="abc"), "models.tiny: source.revision is the revision of a Hugging Face repo"),
        (with_source(package="acme"), "models.tiny: source.package 'acme' is not of the form package:path/inside"),
        (with_source(hf="acme/tiny", sha256="abc"), "models.tiny: source.sha256 'abc' is not 64 lower-case hexadecimal digits"),
        (
            with_source(hf="acme/tiny", file="${oc.env:HOME}"),
            "models.tiny.source.file: the interpolation '${oc.env:HOME}' is refused",
        ),
        (CARD | {"name": "other"}, "models.tiny: expected a name and below it the other fields of the card"),
        ("acme/tiny", "models.tiny: expected a name and below it the other fields of the card"),
    ],
)
def test_cards_that_are_refused(card: Any, wanted: str, registry_file: Callable[..., Path]) -> None:
    file = registry_file({"tiny": card})
    for read in (cards.find, cards.matching):
        with pytest.raises(ConfigError, match=re.escape(f"{file}: {wanted}")):
            read("tiny", file)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("model: {}", "model: unknown section; the sections are components and models"),
        ("models: [a]", "models: expected a mapping from names to cards, not a list"),
        ("models: {1: {}}", "models.1: expected a name"),
        ("- a", "holds a list, not a mapping"),
        ("models: !!python/name:os.system", "is not plain YAML"),
    ],
)
def test_files_that_are_refused(text: str, wanted: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=re.escape(wanted)):
        cards.find("tiny", file)
    with pytest.raises(ConfigError, match="cannot read the config"):
        cards.find("tiny", tmp_path / "absent.yaml")


def summary(name: str, *extra: Path) -> str | None:
    """The summary of a known model."""
    card = cards.find(name, *extra)
    return card.summary if card else None


def test_a_file_of_ones_own_adds_and_replaces(
    registry_file: Callable[..., Path], install_cards: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install_cards("acme-speech", yaml.safe_dump({"models": {"tiny": CARD | {"summary": "Theirs."}, "other": CARD}}))
    file = registry_file({"tiny": CARD | {"summary": "Mine."}, "new": CARD})
    assert (summary("tiny"), summary("other"), summary("new")) == ("Theirs.", "A model.", None)
    assert (summary("tiny", file), summary("other", file), summary("new", file)) == ("Mine.", "A model.", "A model.")
    monkeypatch.setenv("SONANT_REGISTRY", str(file))
    assert (summary("tiny"), summary("new")) == ("Mine.", "A model.")
    argument = registry_file({"tiny": CARD | {"summary": "The argument's."}}, "argument.yaml")
    assert (summary("tiny", argument), summary("new", argument)) == ("The argument's.", None)


def test_a_plugin_replaces_the_packaged(install_cards: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = {"tiny": CARD | {"summary": "Packaged."}, "small": CARD}
    monkeypatch.setattr(index, "packaged", lambda: {"components": {}, "models": packaged})
    assert summary("tiny") == "Packaged."
    install_cards("acme-speech", yaml.safe_dump({"models": {"tiny": CARD | {"summary": "Theirs."}}}))
    assert (summary("tiny"), summary("small")) == ("Theirs.", "A model.")


def test_a_name_that_two_plugins_claim(install_cards: Callable[..., None], registry_file: Callable[..., Path]) -> None:
    install_cards("acme-speech", yaml.safe_dump({"models": {"tiny": CARD, "other": CARD}}))
    install_cards("zeta-speech", yaml.safe_dump({"models": {"tiny": CARD | {"source": {"hf": "zeta/tiny"}}}}))
    assert cards.find("other") is not None
    with pytest.raises(
        DuplicateName, match=r"the model 'tiny' is registered by acme-speech 0\.1 and zeta-speech 0\.1; uninstall one"
    ):
        cards.find("tiny")
    assert [card.name for card in cards.matching("tiny")] == ["tiny"]
    assert cards.find("tiny", registry_file({"tiny": CARD})) is not None


@pytest.mark.parametrize("content", ["models: [", "models: [a]", "- a", ""])
def test_a_plugin_with_broken_cards_does_not_break_the_others(
    content: str, install_cards: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    install_cards("acme-broken", content)
    install_cards("acme-speech", yaml.safe_dump({"models": {"tiny": CARD}}))
    assert cards.find("tiny") is not None
    assert "acme-broken 0.1: its model cards cannot be used: " in caplog.text
    assert "acme-broken.yaml" in caplog.text


def test_a_broken_card_of_a_plugin_is_an_error_when_it_is_asked_for(
    install_cards: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    install_cards("acme-speech", yaml.safe_dump({"models": {"acme-broken": {"task": "asr"}, "acme-tiny": CARD}}))
    assert [card.name for card in cards.matching("acme-*")] == ["acme-tiny"]
    wanted = "acme-speech 0.1: acme-speech.yaml: models.acme-broken.summary: a value is required here"
    assert wanted in caplog.text
    with pytest.raises(ConfigError, match=re.escape(wanted)):
        cards.find("acme-broken")


def test_a_plugin_without_its_file(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("acme-broken", PLUGIN.format(file="absent.yaml"))
    assert summary("parakeet-tdt-0.6b-v2")
    assert "acme-broken 0.1: its model cards cannot be used" in caplog.text


def test_a_repo_id_finds_the_card(registry_file: Callable[..., Path]) -> None:
    models = {"tiny": with_source(hf="acme/tiny", file="tiny.nemo"), "far": with_source(url="https://acme.example/far.nemo")}
    found = cards.find("acme/tiny", registry_file(models))
    assert found is not None
    assert found.name == "tiny"
    assert cards.find("acme/huge", registry_file(models)) is None
    assert cards.find("Tiny", registry_file(models)) is None
    pinned = {"pinned": with_source(hf="nvidia/parakeet-tdt-0.6b-v2", revision="abc")}
    found = cards.find("nvidia/parakeet-tdt-0.6b-v2", registry_file(pinned))
    assert found is not None
    assert found.name == "pinned"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["acme-big", "acme-tiny", "zeta-tiny"]),
        ("tiny", ["acme-tiny", "zeta-tiny"]),
        ("acme", ["acme-big", "acme-tiny"]),
        ("acme-*", ["acme-big", "acme-tiny"]),
        ("*-big", ["acme-big"]),
        ("????-tiny", ["acme-tiny", "zeta-tiny"]),
        ("[az]*-tiny", ["acme-tiny", "zeta-tiny"]),
        ("acme-tiny", ["acme-tiny"]),
        ("tiny*", []),
        ("huge", []),
    ],
)
def test_matching(pattern: str, expected: list[str], registry_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONANT_PLUGINS", "")
    monkeypatch.setattr(cards.plugins, "installed", lambda: ())
    monkeypatch.setattr(index, "packaged", dict)
    file = registry_file({"zeta-tiny": CARD, "acme-tiny": CARD, "acme-big": CARD})
    assert [card.name for card in cards.matching(pattern, file)] == expected


def test_an_unknown_model_gets_a_suggestion(registry_file: Callable[..., Path], install: Install) -> None:
    install("acme-broken", "1 / 0")
    file = registry_file({"acme-tiny": CARD})
    with pytest.raises(UnknownName) as caught:
        locate("acme-tinny", registry=file)
    text = str(caught.value)
    assert text.startswith("'acme-tinny' is no file, folder or known model. Did you mean 'acme-tiny'? `sonant models` lists")
    assert "owner/repo" in text
    assert text.endswith("1 plugin failed to load: acme-broken (run `sonant plugins`).")
    with pytest.raises(UnknownName, match=r"^'qqqqqq' is no file, folder or known model\. `sonant models`"):
        locate("qqqqqq", registry=file)


@pytest.mark.parametrize("source", ["absent.nemo", "absent.yaml", "./absent", "/absent/model", "~/absent", Path("acme/tiny")])
def test_what_looks_like_a_path_is_not_sought_on_the_hub(source: str | Path) -> None:
    with pytest.raises(CheckpointError, match=f"there is no file or folder {re.escape(str(source))}"):
        locate(source)


def test_published_models_carry_nothing_that_nobody_saw() -> None:
    found = {card.name: card for card in cards.matching()}
    assert {"parakeet-tdt-0.6b-v2", "parakeet-tdt-0.6b-v3", "parakeet-ctc-1.1b", "stt_en_conformer_ctc_small"} <= set(found)
    for card in found.values():
        if card.source.package:  # its weights lie in this repository
            continue
        assert card.source.hf == f"nvidia/{card.name}"
        assert (card.source.sha256, card.source.size) == (None, None)
        assert card.license
        assert set(card.requires) <= {"sonant-asr", "sonant-encoders", "sonant-features"}


def test_listing_models(registry_file: Callable[..., Path], cli: Cli) -> None:
    file = registry_file({"acme-tiny": CARD | {"languages": ["en", "de"], "parameters": "1M", "license": "MIT"}})
    listed = cli("models", "acme", "--registry", file)
    assert re.fullmatch(r"acme-tiny +asr +en,de +1M +MIT +A model\.\n", listed.stdout)
    rows = json.loads(cli("models", "tiny", "--json", SONANT_REGISTRY=str(file)).stdout)
    (row,) = [row for row in rows if row["name"] == "acme-tiny"]
    assert row["source"]["hf"] == "acme/tiny"
    nothing = cli("models", "no-such-model")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "no model matches 'no-such-model'" in nothing.stderr


def test_a_file_that_a_plugins_card_names_lies_beside_the_card(
    install_cards: Callable[..., None], site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = {"task": "asr", "summary": "A model.", "source": {"file": "tiny.nemo"}}
    install_cards("acme-speech", yaml.safe_dump({"models": {"acme-tiny": card}}))
    (site / "tiny.nemo").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    assert locate("acme-tiny") == site / "tiny.nemo"


def test_a_plugins_file_of_cards_with_an_impossible_date_is_left_out(
    install_cards: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    install_cards("acme-speech", "models: {acme-tiny: {task: asr, summary: 2024-99-01}}")
    assert "parakeet-tdt-0.6b-v2" in {card.name for card in cards.matching()}
    assert "acme-speech 0.1: its model cards cannot be used" in caplog.text
