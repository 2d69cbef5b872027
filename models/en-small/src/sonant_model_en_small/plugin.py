"""The card of the model `en-small`, whose files lie beside this module."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable

from sonant import hookimpl

SONANT_API = 1


@hookimpl
def sonant_model_cards() -> Iterable[Traversable]:
    return [files("sonant_model_en_small").joinpath("cards.yaml")]
