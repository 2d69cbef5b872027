"""From how sure a head was at every step of a search to how sure it is of every token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from sonant_asr.confidence.config import ConfidenceConfig
from sonant_asr.confidence.measures import aggregate


@frozen
class Step:
    """A step of a search: the frame, the label taken there, maybe the blank, and how sure the head was."""

    frame: int
    label: int
    confidence: float


def ctc_tokens(steps: Iterable[Step], blank: int, config: ConfidenceConfig, last: int | None = None) -> tuple[float, ...]:
    """A token counts the frames at which it is seen in a row, and with blanks those up to the next token.

    `last` is the label of the frame before the first; frames that go on with its token count for none here.
    """
    before = blank if last is None else last
    groups: list[list[float]] = []
    for step in steps:
        if step.label not in (blank, before):
            groups.append([step.confidence])
        elif groups and (step.label != blank or not config.exclude_blank):
            groups[-1].append(step.confidence)
        before = step.label
    return _aggregated(groups, config)


def transducer_tokens(steps: Iterable[Step], blank: int, config: ConfidenceConfig, family: str) -> tuple[float, ...]:
    """A token counts its own step, and with blanks those up to the next token; for RNN-T, as in NeMo, without the one that leaves
    the token's own frame."""
    groups: list[list[float]] = []
    frame = -1
    for step in steps:
        if step.label != blank:
            groups.append([step.confidence])
            frame = step.frame
        elif groups and not config.exclude_blank and (family == "tdt" or step.frame > frame):
            groups[-1].append(step.confidence)
    return _aggregated(groups, config)


def _aggregated(groups: Sequence[Sequence[float]], config: ConfidenceConfig) -> tuple[float, ...]:
    return tuple(aggregate(group, config.aggregation) for group in groups)
