"""Config of the encoder."""

from __future__ import annotations

from attrs import field, frozen


@frozen(kw_only=True)
class EBranchformerConfig:
    """E-Branchformer (Kim et al., 2022) with rotary positions."""

    n_layers: int = field(default=12, metadata={"help": "layers"})
    d_model: int = field(default=256, metadata={"help": "width"})
    n_heads: int = field(default=4, metadata={"help": "attention heads; twice as many must divide d_model"})
    d_ff: int = field(default=1024, metadata={"help": "width inside the feed-forward modules"})
    d_gate: int = field(default=1536, metadata={"help": "width inside the convolutional branch, even"})
    kernel_size: int = field(default=31, metadata={"help": "frames of the convolutional branch, odd"})
    merge_kernel_size: int = field(default=31, metadata={"help": "frames of the convolution that merges the branches, odd"})
    dropout: float = field(default=0.1, metadata={"help": "in every module"})

    def __attrs_post_init__(self) -> None:
        if self.d_model % (2 * self.n_heads):
            raise ValueError(f"d_model {self.d_model} is not a multiple of 2 n_heads = {2 * self.n_heads}")
        if self.d_gate % 2:
            raise ValueError(f"d_gate {self.d_gate} is odd; one half of it gates the other")
        for name in ("kernel_size", "merge_kernel_size"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name} {getattr(self, name)} is even; it must be odd to have a middle")
