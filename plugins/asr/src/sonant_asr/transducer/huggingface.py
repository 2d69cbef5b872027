"""The prediction and joint networks of Hugging Face's `ParakeetForRNNT` and `ParakeetForTDT` as a transducer head, and back."""

from __future__ import annotations

from typing import Any

from sonant.errors import CheckpointError
from sonant.mapping import ComponentMapping, ForeignSection, Rename
from sonant_asr.transducer.config import RnntConfig


def read(section: ForeignSection) -> dict[str, Any]:
    """The head's keys of the document to ours; with durations it is a `tdt`."""
    durations = list(section.take("durations", None) or [])
    width = section.take("decoder_hidden_size", 640)
    values = {
        "name": "tdt" if durations else "rnnt",
        "pred_hidden": width,
        "joint_hidden": width,
        "pred_rnn_layers": section.take("num_decoder_layers", 2),
        "activation": section.take("hidden_act", "relu"),
        "dropout": 0.0,
        "joint_dropout": 0.0,
        "max_symbols": section.take("max_symbols_per_step", 10),
    }
    return values | ({"durations": durations} if durations else {})


def write(config: RnntConfig) -> dict[str, Any]:
    """Our config to the head's keys.

    Raises:
        CheckpointError: the networks are of other kinds or differ in width, or durations are left out.
    """
    if config.prediction != "lstm" or config.joint != "softmax":
        raise CheckpointError(
            f"Hugging Face's transducers have an LSTM and one softmax, and here prediction is {config.prediction}, joint "
            f"{config.joint}"
        )
    if list(config.durations) != list(range(len(config.durations))):
        raise CheckpointError(
            f"durations are {config.durations}, and Hugging Face's transducers take the place of each in the list for what it is"
        )
    if config.pred_hidden != config.joint_hidden:
        raise CheckpointError(
            f"Hugging Face's transducers have one width, and here pred_hidden is {config.pred_hidden}, joint_hidden "
            f"{config.joint_hidden}"
        )
    values = {
        "decoder_hidden_size": config.pred_hidden,
        "num_decoder_layers": config.pred_rnn_layers,
        "hidden_act": config.activation,
        "max_symbols_per_step": config.max_symbols,
    }
    return values | ({"durations": list(config.durations)} if config.durations else {})


MAPPING = ComponentMapping(
    read=read,
    write=write,
    tensors=(
        Rename("decoder.embedding.{}", "prediction.embed.{}"),
        Rename("decoder.lstm.{}", "prediction.lstm.{}"),
        Rename("decoder.decoder_projector.{}", "joint.pred.{}"),
        Rename("encoder_projector.{}", "joint.enc.{}"),
        Rename("joint.head.{}", "joint.out.{}"),
    ),
)
