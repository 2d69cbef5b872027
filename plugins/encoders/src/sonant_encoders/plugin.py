"""What this distribution provides. Imports nothing but `sonant`: the code behind a name is imported when it is built."""

from collections.abc import Iterable

from sonant import ComponentSpec, HuggingFaceSpec, KernelSpec, NemoSpec, hookimpl

SONANT_API = 1

_TINY = {"n_layers": 2, "d_model": 32, "n_heads": 4, "subsampling_conv_channels": 8, "conv_kernel_size": 9}
_STREAMING = {
    "causal_downsampling": True,
    "att_context_size": [8, 3],
    "att_context_style": "chunked_limited",
    "conv_context_size": "causal",
    "conv_norm_type": "layer_norm",
}
_BLOCKS = [
    {"filters": 16, "kernel": 5, "stride": 2, "separable": True},
    {"filters": 16, "kernel": 7, "repeat": 2, "separable": True, "residual": True, "se": True},
    {"filters": 24, "kernel": 1},
]
_ADAPTED = "adapters of convolutional encoders are not read; those of Conformers are"
_REFUSED = {
    "ParallelConvASREncoder": "convolutional blocks side by side are not provided",
    "RNNEncoder": "recurrent encoders are not provided",
    "SqueezeformerEncoder": "NeMo 3.0 has no such class any more",
    **dict.fromkeys(
        ("ConvFeatureEncoder", "Wav2VecTransformerEncoder"), "wav2vec encoders, on samples in place of features, are not provided"
    ),
    "ConvASREncoderAdapter": _ADAPTED,
    **dict.fromkeys(
        ("ConformerMultiLayerFeatureExtractor", "ConformerMultiLayerFeaturePreprocessor"), "it gives what several layers hear"
    ),
}
_KERNELS = "sonant_encoders.kernels.rel_pos_attention"


@hookimpl
def sonant_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="encoder",
            name="conformer",
            target="sonant_encoders.conformer.model:Conformer",
            config="sonant_encoders.conformer.config:ConformerConfig",
            doc="Convolution-augmented transformer with relative positions, 4 times fewer frames (Gulati et al., 2020).",
            tiny=_TINY,
            nemo=NemoSpec(mapping="sonant_encoders.conformer.nemo:MAPPING"),
        ),
        ComponentSpec(
            kind="encoder",
            name="fastconformer",
            target="sonant_encoders.conformer.model:Conformer",
            config="sonant_encoders.conformer.config:FastConformerConfig",
            doc="Conformer with depthwise subsampling to 8 times fewer frames and short kernels (Rekesh et al., 2023).",
            tiny=_TINY | _STREAMING,
            nemo=NemoSpec(
                mapping="sonant_encoders.conformer.nemo:MAPPING",
                targets=(
                    "nemo.collections.asr.modules.ConformerEncoder",
                    "nemo.collections.asr.modules.conformer_encoder.ConformerEncoder",
                    "nemo.collections.asr.modules.conformer_encoder.ConformerEncoderAdapter",
                ),
            ),
            huggingface=HuggingFaceSpec(
                mapping="sonant_encoders.conformer.huggingface:MAPPING",
                names=("parakeet_encoder", "nemotron_asr_streaming_encoder"),
            ),
        ),
        ComponentSpec(
            kind="encoder",
            name="transformer",
            target="sonant_encoders.transformer.model:Transformer",
            config="sonant_encoders.transformer.config:TransformerConfig",
            doc="Transformer encoder with sinusoidal positions, pre- or post-norm (Vaswani et al., 2017).",
            tiny={"n_layers": 2, "d_model": 32, "n_heads": 4, "subsampling_conv_channels": 8},
        ),
        ComponentSpec(
            kind="encoder",
            name="stacking_transformer",
            target="sonant_encoders.stacking_transformer.model:StackingTransformer",
            config="sonant_encoders.stacking_transformer.config:StackingTransformerConfig",
            doc="Pre-norm Transformer on stacked frames, with relative positions (Dai et al., 2019), absolute ones or none.",
            tiny={"n_layers": 2, "d_model": 32, "n_heads": 4, "qk_norm": True},
            nemo=NemoSpec(
                mapping="sonant_encoders.stacking_transformer.nemo:MAPPING",
                targets=(
                    "nemo.collections.asr.modules.TransformerEncoder",
                    "nemo.collections.asr.modules.transformer_encoder.TransformerEncoder",
                ),
            ),
        ),
        ComponentSpec(
            kind="encoder",
            name="convolutional",
            target="sonant_encoders.convolutional.model:Convolutional",
            config="sonant_encoders.convolutional.config:ConvolutionalConfig",
            doc="Convolutions over time: Jasper, QuartzNet, Citrinet (Majumdar et al., 2021), ContextNet (Han et al., 2020).",
            tiny={"blocks": _BLOCKS},
            nemo=NemoSpec(
                mapping="sonant_encoders.convolutional.nemo:MAPPING",
                targets=(
                    "nemo.collections.asr.modules.ConvASREncoder",
                    "nemo.collections.asr.modules.conv_asr.ConvASREncoder",
                ),
                refused=_REFUSED,
            ),
        ),
    ]


@hookimpl
def sonant_kernels() -> Iterable[KernelSpec]:
    return [
        KernelSpec(
            op="rel_pos_attention",
            backend="reference",
            target=f"{_KERNELS}.reference:rel_pos_attention",
            doc="The formula, step by step.",
        ),
        KernelSpec(
            op="rel_pos_attention",
            backend="sdpa",
            target=f"{_KERNELS}.sdpa:rel_pos_attention",
            rank=10,
            doc="PyTorch's fused attention with the position scores as a bias, a block of queries at a time.",
        ),
        KernelSpec(
            op="rel_pos_attention",
            backend="triton",
            target=f"{_KERNELS}.triton:rel_pos_attention",
            requires=("cuda", "triton"),
            rank=20,
            refuses=f"{_KERNELS}.triton:refuses",
            doc="On a GPU, no score in memory, by key or by distance, in either direction; without global tokens.",
        ),
    ]
