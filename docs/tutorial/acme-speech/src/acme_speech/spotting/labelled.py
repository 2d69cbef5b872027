"""What `acme/keyword_spotting` learns from."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from torch import Tensor


@frozen(eq=False)
class Labelled:
    """Recordings: `wav` `(B, N)`, `lens` `(B,)`, 1 for each keyword that is in one of them, else 0 `(B, K)`, and their names."""

    wav: Tensor
    lens: Tensor
    present: Tensor
    names: tuple[str, ...]

    def to(self, device: Any, **how: Any) -> Labelled:
        """The same on a device."""
        return Labelled(self.wav.to(device, **how), self.lens.to(device, **how), self.present.to(device, **how), self.names)
