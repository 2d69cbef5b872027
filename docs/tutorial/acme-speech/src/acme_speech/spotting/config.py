"""Config of the task `acme/keyword_spotting`."""

from __future__ import annotations

from attrs import field, frozen


@frozen(kw_only=True)
class KeywordSpottingConfig:
    """Which words to look for, and when one counts as heard."""

    keywords: list[str] = field(metadata={"help": "words as they stand in the texts to train with"})
    window: int = field(default=15, metadata={"help": "encoder frames over which a keyword's probability is averaged, odd"})
    threshold: float = field(default=0.5, metadata={"help": "averages from here on are a keyword; between 0 and 1"})

    def __attrs_post_init__(self) -> None:
        if not self.keywords or len(set(self.keywords)) < len(self.keywords):
            raise ValueError(f"keywords {list(self.keywords)}: at least one, and each only once")
        if self.window < 1 or self.window % 2 == 0:
            raise ValueError(f"window {self.window} is not a positive odd number")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold {self.threshold} is not between 0 and 1")
