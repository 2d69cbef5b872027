"""What the files of a model are called, on disk and in an archive."""

from __future__ import annotations

from typing import Final

FOLDER_CONFIG: Final = "config.yaml"
FOLDER_WEIGHTS: Final = "model.safetensors"
NEMO_CONFIG: Final = "model_config.yaml"
NEMO_WEIGHTS: Final = "model_weights.ckpt"
HF_CONFIG: Final = "config.json"
HF_WEIGHTS: Final = "model.safetensors"
HF_INDEX: Final = "model.safetensors.index.json"
HF_PREPROCESSOR: Final = "preprocessor_config.json"
HF_PROCESSOR: Final = "processor_config.json"
PROVENANCE: Final = "sonant"
"""The section of a folder's config that says where the model came from."""
LICENSE_FILES: Final = ("LICENSE", "LICENSE.md", "LICENSE.txt", "COPYING")
CONFIG_SUFFIXES: Final = (".yaml", ".yml")
