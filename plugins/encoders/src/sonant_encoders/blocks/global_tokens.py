"""Global tokens: a few frames that all others see, and that see all others, beside local attention (Beltagy et al., 2020)."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional

from sonant_encoders.blocks.linear import Linear


@frozen
class GlobalTerms:
    """What global tokens add to the attention of one layer.

    `extra` are scores `(B, H, T, G)` and values `(B, G, H, d)` of the tokens, which every query sees besides its window;
    `answers` `(B, G, H, d)` replace the attention's output at the frames `at`.
    """

    extra: tuple[Tensor, Tensor]
    answers: Tensor
    at: Tensor


class GlobalTokens(nn.Module):
    """Frames 0, spacing, 2 spacing, … as global tokens, as many of them as the recording has.

    As NeMo computes them: without positions and position biases; a token within a query's window is seen twice.

    Args:
        width: of the model.
        heads: of the attention.
        count: how many tokens.
        spacing: frames from one to the next.
        separate: whether they have projections of their own; else the attention's serve.
        bias: of those projections.
    """

    def __init__(
        self, width: int, heads: int, *, count: int, spacing: int = 1, separate: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        self.heads, self.count, self.spacing, self.separate = heads, count, spacing, separate
        if separate:
            self.query = Linear(width, width, bias=bias)
            self.key = Linear(width, width, bias=bias)
            self.value = Linear(width, width, bias=bias)

    def forward(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None, dropout: float = 0.0) -> GlobalTerms:
        """From the attention's input `(B, T, D)`, its projections `(B, T, H, d)` and the valid keys `(2, B)` (None: all).

        `dropout` is of the weights that the answers are made with, at this call.
        """
        frames = torch.arange(x.shape[1], device=x.device)
        at = frames[: self.count * self.spacing : self.spacing]
        values = v[:, at]
        if self.separate:
            q, k, v = (project(x).unflatten(-1, (self.heads, -1)) for project in (self.query, self.key, self.value))
        valid = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        if keys is not None:
            valid = (frames >= keys[0, :, None]) & (frames < keys[1, :, None])
        scores = torch.einsum("bihd,bghd->bhig", q * q.shape[-1] ** -0.5, k[:, at])
        scores = scores.masked_fill(~valid[:, None, None, at], -torch.inf)
        hidden = torch.zeros_like(valid, dtype=q.dtype).masked_fill(~valid, torch.finfo(q.dtype).min / 2)
        asking = _dealt(q[:, at], valid[:, at].sum(-1))
        answers = functional.scaled_dot_product_attention(
            asking,
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=hidden[:, None, None].expand(-1, 1, len(at), -1),
            dropout_p=dropout,
        )
        return GlobalTerms((scores, values), answers.transpose(1, 2), at)


def _dealt(q: Tensor, counts: Tensor) -> Tensor:
    """The tokens' queries `(B, G, H, d)`, of which `counts` `(B,)` exist, as `(B, H, G, d)`.

    NeMo reads them token by token and deals them out head by head, without a transposition; checkpoints with several tokens
    learned with it. One token is not affected.
    """
    batch, tokens, heads, width = q.shape
    head, token = torch.arange(heads, device=q.device)[:, None], torch.arange(tokens, device=q.device)
    order = (head * counts[:, None, None] + token).clamp(max=heads * tokens - 1)
    dealt = q.flatten(1, 2).gather(1, order.view(batch, -1, 1).expand(-1, -1, width))
    return dealt.unflatten(1, (heads, tokens))
