"""Config of SpecAugment and Cutout."""

from __future__ import annotations

from attrs import field, frozen


@frozen(kw_only=True)
class SpecAugmentConfig:
    """How many masks of each kind, and how wide at most."""

    freq_masks: int = field(default=0, metadata={"help": "bands of features to mask"})
    freq_width: int = field(default=10, metadata={"help": "widest band, in features"})
    time_masks: int = field(default=0, metadata={"help": "stretches of frames to mask"})
    time_width: int | float = field(
        default=10, metadata={"help": "longest stretch: frames, or as a float a part of the recording"}
    )
    rect_masks: int = field(default=0, metadata={"help": "rectangles to cut out"})
    rect_time: int = field(default=5, metadata={"help": "longest rectangle, in frames"})
    rect_freq: int = field(default=20, metadata={"help": "widest rectangle, in features"})
    mask_value: float = field(default=0.0, metadata={"help": "what masked bands and stretches become; rectangles become 0"})

    def __attrs_post_init__(self) -> None:
        stripes = (self.freq_masks, self.freq_width, self.time_masks, self.time_width)
        if min(*stripes, self.rect_masks, self.rect_time, self.rect_freq) < 0:
            raise ValueError("numbers and widths of masks must not be negative")
        if isinstance(self.time_width, float) and self.time_width > 1:
            raise ValueError(f"time_width {self.time_width} is a part of the recording, at most 1.0; frames are an integer")
