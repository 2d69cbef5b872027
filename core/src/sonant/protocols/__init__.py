"""What each kind of component looks like to the others. Structural: nothing has to be inherited.

A component is built as `target(config, **sizes)`: `config` is its filled config, `sizes` are those of its keyword-only parameters
that the builder offers. The sizes a kind is offered stand at its protocol.

Shapes: `B` batch, `N` samples, `T` frames, `F` feature bins, `D` width, `U` label length, `V` vocabulary, `Q` codebooks.
Tensors are batch first and time second; lengths travel beside them as `(B,)` int64. Audio is mono
float32 in [-1, 1]. Frames at and beyond a recording's length are padding and must not change its result.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sonant.protocols.audio import (
    Augmentation,
    Encoder,
    LayeredEncoder,
    Preprocessor,
    StreamingEncoder,
    StreamingPreprocessor,
)
from sonant.protocols.labels import Decoder, Hypothesis, Search, StreamingSearch
from sonant.protocols.speakers import Clusterer
from sonant.protocols.tasks import Decoding, Exportable, Task, Trainable
from sonant.protocols.text import TextFrontend, Tokenizer
from sonant.protocols.training import Loss, Optimizer, Scheduler
from sonant.protocols.waveforms import Codec, Vocoder

__all__ = [  # noqa: RUF022 ( in the order in which they are met on the way from audio to a model)
    "BY_KIND",
    "Preprocessor",
    "StreamingPreprocessor",
    "Augmentation",
    "Encoder",
    "LayeredEncoder",
    "StreamingEncoder",
    "Tokenizer",
    "TextFrontend",
    "Hypothesis",
    "Decoder",
    "Search",
    "StreamingSearch",
    "Vocoder",
    "Codec",
    "Clusterer",
    "Loss",
    "Optimizer",
    "Scheduler",
    "Trainable",
    "Exportable",
    "Decoding",
    "Task",
]

BY_KIND: Final[Mapping[str, type]] = MappingProxyType(
    {
        "task": Task,
        "preprocessor": Preprocessor,
        "augmentation": Augmentation,
        "encoder": Encoder,
        "decoder": Decoder,
        "search": Search,
        "tokenizer": Tokenizer,
        "text_frontend": TextFrontend,
        "vocoder": Vocoder,
        "codec": Codec,
        "clusterer": Clusterer,
        "loss": Loss,
        "optimizer": Optimizer,
        "scheduler": Scheduler,
    }
)
"""The protocol of every kind."""
