"""What this distribution provides. Imports no torch: the code behind a name is imported when it is built."""

from __future__ import annotations

from collections.abc import Iterable

from sonant import ComponentSpec, hookimpl

SONANT_API = 1


@hookimpl
def sonant_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="encoder",
            name="acme/depthwise",
            target="acme_speech.encoder:DepthwiseEncoder",
            config="acme_speech.config:DepthwiseConfig",
            doc="A few depthwise separable convolutions with residual connections.",
            tiny={"width": 16, "n_layers": 2},
        )
    ]
