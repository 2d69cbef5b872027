"""The model that a run begins with."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch

import sonant
from sonant.errors import CheckpointError, ConfigError
from sonant_asr.ctc.model import CtcHead
from sonant_asr.tokenizers.tiny import files
from sonant_training.tuning.starting import starting_model
from tuning_models import CASES, PARTS, RECORDINGS, TRANSDUCER, build, noise, same, saved


def start(folder: Path, init: Any = "base", **sections: Any) -> Any:
    return starting_model({"init": init, **sections}, folder)


# --- Whole


def test_without_init_weights_are_fresh(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = starting_model({**PARTS, "loss": {"name": "ctc"}}, tmp_path)
    torch.manual_seed(3)
    assert same(model.state_dict(), sonant.build(PARTS).state_dict())
    assert model.training and model.blueprint.config.training == {"loss": {"name": "ctc"}}


@pytest.mark.parametrize("init", ["base", {"from": "base"}, {"from": "base.nemo"}])
def test_a_checkpoint_comes_with_its_config_and_weights(tmp_path: Path, init: Any) -> None:
    base = saved(tmp_path)
    sonant.save(base, tmp_path / "base.nemo")
    model = start(tmp_path, init, loss={"name": "ctc"}, seed=7)
    assert same(model.state_dict(), base.state_dict())
    assert model.training and dict(model.blueprint.config.training) == {"init": init, "loss": {"name": "ctc"}, "seed": 7}
    expected = base.blueprint.config.to_dict(runtime=False)
    assert model.blueprint.config.to_dict(runtime=False) == expected


def test_fields_that_the_config_names_are_changed_and_no_others(tmp_path: Path) -> None:
    base = saved(tmp_path)
    model = start(tmp_path, encoder={"dropout": 0.3}, augmentation={"name": "spec_augment"})
    assert model.encoder.config.dropout == 0.3 and model.encoder.config.n_layers == 3
    assert model.augmentation is not None and base.augmentation is None
    assert same(model.state_dict(), base.state_dict())


@pytest.mark.parametrize("encoder", ["fastconformer", {"name": "fastconformer.v1", "dropout": 0.1}])
def test_a_section_that_names_the_same_component_is_merged(tmp_path: Path, encoder: Any) -> None:
    saved(tmp_path)
    assert start(tmp_path, encoder=encoder).encoder.config.d_model == 16


def test_a_section_that_is_null_drops_its_part(tmp_path: Path) -> None:
    base = saved(tmp_path, decoder=TRANSDUCER, aux_decoder="ctc")
    model = start(tmp_path, aux_decoder=None)
    kept = {name: tensor for name, tensor in base.state_dict().items() if not name.startswith("aux_decoder.")}
    assert model.aux_decoder is None and same(model.state_dict(), kept)


def test_weights_of_half_precision_are_trained_in_float32(tmp_path: Path) -> None:
    base = saved(tmp_path).to(torch.bfloat16)
    sonant.save(base, tmp_path / "half")
    model = start(tmp_path, "half")
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert torch.equal(model.decoder.out.weight, base.decoder.out.weight.float())


def test_what_a_checkpoint_was_licensed_as_goes_along(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "base" / "LICENSE").write_text("CC BY 4.0\n", "utf-8")
    assert start(tmp_path).blueprint.license == "CC BY 4.0"


# --- Other parts


def test_another_head_is_fresh_on_the_same_encoder(tmp_path: Path) -> None:
    base = saved(tmp_path)
    model = start(tmp_path, decoder=TRANSDUCER)
    assert same(model.encoder.state_dict(), base.encoder.state_dict())
    names = {f"decoder.{name}" for name, _ in model.decoder.named_parameters()}
    assert model.decoder.family == "rnnt" and model.fresh_parameters == names


def test_more_layers_are_fresh_behind_those_there_are(tmp_path: Path) -> None:
    base = saved(tmp_path)
    model = start(tmp_path, encoder={"n_layers": 4})
    assert same(model.encoder.layers[:3].state_dict(), base.encoder.layers.state_dict())
    assert model.fresh_parameters == {f"encoder.layers.3.{name}" for name, _ in model.encoder.layers[3].named_parameters()}


def test_fewer_layers_leave_the_rest(tmp_path: Path) -> None:
    base = saved(tmp_path)
    model = start(tmp_path, encoder={"n_layers": 2})
    assert same(model.encoder.layers.state_dict(), base.encoder.layers[:2].state_dict()) and not model.fresh_parameters


def test_another_width_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(ConfigError, match=r"do not fit this config: .* init\.fresh: \[decoder, encoder\]"):
        start(tmp_path, encoder={"d_model": 32})


def test_what_init_fresh_names_is_fresh(tmp_path: Path) -> None:
    base = saved(tmp_path)
    model = start(tmp_path, {"from": "base", "fresh": ["encoder.layers.1-2", "decoder"]})
    assert same(model.encoder.layers[0].state_dict(), base.encoder.layers[0].state_dict())
    assert not torch.equal(model.decoder.out.weight, base.decoder.out.weight)
    assert not torch.equal(model.encoder.layers[1].attention.query.weight, base.encoder.layers[1].attention.query.weight)
    assert start(tmp_path, {"from": "base", "fresh": ["encoder", "decoder"]}, encoder={"d_model": 32}).encoder.d_out == 32


def test_adapters_change_nothing_at_the_start(tmp_path: Path) -> None:
    base = saved(tmp_path)
    adapters = {"before": {"dim": 4}, "after": {"dim": 3, "norm_position": "post", "activation": "relu"}}
    model = start(tmp_path, encoder={"adapters": adapters}).eval()
    assert model.fresh_parameters and all(".adapters." in name for name in model.fresh_parameters)
    with torch.inference_mode():
        assert torch.equal(model.encode(*noise())[0], base.encode(*noise())[0])


# --- Vocabularies


def logits(model: Any, enc: torch.Tensor, labels: list[int]) -> torch.Tensor:
    head = model.decoder
    return head(enc) if head.family == "ctc" else head(enc, torch.tensor([labels]))


@pytest.mark.parametrize(
    "decoder", [{"name": "ctc"}, TRANSDUCER, TRANSDUCER | {"name": "tdt", "durations": [0, 1, 2]}, TRANSDUCER | {"joint": "hat"}]
)
@torch.inference_mode()
def test_labels_in_another_order_score_as_before(tmp_path: Path, decoder: dict[str, Any]) -> None:
    base, order = saved(tmp_path, decoder=decoder), [3, 0, 5, 1, 4, 2]
    model = start(tmp_path, tokenizer={"labels": [" abcde"[n] for n in order]}).eval()
    enc = torch.randn(1, 4, 16)
    before = logits(base, enc, [5, 1, 3])
    after = logits(model, enc, [order.index(n) for n in (5, 1, 3)])
    rest = list(range(6, before.shape[-1]))  # blank and durations
    assert torch.allclose(after, before[..., [*order, *rest]], atol=1e-6)


@torch.inference_mode()
def test_of_another_vocabulary_what_is_known_scores_as_before(tmp_path: Path) -> None:
    base = saved(tmp_path, decoder=TRANSDUCER, aux_decoder="ctc")
    model = start(tmp_path, tokenizer={"labels": list("xba ")}).eval()
    enc = torch.randn(1, 4, 16)
    before, after = (logits(m, enc, labels) for m, labels in ((base, [1, 2]), (model, [2, 1])))
    assert torch.allclose(after[..., [2, 1, 3, 4]], before[..., [1, 2, 0, 6]], atol=1e-6)
    before, after = base.aux_decoder(enc), model.aux_decoder(enc)
    assert torch.allclose(after[..., [2, 1, 3, 4]], before[..., [1, 2, 0, 6]], atol=1e-6)
    assert {"decoder.joint.out.weight", "decoder.prediction.embed.weight", "aux_decoder.out.bias"} <= model.fresh_parameters
    assert not any(
        name.startswith(("encoder.", "decoder.joint.enc", "decoder.prediction.lstm")) for name in model.fresh_parameters
    )


def test_labels_that_nobody_knew_begin_as_in_a_fresh_model(tmp_path: Path) -> None:
    saved(tmp_path)
    torch.manual_seed(9)
    model = start(tmp_path, tokenizer={"labels": list("xay")})
    torch.manual_seed(9)
    sonant.load(tmp_path / "base", device="cpu")
    fresh = sonant.build({**PARTS, "tokenizer": {"name": "char", "labels": list("xay")}})
    assert torch.equal(model.decoder.out.weight[[0, 2]], fresh.decoder.out.weight[[0, 2]])


@torch.inference_mode()
def test_a_head_that_rounds_its_vocabulary_up(tmp_path: Path) -> None:
    """An attention decoder makes the number of its scores a multiple of eight."""
    head = {"name": "aed", "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 16, "max_positions": 32, "prompt_format": "none"}
    prompts = ["<|endoftext|>", "<|startoftranscript|>", "<pad>"]
    base = saved(tmp_path, decoder=head, tokenizer={"name": "char", "labels": [*" abcde", *prompts]})
    labels = [*prompts, *"xyzuvw", *" ab"]
    model = start(tmp_path, tokenizer={"labels": labels})
    known = [labels.index(piece) for piece in (" ", "a", "b", *prompts)]
    assert model.decoder.embed.weight.shape[0] == base.decoder.embed.weight.shape[0] == 16
    assert torch.equal(model.decoder.embed.weight[known], base.decoder.embed.weight[[0, 1, 2, 6, 7, 8]])
    assert torch.equal(model.decoder.bias[known], base.decoder.bias[[0, 1, 2, 6, 7, 8]])


def test_a_head_that_computes_while_it_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = saved(tmp_path)
    build_head = CtcHead.__init__

    @wraps(build_head)
    def computing(self: CtcHead, *args: Any, **sizes: Any) -> None:
        build_head(self, *args, **sizes)
        assert torch.ones(2).tolist() == [1.0, 1.0]  # which nothing without memory can tell

    monkeypatch.setattr(CtcHead, "__init__", computing)
    model = start(tmp_path, tokenizer={"labels": list("xba ")})
    assert torch.equal(model.decoder.out.weight[[2, 1, 3]], base.decoder.out.weight[[1, 2, 0]])


def test_a_subword_model_beside_the_config_takes_the_place_of_characters(tmp_path: Path) -> None:
    base = saved(tmp_path)
    ((name, content),) = files().items()
    (tmp_path / name).write_bytes(content)
    model = start(tmp_path, tokenizer={"name": "sentencepiece", "file": name})
    assert model.decoder.out.out_features == model.tokenizer.vocab_size + 1 != base.decoder.out.out_features
    assert model.blueprint.files == {name: content}
    pieces = model.tokenizer.pieces(range(model.tokenizer.vocab_size))
    shared = [(old, pieces.index(piece)) for old, piece in enumerate("▁abcde") if piece in pieces]
    assert shared  # a space is the same however it is written
    for old, new in shared:
        assert torch.equal(model.decoder.out.weight[new], base.decoder.out.weight[old])


def test_the_checkpoints_own_files_are_kept(tmp_path: Path) -> None:
    ((name, content),) = files().items()
    (tmp_path / name).write_bytes(content)
    torch.manual_seed(0)
    config = {**PARTS, "tokenizer": {"name": "sentencepiece", "file": str(tmp_path / name)}}
    base = sonant.build(config)
    sonant.save(base, tmp_path / "base")
    (tmp_path / name).write_bytes(b"another file that happens to be called so")
    assert same(start(tmp_path).state_dict(), base.state_dict())


# --- Back


@pytest.mark.parametrize("target", ["tuned", "tuned.nemo"])
def test_what_was_changed_is_saved_and_opened(tmp_path: Path, target: str) -> None:
    saved(tmp_path)
    changes = {"tokenizer": {"labels": list("xba ")}, "encoder": {"adapters": {"mine": {"dim": 4}}}}
    model = start(tmp_path, loss={"name": "ctc"}, **changes).eval()
    torch.nn.init.normal_(model.encoder.layers[1].adapters["mine"].up.weight)
    sonant.save(model, tmp_path / target)
    found = sonant.load(tmp_path / target, device="cpu")
    assert same(found.state_dict(), model.state_dict()) and not found.blueprint.config.training
    assert [t.text for t in found.transcribe(RECORDINGS)] == [t.text for t in model.transcribe(RECORDINGS)]


@pytest.mark.parametrize("name", ["fastconformer_ctc_bpe", "fastconformer_tdt_bpe", "adapted_ctc_bpe"])
def test_a_nemo_file_is_a_beginning(name: str) -> None:
    base = sonant.load(CASES / f"{name}.nemo", device="cpu", dtype="float32")
    model = start(CASES, f"{name}.nemo", encoder={"dropout": 0.2})
    assert same(model.state_dict(), base.state_dict()) and model.encoder.config.dropout == 0.2


# --- Mistakes


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (
            {"form": "base"},
            r"init\.form: unknown key. Did you mean 'from'\? Known keys: from, revision, fresh, freeze, train, lora",
        ),
        (["base"], r"init: expected a mapping, e\.g\. init: \{from: model\.nemo\}"),
        ({"from": 3}, r"init\.from: expected the name of a checkpoint, not 3"),
        ({"from": "base", "fresh": ["encoder.layer"]}, r"init\.fresh\[0\]: .*Did you mean 'encoder\.layers"),
        ({"fresh": ["encoder"]}, r"init\.fresh: without init\.from everything is fresh"),
        ({"from": "base", "lora": {"rank": 0}}, r"init\.lora: rank must be at least 1"),
        ({"from": "base", "freeze": "encoder"}, r"init\.freeze: expected a list here, not a single value"),
        ({"from": "base", "lora": {"ranks": 3}}, r"init\.lora\.ranks: unknown key. Did you mean 'rank'"),
    ],
)
def test_mistakes_in_init_are_told(tmp_path: Path, init: Any, message: str) -> None:
    saved(tmp_path)
    with pytest.raises(ConfigError, match=message):
        starting_model({**PARTS, "init": init}, tmp_path)


def test_a_checkpoint_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no file or folder .*lost\.nemo"):
        start(tmp_path, "lost.nemo")


def test_a_config_for_another_checkpoint_is_told(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(ConfigError, match=r"encoder\.blocks: unknown key"):
        start(tmp_path, encoder={"blocks": []})


def test_it_needs_no_name_of_what_the_checkpoint_is(tmp_path: Path) -> None:
    saved(tmp_path)
    assert start(tmp_path, decoder={}).decoder.family == "ctc"
    assert build().decoder.family == "ctc"
