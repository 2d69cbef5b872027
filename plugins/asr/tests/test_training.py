"""What a recognizer learns from: labels, losses and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sonant
from sonant.errors import ConfigError
from sonant.training import Example

CASES = Path(__file__).parents[3] / "tests" / "nemo-cases"
SECONDS = (2.0, 0.9, 1.4)
TEXTS = ("front center", "left", "rear")
ENCODER = {"name": "fastconformer", "n_layers": 1, "d_model": 16, "n_heads": 2, "subsampling_conv_channels": 4}
FEATURES = {"name": "log_mel", "features": 16, "n_fft": 512, "dither": 0.0}
LETTERS = {"name": "char", "labels": list(" abcdefghijklmnopqrstuvwxyz")}
TRANSDUCER = {"name": "rnnt", "pred_hidden": 8, "joint_hidden": 8}


class Recorder(nn.Module):
    """A loss that keeps what it was given."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value, self.seen = value, {}

    def forward(self, logits: Tensor, lens: Tensor, labels: Tensor, label_lens: Tensor) -> Tensor:
        self.seen = {"logits": logits, "lens": lens, "labels": labels, "label_lens": label_lens}
        return logits.float().mean() * 0 + self.value


def build(**sections: Any) -> Any:
    torch.manual_seed(0)
    parts = {"task": "asr", "preprocessor": FEATURES, "tokenizer": LETTERS, "encoder": ENCODER, "decoder": {"name": "ctc"}}
    return sonant.build(parts | sections).eval()


def examples(model: Any, **row: Any) -> list[Example]:
    noise = np.random.default_rng(0)
    return [
        Example(
            samples=noise.standard_normal(round(seconds * model.sample_rate), dtype=np.float32) / 10,
            row={"text": text} | row,
            name=f"clip {n}",
        )
        for n, (seconds, text) in enumerate(zip(SECONDS, TEXTS, strict=True))
    ]


def batch_of(model: Any, **row: Any) -> Any:
    return model.collate([model.prepare(example) for example in examples(model, **row)])


def test_labels_are_the_text_as_the_tokenizer_spells_it() -> None:
    model = build()
    batch = batch_of(model)
    assert [model.tokenizer.decode(row[:n].tolist()) for row, n in zip(batch.labels, batch.label_lens, strict=True)] == list(
        TEXTS
    )
    assert batch.lens.tolist() == [round(s * model.sample_rate) for s in SECONDS]
    assert batch.wav.shape == (3, batch.lens.max())


@pytest.mark.parametrize(
    ("row", "samples", "reason"),
    [
        ({}, 100, 'no "text"'),
        ({"text": None}, 100, 'no "text"'),
        ({"text": "naïve"}, 100, "'ï'"),
        ({"text": "left"}, 0, "no samples"),
    ],
)
def test_what_nothing_can_be_learnt_of_says_why(row: dict[str, Any], samples: int, reason: str) -> None:
    model = build()
    with pytest.raises(ValueError, match=reason):
        model.prepare(Example(samples=np.zeros(samples, np.float32), row=row, name="clip"))


def test_the_loss_sees_the_logits_of_the_head() -> None:
    model, loss = build(), Recorder()
    batch = batch_of(model)
    assert model.loss(batch, loss=loss)["loss"] == 1.0
    enc, lens = model.encode(batch.wav, batch.lens)
    assert loss.seen["logits"].equal(model.decoder(enc))
    assert loss.seen["lens"].equal(lens)
    assert loss.seen["labels"].equal(batch.labels) and loss.seen["label_lens"].equal(batch.label_lens)


def test_two_heads_share_the_loss() -> None:
    model = build(task={"name": "asr", "aux_loss_weight": 0.25}, decoder=TRANSDUCER, aux_decoder={"name": "ctc"})
    batch = batch_of(model)
    values = model.loss(batch, loss=Recorder(2.0), aux_loss=Recorder(10.0))
    assert {name: value.item() for name, value in values.items()} == {"loss": 4.0, "rnnt_loss": 2.0, "ctc_loss": 10.0}


@pytest.mark.parametrize(
    ("sections", "losses", "missing"),
    [
        ({"aux_decoder": {"name": "ctc"}, "decoder": TRANSDUCER}, {"loss": Recorder()}, "aux_loss is missing"),
        ({}, {"loss": Recorder(), "aux_loss": Recorder()}, "aux_decoder is missing"),
    ],
)
def test_heads_and_losses_go_together(sections: dict[str, Any], losses: dict[str, Any], missing: str) -> None:
    model = build(**sections)
    with pytest.raises(ConfigError, match=missing):
        model.loss(batch_of(model), **losses)


def test_scores_count_the_errors_of_each_text() -> None:
    model = build()
    batch = batch_of(model)
    heard = [one.text for one in model.infer(sonant.runtime.Batch(batch.wav, batch.lens, batch.items))]
    scores = model.score(batch)
    assert [score.result for score in scores] == heard and [score.reference for score in scores] == list(TEXTS)
    for score in scores:  # an untrained model writes few letters, and no word rightly
        words, of_words = score.counts["wer"]
        assert of_words == len(score.reference.split()) and words >= of_words
        assert score.counts["cer"][1] == len(score.reference)


def test_an_exact_text_has_no_errors() -> None:
    model = build()
    batch = batch_of(model)
    heard = [score.result for score in model.score(batch)]
    again = model.collate(
        [
            model.prepare(Example(samples=one.samples, row={"text": text}, name=one.name))
            for one, text in zip(examples(model), heard, strict=True)
        ]
    )
    assert all(errors == 0 for score in model.score(again) for errors, _ in score.counts.values())


@pytest.fixture(scope="module")
def canary() -> Any:
    return sonant.load(CASES / "canary_aed.nemo", device="cpu", dtype="float32")


class TestCanary:
    def outputs(self, model: Any, batch: Any) -> dict[str, Tensor]:
        enc, lens = model.encode(batch.wav, batch.lens)
        found: dict[str, Tensor] = model.decoder(enc, lens, batch.labels, batch.label_lens, batch.prompts)
        return found

    @torch.no_grad()
    def test_targets_are_what_the_inputs_are_one_token_later(self, canary: Any) -> None:
        batch = batch_of(canary)
        out = self.outputs(canary, batch)
        prompt = list(canary.decoder.prompt.encode(batch.prompts[0]))
        for row, size, labels, n in zip(out["targets"], out["target_lens"], batch.labels, batch.label_lens, strict=True):
            assert row[:size].tolist() == [*prompt[1:], *labels[:n].tolist(), canary.decoder.eos]

    @torch.no_grad()
    def test_logits_are_those_of_each_utterance_alone(self, canary: Any) -> None:
        batch = batch_of(canary)
        together = self.outputs(canary, batch)
        for row, example in enumerate(examples(canary)):
            alone = self.outputs(canary, canary.collate([canary.prepare(example)]))
            size = int(alone["target_lens"])
            torch.testing.assert_close(together["logits"][row, :size], alone["logits"][0], atol=1e-4, rtol=1e-4)

    @torch.no_grad()
    def test_logits_are_those_of_the_search_step_by_step(self, canary: Any) -> None:
        batch = canary.collate([canary.prepare(examples(canary)[0])])
        enc, lens = canary.encode(batch.wav, batch.lens)
        out = self.outputs(canary, batch)
        prompt = canary.decoder.prompt.encode(batch.prompts[0])
        ids = torch.tensor([[*prompt, *batch.labels[0].tolist()]])
        for n in (1, len(prompt), ids.shape[1]):  # what is written so far decides what comes next, and nothing behind it
            last = canary.decoder.scores(enc, lens, ids[:, :n])[0, -1]
            torch.testing.assert_close(out["logits"][0, n - 1], last, atol=1e-4, rtol=1e-4)

    def test_a_row_says_what_is_asked(self, canary: Any) -> None:
        batch = batch_of(canary, source_lang="de", target_lang="en")
        assert {(prompt.source_lang, prompt.target_lang) for prompt in batch.prompts} == {("de", "en")}

    @pytest.mark.parametrize(
        ("row", "told"),
        [
            ({"lang": "de"}, ("de", "de", "transcribe")),
            ({"lang": "de", "target_lang": "en"}, ("de", "en", "translate")),
            ({"lang": "de", "source_lang": "en"}, ("en", "de", "translate")),
            ({"lang": "de", "source_lang": "en", "target_lang": "en"}, ("en", "en", "transcribe")),
            ({"lang": None}, ("en", "en", "transcribe")),
        ],
    )
    def test_its_lang_is_told_where_it_says_nothing_else(self, canary: Any, row: dict[str, Any], told: tuple[str, ...]) -> None:
        utterance = canary.prepare(examples(canary, **row)[0])
        prompt = utterance.prompt
        assert (prompt.source_lang, prompt.target_lang, prompt.task) == told
        tokens = canary.decoder.prompt.encode(prompt)
        assert canary.decoder.labels_of(TEXTS[0], prompt) == utterance.labels.tolist()
        assert canary.tokenizer.pieces(tokens)[1:4] == [f"<|{told[0]}|>", f"<|{told[2]}|>", f"<|{told[1]}|>"]

    def test_a_lang_that_the_model_does_not_know_is_the_reason_why_nothing_is_learnt(self, canary: Any) -> None:
        with pytest.raises(ValueError, match=r"^its lang is 'fr': (source|target)_lang") as refused:
            canary.prepare(examples(canary, lang="fr")[0])
        assert "clip 0" not in str(refused.value), "whoever lists it says which it is"
        with pytest.raises(ValueError, match=r"^(source|target)_lang"):
            canary.prepare(examples(canary, source_lang="fr", target_lang="fr", lang="de")[0])


@pytest.fixture(scope="module")
def told() -> Any:
    return sonant.load(CASES / "prompt_hybrid_bpe.nemo", device="cpu", dtype="float32").eval()


class TestLanguagePrompt:
    @torch.no_grad()
    def test_the_loss_is_that_with_the_language_of_the_row(self, told: Any) -> None:
        losses = {}
        for row in ({}, {"lang": "auto"}, {"lang": "de-DE"}, {"target_lang": "de-DE", "lang": "en"}):
            batch = batch_of(told, **row)
            value = told.loss(batch, loss=Recorder(), aux_loss=Sum())["ctc_loss"]
            losses[str(row.get("target_lang") or row.get("lang"))] = float(value)
            assert {prompt.target_lang for prompt in batch.prompts} == {row.get("target_lang") or row.get("lang") or "auto"}
        assert losses.keys() == {"None", "auto", "de-DE"} and losses["None"] == losses["auto"] != losses["de-DE"]

    def test_scores_are_with_that_language_too(self, told: Any) -> None:
        asked: list[str] = []
        telling = told.prompt.register_forward_pre_hook(lambda _, arguments: asked.extend(arguments[2]))
        try:
            told.score(batch_of(told, lang="de-DE"))
        finally:
            telling.remove()
        assert asked == ["de-DE"] * len(TEXTS)

    def test_an_unknown_one_is_named_with_what_there_is(self, told: Any) -> None:
        with pytest.raises(
            ValueError, match=r"^its lang is 'de': target_lang 'de': .* Did you mean 'de-DE'\? It knows en-US, en"
        ):
            told.prepare(examples(told, lang="de")[0])


def test_a_model_that_has_to_be_told_a_language_learns_of_rows_that_say_one() -> None:
    model = build(prompt={"name": "language_prompt", "languages": {"en": 0, "de": 1}, "num_prompts": 2})
    batch = batch_of(model, lang="de")
    assert [prompt.target_lang for prompt in batch.prompts] == ["de"] * 3 and len(model.score(batch)) == 3
    with pytest.raises(ValueError, match="^target_lang: this model has to be told a language; it knows en, de"):
        batch_of(model)


def test_a_text_that_is_too_long_for_the_model_is_refused_before_it_is_computed_with() -> None:
    """With the one token that a text begins with; the one that ends it is only ever a target."""
    head = {"name": "aed", "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 16, "max_positions": 8, "prompt_format": "none"}
    model = build(decoder=head)
    samples = np.zeros(model.sample_rate, dtype=np.float32)
    fits = model.collate([model.prepare(Example(samples=samples, row={"text": "a" * 7}, name="clip"))])
    assert model.loss(fits, loss=AnyLoss())["loss"].isfinite()
    with pytest.raises(ValueError, match="its text takes 9 tokens with the prompt, and the model writes at most 8"):
        model.prepare(Example(samples=samples, row={"text": "a" * 8}, name="clip"))


class Sum(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return logits.double().square().sum()


class AnyLoss(nn.Module):
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        assert logits.shape[:2] == targets.shape
        return logits.float().mean()


def test_a_second_model_that_finds_the_times_is_not_trained() -> None:
    """No loss is of it: an optimizer would carry it along, and processes that train together would wait for its gradients."""
    second = {
        "aligner_preprocessor": FEATURES,
        "aligner_tokenizer": LETTERS,
        "aligner_encoder": ENCODER,
        "aligner_decoder": "ctc",
    }
    model = build(**second).train()
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"encoder", "decoder"}
