"""NeMo's side of a side-by-side benchmark; runs in an environment that has NeMo. See `side_by_side.py`."""

from __future__ import annotations

from typing import Any

from _serve import serve

held: dict[str, Any] = {}


def versions(threads: int) -> dict[str, str]:
    """Import, and say what was imported."""
    import nemo
    import nemo.collections.asr
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    return {"name": f"nemo {nemo.__version__}", "torch": torch.__version__}


def load(file: str, dtype: str) -> int:
    """Open a checkpoint."""
    import torch
    from nemo.collections.asr.models import ASRModel

    model = ASRModel.restore_from(file, map_location="cpu").eval()
    held["model"] = model if dtype == "float32" else model.to(getattr(torch, dtype))
    return sum(p.numel() for p in model.parameters())


def encode(seconds: int, batch: int = 1) -> list[float]:
    """Run the encoder on random features that both sides draw alike."""
    import torch

    encoder = held["model"].encoder
    dtype = next(encoder.parameters()).dtype
    torch.manual_seed(seconds)
    feats = torch.randn(batch, seconds * 100, encoder._feat_in).to(dtype)
    enc, _ = encoder(audio_signal=feats.transpose(1, 2), length=torch.full((batch,), seconds * 100))
    return enc.float().transpose(1, 2)[0, :3, :3].flatten().tolist()


def transcribe(files: list[str], batch_size: int) -> list[str]:
    """Transcribe recordings."""
    return [h.text for h in held["model"].transcribe(files, batch_size=batch_size, verbose=False)]


serve({"versions": versions, "load": load, "encode": encode, "transcribe": transcribe})
