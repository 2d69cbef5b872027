"""`registry.yaml` says what the plugins of this repository say, and its cards claim no more than was seen."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from sonant import index, registry
from sonant.cards import ModelCard, read_cards
from sonant.errors import UnknownName
from sonant.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "make_registry.py"
CARDS = read_cards(index.packaged(), "registry.yaml")
PUBLISHED = {name: card for name, card in CARDS.items() if not card.source.package}  # of the others, the weights lie here

WANTED = {
    "parakeet-tdt-0.6b-v2",
    "parakeet-tdt-0.6b-v3",
    "parakeet-tdt-1.1b",
    "parakeet-tdt_ctc-110m",
    "parakeet-ctc-0.6b",
    "parakeet-ctc-1.1b",
    "parakeet-rnnt-0.6b",
    "parakeet-rnnt-1.1b",
    "stt_en_conformer_ctc_small",
    "stt_en_fastconformer_ctc_large",
    "stt_en_fastconformer_hybrid_large_pc",
}


def test_index_is_up_to_date() -> None:
    generated = runpy.run_path(str(SCRIPT))["content"]()
    packaged = (ROOT / "core" / "src" / "sonant" / "registry.yaml").read_text("utf-8")
    assert packaged == generated, "registry.yaml differs from what the plugins declare: run python scripts/make_registry.py"


def test_index_at_the_root_is_the_packaged_one() -> None:
    assert (ROOT / "registry.yaml").is_symlink()
    packaged = ROOT / "core" / "src" / "sonant" / "registry.yaml"
    assert (ROOT / "registry.yaml").resolve() == packaged
    assert not packaged.is_symlink()  # wheels and sdists need a real file


def test_every_component_of_the_index_is_explained_without_its_plugin() -> None:
    nothing_installed = Registry(())
    for kind, names in index.packaged()["components"].items():
        for name, distribution in names.items():
            with pytest.raises(UnknownName, match=f"pip install {distribution}"):
                nothing_installed.get(kind, name)
            assert registry.current().get(kind, name).plugin.distribution == distribution


def test_wanted_checkpoints_have_cards() -> None:
    assert CARDS.keys() >= WANTED


@pytest.mark.parametrize("card", PUBLISHED.values(), ids=PUBLISHED.keys())
def test_card_of_a_published_checkpoint(card: ModelCard) -> None:
    assert card.source.hf == f"nvidia/{card.name}"
    assert card.source.file == f"{card.name}.nemo"
    assert card.origin == f"https://huggingface.co/{card.source.hf}"
    assert card.languages
    assert all(len(language) == 2 for language in card.languages)
    assert {"sonant-asr", "sonant-encoders", "sonant-features"} == set(card.requires)
    registry.current().get("task", card.task)


@pytest.mark.parametrize("card", PUBLISHED.values(), ids=PUBLISHED.keys())
def test_no_card_claims_what_nobody_saw(card: ModelCard) -> None:
    """A checksum or size without the revision it was read from would be made up."""
    assert card.source.revision is not None or (card.source.sha256 is None and card.source.size is None)
