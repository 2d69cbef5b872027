"""What this distribution provides. Imports nothing but `sonant`: the code behind a name is imported when it is built."""

from collections.abc import Iterable

from sonant import ComponentSpec, HuggingFaceSpec, NemoSpec, hookimpl

SONANT_API = 1

_NEMO = ("nemo.collections.asr.modules.", "nemo.collections.asr.modules.audio_preprocessing.")


@hookimpl
def sonant_components() -> Iterable[ComponentSpec]:
    return [
        ComponentSpec(
            kind="preprocessor",
            name="log_mel",
            target="sonant_features.log_mel.model:LogMel",
            config="sonant_features.log_mel.config:LogMelConfig",
            doc="Log-mel filterbank energies, normalized per feature: NeMo's numbers.",
            tiny={"features": 16, "n_fft": 512},
            nemo=NemoSpec(
                mapping="sonant_features.log_mel.nemo:MAPPING",
                targets=tuple(f"{module}AudioToMelSpectrogramPreprocessor" for module in _NEMO),
            ),
            huggingface=HuggingFaceSpec(
                mapping="sonant_features.log_mel.huggingface:MAPPING",
                names=("ParakeetFeatureExtractor", "NemotronAsrStreamingFeatureExtractor"),
            ),
        ),
        ComponentSpec(
            kind="augmentation",
            name="spec_augment",
            target="sonant_features.spec_augment.model:SpecAugment",
            config="sonant_features.spec_augment.config:SpecAugmentConfig",
            doc="Masks random bands, stretches and rectangles in training (Park et al., 2019; DeVries and Taylor, 2017).",
            tiny={"freq_masks": 1, "freq_width": 4, "time_masks": 1, "time_width": 0.1, "rect_masks": 1, "rect_freq": 4},
            nemo=NemoSpec(
                mapping="sonant_features.spec_augment.nemo:MAPPING",
                targets=tuple(f"{module}SpectrogramAugmentation" for module in _NEMO),
            ),
        ),
    ]
