"""Makes `streaming.json`: what NeMo 3.0's cache-aware streaming steps find. Runs in NeMo's environment, not in ours:

    python plugins/asr/tests/data/make_streaming.py

The streaming checkpoints in `tests/nemo-cases` hear its two recordings, and one behind the other, each alone, with every
look-ahead that they were made with. NeMo's buffer takes one frame of padding for a part of each recording: `SAMPLES` of them are
heard, so many that this makes no difference. Everything is float32 on a CPU. Made with nemo-toolkit 3.0.0 and torch 2.13.0.
"""

import json
from pathlib import Path

import nemo
import numpy as np
import soundfile
import torch
from nemo.collections.asr.models import ASRModel
from nemo.collections.asr.parts.utils.streaming_utils import CacheAwareStreamingAudioBuffer
from omegaconf import open_dict

HERE = Path(__file__).resolve().parent
CASES = HERE.parents[3] / "tests" / "nemo-cases"
NAMES = ["fastconformer_streaming_ctc_bpe", "fastconformer_streaming_rnnt_bpe", "eou_rnnt_bpe"]
SAMPLES = {"a": 47051, "b": 20800, "ab": 67840}


def stream(model, samples):
    """The text and, of a transducer, the tokens and their frames."""
    buffer = CacheAwareStreamingAudioBuffer(model=model, online_normalization=False)
    buffer.append_audio(samples, stream_id=-1)
    caches = model.encoder.get_initial_cache_state(batch_size=1)
    previous = predicted = texts = None
    for step, (chunk, length) in enumerate(buffer):
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
    found = {"text": getattr(texts[0], "text", texts[0])}
    if previous:
        found |= {"tokens": [int(n) for n in previous[0].y_sequence], "frames": [int(n) for n in previous[0].timestamp]}
    return found


@torch.inference_mode()
def main():
    recordings = {name: soundfile.read(CASES / f"{name}.wav", dtype="float32")[0] for name in "ab"}
    recordings["ab"] = np.concatenate([recordings["a"], recordings["b"]])
    rows = []
    for name in NAMES:
        model = ASRModel.restore_from(str(CASES / f"{name}.nemo"), map_location="cpu").eval()
        with open_dict(model.cfg.decoding) as decoding:
            decoding.compute_timestamps = False  # streaming steps fail with it
        model.change_decoding_strategy(model.cfg.decoding, verbose=False)
        for context in model.encoder.att_context_size_all:
            model.encoder.set_default_att_context_size(context)
            for audio, samples in recordings.items():
                row = {"model": name, "context": list(context), "audio": audio, "samples": SAMPLES[audio]}
                rows.append(row | stream(model, samples[: SAMPLES[audio]]))
    versions = {"nemo": nemo.__version__, "torch": torch.__version__}
    lines = ",\n".join(json.dumps(row) for row in rows)
    (HERE / "streaming.json").write_text(f'{{"versions": {json.dumps(versions)}, "rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
