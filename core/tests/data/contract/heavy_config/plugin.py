from __future__ import annotations

from sonant import ComponentSpec, hookimpl

SONANT_API = 1


@hookimpl
def sonant_components():
    return [
        ComponentSpec(
            kind="loss", name="heavy", target="good_parts.loss:Unheard", config="heavy_config.config:Heavy", doc="A loss."
        )
    ]
