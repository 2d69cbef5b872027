"""A recognizer as graphs for other runtimes, with the names and layouts of NeMo's own exports: what runs those runs these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sonant.errors import ConfigError
from sonant.exporting import Export, Graph
from sonant_asr.ctc.model import CtcHead
from sonant_asr.transducer.model import Transducer
from sonant_asr.transducer.prediction import Prediction

_BATCH, _FRAMES = 3, 203  # of the examples; odd, so that nothing comes out even by chance


class Encode(nn.Module):
    """Features `(B, F, T)`, `(B,)` to encoder output `(B, D, T')`, `(B,)`."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        enc, lens = self.encoder(audio_signal.transpose(1, 2), length)
        return enc.float().transpose(1, 2), lens


class LogProbabilities(nn.Module):
    """Features `(B, F, T)`, `(B,)` to log-probabilities `(B, T', V + 1)` of labels and blank, `(B,)`."""

    def __init__(self, encoder: nn.Module, head: CtcHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        enc, lens = self.encoder(audio_signal.transpose(1, 2), length)
        return self.head(enc).float().log_softmax(-1), lens


class DecodeAndJoin(nn.Module):
    """One step of a transducer: encoder frames `(B, D, T)`, the last label `(B, 1)` (the blank at the start) and its number
    `(B,)`, and the state `(L, B, P)` twice, to logits `(B, T, 1, V + 1 + durations)`, that number, and the next state."""

    def __init__(self, head: Transducer) -> None:
        super().__init__()
        self.head = head

    def forward(
        self, encoder_outputs: Tensor, targets: Tensor, target_length: Tensor, input_states_1: Tensor, input_states_2: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See the class."""
        pred, (hidden, cell) = self.head.prediction.one(targets[:, 0].long(), (input_states_1, input_states_2))
        logits = self.head.joint(encoder_outputs.transpose(1, 2), pred[:, None])
        return logits, target_length.clone(), hidden, cell


def of(model: Any, decoder: str | None = None) -> Export:
    """The graphs of a recognizer: of a CTC head one, of a transducer `encoder` and `decoder_joint`.

    Raises:
        ConfigError: the head is of another kind, or there is none of that family.
    """
    if decoder is not None and decoder not in model.decoders:
        raise ConfigError(f"decoder={decoder!r}: this model has {' and '.join(model.decoders)}")
    head = model.decoder if decoder is None else model.decoders[decoder]
    if getattr(model, "prompt", None) is not None:
        raise ConfigError("a recognizer that is told the language or task between encoder and head cannot be exported yet")
    if isinstance(head, CtcHead):
        found = {"": _of_features(LogProbabilities(model.encoder, head), model, ("logprobs", "encoded_lengths"))}
    elif isinstance(head, Transducer) and isinstance(head.prediction, Prediction):
        encoder = _of_features(Encode(model.encoder), model, ("outputs", "encoded_lengths"))
        found = {"encoder": encoder, "decoder_joint": _decoder_joint(head)}
    else:
        what = (
            "a stateless prediction network"
            if isinstance(head, Transducer)
            else f"{type(head).__name__}, a head of family {head.family!r}"
        )
        raise ConfigError(f"this model has {what}; CTC heads and transducers with an LSTM can be exported")
    return Export(graphs=found, facts=_facts(model, head))


def _of_features(module: nn.Module, model: Any, outputs: tuple[str, ...]) -> Graph:
    return Graph(
        module=module,
        inputs={
            "audio_signal": torch.randn(_BATCH, model.preprocessor.d_out, _FRAMES),
            "length": torch.tensor([_FRAMES, _FRAMES - 50, _FRAMES // 2]),
        },
        axes={"audio_signal": {0: "batch", 2: "frames"}, "length": {0: "batch"}},
        outputs=outputs,
    )


def _decoder_joint(head: Transducer) -> Graph:
    assert isinstance(head.prediction, Prediction)
    lstm = head.prediction.lstm
    state = torch.zeros(lstm.num_layers, _BATCH, lstm.hidden_size, dtype=head.joint.enc.weight.dtype)
    return Graph(
        module=DecodeAndJoin(head),
        inputs={
            "encoder_outputs": torch.randn(_BATCH, head.d_in, 7, dtype=state.dtype),
            "targets": torch.full((_BATCH, 1), head.blank, dtype=torch.int32),
            "target_length": torch.ones(_BATCH, dtype=torch.int32),
            "input_states_1": state,
            "input_states_2": state.clone(),
        },
        axes={
            "encoder_outputs": {0: "batch", 2: "encoder_frames"},
            "targets": {0: "batch"},
            "target_length": {0: "batch"},
            "input_states_1": {1: "batch"},
            "input_states_2": {1: "batch"},
        },
        outputs=("outputs", "prednet_lengths", "output_states_1", "output_states_2"),
    )


def _facts(model: Any, head: Any) -> Mapping[str, Any]:
    """What it takes to make the features and to read the labels."""
    tokenizer = model.tokenizer
    facts = {
        "task": "asr",
        "family": head.family,
        "sample_rate": model.sample_rate,
        "features": model.blueprint.config.parts["preprocessor"].to_dict(),
        "feature_size": int(model.preprocessor.d_out),
        "feature_rate": float(model.preprocessor.frame_rate),
        "subsampling": int(model.encoder.subsampling),
        "blank": int(head.blank),
        "vocabulary": tokenizer.pieces(range(tokenizer.vocab_size)),
    }
    return facts | ({"durations": list(head.durations)} if getattr(head, "durations", ()) else {})
