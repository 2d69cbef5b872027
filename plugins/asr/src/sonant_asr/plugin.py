"""What this distribution provides. Imports nothing but `sonant`: the code behind a name is imported when it is built."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from sonant import ComponentSpec, NemoSpec, Part, hookimpl

if TYPE_CHECKING:
    import click

SONANT_API = 1

_MODELS = "nemo.collections.asr.models."
_MODULES = "nemo.collections.asr.modules."
_DECODER_SIZES = {"d_in": "encoder.d_out", "vocab_size": "tokenizer.vocab_size"}


def _task() -> ComponentSpec:
    return ComponentSpec(
        kind="task",
        name="asr",
        target="sonant_asr.recognizer.model:Recognizer",
        config="sonant_asr.recognizer.config:AsrConfig",
        doc="Speech recognition: recordings to words with times.",
        parts=(
            Part(key="preprocessor", kind="preprocessor", help="waveform to features"),
            Part(key="augmentation", kind="augmentation", required=False, help="changes features in training"),
            Part(key="tokenizer", kind="tokenizer", help="text to ids and back"),
            Part(key="encoder", kind="encoder", sizes={"d_in": "preprocessor.d_out"}, help="features to vectors"),
            Part(key="decoder", kind="decoder", sizes=_DECODER_SIZES, help="vectors to label scores"),
            Part(key="aux_decoder", kind="decoder", required=False, sizes=_DECODER_SIZES, help="a second head, as hybrids have"),
            Part(
                key="search",
                kind="search",
                required=False,
                sizes={"tokenizer": "tokenizer"},
                help="how labels are found; chosen at run time, not stored",
            ),
        ),
        nemo=NemoSpec(
            mapping="sonant_asr.recognizer.nemo:MAPPING",
            targets=(
                f"{_MODELS}ctc_models.EncDecCTCModel",
                f"{_MODELS}ctc_bpe_models.EncDecCTCModelBPE",
                f"{_MODELS}rnnt_models.EncDecRNNTModel",
                f"{_MODELS}rnnt_bpe_models.EncDecRNNTBPEModel",
                f"{_MODELS}hybrid_rnnt_ctc_models.EncDecHybridRNNTCTCModel",
                f"{_MODELS}hybrid_rnnt_ctc_bpe_models.EncDecHybridRNNTCTCBPEModel",
            ),
        ),
    )


def _decoders() -> list[ComponentSpec]:
    transducer = NemoSpec(
        mapping="sonant_asr.transducer.nemo:MAPPING", targets=(f"{_MODULES}RNNTDecoder", f"{_MODULES}rnnt.RNNTDecoder")
    )
    tiny = {"pred_hidden": 16, "joint_hidden": 24}
    return [
        ComponentSpec(
            kind="decoder",
            name="ctc",
            target="sonant_asr.ctc.model:CtcHead",
            config="sonant_asr.ctc.config:CtcConfig",
            doc="Connectionist temporal classification: one linear layer, blank last (Graves et al., 2006).",
            nemo=NemoSpec(
                mapping="sonant_asr.ctc.nemo:MAPPING", targets=(f"{_MODULES}ConvASRDecoder", f"{_MODULES}conv_asr.ConvASRDecoder")
            ),
        ),
        ComponentSpec(
            kind="decoder",
            name="rnnt",
            target="sonant_asr.transducer.model:Transducer",
            config="sonant_asr.transducer.config:RnntConfig",
            doc="Recurrent neural network transducer: prediction and joint networks (Graves, 2012).",
            tiny=tiny,
            nemo=transducer,
        ),
        ComponentSpec(
            kind="decoder",
            name="tdt",
            target="sonant_asr.transducer.model:Transducer",
            config="sonant_asr.transducer.config:TdtConfig",
            doc="Token-and-duration transducer: also predicts how many frames to skip (Xu et al., 2023).",
            tiny=tiny,
            nemo=NemoSpec(mapping="sonant_asr.transducer.nemo:MAPPING"),
        ),
    ]


def _searches() -> list[ComponentSpec]:
    return [
        ComponentSpec(
            kind="search",
            name="ctc_greedy",
            target="sonant_asr.ctc.search:CtcGreedy",
            config="sonant_asr.ctc.config:CtcGreedyConfig",
            doc="The best label of every frame, repeats and blanks removed.",
        ),
        ComponentSpec(
            kind="search",
            name="transducer_greedy",
            target="sonant_asr.transducer.search:TransducerGreedy",
            config="sonant_asr.transducer.config:TransducerGreedyConfig",
            doc="The best label at every step, batched by label looping (Bataev et al., 2024); for rnnt and tdt.",
        ),
    ]


def _tokenizers() -> list[ComponentSpec]:
    nemo = "sonant_asr.tokenizers.nemo"
    return [
        ComponentSpec(
            kind="tokenizer",
            name="sentencepiece",
            target="sonant_asr.tokenizers.sentencepiece:SentencePiece",
            config="sonant_asr.tokenizers.config:SentencePieceConfig",
            doc="Subwords by a SentencePiece model file.",
            tiny={"file": "tiny.model"},
            tiny_files="sonant_asr.tokenizers.tiny:files",
            nemo=NemoSpec(mapping=f"{nemo}:SENTENCEPIECE", targets=("bpe",)),
        ),
        ComponentSpec(
            kind="tokenizer",
            name="char",
            target="sonant_asr.tokenizers.char:Char",
            config="sonant_asr.tokenizers.config:CharConfig",
            doc="One id for each listed character.",
            tiny={"labels": [" ", "a", "b", "c"]},
            nemo=NemoSpec(mapping=f"{nemo}:CHAR", targets=("char",)),
        ),
        ComponentSpec(
            kind="tokenizer",
            name="aggregate",
            target="sonant_asr.tokenizers.aggregate:Aggregate",
            config="sonant_asr.tokenizers.config:AggregateConfig",
            doc="Several tokenizers side by side, one for each language.",
            tiny={"langs": {"en": {"name": "char", "labels": [" ", "a"]}, "de": {"name": "char", "labels": [" ", "ä"]}}},
            nemo=NemoSpec(mapping=f"{nemo}:AGGREGATE", targets=("agg",)),
        ),
    ]


@hookimpl
def sonant_components() -> Iterable[ComponentSpec]:
    return [_task(), *_decoders(), *_searches(), *_tokenizers()]


@hookimpl
def sonant_model_cards() -> Iterable[Traversable]:
    return [files("sonant_asr").joinpath("cards.yaml")]


@hookimpl
def sonant_commands(app: click.Group) -> None:
    from sonant_asr.cli import transcribe_command
    from sonant_asr.evaluation.cli import evaluate_command

    app.add_command(transcribe_command)
    app.add_command(evaluate_command)
