"""CTC losses on layers within the encoder, in training (Lee and Watanabe, 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from sonant.errors import ConfigError
from sonant.protocols import LayeredEncoder

Layers = Sequence[tuple[Tensor, Tensor]]
"""What layers of an encoder hear, `(B, T', D)`, `(B,)` each."""


def encode(model: Any, wav: Tensor, lens: Tensor) -> tuple[Tensor, Tensor, Layers]:
    """The encoder's frames, their counts, and what is heard behind the layers that the model's `interctc` names.

    Raises:
        ConfigError: the encoder has no such layers.
    """
    layers = model.config.interctc.apply_at_layers
    if not layers:
        return *model.encode(wav, lens), ()
    encoder = _layered(model.encoder, layers)
    feats, frame_counts = model.features(wav, lens)
    enc, counts, heard = encoder.with_layers(feats, frame_counts, layers)
    for layer, (frames, _) in zip(layers, heard, strict=True):
        if frames.shape[-1] != encoder.d_out:
            raise ConfigError(
                f"task.interctc: layer {layer} of the encoder gives vectors of width {frames.shape[-1]}, and the CTC head takes "
                f"{encoder.d_out}; choose layers of that width"
            )
    return enc, counts, heard


def add(model: Any, final: Tensor, heard: Layers, of_ctc: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
    """The losses by name, `loss` being all of them together, each as heavy as the model's `interctc` says.

    `of_ctc` gives the loss of the CTC head for frames `(B, T', D)`, `(B,)`.
    """
    config = model.config.interctc
    losses = [of_ctc(*frames) for frames in heard]
    total = (1 - sum(config.loss_weights)) * final
    for weight, loss in zip(config.loss_weights, losses, strict=True):
        total = total + weight * loss
    names = [f"inter_ctc_loss_l{layer}" for layer in config.apply_at_layers]
    return {"loss": total, "final_loss": final, **dict(zip(names, losses, strict=True))}


def _layered(encoder: Any, layers: Sequence[int]) -> LayeredEncoder:
    if not isinstance(encoder, LayeredEncoder):
        raise ConfigError(
            f"task.interctc.apply_at_layers is {list(layers)}, and this encoder ({type(encoder).__name__}) cannot be heard after "
            "its layers; choose one that has with_layers, as conformer, fastconformer, transformer or convolutional, or leave "
            "interctc empty"
        )
    if max(layers) >= encoder.depth:
        raise ConfigError(f"task.interctc.apply_at_layers is {list(layers)}, and the encoder has layers 0 to {encoder.depth - 1}")
    return encoder
