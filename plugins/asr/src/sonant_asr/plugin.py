"""What this distribution provides. Imports nothing but `sonant`: the code behind a name is imported when it is built."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from sonant import ComponentSpec, HuggingFaceSpec, NemoSpec, Part, hookimpl

if TYPE_CHECKING:
    import click

SONANT_API = 1

_MODELS = "nemo.collections.asr.models."
_MODULES = "nemo.collections.asr.modules."
_UNTAUGHT = "it was trained without text and writes none; it is a beginning for training"
_GONE = "NeMo 3.0 has no such class any more"
_REFUSED_MODELS = {
    "EncDecMultiTalkerRNNTBPEModel": "it hears one of several speakers, and needs a diarizer that says when each of them speaks",
    "EncDecTransfModelBPE": "its Transformer decoder is of the form before Canary's, without prompts",
    "ConfidenceEnsembleModel": "it is several models in one; open each of them",
    **dict.fromkeys(
        ("SpeechEncDecSelfSupervisedModel", "EncDecMaskedTokenPredModel", "EncDecDenoiseMaskedTokenPredModel"), _UNTAUGHT
    ),
    **dict.fromkeys(("SLUIntentSlotBPEModel", "ASRWithTTSModel"), _GONE),
}
_REFUSED_DECODERS = {
    "LSTMDecoder": "heads of CTC are a linear layer here, and this one is recurrent",
    **dict.fromkeys(("RNNTDecoderJointSSL", "ConvASRDecoderReconstruction", "MultiSoftmaxDecoder"), _UNTAUGHT),
}
_OF_TRANSFORMERS = ("ParakeetForCTC", "ParakeetForRNNT", "ParakeetForTDT", "NemotronAsrStreamingForRNNT")
_DECODER_SIZES = {"d_in": "encoder.d_out", "vocab_size": "tokenizer.vocab_size", "tokenizer": "tokenizer"}


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
            Part(
                key="prompt",
                kind="encoder",
                required=False,
                sizes={"d_in": "encoder.d_out"},
                help="tells the vectors what is asked",
            ),
            Part(key="decoder", kind="decoder", sizes=_DECODER_SIZES, help="vectors to label scores"),
            Part(key="aux_decoder", kind="decoder", required=False, sizes=_DECODER_SIZES, help="a second head, as hybrids have"),
            *_aligner(),
            Part(
                key="search",
                kind="search",
                required=False,
                sizes={"tokenizer": "tokenizer"},
                help="how labels are found; chosen at run time, not stored",
            ),
        ),
        training=(
            Part(
                key="loss",
                kind="loss",
                sizes={"vocab_size": "tokenizer.vocab_size", "decoder": "decoder"},
                help="what the head's output is measured by",
            ),
            Part(
                key="aux_loss",
                kind="loss",
                required=False,
                sizes={"vocab_size": "tokenizer.vocab_size", "decoder": "aux_decoder"},
                help="the same of the second head",
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
                f"{_MODELS}aed_multitask_models.EncDecMultiTaskModel",
                f"{_MODELS}rnnt_bpe_models_prompt.EncDecRNNTBPEModelWithPrompt",
                f"{_MODELS}hybrid_rnnt_ctc_bpe_models_prompt.EncDecHybridRNNTCTCBPEModelWithPrompt",
                f"{_MODELS}asr_eou_models.EncDecRNNTBPEEOUModel",
                f"{_MODELS}asr_eou_models.EncDecHybridRNNTCTCBPEEOUModel",
            ),
            refused=_REFUSED_MODELS,
        ),
        huggingface=HuggingFaceSpec(mapping="sonant_asr.recognizer.huggingface:MAPPING", names=_OF_TRANSFORMERS),
    )


def _aligner() -> tuple[Part, ...]:
    """A second model, with a CTC head, that finds the times of the words another head wrote."""
    at = "aligner_"
    sizes = {"d_in": f"{at}encoder.d_out", "vocab_size": f"{at}tokenizer.vocab_size"}
    return (
        Part(
            key=f"{at}preprocessor", kind="preprocessor", required=False, help="of a second model, that finds the times of words"
        ),
        Part(key=f"{at}tokenizer", kind="tokenizer", required=False, help="its tokenizer"),
        Part(key=f"{at}encoder", kind="encoder", required=False, sizes={"d_in": f"{at}preprocessor.d_out"}, help="its encoder"),
        Part(key=f"{at}decoder", kind="decoder", required=False, sizes=sizes, help="its head, ctc"),
    )


def _prompts() -> list[ComponentSpec]:
    return [
        ComponentSpec(
            kind="encoder",
            name="language_prompt",
            target="sonant_asr.language_prompt.model:LanguagePrompt",
            config="sonant_asr.language_prompt.config:LanguagePromptConfig",
            doc="Behind an encoder, in the section `prompt`: tells its vectors which language to write.",
            tiny={"languages": {"auto": 0, "en": 1, "de": 2}, "num_prompts": 4},
            nemo=NemoSpec(mapping="sonant_asr.language_prompt.nemo:MAPPING", targets=("prompt_kernel",)),
        )
    ]


def _decoders() -> list[ComponentSpec]:
    transducer = NemoSpec(
        mapping="sonant_asr.transducer.nemo:MAPPING",
        targets=tuple(
            f"{_MODULES}{module}{name}" for name in ("RNNTDecoder", "StatelessTransducerDecoder") for module in ("", "rnnt.")
        ),
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
                mapping="sonant_asr.ctc.nemo:MAPPING",
                targets=(f"{_MODULES}ConvASRDecoder", f"{_MODULES}conv_asr.ConvASRDecoder"),
                refused=_REFUSED_DECODERS,
            ),
            huggingface=HuggingFaceSpec(mapping="sonant_asr.ctc.huggingface:MAPPING", names=("parakeet_ctc",)),
        ),
        ComponentSpec(
            kind="decoder",
            name="rnnt",
            target="sonant_asr.transducer.model:Transducer",
            config="sonant_asr.transducer.config:RnntConfig",
            doc="Recurrent neural network transducer: prediction and joint networks (Graves, 2012).",
            tiny=tiny,
            nemo=transducer,
            huggingface=HuggingFaceSpec(
                mapping="sonant_asr.transducer.huggingface:MAPPING",
                names=("parakeet_rnnt", "parakeet_tdt", "nemotron_asr_streaming"),
            ),
        ),
        ComponentSpec(
            kind="decoder",
            name="tdt",
            target="sonant_asr.transducer.model:Transducer",
            config="sonant_asr.transducer.config:TdtConfig",
            doc="Token-and-duration transducer: also predicts how many frames to skip (Xu et al., 2023).",
            tiny=tiny,
            nemo=NemoSpec(mapping="sonant_asr.transducer.nemo:MAPPING"),
            huggingface=HuggingFaceSpec(mapping="sonant_asr.transducer.huggingface:MAPPING"),
        ),
        ComponentSpec(
            kind="decoder",
            name="aed",
            target="sonant_asr.aed.model:AedHead",
            config="sonant_asr.aed.config:AedConfig",
            doc="Attention encoder-decoder: a Transformer that is told what to write, as Canary (Puvvada et al., 2024).",
            tiny={"d_model": 24, "n_layers": 2, "n_heads": 2, "d_ff": 32, "max_positions": 64}
            | {"transf_encoder_layers": 1, "transf_encoder_heads": 2, "transf_encoder_d_ff": 32, "prompt_format": "none"},
            nemo=NemoSpec(mapping="sonant_asr.aed.nemo:MAPPING", targets=(f"{_MODULES}transformer.get_nemo_transformer",)),
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
            name="ctc_beam",
            target="sonant_asr.ctc.beam:CtcBeam",
            config="sonant_asr.ctc.config:CtcBeamConfig",
            doc="Prefix beam search over frames (Graves and Jaitly, 2014), batched.",
        ),
        ComponentSpec(
            kind="search",
            name="transducer_greedy",
            target="sonant_asr.transducer.search:TransducerGreedy",
            config="sonant_asr.transducer.config:TransducerGreedyConfig",
            doc="The best label at every step, batched by label looping (Bataev et al., 2024); for rnnt and tdt.",
        ),
        ComponentSpec(
            kind="search",
            name="transducer_beam",
            target="sonant_asr.transducer.beam:TransducerBeam",
            config="sonant_asr.transducer.config:TransducerBeamConfig",
            doc="Batched beam search, all hypotheses a step at a time (Saon et al., 2020); for rnnt and tdt.",
        ),
        ComponentSpec(
            kind="search",
            name="transducer_maes",
            target="sonant_asr.transducer.maes:TransducerMaes",
            config="sonant_asr.transducer.config:TransducerMaesConfig",
            doc="Modified adaptive expansion search, frame by frame (Kim et al., 2020); for rnnt and tdt.",
        ),
        ComponentSpec(
            kind="search",
            name="aed_greedy",
            target="sonant_asr.aed.search:AedGreedy",
            config="sonant_asr.aed.config:AedGreedyConfig",
            doc="The best token at every step, until the one that ends a text.",
        ),
        ComponentSpec(
            kind="search",
            name="aed_beam",
            target="sonant_asr.aed.search:AedBeam",
            config="sonant_asr.aed.config:AedBeamConfig",
            doc="The best of several texts that are written side by side, token by token (beam search).",
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
            huggingface=HuggingFaceSpec(mapping="sonant_asr.tokenizers.huggingface:SENTENCEPIECE", names=("tokenizer.json",)),
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
    return [_task(), *_decoders(), *_searches(), *_tokenizers(), *_prompts()]


@hookimpl
def sonant_model_cards() -> Iterable[Traversable]:
    return [files("sonant_asr").joinpath("cards.yaml")]


@hookimpl
def sonant_commands(app: click.Group) -> None:
    from sonant_asr.cli import transcribe_command
    from sonant_asr.evaluation.cli import evaluate_command

    app.add_command(transcribe_command)
    app.add_command(evaluate_command)
