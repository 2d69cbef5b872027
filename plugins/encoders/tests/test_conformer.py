"""What Conformer and FastConformer promise whatever their options; their numbers are in `test_conformer_nemo.py`."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sonant import weights
from sonant_encoders.conformer.config import ConformerConfig, FastConformerConfig
from sonant_encoders.conformer.model import Conformer

F = 12
SMALL: dict[str, Any] = {
    "n_layers": 2,
    "d_model": 16,
    "n_heads": 2,
    "ff_expansion_factor": 2,
    "conv_kernel_size": 5,
    "subsampling_conv_channels": 4,
    "subsampling_factor": 4,
}
OPTIONS: list[dict[str, Any]] = [
    *(
        {"subsampling": kind, "conv_norm_type": norm}
        for kind in ("striding", "dw_striding")
        for norm in ("batch_norm", "layer_norm", "group_norm4")
    ),
    {"subsampling": "dw_striding", "subsampling_factor": 8, "causal_downsampling": True},
    {"subsampling": "striding", "subsampling_factor": 2, "conv_context_size": "causal"},
    {"att_context_size": [3, 2], "conv_context_size": [1, 3]},
    {"att_context_size": [4, 1], "att_context_style": "chunked_limited"},
    {"att_context_size": [4, 2, 1], "att_context_style": "chunked_limited_with_rc"},
    {"att_context_size": [-1, 0], "use_bias": False, "xscaling": False},
    {"self_attention_model": "rel_pos_local_attn", "att_context_size": [5, 3]},
    {
        "self_attention_model": "rel_pos_local_attn",
        "att_context_size": [3, 3],
        "global_tokens": 3,
        "global_tokens_spacing": 4,
        "global_attn_separate": True,
    },
    {
        "self_attention_model": "rel_pos_local_attn",
        "att_context_size": [2, 2],
        "global_tokens": 2,
        "attention_backend": "reference",
    },
    {"feat_out": 6, "untie_biases": False, "attention_backend": "reference"},
]


def build(**options: Any) -> Conformer:
    """In eval mode and float64, so that a leak of any size shows, with biases and norms that do something."""
    torch.manual_seed(0)
    model = Conformer(ConformerConfig(**SMALL | options), d_in=F).double()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    for layer in model.layers:
        torch.nn.init.normal_(layer.attention.pos_bias_u)
        torch.nn.init.normal_(layer.attention.pos_bias_v)
    return model.eval()


def features(*sizes: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(*sizes, F, dtype=torch.float64)


# --- Independence


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_alone_and_among_others_and_with_any_padding(options: dict[str, Any], grad: bool) -> None:
    model = build(**options)
    lens = torch.tensor([70, 97, 33, 1, 0, 8])
    feats = features(len(lens), 97)
    dirty = feats.masked_fill((torch.arange(97) >= lens[:, None])[..., None], 1e4)
    with torch.set_grad_enabled(grad):
        together, counts = model(feats, lens)
        assert together.isfinite().all() and together.shape[2] == model.d_out
        assert counts.max() == together.shape[1]
        for found, _ in (model(dirty, lens), model(torch.nn.functional.pad(dirty, (0, 0, 0, 40), value=7.0), lens)):
            for ours, wanted, count in zip(found, together, counts, strict=True):
                torch.testing.assert_close(ours[:count], wanted[:count], atol=1e-9, rtol=1e-9)
        for n, length in enumerate(lens):
            alone, count = model(feats[n : n + 1, :length], lens[n : n + 1])
            assert count == counts[n]
            torch.testing.assert_close(alone[0, :count], together[n, :count], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("context", "reach"), [([0, 0], (0, 0)), ([3, 1], (3, 1)), ([0, 5], (0, 5)), ([2, 0], (2, 0))], ids=str)
def test_a_window_limits_what_a_frame_depends_on(context: list[int], reach: tuple[int, int]) -> None:
    """One layer whose convolution sees its own frame alone: a change of one frame reaches those that see it."""
    model = build(n_layers=1, att_context_size=context, conv_kernel_size=1, causal_downsampling=True, conv_norm_type="layer_norm")
    feats = features(1, 80)
    changed = feats.clone()
    changed[:, 37:41] += 1  # with all features that frame 10 sees and frame 9 does not
    lens = torch.tensor([80])
    with torch.no_grad():
        x, _ = model.pre_encode(feats, lens)
        y, _ = model.pre_encode(changed, lens)
        moved = (x != y).any(-1)[0].nonzero().flatten()
        difference = (model(feats, lens)[0] - model(changed, lens)[0])[0].abs().amax(-1)
    first, last = int(moved[0]), int(moved[-1])
    seen = (difference > 1e-12).nonzero().flatten().tolist()
    assert seen == list(range(first - reach[1], last + reach[0] + 1))


def test_bfloat16_is_finite_and_near() -> None:
    model = build().float()
    feats, lens = features(2, 60).float(), torch.tensor([60, 31])
    with torch.no_grad():
        exact, counts = model(feats, lens)
        found, _ = model.to(torch.bfloat16)(feats, lens)
    assert found.dtype == torch.bfloat16 and found.isfinite().all()
    for ours, wanted, count in zip(found, exact, counts, strict=True):
        assert (ours[:count].float() - wanted[:count]).norm() / wanted[:count].norm() < 0.05


def test_gradients_reach_every_parameter() -> None:
    for options in OPTIONS:
        model = build(**options)
        out, _ = model(features(2, 50), torch.tensor([50, 29]))
        (out * torch.randn_like(out)).sum().backward()
        without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert without == [], options


@torch.no_grad()
def test_xscaling_multiplies_by_the_root_of_the_width() -> None:
    scaled, unscaled = build(xscaling=True), build(xscaling=False)
    feats, lens = features(1, 40), torch.tensor([40])
    unscaled.pre_encode.out.weight.mul_(math.sqrt(16))
    unscaled.pre_encode.out.bias.mul_(math.sqrt(16))
    torch.testing.assert_close(scaled(feats, lens), unscaled(feats, lens), atol=1e-9, rtol=1e-9)


# --- Contexts to choose from


@torch.no_grad()
def test_a_context_is_chosen_among_those_of_the_config() -> None:
    sizes = [[4, 1], [4, 0], [-1, 3]]
    model = build(att_context_size=sizes, att_context_style="chunked_limited")
    feats, lens = features(1, 60), torch.tensor([60])
    outputs = [model(feats, lens, att_context_size=size)[0] for size in sizes]
    for size, found in zip(sizes, outputs, strict=True):
        torch.testing.assert_close(found, build(att_context_size=size, att_context_style="chunked_limited")(feats, lens)[0])
    torch.testing.assert_close(model(feats, lens)[0], outputs[0])
    assert not torch.allclose(outputs[0], outputs[1]) and not torch.allclose(outputs[0], outputs[2])


def test_another_context_is_refused() -> None:
    model = build(att_context_size=[[4, 1], [4, 0]], att_context_style="chunked_limited")
    with pytest.raises(
        ValueError, match=r"att_context_size \[8, 1\] is not one this encoder was trained with: \[\[4, 1\], \[4, 0\]\]"
    ):
        model(features(1, 20), torch.tensor([20]), att_context_size=[8, 1])


@torch.no_grad()
def test_full_attention_can_be_limited_to_a_window() -> None:
    model = build()
    assert model.takes_windows
    feats, lens = features(2, 90), torch.tensor([90, 61])
    whole = model(feats, lens)[0]
    for size in ([3, 2], [0, 0], [-1, 1], [4, -1]):
        limited = model(feats, lens, att_context_size=size)[0]
        torch.testing.assert_close(limited, build(att_context_size=size)(feats, lens)[0])
        assert not torch.allclose(limited, whole)
    for size in ([-1, -1], [1000, 1000]):
        torch.testing.assert_close(model(feats, lens, att_context_size=size)[0], whole)
    with pytest.raises(ValueError, match=r"must be \[left, right\]"):
        model(feats, lens, att_context_size=[1, 2, 3])


@pytest.mark.parametrize("options", [o for o in OPTIONS if "att_context_size" in o], ids=str)
def test_limited_attention_cannot_be_widened(options: dict[str, Any]) -> None:
    assert not build(**options).takes_windows


@torch.no_grad()
def test_chunks_with_right_context_take_any_size() -> None:
    model = build(att_context_size=[-1, -1, -1], att_context_style="chunked_limited_with_rc")
    feats, lens = features(1, 60), torch.tensor([60])
    chosen = build(att_context_size=[6, 4, 2], att_context_style="chunked_limited_with_rc")
    torch.testing.assert_close(model(feats, lens, att_context_size=[6, 4, 2]), chosen(feats, lens))
    with pytest.raises(ValueError, match=r"must be \[left, chunk, right\]"):
        model(feats, lens, att_context_size=[6, 4])


@torch.no_grad()
def test_training_draws_a_context() -> None:
    sizes = [[4, 1], [4, 0]]
    options: dict[str, Any] = {"att_context_style": "chunked_limited", "dropout": 0.0, "dropout_pre_encoder": 0.0}
    options |= {"conv_norm_type": "layer_norm"}
    feats, lens = features(1, 60), torch.tensor([60])
    wanted = [build(att_context_size=size, **options)(feats, lens)[0] for size in sizes]

    def count(model: Conformer, draws: int) -> list[int]:
        found = [model.train()(feats, lens)[0] for _ in range(draws)]
        counts = [sum(torch.allclose(f, w) for f in found) for w in wanted]
        assert sum(counts) == draws
        return counts

    assert count(build(att_context_size=sizes, att_context_probs=[0.0, 1.0], **options), 8) == [0, 8]
    assert min(count(build(att_context_size=sizes, **options), 60)) > 15
    assert build(att_context_size=sizes, **options)(feats, lens)[0].equal(wanted[0])


# --- Stochastic depth


def outcomes(draws: int, **options: Any) -> tuple[list[Tensor], dict[tuple[float, ...], int]]:
    """What `forward` gives in eval mode of the whole and without the last layer, and how often it gives what in training mode."""
    model = build(dropout=0.0, dropout_pre_encoder=0.0, conv_norm_type="layer_norm", **options)
    feats, lens = features(1, 8), torch.tensor([8])
    counts: dict[tuple[float, ...], int] = {}
    with torch.no_grad():
        whole = model(feats, lens)[0].flatten()
        for _ in range(draws):
            key = tuple(model.train()(feats, lens)[0].flatten().tolist())
            counts[key] = counts.get(key, 0) + 1
        model.layers = model.layers[:-1]
        cut = model.eval()(feats, lens)[0].flatten()
    return [whole, cut], counts


def test_a_skipped_layer_passes_its_input_on_and_the_mean_stays() -> None:
    (whole, cut), counts = outcomes(200, n_layers=2, stochastic_depth_drop_prob=0.4, stochastic_depth_mode="uniform")
    (kept, often), (skipped, seldom) = sorted(counts.items(), key=lambda item: -item[1])
    assert often + seldom == 200 and seldom / 200 == pytest.approx(0.4, abs=0.1)
    torch.testing.assert_close(0.6 * torch.tensor(kept) + 0.4 * torch.tensor(skipped), whole.float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.tensor(skipped), cut.float(), atol=1e-5, rtol=1e-5)


def test_linear_depth_skips_deeper_layers_more_often() -> None:
    _, counts = outcomes(500, n_layers=3, stochastic_depth_drop_prob=0.8, stochastic_depth_mode="linear")
    # The second of three layers is skipped with 0.4, the third with 0.8.
    assert sorted(n / 500 for n in counts.values()) == pytest.approx([0.08, 0.12, 0.32, 0.48], abs=0.05)


def test_layers_before_the_first_are_never_skipped() -> None:
    _, counts = outcomes(
        50, n_layers=3, stochastic_depth_drop_prob=0.5, stochastic_depth_mode="uniform", stochastic_depth_start_layer=2
    )
    assert len(counts) == 2
    _, counts = outcomes(5, n_layers=2, stochastic_depth_drop_prob=0.9, stochastic_depth_start_layer=2)
    assert len(counts) == 1


def test_skipped_layers_have_gradients_too() -> None:
    """Zero, but there: training on several devices waits for all of them."""
    model = build(stochastic_depth_drop_prob=0.999, stochastic_depth_mode="uniform").train()
    model(features(2, 30), torch.tensor([30, 30]))[0].sum().backward()
    assert all(p.grad is not None for p in model.parameters())


# --- Shared biases


def test_biases_are_shared_or_not() -> None:
    tied, untied = build(untie_biases=False), build(untie_biases=True)
    assert tied.layers[0].attention.pos_bias_u is tied.layers[1].attention.pos_bias_u
    assert tied.layers[0].attention.pos_bias_v is tied.layers[1].attention.pos_bias_v
    assert untied.layers[0].attention.pos_bias_u is not untied.layers[1].attention.pos_bias_u
    assert len(list(untied.parameters())) == len(list(tied.parameters())) + 2
    assert tied.state_dict().keys() == untied.state_dict().keys()


def test_shared_biases_stay_shared_when_weights_are_loaded() -> None:
    source = build(untie_biases=False)
    with weights.outline():
        model = Conformer(source.config, d_in=F)
    weights.load_into(model, {k: v.clone() for k, v in source.state_dict().items()}, "test")
    assert model.layers[0].attention.pos_bias_u is model.layers[1].attention.pos_bias_u
    assert torch.equal(model.layers[1].attention.pos_bias_v, source.layers[0].attention.pos_bias_v)
    assert len(list(model.parameters())) == len(list(source.parameters()))


# --- Config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_heads": 3}, "n_heads 3 does not divide d_model 16"),
        ({"subsampling_factor": 6}, "subsampling_factor 6 is not a power of two"),
        ({"subsampling_factor": 1}, "subsampling_factor 1 is not a power of two from 2 on"),
        ({"att_context_size": [1, 2, 3]}, r"must be \[left, right\]"),
        (
            {"att_context_size": [[4, 1], [5, 1]], "att_context_style": "chunked_limited"},
            "left context 5 is not a whole number of chunks",
        ),
        ({"att_context_size": [[4, 1], [4, 0]], "att_context_probs": [1.0]}, "must be 2 numbers that add up to 1"),
        ({"att_context_size": [[4, 1], [4, 0]], "att_context_probs": [0.5, 0.6]}, "must be 2 numbers that add up to 1"),
        ({"self_attention_model": "rel_pos_local_attn"}, "needs one att_context_size .* here it is .-1, -1., 'regular'"),
        ({"self_attention_model": "rel_pos_local_attn", "att_context_size": [0, 0]}, "not both 0"),
        ({"self_attention_model": "rel_pos_local_attn", "att_context_size": [8, -1]}, "neither unlimited"),
        ({"self_attention_model": "rel_pos_local_attn", "att_context_size": [[8, 8], [4, 4]]}, "needs one att_context_size"),
        (
            {
                "self_attention_model": "rel_pos_local_attn",
                "att_context_size": [4, 1],
                "att_context_style": "chunked_limited",
            },
            "here it is .4, 1., 'chunked_limited'",
        ),
        ({"global_tokens": 1}, "need self_attention_model: rel_pos_local_attn"),
        ({"global_attn_separate": True}, "need self_attention_model: rel_pos_local_attn"),
        (
            {"self_attention_model": "rel_pos_local_attn", "att_context_size": [4, 4], "global_tokens": -1},
            "global_tokens must be 0 or more",
        ),
        (
            {
                "self_attention_model": "rel_pos_local_attn",
                "att_context_size": [4, 4],
                "global_tokens": 1,
                "global_tokens_spacing": 0,
            },
            "global_tokens_spacing 1 or more",
        ),
        ({"conv_kernel_size": 4}, "conv_kernel_size 4 is even"),
        ({"conv_context_size": [2, 3]}, r"conv_context_size \[2, 3\] does not add up to conv_kernel_size 5 - 1"),
        ({"conv_context_size": [5, -1]}, "does not add up"),
        ({"conv_context_size": "acausal"}, r"'acausal' is neither none, 'causal' nor \[left, right\]"),
        ({"conv_norm_type": "group_norm3"}, r"'group_norm3' is not one of .* \(N dividing 16\)"),
        ({"conv_norm_type": "group_norm"}, "'group_norm' is not one of"),
        ({"conv_norm_type": "none"}, "'none' is not one of"),
        ({"stochastic_depth_drop_prob": 1.0}, r"must lie in \[0, 1\)"),
        ({"stochastic_depth_start_layer": 3}, r"stochastic_depth_start_layer in \[1, n_layers\]"),
    ],
    ids=str,
)
def test_impossible_configs_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConformerConfig(**SMALL | options)


def test_an_unknown_backend_is_an_error() -> None:
    model = build(attention_backend="abacus")
    with pytest.raises(LookupError, match="'rel_pos_attention' has no backend 'abacus'; there are: .*reference"):
        model(features(1, 20), torch.tensor([20]))


def test_the_two_kinds_differ_in_their_defaults_alone() -> None:
    conformer, fast = ConformerConfig(), FastConformerConfig()
    assert (conformer.subsampling, conformer.subsampling_factor, conformer.conv_kernel_size) == ("striding", 4, 31)
    assert (fast.subsampling, fast.subsampling_factor, fast.conv_kernel_size) == ("dw_striding", 8, 9)
    assert fast.subsampling_conv_channels == 256 and fast.contexts == conformer.contexts == [[-1, -1]]
