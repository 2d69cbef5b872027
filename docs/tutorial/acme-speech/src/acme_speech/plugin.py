"""What this distribution provides. Imports no torch: the code behind a name is imported when it is built."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sonant import ComponentSpec, Part, hookimpl

if TYPE_CHECKING:
    import click

SONANT_API = 1


def _encoder() -> ComponentSpec:
    return ComponentSpec(
        kind="encoder",
        name="acme/ebranchformer",
        target="acme_speech.encoder.model:EBranchformer",
        config="acme_speech.encoder.config:EBranchformerConfig",
        doc="Attention and convolution side by side in every layer, 4 times fewer frames (Kim et al., 2022).",
        tiny={"n_layers": 2, "d_model": 32, "n_heads": 4, "d_ff": 48, "d_gate": 64, "kernel_size": 7, "merge_kernel_size": 5},
    )


def _cif() -> list[ComponentSpec]:
    return [
        ComponentSpec(
            kind="decoder",
            name="acme/cif",
            target="acme_speech.cif.model:Cif",
            config="acme_speech.cif.config:CifConfig",
            doc="Continuous integrate-and-fire: weighs frames and adds them up to one vector a token (Dong and Xu, 2020).",
        ),
        ComponentSpec(
            kind="search",
            name="acme/cif_greedy",
            target="acme_speech.cif.search:CifGreedy",
            config="acme_speech.cif.config:CifGreedyConfig",
            doc="The best label of every token that fires.",
        ),
        ComponentSpec(
            kind="loss",
            name="acme/cif_loss",
            target="acme_speech.cif.loss:CifLoss",
            config="acme_speech.cif.config:CifLossConfig",
            doc="Cross entropy of the labels, and how far their number is off.",
        ),
    ]


def _keyword_spotting() -> ComponentSpec:
    return ComponentSpec(
        kind="task",
        name="acme/keyword_spotting",
        target="acme_speech.spotting.model:KeywordSpotter",
        config="acme_speech.spotting.config:KeywordSpottingConfig",
        doc="Keyword spotting: which of a few words are said in a recording, and when.",
        tiny={"keywords": ["yes", "no"], "window": 3},
        parts=(
            Part(key="preprocessor", kind="preprocessor", help="waveform to features"),
            Part(key="encoder", kind="encoder", sizes={"d_in": "preprocessor.d_out"}, help="features to vectors"),
        ),
    )


@hookimpl
def sonant_components() -> Iterable[ComponentSpec]:
    return [_encoder(), *_cif(), _keyword_spotting()]


@hookimpl
def sonant_commands(app: click.Group) -> None:
    from acme_speech.spotting.cli import spot_command

    app.add_command(spot_command)
