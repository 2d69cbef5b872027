"""The formula, cell by cell. Exact in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def transducer_loss(
    logits: Tensor,
    labels: Tensor,
    lens: Tensor,
    label_lens: Tensor,
    *,
    durations: Sequence[int] = (),
    ignored: int = 0,
    sigma: float = 0.0,
    fastemit_lambda: float = 0.0,
    reuse_logits: bool = False,
) -> Tensor:
    """See the package. Autograd finds the gradients."""
    logits = logits[..., : logits.shape[-1] - ignored]
    sizes = zip(lens.tolist(), label_lens.tolist(), strict=True)
    return torch.stack(
        [
            _utterance(logits[b, :frames, : size + 1], labels[b, :size], tuple(durations), sigma, fastemit_lambda)
            for b, (frames, size) in enumerate(sizes)
        ]
    )


def _utterance(logits: Tensor, labels: Tensor, durations: tuple[int, ...], sigma: float, fastemit: float) -> Tensor:
    """`(T, U + 1, V + 1 + D)`, `(U,)` to a scalar."""
    frames, positions, outputs = logits.shape
    scores, spans = logits.split([outputs - len(durations), len(durations)], dim=-1)
    scores, spans = scores.log_softmax(-1) - sigma, spans.log_softmax(-1)
    blank = scores[:, :, -1]
    label = scores[:, :-1].gather(-1, labels.expand(frames, -1)[..., None])[..., 0]
    label = label + fastemit * (label - label.detach())  # the same number, with more gradient

    arcs: list[tuple[int | None, int]] = list(enumerate(durations))
    moves, spelled = arcs or [(None, 1)], arcs or [(None, 0)]
    before: dict[tuple[int, int], Tensor] = {(0, 0): logits.new_zeros(())}  # alpha, of the cells that can be reached

    def arrivals(t: int, u: int) -> Iterator[Tensor]:
        for index, step in moves:
            if step > 0 and (t - step, u) in before:
                yield before[t - step, u] + blank[t - step, u] + _span(spans, t - step, u, index)
        for index, step in spelled:
            if t < frames and (t - step, u - 1) in before:
                yield before[t - step, u - 1] + label[t - step, u - 1] + _span(spans, t - step, u - 1, index)

    cells = [(t, u) for t in range(frames) for u in range(positions)] + [(frames, positions - 1)]
    for cell in cells[1:]:
        found = list(arrivals(*cell))
        if found:
            before[cell] = torch.stack(found).logsumexp(0)
    likelihood = before.get((frames, positions - 1)) if frames else None
    if likelihood is None:
        return logits.new_full((), torch.inf)
    return -(likelihood + fastemit * likelihood.detach())


def _span(spans: Tensor, t: int, u: int, index: int | None) -> Tensor | float:
    return 0.0 if index is None else spans[t, u, index]
