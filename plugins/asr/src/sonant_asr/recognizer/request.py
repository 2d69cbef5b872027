"""What one call of a recognizer asks."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from sonant.protocols import Search
from sonant_asr.alignment.model import Aligner
from sonant_asr.confidence.asking import aggregation_of
from sonant_asr.long.encoding import LongEncoding
from sonant_asr.recognizer import prompt as prompts
from sonant_asr.recognizer.prompt import Prompt
from sonant_asr.recognizer.text import Level


@frozen(kw_only=True)
class Request:
    """What one call asks, looked up once, and the same for all its batches.

    Attributes:
        head: the one of the model's heads that is read.
        search: what reads it.
        long: how recordings are encoded that are too long to be treated like others.
        level: how fine the times of words are; None is without.
        prompt: what is asked of a model that takes prompts.
        takes_prompts: what is told the prompts, if anything is.
        aligner: a second model that finds the times of what the head wrote, where the head cannot tell them well.
    """

    head: Any
    search: Search
    long: LongEncoding
    level: Level | None = None
    prompt: Prompt = field(factory=Prompt)
    takes_prompts: Any = None
    aligner: Aligner | None = None

    @property
    def own_level(self) -> Level | None:
        """How fine the times are that the head itself tells."""
        return None if self.aligner is not None else self.level

    @property
    def timed_prompt(self) -> Prompt:
        """The prompt, and that times are written, where the head is to tell them."""
        return prompts.timed(self.head, self.prompt, self.own_level)

    @property
    def aggregation(self) -> str:
        """How the confidences of a word's tokens become one."""
        return aggregation_of(self.search)
