"""Config of the encoder."""

from __future__ import annotations

from attrs import field, frozen


@frozen(kw_only=True)
class DepthwiseConfig:
    """Depthwise separable convolutions."""

    width: int = field(default=256, metadata={"help": "channels"})
    n_layers: int = field(default=6, metadata={"help": "blocks"})
    kernel_size: int = field(default=9, metadata={"help": "frames, odd"})
    subsampling: int = field(default=4, metadata={"help": "frames that are joined into one"})

    def __attrs_post_init__(self) -> None:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {self.kernel_size} is even; it must be odd")
