"""Whether a gradient may stand where the logits stood."""

from __future__ import annotations

from typing import Final

from torch import Tensor

_NEEDS_NO_RESULT: Final = ("AddmmBackward0", "AddBackward0", "MmBackward0", "CatBackward0", "LinearBackward0", "MulBackward0")
_VIEWS: Final = ("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0")


def can_be_overwritten(logits: Tensor) -> bool:
    """Whether the operation that made them is known not to look at its result again on the way back."""
    made_by = logits.grad_fn
    while made_by is not None and made_by.name() in _VIEWS:
        made_by = made_by.next_functions[0][0]
    return made_by is not None and made_by.name() in _NEEDS_NO_RESULT and logits.is_contiguous()
