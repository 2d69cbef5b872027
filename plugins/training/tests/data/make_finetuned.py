"""What NeMo makes of the `.nemo` files that Sonant writes after fine-tuning. Runs in NeMo's environment, not in ours, after
`tests/finetuned_cases.py FOLDER` in ours:

    python plugins/training/tests/data/make_finetuned.py FOLDER

Writes `finetuned.npz`, with `CASE.enc` `(B, D, T)`, `CASE.enc_len` and, of models with a CTC head, `CASE.logprobs` for the batch
of the two recordings, and `finetuned.json` with NeMo's class and what it transcribes. Made with nemo-toolkit 3.0.0 and torch
2.13.0 on a CPU, in float32 and without dither.
"""

import json
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
from nemo.collections.asr.models import ASRModel

HERE = Path(__file__).resolve().parent
AUDIO = [HERE.parents[3] / "tests" / "nemo-cases" / name for name in ("a.wav", "b.wav")]


@torch.inference_mode()
def make(path: Path) -> tuple[dict, dict]:
    model = ASRModel.restore_from(str(path), map_location="cpu").eval()
    model.preprocessor.featurizer.dither = 0.0
    waves = [torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in AUDIO]
    lens = torch.tensor([len(wave) for wave in waves])
    mel, mel_len = model.preprocessor(input_signal=torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), length=lens)
    enc, enc_len = model.encoder(audio_signal=mel, length=mel_len)
    arrays = {"enc": enc, "enc_len": enc_len}
    head = getattr(model, "ctc_decoder", None if hasattr(model, "joint") else model.decoder)
    if head is not None:
        arrays["logprobs"] = head(encoder_output=enc)
    texts = [model.transcribe([str(file)], verbose=False)[0].text for file in AUDIO]
    return arrays, {"class": type(model).__name__, "encoder": type(model.encoder).__name__, "text": texts}


if __name__ == "__main__":
    torch.set_num_threads(1)
    arrays, notes = {}, {}
    for file in sorted(Path(sys.argv[1]).glob("*.nemo")):
        found, notes[file.stem] = make(file)
        arrays |= {f"{file.stem}.{key}": value.numpy() for key, value in found.items()}
    np.savez_compressed(HERE / "finetuned.npz", **arrays)
    (HERE / "finetuned.json").write_text(json.dumps(notes, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(json.dumps(notes))
