"""One component of every kind that the contract knows how to call, and a loss, which it only builds."""

from __future__ import annotations

from sonant import ComponentSpec, Part, hookimpl

SONANT_API = 1

_SIZES = {"d_in": "encoder.d_out", "vocab_size": "tokenizer.vocab_size"}


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
        _spec("decoder", "asks_speakers", "AsksSpeakers"),
        _spec("search", "best", "Best"),
        _spec("search", "alone", "Best"),
        _spec("tokenizer", "letters", "Letters", "Letters"),
        _spec("tokenizer", "listed", "Listed", "Listed", tiny={"file": "words.txt"}, tiny_files="good_parts.tokenizer:files"),
        _spec("tokenizer", "unlisted", "Listed", "Listed"),
        _spec("loss", "zero", "Zero"),
        _spec(
            "task",
            "spell",
            "Speller",
            parts=(
                Part(key="preprocessor", kind="preprocessor"),
                Part(key="augmentation", kind="augmentation", required=False),
                Part(key="tokenizer", kind="tokenizer"),
                Part(key="encoder", kind="encoder", sizes={"d_in": "preprocessor.d_out"}),
                Part(key="decoder", kind="decoder", sizes=_SIZES),
            ),
        ),
        _spec("task", "speak", "Speller", parts=(Part(key="vocoder", kind="vocoder"),)),
    ]
