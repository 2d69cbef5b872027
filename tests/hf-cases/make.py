"""Make the cases of this folder: tiny random models that transformers writes, and what it computes with them.

    python tests/hf-cases/make.py

needs torch, transformers, sentencepiece and soundfile; Sonant is not used.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import sentencepiece
import soundfile
import tokenizers
import torch
import transformers
from tokenizers import AddedToken
from transformers.convert_slow_tokenizer import ParakeetConverter

HERE = Path(__file__).resolve().parent
AUDIO = [HERE.parent / "nemo-cases" / name for name in ("a.wav", "b.wav")]
PIECES = 48
CORPUS = ("the quick brown fox jumps over the lazy dog", "pack my box with five dozen liquor jugs", "front center rear left side")
TEXTS = ("front  center", " the fox ", "Fox", "jugs, liquor", "ﬁve ½ boxes", "é", "", "the\u00a0dog")
ENCODER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "subsampling_conv_channels": 4}
PLAIN = ENCODER | {"intermediate_size": 96, "num_mel_bins": 80}
WITHOUT_BIAS = ENCODER | {"intermediate_size": 48, "num_mel_bins": 40, "attention_bias": False, "convolution_bias": False}


def sentencepiece_model(rules: str, algorithm: str = "bpe") -> bytes:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=written,
        vocab_size=PIECES,
        model_type=algorithm,
        normalization_rule_name=rules,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


def tokenizer(blank: str) -> transformers.ParakeetTokenizer:
    file = HERE / "tokenizer.model"
    file.write_bytes(sentencepiece_model("identity"))
    made = transformers.ParakeetTokenizer(
        tokenizer_object=ParakeetConverter(str(file)).converted(), clean_up_tokenization_spaces=False
    )
    file.unlink()
    tokens = {"unk_token": AddedToken("<unk>", special=True), "pad_token": AddedToken(blank, normalized=False, special=True)}
    made.add_special_tokens(tokens)
    return made


def randomize(model: torch.nn.Module, scale: float) -> None:
    """Weights of a size at which layers, norms and biases all show in the result."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif name.endswith("num_batches_tracked"):
                tensor.fill_(7)
            elif "norm" in name and name.endswith("weight"):
                tensor.uniform_(0.5, 1.5)
            else:
                tensor.normal_(0.0, scale / max(1, tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.1)


def make(
    name: str, model: transformers.PreTrainedModel, decoder: str, features: int, *, streaming: bool = False, **save: object
) -> None:
    blank = "<pad>" if decoder == "ctc" else "<blank>"
    extractor = transformers.ParakeetFeatureExtractor(feature_size=features)
    if streaming:
        extractor = transformers.NemotronAsrStreamingFeatureExtractor(feature_size=features)
        processor = transformers.NemotronAsrStreamingProcessor(
            extractor, tokenizer(blank), blank_token="<blank>", supported_num_lookahead_tokens=[1, 0, 3]
        )
    else:
        processor = transformers.ParakeetProcessor(extractor, tokenizer(blank), blank_token="<blank>", decoder_type=decoder)
    folder = HERE / name
    processor.save_pretrained(folder)
    model.eval().save_pretrained(folder, **save)
    audio = [soundfile.read(path, dtype="float32")[0] for path in AUDIO]
    with torch.no_grad():
        inputs = processor(audio, sampling_rate=16000)
        inputs.pop("num_mel_frames", None)
        encoded = model.encoder(**inputs)
        found = {"mel": inputs["input_features"], "mel_len": inputs["attention_mask"].sum(-1)}
        found |= {"enc": encoded.last_hidden_state, "enc_len": encoded.attention_mask.sum(-1)}
        if decoder == "ctc":
            found["logits"] = model(**inputs).logits
        else:
            labels = torch.tensor([[3, 9, 20, 5], [7, 7, 1, 30]])
            start = torch.full((2, 1), model.config.blank_token_id)
            outputs = model.decoder(torch.cat([start, labels], dim=1))
            projected = model.encoder_projector(encoded.last_hidden_state)[:, :4]
            found |= {"targets": labels, "joint": model.joint(outputs[:, None], projected[:, :, None])}
        # one by one: in a batch, transducers go on behind the end of the shorter recordings
        sequences = [model.generate(**processor(samples, sampling_rate=16000)) for samples in audio]
    sequences = [getattr(found, "sequences", found)[0] for found in sequences]
    text = processor.batch_decode(sequences, skip_special_tokens=True)
    np.savez_compressed(folder.with_suffix(".npz"), **{key: value.numpy() for key, value in found.items()})
    (folder.with_suffix(".json")).write_text(json.dumps({"text": text}, indent=1) + "\n")
    print(name, text)


def main() -> None:
    transformers.logging.set_verbosity_error()
    blank = {"vocab_size": PIECES + 1, "pad_token_id": PIECES}
    torch.manual_seed(1)
    ctc = transformers.ParakeetForCTC(transformers.ParakeetCTCConfig(**blank, encoder_config=PLAIN))
    randomize(ctc, 1.5)
    make("parakeet_ctc", ctc, "ctc", 80)
    blank |= {"blank_token_id": PIECES, "decoder_hidden_size": 20}
    torch.manual_seed(2)
    rnnt = transformers.ParakeetForRNNT(transformers.ParakeetRNNTConfig(**blank, num_decoder_layers=2, encoder_config=PLAIN))
    tdt = transformers.ParakeetForTDT(
        transformers.ParakeetTDTConfig(
            **blank,
            num_decoder_layers=1,
            durations=[0, 1, 2, 3],
            encoder_config=WITHOUT_BIAS | {"scale_input": False},
        )
    )
    for name, model, features, save in (("rnnt", rnnt, 80, {}), ("tdt", tdt, 40, {"max_shard_size": "20KB"})):
        randomize(model, 2.5)
        with torch.no_grad():
            model.joint.head.bias[PIECES] = 9.0 if name == "rnnt" else 4.0  # random transducers hardly ever say blank
            model.joint.head.bias[0] = -9.0
        model.generation_config.decoder_start_token_id = PIECES
        if name == "tdt":  # else `generate` takes the durations for labels
            model.generation_config.suppress_tokens = list(range(PIECES + 1, PIECES + 5))
        make(f"parakeet_{name}", model, name, features, **save)
    torch.manual_seed(4)
    streaming = transformers.NemotronAsrStreamingForRNNT(
        transformers.NemotronAsrStreamingConfig(
            **blank, num_decoder_layers=1, encoder_config=PLAIN | {"sliding_window": 5, "default_num_lookahead_tokens": 1}
        )
    )
    randomize(streaming, 2.5)
    with torch.no_grad():
        streaming.joint.head.bias[PIECES], streaming.joint.head.bias[0] = 9.0, -9.0
    streaming.generation_config.decoder_start_token_id = PIECES
    make("nemotron_rnnt", streaming, "rnnt", 80, streaming=True)
    tokens = {}
    for rules in ("identity", "nmt_nfkc_cf"):
        file = HERE / "tokenizer.model"
        file.write_bytes(sentencepiece_model(rules))
        theirs = ParakeetConverter(str(file)).converted()
        tokens[rules] = [theirs.encode(text).ids for text in TEXTS]
        file.unlink()
    versions = {m.__name__: m.__version__ for m in (torch, transformers, tokenizers, sentencepiece)}
    (HERE / "cases.json").write_text(json.dumps({"made_with": versions, "texts": TEXTS, "ids": tokens}, indent=1) + "\n")


if __name__ == "__main__":
    main()
