"""What a trainable task is given, and what it tells of how well it does. Training itself is a plugin's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from sonant.audio import Samples


@frozen(kw_only=True, eq=False)
class Example:
    """One labelled recording.

    `samples` are mono float32 `(N,)` at the model's rate, augmented already. `row` is what the manifest says of it (`text`,
    `lang`, `speaker`, …), `name` what it is called in messages.
    """

    samples: Samples
    row: Mapping[str, Any]
    name: str


@frozen(kw_only=True)
class Score:
    """How well a model did on one example.

    `counts` are by measure, as `wer`: how much is wrong, and of how much. The rate of many examples is the sum of the first over
    the sum of the second.
    """

    name: str
    counts: Mapping[str, tuple[float, float]] = field(factory=dict)
    reference: str = ""
    result: str = ""
