"""The name of each task says what is wrong with it; their parts are good."""

from __future__ import annotations

from good_parts import plugin as good

from sonant import ComponentSpec, Part, hookimpl

SONANT_API = 1


@hookimpl
def sonant_components():
    parts = next(spec.parts for spec in good.sonant_components() if spec.name == "spell")
    return [
        ComponentSpec(
            kind="task",
            name=f"broken/{name}",
            target="broken_tasks.task:" + name.title().replace("_", ""),
            config="good_parts.config:Empty",
            doc="A task, broken.",
            parts=(Part(key="vocoder", kind="vocoder"),) if name == "lacks_a_part" else parts,
            tiny_row={"mood": "ba"},
        )
        for name in (
            *("loses_one", "draws_anew", "cannot_be_built", "lacks_a_part", "hears_padding", "writes_samples"),
            *("lacks_a_score", "names_it_otherwise", "learns_nothing", "one_loss_for_each", "scores_one", "counts_nothing"),
        )
    ]
