"""Low-rank adaptation and frozen parts."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sonant
from sonant.errors import ConfigError
from sonant_training.tuning.config import LoraConfig
from sonant_training.tuning.lora import LoraLinear
from sonant_training.tuning.preparing import mergeable, prepare_for_training
from sonant_training.tuning.starting import starting_model
from tuning_models import RECORDINGS, build, noise, same, saved


def prepared(model: Any, **init: Any) -> Any:
    return prepare_for_training(model.train(), init)


def step(model: Any, count: int = 3) -> None:
    """Some steps that every weight that can be trained takes part in."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(count):
        optimizer.zero_grad()
        enc, _ = model.encode(*noise())
        model.decoder(enc).square().mean().backward()
        optimizer.step()


def changed(model: Any, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def copied(model: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


# --- Frozen


def test_what_is_frozen_does_not_change_and_all_else_does() -> None:
    model = prepared(build(), freeze=["encoder.layers.0-1", "encoder.pre_encode"])
    before = copied(model)
    step(model)
    names = changed(model, before)
    assert not any(name.startswith(("encoder.layers.0.", "encoder.layers.1.", "encoder.pre_encode")) for name in names)
    trained = {name for name in before if name.startswith(("encoder.layers.2.", "decoder."))}
    unused = {name for name in trained if name.endswith(("attention.key.bias",))}  # a softmax does not see it
    assert trained - unused <= names


def test_statistics_of_frozen_norms_are_kept_whoever_calls_train() -> None:
    model = prepared(build(), freeze=["encoder.layers.0-1"])
    before = copied(model)
    model.eval()
    model.train()
    step(model)
    names = changed(model, before)
    assert "encoder.layers.0.convolution.norm.running_mean" not in names
    assert "encoder.layers.1.convolution.norm.num_batches_tracked" not in names
    assert {"encoder.layers.2.convolution.norm.running_mean", "encoder.layers.2.convolution.norm.running_var"} <= names


def test_a_frozen_encoder_gives_what_it_gives_in_use() -> None:
    model = prepared(build(), freeze=["encoder"])
    assert model.training
    found = model.encode(*noise())[0]
    assert torch.allclose(found, build().encode(*noise())[0], atol=1e-6)


def test_norms_whose_weights_are_trained_learn_their_statistics() -> None:
    model = prepared(build(), freeze=["encoder"], train=["encoder.layers.*.norm_*", "encoder.layers.0.convolution.norm"])
    before = copied(model)
    step(model)
    names = changed(model, before)
    assert "encoder.layers.0.convolution.norm.running_mean" in names
    assert "encoder.layers.1.convolution.norm.running_mean" not in names
    assert {name.split(".")[3] for name in names if name.startswith("encoder.layers.1.")} <= {
        *("norm_feed_forward1", "norm_attention", "norm_convolution", "norm_feed_forward2", "norm_out")
    }


def test_parts_without_weights_can_be_named() -> None:
    model = prepared(build(), freeze=["preprocessor"])
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ({"freeze": ["encoder.layer.0"]}, r"init\.freeze\[0\]: .*Did you mean 'encoder\.layers\.0"),
        ({"freeze": ["encoder"], "train": ["encoder.norm"]}, r"init\.train\[0\]: the model has nothing called 'encoder\.norm'"),
        ({"train": ["decoder"]}, r"init\.train: it names exceptions from init\.freeze, which names nothing"),
        ({"freeze": ["*"]}, r"nothing is left to train; init\.train names exceptions, e\.g\. \[decoder\]"),
        ({"lora": {"modules": ["encoder.layers.0.norm_out"]}}, r"init\.lora\.modules: there is no linear layer in encoder"),
        ({"lora": {"modules": ["encode"]}}, r"init\.lora\.modules\[0\]: the model has nothing called 'encode'"),
    ],
)
def test_mistakes_are_told(init: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepared(build(), **init)


# --- Adapted


def adapted(**lora: Any) -> Any:
    return prepared(build(), lora={"rank": 2, **lora})


def test_at_the_start_it_changes_nothing() -> None:
    model = adapted().eval()
    with torch.inference_mode():
        assert torch.equal(model.encode(*noise())[0], build().encode(*noise())[0])


def test_only_the_thin_matrices_are_trained() -> None:
    model = adapted()
    before = copied(model)
    step(model)
    names = changed(model, before)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name in before if name.endswith((".up", ".down"))}
    assert {name for name in trained if name.endswith(".up")} <= names <= trained
    assert {name.rsplit(".", 2)[1] for name in names} == {
        *("query", "key", "value", "out"),  # of the attention, and of the subsampling
        *("linear1", "linear2", "pointwise1", "pointwise2"),
    }


def test_merged_it_computes_the_same_by_one_layer() -> None:
    model = adapted(alpha=3.0).double().eval()
    for name, parameter in model.named_parameters():
        if name.endswith((".up", ".down")):
            nn.init.normal_(parameter, std=0.3)
    merged = mergeable(model)
    assert merged.state_dict().keys() == build().state_dict().keys()
    wav, lens = noise()
    feats, lens = model.preprocessor(wav, lens)
    with torch.inference_mode():
        ours, theirs = model.encoder(feats, lens)[0], merged.encoder(feats, lens)[0]
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-10)
        assert not torch.allclose(ours, build().double().encoder(feats, lens)[0], atol=1e-2)


def test_what_was_learnt_is_of_low_rank_and_scaled() -> None:
    layer = nn.Linear(6, 5).double()
    config = LoraConfig(rank=2, alpha=3.0)
    one = LoraLinear(layer, config).double()
    nn.init.normal_(one.up)
    delta = one.weight - layer.weight
    assert torch.linalg.matrix_rank(delta) == 2
    assert torch.allclose(delta, 1.5 * one.up @ one.down)
    x = torch.randn(3, 6, dtype=torch.float64)
    assert torch.allclose(one(x), nn.functional.linear(x, one.weight, one.bias))
    assert (one.in_features, one.out_features) == (6, 5)


def test_dropout_is_on_the_thin_matrices_alone() -> None:
    one = LoraLinear(nn.Linear(64, 4), LoraConfig(rank=2, dropout=0.9))
    x = torch.randn(8, 64)
    assert torch.equal(one.train()(x), one.base(x))  # `up` is zero
    nn.init.ones_(one.up)
    assert not torch.equal(one(x), one(x)) and torch.equal(one.eval()(x), one(x))


def test_saving_leaves_the_model_in_training_as_it_is() -> None:
    model = adapted()
    before = copied(model)
    step(model)
    trained = copied(model)
    merged = mergeable(model)
    assert same(model.state_dict(), trained) and model.training and not same(trained, before)
    assert merged.state_dict().keys() == build().state_dict().keys()


def test_without_it_the_model_itself_is_saved() -> None:
    model = prepared(build(), freeze=["encoder"])
    assert mergeable(model) is model


@pytest.mark.parametrize("target", ["tuned", "tuned.nemo"])
def test_the_saved_model_needs_none_of_this_code(tmp_path: Path, target: str) -> None:
    model = adapted()
    step(model)
    sonant.save(mergeable(model), tmp_path / target)
    found = sonant.load(tmp_path / target, device="cpu")
    assert not any(isinstance(module, LoraLinear) for module in found.modules())
    wav, lens = noise()
    with torch.inference_mode():
        assert torch.allclose(found.encode(wav, lens)[0], model.eval().encode(wav, lens)[0], atol=1e-5)
    assert [t.text for t in found.transcribe(RECORDINGS)] == [t.text for t in model.transcribe(RECORDINGS)]


def test_a_worker_can_be_sent_it() -> None:
    model = adapted()
    again = pickle.loads(pickle.dumps(model.encoder))
    assert same(again.state_dict(), model.encoder.state_dict())


def test_fresh_parts_are_trained_beside_it(tmp_path: Path) -> None:
    saved(tmp_path)
    init = {"from": "base", "lora": {"rank": 2, "modules": ["encoder.layers.*.attention"]}}
    data = {"init": init, "tokenizer": {"labels": list("xyz ")}, "encoder": {"adapters": {"mine": {"dim": 2}}}}
    model = prepare_for_training(starting_model(data, tmp_path), init)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {"decoder.out.weight", "decoder.out.bias", "encoder.layers.0.adapters.mine.up.weight"} <= trained
    assert {name.rsplit(".", 1)[1] for name in trained if ".attention." in name} == {"up", "down"}
    assert not any(".feed_forward" in name for name in trained)


def test_with_freeze_said_that_holds() -> None:
    model = prepared(build(), freeze=["encoder.layers.0"], lora={"modules": ["encoder.layers.0-1.attention"]})
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "encoder.layers.0.attention.query.up" in trained and "encoder.layers.0.attention.query.base.weight" not in trained
    assert "encoder.layers.1.attention.query.base.weight" not in trained  # the layer itself stays as it is
    assert {"decoder.out.weight", "encoder.layers.1.feed_forward1.linear1.weight"} <= trained
    assert "encoder.layers.0.feed_forward1.linear1.weight" not in trained
