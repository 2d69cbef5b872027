"""What training needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Loss(Protocol):
    """How wrong a model is. Its docstring states the reduction: a sum or a mean, and over what.

    Built with `vocab_size`, the number of labels, and `decoder`, the head that it measures, if it declares these. Its call
    declares by name those it needs of: what the decoder's `forward` returns (`logits`, or the names of its dict), `lens` `(B,)`,
    `labels` `(B, U)` int64, `label_lens` `(B,)`.
    A regression declares `pred` `(B, T, F)`, `target` `(B, T, F)` and `lens` `(B,)`.
    """

    def __call__(self, **named: Tensor) -> Tensor:
        """A scalar, lower being better, with a gradient for what the model computed."""
        ...


@runtime_checkable
class Optimizer(Protocol):
    """Moves parameters against their gradients: a `torch.optim.Optimizer`.

    Built as `target(config, *, params)`. `params` is a list of parameters, or of groups: dicts with `params` and the options, as
    `lr`, that hold for these alone. `target` may be a class or a function.
    """

    param_groups: list[dict[str, Any]]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. `closure`, where given, computes the gradients and returns the loss."""
        ...

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a run which goes on later needs: tensors and plain values."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        ...


@runtime_checkable
class Scheduler(Protocol):
    """The learning rate of every step, as `torch.optim.lr_scheduler.LRScheduler`.

    Built as `target(config, *, optimizer, max_steps)`, which sets the learning rates of the first step. `optimizer` has the
    learning rates of its own config in its groups, `max_steps` is the length of the run. Stepped once after each step of the
    optimizer, and possibly beyond `max_steps`.
    """

    def step(self) -> None:
        """Write the learning rates of the next step into the optimizer's groups."""
        ...

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group now."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a run which goes on later needs: tensors and plain values."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        ...
