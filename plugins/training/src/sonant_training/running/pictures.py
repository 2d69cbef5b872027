"""When a model hears what, drawn: the likelihood of labels over time, or of the right ones over time and text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from sonant_training.running.boards import board

_MOST = 40  # labels that have a name beside the picture


class Pictures(Callback):
    """Draws the first example of each validation, once for each head with scores for every frame."""

    def on_validation_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Of the first batch of the first set, when there is something to write it into."""
        writer = board(trainer)
        if batch_idx or dataloader_idx or trainer.sanity_checking or not trainer.is_global_zero or writer is None:
            return
        if not batch.examples:
            return
        with torch.no_grad(), listening(module.losses) as heard:
            module.model.loss(batch.batch, **module.parts)
        tokenizer = getattr(module.model, "tokenizer", None)
        for key, example in heard.items():
            picture = drawn(draw(tokenizer, **example))
            writer.add_image(f"alignment/{key}", picture, trainer.global_step, dataformats="HWC")

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Have it on the disk, for those who look on."""
        writer = board(trainer)
        if writer is not None:
            writer.flush()


@contextmanager
def listening(losses: nn.ModuleDict) -> Iterator[dict[str, dict[str, Tensor]]]:
    """Keeps the first example of what the losses are given meanwhile, by their keys; of those alone that can be drawn."""
    heard: dict[str, dict[str, Tensor]] = {}

    def keep(key: str, given: Mapping[str, Any]) -> None:
        example = first(given)
        if example is not None:
            heard[key] = example

    hooks = [
        loss.register_forward_pre_hook(lambda _loss, _args, given, key=key: keep(key, given), with_kwargs=True)
        for key, loss in losses.items()
    ]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def first(given: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The first example of a batch, without its padding: `logits` `(T, V)` or `(T, U + 1, V)`, `labels` `(U,)`.

    None if the logits are not those of frames: a head may have some for each label, or a loss be given something else.
    """
    if not all(isinstance(given.get(name), Tensor) for name in ("logits", "lens", "labels", "label_lens")):
        return None
    sizes, longest, most = given["logits"].shape, int(given["lens"].max()), int(given["label_lens"].max())
    if len(sizes) not in (3, 4) or sizes[1] < longest or (len(sizes) == 4 and sizes[2] <= most):
        return None
    logits, labels = given["logits"][0], given["labels"][0, : int(given["label_lens"][0])]
    frames = logits[: int(given["lens"][0])]
    return {"logits": (frames if frames.ndim == 2 else frames[:, : len(labels) + 1]).float().cpu(), "labels": labels.cpu()}


def draw(tokenizer: Any, logits: Tensor, labels: Tensor) -> Figure:
    """A picture of one example."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    if logits.ndim == 2:
        rows = shown_labels(logits, labels)
        values, names = logits.softmax(-1)[:, rows].T, [piece(tokenizer, row, size_of(tokenizer, logits)) for row in rows]
        title, ylabel = "probability of labels", "label"
    else:
        values, names = next_label(logits, labels, tokenizer).T, [piece(tokenizer, int(i), -1) for i in labels]
        title, ylabel = "probability of the next label of the text", "label"
    image = axes.imshow(values.numpy(), aspect="auto", origin="lower", interpolation="nearest", vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(image)
    axes.set(title=title, xlabel="frame", ylabel=ylabel)
    if len(names) <= _MOST:
        axes.set_yticks(range(len(names)), names)
    return figure


def shown_labels(logits: Tensor, labels: Tensor) -> list[int]:
    """Those of the text in its order, then others that the model finds likely somewhere, the blank among them."""
    found = list(dict.fromkeys(int(label) for label in labels))
    likely = logits.argmax(-1).unique().tolist()
    return (found + [label for label in likely if label not in found])[:_MOST]


def next_label(logits: Tensor, labels: Tensor, tokenizer: Any) -> Tensor:
    """`(T, U)`: at a frame, with so many labels written, how likely the next of the text is. Durations are left out."""
    size = size_of(tokenizer, logits)
    chances = logits[:, : len(labels), :size].softmax(-1)
    return chances.gather(-1, labels[None, :, None].expand(len(logits), -1, 1))[..., 0]


def size_of(tokenizer: Any, logits: Tensor) -> int:
    """How many labels there are, with the blank, which is the last."""
    return int(getattr(tokenizer, "vocab_size", logits.shape[-1] - 1)) + 1


def piece(tokenizer: Any, label: int, size: int) -> str:
    """What a label is called."""
    if label == size - 1:
        return "blank"
    return str(tokenizer.pieces([label])[0]).replace("$", r"\$") if hasattr(tokenizer, "pieces") else str(label)


def drawn(figure: Figure) -> npt.NDArray[np.uint8]:
    """A figure's pixels, `(H, W, 3)`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
