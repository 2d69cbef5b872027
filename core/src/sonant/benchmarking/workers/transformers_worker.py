"""The side of Hugging Face's transformers, in an environment that has them; see `serve.py`."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

held: dict[str, Any] = {}


def versions(threads: int) -> dict[str, str]:
    """Import, and say what was imported."""
    transformers = import_module("transformers")
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    return {"name": f"transformers {transformers.__version__}", "torch": torch.__version__}


def load(file: str, dtype: str, device: str) -> int:
    """Open a folder, by the class its config names; how many parameters it has."""
    import torch

    held.clear()
    gc.collect()
    transformers = import_module("transformers")
    (name, *_) = json.loads((Path(file) / "config.json").read_text("utf-8"))["architectures"]
    model = getattr(transformers, name).from_pretrained(file, dtype=getattr(torch, dtype)).eval().to(device)
    held.update(model=model, processor=transformers.AutoProcessor.from_pretrained(file))
    return sum(p.numel() for p in model.parameters())


def encoder(batches: list[str], output: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Features from files, each a batch, to frames."""
    import torch

    module = held["model"].encoder
    first = next(module.parameters())
    given = []
    for file in batches:
        arrays = np.load(file)
        feats, lens = torch.from_numpy(arrays["x"]).to(first.device, first.dtype), torch.from_numpy(arrays["lens"])
        given.append((feats, (torch.arange(feats.shape[1]) < lens[:, None]).to(first.device)))

    def run() -> Any:
        return [module(input_features=feats, attention_mask=mask) for feats, mask in given]

    def keep(found: Any) -> None:
        np.savez(output, **{f"x{n}": one.last_hidden_state.float().cpu().numpy() for n, one in enumerate(found)})

    return run, keep


def decoder(batches: list[str]) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Not offered."""
    raise NotImplementedError("transformers encodes and decodes in one call")


def memory(files: list[str], batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Samples in memory to texts."""
    sounds = [_read(file) for file in files]
    return lambda: _transcribe(sounds, batch), list


def files(files: list[str], batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Recordings to texts."""
    return lambda: _transcribe([_read(file) for file in files], batch), list


def _read(file: str) -> Any:
    import soundfile

    return soundfile.read(file, dtype="float32")[0]


def _transcribe(sounds: list[Any], batch: int) -> list[str]:
    model, processor = held["model"], held["processor"]
    rate, texts = processor.feature_extractor.sampling_rate, []
    for start in range(0, len(sounds), batch):
        given = processor(sounds[start : start + batch], sampling_rate=rate, return_tensors="pt")
        found = model.generate(**given.to(model.device, dtype=model.dtype))
        texts += processor.batch_decode(getattr(found, "sequences", found), skip_special_tokens=True)
    return texts


ACTIONS = {"versions": versions, "load": load}
STAGES = {"encoder": encoder, "decoder": decoder, "memory": memory, "files": files}
