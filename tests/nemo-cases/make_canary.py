"""Makes `canary2_aed`, and asks NeMo what it finds with it and with `canary_aed` (`NAME_searches.json`). Runs in NeMo's
environment, not in ours:

    python tests/nemo-cases/make_canary.py

`canary2_aed` is a Canary model of the second form: prompts of the format canary2, one tokenizer for all languages, Transformer
layers behind the encoder, timestamps as tokens, and `fastconformer_ctc_bpe` in the same file for forced alignment. It is overfit
to what `ANSWERS` says. Made with nemo-toolkit 3.0.0 and torch 2.13.0 on a CPU, in float32.
"""

import io
import json
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import soundfile
import torch
from nemo.collections.asr.models import EncDecMultiTaskModel
from nemo.collections.asr.parts.utils.aligner_utils import viterbi_decoding
from omegaconf import OmegaConf, open_dict

HERE = Path(__file__).resolve().parent
AUDIO = ["a.wav", "b.wav"]
MODULES = "nemo.collections.asr.modules."
WIDTH, HIDDEN = 32, 48
SPECIAL = [
    *("<|endoftext|>", "<|startoftranscript|>", "<|startofcontext|>", "<pad>", "<|nospeech|>", "<|emo:undefined|>"),
    *("<|en|>", "<|de|>", "<|pnc|>", "<|nopnc|>", "<|itn|>", "<|noitn|>", "<|timestamp|>", "<|notimestamp|>"),
    *("<|diarize|>", "<|nodiarize|>", *(f"<|{n}|>" for n in range(40))),
]
ANSWERS = [  # what is asked, and the text of each recording
    ({"target_lang": "en", "pnc": "yes"}, ["Front center, rear left.", "Side right."]),
    ({"target_lang": "en", "pnc": "no"}, ["front center rear left", "side right"]),
    ({"target_lang": "de", "pnc": "yes"}, ["Vorn Mitte, hinten links.", "Seite rechts."]),
    ({"target_lang": "de", "pnc": "no", "itn": "yes"}, ["vorn mitte hinten links", "seite rechts"]),
    (
        {"target_lang": "en", "pnc": "yes", "timestamp": "yes"},
        [
            "<|1|> Front<|6|><|7|> center,<|13|><|19|> rear<|24|><|25|> left.<|31|>",
            "<|0|> Side<|6|><|7|> right.<|12|>",
        ],
    ),
]


def tokenizer(folder: Path) -> Path:
    texts = [text for _, both in ANSWERS[:4] for text in both]
    with (folder / "tokenizer.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts * 4),
            model_writer=file,
            vocab_size=120,
            model_type="bpe",
            user_defined_symbols=SPECIAL,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    model = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    pieces = [model.IdToPiece(n) for n in range(model.GetPieceSize())]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), "utf-8")
    (folder / "tokenizer.vocab").write_text("".join(f"{piece}\t0\n" for piece in pieces), "utf-8")
    return folder


def transformer(layers: int) -> dict:
    return {
        "num_layers": layers,
        "hidden_size": HIDDEN,
        "inner_size": 64,
        "num_attention_heads": 4,
        "pre_ln": True,
        "ffn_dropout": 0.1,
        "attn_score_dropout": 0.1,
        "attn_layer_dropout": 0.1,
        "hidden_act": "relu",
    }


def config(folder: Path) -> dict:
    data = {"sample_rate": 16000, "manifest_filepath": None, "defer_setup": True}
    return {
        "sample_rate": 16000,
        "prompt_format": "canary2",
        "prompt_defaults": [{"role": "user", "slots": {"source_lang": "<|en|>", "target_lang": "<|en|>", "pnc": "<|pnc|>"}}],
        "model_defaults": {"asr_enc_hidden": WIDTH, "lm_enc_hidden": HIDDEN, "lm_dec_hidden": HIDDEN},
        "tokenizer": {
            "dir": str(folder),
            "type": "bpe",
            "custom_tokenizer": {"_target_": "nemo.collections.common.tokenizers.canary_tokenizer.CanaryBPETokenizer"},
        },
        "preprocessor": {
            "_target_": f"{MODULES}AudioToMelSpectrogramPreprocessor",
            "sample_rate": 16000,
            "normalize": "per_feature",
            "window_size": 0.025,
            "window_stride": 0.01,
            "window": "hann",
            "features": 64,
            "n_fft": 512,
            "frame_splicing": 1,
            "dither": 0.0,
            "pad_to": 0,
        },
        "encoder": {
            "_target_": f"{MODULES}ConformerEncoder",
            "feat_in": 64,
            "feat_out": -1,
            "n_layers": 1,
            "d_model": WIDTH,
            "n_heads": 4,
            "ff_expansion_factor": 2,
            "subsampling": "dw_striding",
            "subsampling_factor": 8,
            "subsampling_conv_channels": 8,
            "conv_kernel_size": 9,
        },
        "transf_encoder": {
            "_target_": f"{MODULES}transformer.transformer_encoders.TransformerEncoder",
            "mask_future": False,
            "pre_ln_final_layer_norm": True,
            **transformer(1),
        },
        "transf_decoder": {
            "_target_": f"{MODULES}transformer.get_nemo_transformer",
            "model_name": None,
            "pretrained": False,
            "encoder": None,
            "pre_ln_final_layer_norm": True,
            "config_dict": {
                "max_sequence_length": 96,
                "num_token_types": 0,
                "embedding_dropout": 0.1,
                "learn_positional_encodings": False,
                "vocab_size": None,
                **transformer(2),
            },
        },
        "head": {
            "_target_": "nemo.collections.asr.parts.submodules.token_classifier.TokenClassifier",
            "num_layers": 1,
            "activation": "relu",
            "log_softmax": True,
            "hidden_size": HIDDEN,
            "num_classes": None,
            "dropout": 0.0,
            "use_transformer_init": True,
        },
        "decoding": {
            "strategy": "beam",
            "return_best_hypothesis": True,
            "beam": {"beam_size": 1, "len_pen": 0.0, "max_generation_delta": 50},
        },
        "loss": {
            "_target_": "nemo.collections.common.losses.smoothed_cross_entropy.SmoothedCrossEntropyLoss",
            "label_smoothing": 0.0,
            "pad_id": 2,
        },
        "optim": None,
        "train_ds": data,
        "validation_ds": data,
        "test_ds": data,
    }


def prompt(model: EncDecMultiTaskModel, asked: dict) -> list[int]:
    slots = {
        "decodercontext": "",
        "emotion": "<|emo:undefined|>",
        "source_lang": "en",
        "target_lang": "en",
        "pnc": "yes",
        "itn": "no",
        "timestamp": "no",
        "diarize": "no",
    }
    turn = {"role": "user", "slots": slots | asked}
    return model.prompt.encode_dialog([turn])["context_ids"].tolist()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    waves = [torch.from_numpy(soundfile.read(HERE / name, dtype="float32")[0]) for name in AUDIO]
    return torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), torch.tensor([len(wave) for wave in waves])


def train(model: EncDecMultiTaskModel) -> None:
    wav, lens = batch()
    rows = [(n, prompt(model, asked), model.tokenizer.text_to_ids(both[n])) for asked, both in ANSWERS for n in range(2)]
    full = [begin + text + [model.tokenizer.eos_id] for _, begin, text in rows]
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in full], batch_first=True)
    keep = torch.zeros_like(ids, dtype=torch.bool)
    for n, (row, (_, begin, _)) in enumerate(zip(full, rows, strict=True)):
        keep[n, len(begin) : len(row)] = True
    which = torch.tensor([n for n, _, _ in rows])
    sizes = torch.tensor([len(row) - 1 for row in full])
    model.eval()
    with torch.no_grad():  # the encoder stays as it was drawn
        feats, feat_lens = model.preprocessor(input_signal=wav, length=lens)
        enc, enc_lens = model.encoder(audio_signal=feats, length=feat_lens)
    enc, mask = enc.transpose(1, 2), (torch.arange(enc.shape[2]) < enc_lens[:, None]).float()
    learning = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
    optimizer = torch.optim.Adam(learning, lr=3e-3)
    for step in range(1000):
        states = model.transf_encoder(encoder_states=model.encoder_decoder_proj(enc), encoder_mask=mask)[which]
        vectors = model.transf_decoder(
            input_ids=ids[:, :-1],
            decoder_mask=(torch.arange(ids.shape[1] - 1) < sizes[:, None]).long(),
            encoder_embeddings=states,
            encoder_mask=mask[which],
        )
        found = model.log_softmax(hidden_states=vectors)
        loss = torch.nn.functional.nll_loss(found[keep[:, 1:]], ids[:, 1:][keep[:, 1:]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0 or loss < 0.003:
            print(step, float(loss), flush=True)
        if loss < 0.003:
            break


def add_aligner(path: Path, aligner: Path) -> None:
    """The members of a CTC model's file, as Canary's files have them."""
    names = {"model_config.yaml": "timestamps_asr_model_config.yaml", "model_weights.ckpt": "timestamps_asr_model_weights.ckpt"}
    with tarfile.open(aligner) as source, tarfile.open(path, "a") as target:
        for member in source.getmembers():
            plain = member.name.removeprefix("./")
            if member.isfile():
                content = source.extractfile(member).read()
                entry = tarfile.TarInfo(f"./{names.get(plain, plain)}")
                entry.size = len(content)
                target.addfile(entry, io.BytesIO(content))


def set_search(model: EncDecMultiTaskModel, strategy: str, **options) -> None:
    cfg = OmegaConf.create(OmegaConf.to_container(model.cfg.decoding))
    with open_dict(cfg):
        cfg.strategy = strategy
        cfg[strategy] = options
    model.change_decoding_strategy(cfg)


def found(model: EncDecMultiTaskModel, ids: list[int], wav: torch.Tensor) -> list[dict]:
    """What a search finds in one recording, best first."""
    model.eval()  # a search leaves the decoder in training mode
    _, _, states, mask = model.forward(input_signal=wav[None], input_signal_length=torch.tensor([len(wav)]))
    hypotheses = model.decoding.decode_predictions_tensor(
        encoder_hidden_states=states, encoder_input_mask=mask, decoder_input_ids=torch.tensor([ids]), return_hypotheses=True
    )
    hypotheses = hypotheses[0] if isinstance(hypotheses[0], list) else hypotheses
    return [{"tokens": h.y_sequence.tolist(), "score": float(h.score), "text": h.text} for h in hypotheses]


def searches(model: EncDecMultiTaskModel, prompts: dict[str, list[int]]) -> dict:
    wav, lens = batch()
    waves = [row[:size] for row, size in zip(wav, lens.tolist(), strict=True)]
    answers = {}
    ways = {"greedy": ("greedy", {"max_generation_delta": 50})} | {
        f"beam{size}_{len_pen}": (
            "beam",
            {"beam_size": size, "len_pen": len_pen, "max_generation_delta": 50, "return_best_hypothesis": False},
        )
        for size, len_pen in ((1, 0.0), (2, 0.0), (4, 0.0), (7, 0.0), (4, 1.0))
    }
    for way, (strategy, options) in ways.items():
        set_search(model, strategy, **options)
        answers[way] = {asked: [found(model, ids, w) for w in waves] for asked, ids in prompts.items()}
    set_search(model, "beam", beam_size=1, len_pen=0.0, max_generation_delta=50)
    return answers


def short(model: EncDecMultiTaskModel, folder: Path) -> dict:
    """A recording of less than a second, as a file: what NeMo makes of it before the model."""
    wave = soundfile.read(HERE / "b.wav", dtype="float32")[0][3000:10001]
    soundfile.write(folder / "short.wav", wave, 16000, subtype="FLOAT")
    seen = []
    handle = model.preprocessor.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((kwargs["input_signal"], kwargs["length"])), with_kwargs=True
    )
    text = model.eval().transcribe([str(folder / "short.wav")], source_lang="en", target_lang="en", verbose=False)[0].text
    handle.remove()
    signal, length = seen[0]
    left = int((signal[0] != 0).nonzero()[0])
    return {"samples": [3000, 10001], "padded": int(length[0]), "left": left - int((wave != 0).argmax()), "text": text}


def timestamps(model: EncDecMultiTaskModel) -> list[dict]:
    files = [str(HERE / name) for name in AUDIO]
    answers = []
    for asked in ({}, {"pnc": "no"}, {"target_lang": "de"}):
        given = {"source_lang": "en", "target_lang": "en", "pnc": "yes"} | asked
        got = [model.eval().transcribe([file], timestamps=True, batch_size=1, verbose=False, **given)[0] for file in files]
        answers.append({"asked": given, "text": [h.text for h in got], "timestamp": [h.timestamp for h in got]})
    return json.loads(json.dumps(answers, default=float))


def viterbi() -> dict[str, np.ndarray]:
    """NeMo's aligner on noise: log-probabilities, labels with blanks around each, lengths, and the place at every frame."""
    torch.manual_seed(3)
    frames, labels, vocab = [12, 9, 7], [4, 4, 3], 6
    scores = torch.randn(3, 12, vocab).log_softmax(-1)
    y = torch.full((3, 9), vocab)
    for row, count in enumerate(labels):
        y[row, : 2 * count + 1] = vocab - 1
        y[row, 1 : 2 * count : 2] = torch.randint(0, vocab - 1, (count,))
    y[0, 3] = y[0, 5] = 2  # a label twice, which a blank must keep apart
    sizes = torch.tensor([2 * count + 1 for count in labels])
    padded = scores.clone()
    for row, count in enumerate(frames):
        padded[row, count:] = -3.4e38
    paths = viterbi_decoding(padded, y, torch.tensor(frames), sizes, viterbi_device=torch.device("cpu"))
    whole = np.full((3, 12), -1)
    for row, path in enumerate(paths):
        whole[row, : len(path)] = path
    return {"viterbi_scores": scores.numpy(), "viterbi_y": y.numpy(), "viterbi_paths": whole, "viterbi_frames": np.array(frames)}


@torch.no_grad()
def ask(name: str, model: EncDecMultiTaskModel) -> tuple[dict, dict[str, np.ndarray]]:
    wav, lens = batch()
    files = [str(HERE / file) for file in AUDIO]
    feats, feat_lens = model.preprocessor(input_signal=wav, length=lens)
    enc, enc_lens = model.encoder(audio_signal=feats, length=feat_lens)
    ids = prompt(model, {}) + model.tokenizer.text_to_ids("Side right.")
    teacher = torch.tensor([ids, ids])
    logprobs, *_ = model(
        input_signal=wav, input_signal_length=lens, transcript=teacher, transcript_length=torch.tensor([len(ids)] * 2)
    )
    arrays = {"mel": feats, "mel_len": feat_lens, "enc": enc, "enc_len": enc_lens, "logprobs": logprobs}
    given = {"source_lang": "en", "target_lang": "en", "pnc": "yes"}
    text = [model.eval().transcribe([file], batch_size=1, verbose=False, **given)[0].text for file in files]
    slots = [{}, *(asked for asked, _ in ANSWERS), {"decodercontext": "rear left", "diarize": "yes"}]
    meta = {
        "audio": AUDIO,
        "note": "Canary of the second form, overfitted to the recordings; made by make_canary.py",
        "transcript": ids,
        "text": text,
        "prompts": [{"asked": asked, "ids": prompt(model, asked)} for asked in slots],
    }
    return meta, {key: value.numpy() for key, value in arrays.items()}


def main() -> None:
    torch.manual_seed(0)
    path = HERE / "canary2_aed.nemo"
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            model = EncDecMultiTaskModel(OmegaConf.create(config(tokenizer(Path(folder)))))
            train(model)
            model.save_to(str(path))
        add_aligner(path, HERE / "fastconformer_ctc_bpe.nemo")
    model = EncDecMultiTaskModel.restore_from(str(path), map_location="cpu").eval()
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        meta, arrays = ask("canary2_aed", model)
        (HERE / "canary2_aed.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n", "utf-8")
        np.savez_compressed(HERE / "canary2_aed.npz", **arrays, **viterbi())
        answers = {
            "searches": searches(model, {json.dumps(asked): prompt(model, asked) for asked, _ in ANSWERS}),
            "aligned_timestamps": timestamps(model),
            "short": short(model, Path(folder)),
        }
        object.__setattr__(model, "timestamps_asr_model", None)
        answers["token_timestamps"] = timestamps(model)
        (HERE / "canary2_aed_searches.json").write_text(json.dumps(answers, ensure_ascii=False) + "\n", "utf-8")
        first = EncDecMultiTaskModel.restore_from(str(HERE / "canary_aed.nemo"), map_location="cpu").eval()
        asks = [{"target_lang": "en", "task": "asr"}, {"target_lang": "de", "task": "ast", "pnc": "no"}]
        slots = {"source_lang": "en", "target_lang": "en", "task": "asr", "pnc": "yes"}
        prompts = {}
        for asked in asks:
            turn = {"role": "user", "slots": slots | asked}
            prompts[json.dumps(asked)] = first.prompt.encode_dialog([turn])["context_ids"].tolist()
        answers = {"prompts": prompts, "searches": searches(first, prompts)}
        (HERE / "canary_aed_searches.json").write_text(json.dumps(answers, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
