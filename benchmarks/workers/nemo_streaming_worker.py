"""NeMo's side of `streaming.py`; runs in an environment that has NeMo."""

from __future__ import annotations

import time
from typing import Any

from nemo_worker import held, load, versions


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


ACTIONS = {"versions": versions, "load": load, "stream": stream}
