"""NeMo's side of a side-by-side benchmark; runs in an environment that has NeMo. See `side_by_side.py`."""

from __future__ import annotations

import time
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


def stream(file: str, context: list[int]) -> dict[str, Any]:
    """Feed a recording to cache-aware steps; the seconds of each. NeMo's buffer makes the features beforehand: not counted."""
    from nemo.collections.asr.parts.utils.streaming_utils import CacheAwareStreamingAudioBuffer

    model = held["model"]
    model.encoder.set_default_att_context_size(context)
    buffer = CacheAwareStreamingAudioBuffer(model=model, online_normalization=False)
    buffer.append_audio_file(file)
    caches = model.encoder.get_initial_cache_state(batch_size=1)
    previous = predicted = texts = None
    seconds = []
    for step, (chunk, length) in enumerate(buffer):
        start = time.perf_counter()
        predicted, texts, *caches, previous = model.conformer_stream_step(
            processed_signal=chunk,
            processed_signal_length=length,
            cache_last_channel=caches[0],
            cache_last_time=caches[1],
            cache_last_channel_len=caches[2],
            keep_all_outputs=buffer.is_buffer_empty(),
            previous_hypotheses=previous,
            previous_pred_out=predicted,
            drop_extra_pre_encoded=model.encoder.streaming_cfg.drop_extra_pre_encoded if step else 0,
            return_transcription=True,
        )
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "text": getattr(texts[0], "text", texts[0])}


serve({"versions": versions, "load": load, "encode": encode, "transcribe": transcribe, "stream": stream})
