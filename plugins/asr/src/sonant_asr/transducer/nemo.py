"""NeMo's prediction and joint networks (`RNNTDecoder`, `StatelessTransducerDecoder`; `RNNTJoint`, `HATJoint`) as one transducer
head, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sonant.nemo import ComponentMapping, NemoSection, Rename
from sonant_asr.transducer.config import RnntConfig

_MODULES = "nemo.collections.asr.modules."


def _targets(name: str, module: str = "rnnt") -> tuple[str, str]:
    return f"{_MODULES}{name}", f"{_MODULES}{module}.{name}"


_STATELESS = _targets("StatelessTransducerDecoder")
_HAT = _targets("HATJoint", "hybrid_autoregressive_transducer")
_SAMPLED = _targets("SampledRNNTJoint")  # samples labels for the loss, and is otherwise an RNNTJoint


def read(section: NemoSection) -> dict[str, Any]:
    """A section that holds NeMo's `decoder`, `joint`, `durations` and `max_symbols`, to ours; durations make it a `tdt`."""
    durations = section.take("durations", None) or []
    limit = section.take("max_symbols", None)
    values = _read_decoder(section, section.section("decoder")) | _read_joint(section, section.section("joint"), len(durations))
    values |= {"max_symbols": limit} if limit is not None else {}
    return {"name": "tdt" if durations else "rnnt"} | values | ({"durations": list(durations)} if durations else {})


def _read_decoder(whole: NemoSection, decoder: NemoSection) -> dict[str, Any]:
    prediction = decoder.section("prednet")
    values = {"pred_hidden": prediction.take("pred_hidden"), "dropout": prediction.take("dropout", 0.0) or 0.0}
    if decoder.take("_target_") in _STATELESS:
        values |= {"prediction": "stateless", "context_size": decoder.take("context_size", 1)}
        values["normalization_mode"] = decoder.take("normalization_mode", None)
        prediction.drop("pred_rnn_layers", "t_max")
    else:
        values["pred_rnn_layers"] = prediction.take("pred_rnn_layers", 1)
        decoder.expect("normalization_mode", None)
        decoder.expect("blank_as_pad", True)
        # Initialization and training only: they leave no trace in what the trained network computes.
        prediction.drop("t_max", "forget_gate_bias", "weights_init_scale", "hidden_hidden_bias_scale")
        prediction.expect("rnn_hidden_size", -1, None)
    decoder.drop("random_state_sampling", "vocab_size")
    whole.dropped += decoder.finish() + prediction.finish()
    return values


def _read_joint(whole: NemoSection, joint: NemoSection, durations: int) -> dict[str, Any]:
    network = joint.section("jointnet")
    joint.drop("num_classes", "vocabulary", "log_softmax", "preserve_memory", "fuse_loss_wer", "fused_batch_size")
    joint.drop("experimental_fuse_loss_wer", "masking_prob")
    kind = joint.peek("_target_")
    if kind in _SAMPLED:
        joint.drop("n_samples")
    joint.expect("_target_", *_targets("RNNTJoint"), *_HAT, *_SAMPLED)
    joint.expect("num_extra_outputs", durations)
    values = {
        "joint": "hat" if kind in _HAT else "softmax",
        "joint_hidden": network.take("joint_hidden"),
        "activation": network.take("activation", "relu"),
        "joint_dropout": network.take("dropout", 0.0) or 0.0,
    }
    network.drop("encoder_hidden", "pred_hidden")
    whole.dropped += joint.finish() + network.finish()
    return values


def write(config: RnntConfig, d_in: int, vocabulary: list[str]) -> dict[str, Any]:
    """Our config to NeMo's `decoder`, `joint`, `loss` and `model_defaults`."""
    joint: dict[str, Any] = {
        "_target_": f"{_MODULES}{'HATJoint' if config.joint == 'hat' else 'RNNTJoint'}",
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
    decoder = _write_decoder(config) | {"vocab_size": len(vocabulary)}
    return {"decoder": decoder, "joint": joint, "loss": loss, "model_defaults": defaults}


def _write_decoder(config: RnntConfig) -> dict[str, Any]:
    prediction = {"pred_hidden": config.pred_hidden, "dropout": config.dropout}
    if config.prediction == "stateless":
        return {
            "_target_": _STATELESS[0],
            "context_size": config.context_size,
            "normalization_mode": config.normalization_mode,
            "prednet": prediction,
        }
    return {
        "_target_": f"{_MODULES}RNNTDecoder",
        "normalization_mode": None,
        "random_state_sampling": False,
        "blank_as_pad": True,
        "prednet": prediction | {"pred_rnn_layers": config.pred_rnn_layers, "t_max": None},
    }


def _tensors(section: Mapping[str, Any]) -> tuple[Rename, ...]:
    """The output layer stands behind a dropout layer in NeMo's list, if the config has any dropout there."""
    index = 2 if section.get("joint_dropout") else 1
    return (
        Rename("decoder.prediction.embed.weight", "prediction.embed.weight"),
        Rename("decoder.prediction.dec_rnn.lstm.{}", "prediction.lstm.{}"),
        Rename("decoder.prediction.embeds.{}", "prediction.embeds.{}"),
        Rename("joint.pred.{}", "joint.pred.{}"),
        Rename("joint.enc.{}", "joint.enc.{}"),
        Rename(f"joint.joint_net.{index}.{{}}", "joint.out.{}"),
        Rename("joint.blank_pred.2.{}", "joint.blank.{}"),
    )


MAPPING = ComponentMapping(read=read, write=write, tensors=_tensors)
