"""Components of the kinds that a recognizer has, and a kernel."""

from __future__ import annotations

from importlib.resources import files

import click

from sonant import ComponentSpec, KernelSpec, Part, hookimpl

SONANT_API = 1

_SIZES = {"d_in": "encoder.d_out", "vocab_size": "tokenizer.vocab_size"}
_PARTS = (
    Part(key="preprocessor", kind="preprocessor"),
    Part(key="augmentation", kind="augmentation", required=False),
    Part(key="tokenizer", kind="tokenizer"),
    Part(key="encoder", kind="encoder", sizes={"d_in": "preprocessor.d_out"}),
    Part(key="decoder", kind="decoder", sizes=_SIZES),
)


def _spec(kind, name, cls, config="Empty", **more):
    return ComponentSpec(
        kind=kind,
        name=name,
        target=f"good_parts.{kind}:{cls}",
        config=f"good_parts.config:{config}",
        doc=f"A {kind} that keeps its promises.",
        **more,
    )


@hookimpl
def sonant_components():
    return [
        _spec("preprocessor", "blocks", "Blocks", "Blocks", tiny={"bins": 16}),
        _spec("augmentation", "mask", "Mask"),
        _spec("encoder", "running_mean", "RunningMean", "RunningMean", tiny={"width": 8}),
        _spec("encoder", "whole_mean", "WholeMean", "RunningMean", tiny={"width": 8}),
        _spec("decoder", "frames", "Frames"),
        _spec("decoder", "table", "Table"),
        _spec("decoder", "versioned", "Versioned"),
        _spec("search", "best", "Best"),
        _spec("search", "alone", "Best"),
        _spec("search", "piecewise", "Piecewise"),
        _spec("search", "versioned", "Versioned"),
        _spec("tokenizer", "letters", "Letters", "Letters"),
        _spec("tokenizer", "listed", "Listed", "Listed", tiny={"file": "words.txt"}, tiny_files="good_parts.tokenizer:files"),
        _spec("task", "spell", "Speller", parts=_PARTS),
        _spec("task", "learn_to_spell", "LearningSpeller", parts=_PARTS, tiny_row={"mood": "ba"}),
        _spec("task", "embed", "Embedder", parts=_PARTS),
    ]


@hookimpl
def sonant_kernels():
    here = {"op": "good_scan", "target": "good_parts.kernel:scan"}
    return [
        KernelSpec(**here, backend="plain", doc="A loop."),
        KernelSpec(
            op="good_scan", backend="fast", target="good_parts.fast_kernel:scan", requires=("cuda", "triton"), doc="Blocks of it."
        ),
    ]


@hookimpl
def sonant_model_cards():
    return [files("good_parts").joinpath("cards.yaml")]


@hookimpl
def sonant_commands(app):
    @app.group("good", help="Good deeds.")
    def good():
        pass

    @good.command()
    def deed():
        """Do one."""
        click.echo("done")
