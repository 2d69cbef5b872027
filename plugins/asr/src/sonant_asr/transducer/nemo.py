"""NeMo's `RNNTDecoder` and `RNNTJoint` as one transducer head, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.nemo import ComponentMapping, NemoSection, Rename
from sonant_asr.transducer.config import RnntConfig


def read(section: NemoSection) -> dict[str, Any]:
    """A section that holds NeMo's `decoder`, `joint` and the `durations`, to ours; durations make it a `tdt`."""
    decoder, joint = section.section("decoder"), section.section("joint")
    durations = section.take("durations", None) or []
    prediction, network = decoder.section("prednet"), joint.section("jointnet")
    decoder.expect("normalization_mode", None)
    decoder.expect("blank_as_pad", True)
    decoder.drop("random_state_sampling", "vocab_size")
    # Initialization and training only: they leave no trace in what the trained network computes.
    prediction.drop("t_max", "forget_gate_bias", "weights_init_scale", "hidden_hidden_bias_scale")
    prediction.expect("rnn_hidden_size", -1, None)
    joint.drop("num_classes", "vocabulary", "log_softmax", "preserve_memory", "fuse_loss_wer", "fused_batch_size")
    joint.drop("experimental_fuse_loss_wer", "masking_prob")
    joint.expect("_target_", "nemo.collections.asr.modules.RNNTJoint", "nemo.collections.asr.modules.rnnt.RNNTJoint")
    joint.expect("num_extra_outputs", len(durations))
    values = {
        "name": "tdt" if durations else "rnnt",
        "pred_hidden": prediction.take("pred_hidden"),
        "pred_rnn_layers": prediction.take("pred_rnn_layers", 1),
        "joint_hidden": network.take("joint_hidden"),
        "activation": network.take("activation", "relu"),
        "dropout": prediction.take("dropout", 0.0) or 0.0,
        "joint_dropout": network.take("dropout", 0.0) or 0.0,
    }
    network.drop("encoder_hidden", "pred_hidden")
    for part in (decoder, joint, prediction, network):
        section.dropped += part.finish()
    return values | ({"durations": list(durations)} if durations else {})


def write(config: RnntConfig, d_in: int, vocabulary: list[str]) -> dict[str, Any]:
    """Our config to NeMo's `decoder`, `joint`, `loss` and `model_defaults`."""
    modules = "nemo.collections.asr.modules."
    decoder = {
        "_target_": f"{modules}RNNTDecoder",
        "normalization_mode": None,
        "random_state_sampling": False,
        "blank_as_pad": True,
        "prednet": {
            "pred_hidden": config.pred_hidden,
            "pred_rnn_layers": config.pred_rnn_layers,
            "t_max": None,
            "dropout": config.dropout,
        },
        "vocab_size": len(vocabulary),
    }
    joint: dict[str, Any] = {
        "_target_": f"{modules}RNNTJoint",
        "log_softmax": None,
        "preserve_memory": False,
        "fuse_loss_wer": False,
        "jointnet": {
            "joint_hidden": config.joint_hidden,
            "activation": config.activation,
            "dropout": config.joint_dropout,
            "encoder_hidden": d_in,
            "pred_hidden": config.pred_hidden,
        },
        "num_classes": len(vocabulary),
        "vocabulary": vocabulary,
    }
    durations = list(config.durations)
    defaults = {"enc_hidden": d_in, "pred_hidden": config.pred_hidden, "joint_hidden": config.joint_hidden}
    loss: dict[str, Any] = {"loss_name": "default"}
    if durations:
        joint["num_extra_outputs"] = len(durations)
        defaults |= {"tdt_durations": durations, "num_tdt_durations": len(durations)}  # type: ignore[dict-item]
        loss = {"loss_name": "tdt", "tdt_kwargs": {"durations": durations, "sigma": 0.02, "omega": 0.1}}
    return {"decoder": decoder, "joint": joint, "loss": loss, "model_defaults": defaults}


def _tensors(section: Mapping[str, Any]) -> tuple[Rename, ...]:
    """The output layer stands behind a dropout layer in NeMo's list, if the config has any dropout there."""
    index = 2 if section.get("joint_dropout") else 1
    return (
        Rename("decoder.prediction.embed.weight", "prediction.embed.weight"),
        Rename("decoder.prediction.dec_rnn.lstm.{}", "prediction.lstm.{}"),
        Rename("joint.pred.{}", "joint.pred.{}"),
        Rename("joint.enc.{}", "joint.enc.{}"),
        Rename(f"joint.joint_net.{index}.{{}}", "joint.out.{}"),
    )


MAPPING = ComponentMapping(read=read, write=write, tensors=_tensors)
