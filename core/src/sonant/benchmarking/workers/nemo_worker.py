"""NeMo's side, in an environment that has NeMo; see `serve.py`."""

from __future__ import annotations

import gc
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

held: dict[str, Any] = {}


def versions(threads: int) -> dict[str, str]:
    """Import, and say what was imported."""
    nemo = import_module("nemo")
    import_module("nemo.collections.asr.models")
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    return {"name": f"nemo {nemo.__version__}", "torch": torch.__version__}


def load(file: str, dtype: str, device: str) -> int:
    """Open a checkpoint; how many parameters it has."""
    import torch

    held.clear()
    gc.collect()
    model = import_module("nemo.collections.asr.models").ASRModel.restore_from(file, map_location=device).eval()
    held["model"] = model if dtype == "float32" else model.to(getattr(torch, dtype))
    return sum(p.numel() for p in model.parameters())


def encoder(batches: list[str], output: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Features from files, each a batch, to frames."""
    import torch

    module = held["model"].encoder
    first = next(module.parameters())
    given = []
    for file in batches:
        arrays = np.load(file)
        feats = torch.from_numpy(arrays["x"]).to(first.device, first.dtype).transpose(1, 2).contiguous()
        given.append((feats, torch.from_numpy(arrays["lens"]).to(first.device)))

    def run() -> Any:
        return [module(audio_signal=feats, length=lens) for feats, lens in given]

    def keep(found: Any) -> None:
        arrays = {f"x{n}": enc.transpose(1, 2).float().cpu().numpy() for n, (enc, _) in enumerate(found)}
        np.savez(output, **arrays, **{f"lens{n}": lens.cpu().numpy() for n, (_, lens) in enumerate(found)})

    return run, keep


def decoder(batches: list[str]) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Frames from files, each a batch, to texts."""
    import torch

    model = held["model"]
    first = next(model.encoder.parameters())
    given = []
    for file in batches:
        arrays = np.load(file)
        enc = torch.from_numpy(arrays["x"]).to(first.device, first.dtype).transpose(1, 2).contiguous()
        given.append((enc, torch.from_numpy(arrays["lens"]).to(first.device)))

    def transducer(enc: Any, lens: Any) -> Any:
        return model.decoding.rnnt_decoder_predictions_tensor(encoder_output=enc, encoded_lengths=lens)

    def ctc(enc: Any, lens: Any) -> Any:
        scores = model.decoder(encoder_output=enc)
        return model.decoding.ctc_decoder_predictions_tensor(decoder_outputs=scores, decoder_lengths=lens)

    if hasattr(model, "prompt_kernel"):
        raise NotImplementedError("NeMo tells the frames a language on the way, which is not part of its decoder")
    if hasattr(model, "joint"):
        decode = transducer
    elif hasattr(model.decoding, "ctc_decoder_predictions_tensor"):
        decode = ctc
    else:
        raise NotImplementedError(f"{type(model).__name__} of NeMo does not decode frames by themselves")
    return lambda: [h for enc, lens in given for h in decode(enc, lens)], lambda found: [h.text for h in found]


def memory(files: list[str], batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Samples in memory to texts."""
    import soundfile

    return _transcribing([soundfile.read(file, dtype="float32")[0] for file in files], batch)


def files(files: list[str], batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Recordings to texts."""
    return _transcribing(files, batch)


def _transcribing(audio: list[Any], batch: int) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    model = held["model"]
    return lambda: model.transcribe(audio, batch_size=batch, verbose=False), lambda found: [h.text for h in found]


ACTIONS = {"versions": versions, "load": load}
STAGES = {"encoder": encoder, "decoder": decoder, "memory": memory, "files": files}
