"""One component of every kind that a recognizer does without."""

from __future__ import annotations

from sonant import ComponentSpec, hookimpl

SONANT_API = 1


def _spec(kind, name, attribute, config="Empty", **more):
    return ComponentSpec(
        kind=kind,
        name=name,
        target=f"good_kinds.{kind}:{attribute}",
        config=f"good_kinds.config:{config}",
        doc=f"A {kind} that keeps its promises.",
        **more,
    )


@hookimpl
def sonant_components():
    return [
        _spec("decoder", "a_cube", "Cube"),
        _spec("decoder", "b_pairs", "Pairs"),
        _spec("loss", "first_label", "FirstLabel"),
        _spec("loss", "lattice", "lattice"),
        _spec("loss", "weighted", "Weighted"),
        _spec("loss", "distance", "Distance"),
        _spec("optimizer", "adam", "adam", "Rate"),
        _spec("optimizer", "signs", "Signs", "Rate"),
        _spec("scheduler", "warmup", "Warmup", "Warmup"),
        _spec("vocoder", "blocks", "Blocks"),
        _spec("codec", "grid", "Grid", "Grid"),
        _spec("clusterer", "nearest", "Nearest"),
        _spec("text_frontend", "letters", "Letters"),
    ]
