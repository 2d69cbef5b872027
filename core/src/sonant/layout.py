"""What the files of a model are called, on disk and in an archive."""

from __future__ import annotations

from typing import Final

FOLDER_CONFIG: Final = "config.yaml"
FOLDER_WEIGHTS: Final = "model.safetensors"
NEMO_CONFIG: Final = "model_config.yaml"
NEMO_WEIGHTS: Final = "model_weights.ckpt"
CONFIG_SUFFIXES: Final = (".yaml", ".yml")
