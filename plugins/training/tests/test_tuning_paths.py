"""Patterns that mean modules and parameters."""

from __future__ import annotations

import pytest

from sonant.errors import ConfigError
from sonant_training.tuning import paths
from tuning_models import build

KNOWN = ["encoder", "encoder.layers.0", "encoder.layers.1", "encoder.layers.1.norm_out", "encoder.layers.1.norm_out.weight"]
KNOWN += ["encoder.layers.10", "encoder.layers.10.norm_out.weight", "decoder", "decoder.out.weight"]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("decoder", ["decoder", "decoder.out.weight"]),
        ("encoder.layers.1", KNOWN[2:5]),
        ("encoder.layers.0-1", KNOWN[1:5]),
        ("encoder.layers.*.norm_out.weight", [KNOWN[4], KNOWN[6]]),
        ("*.norm*", [KNOWN[3], KNOWN[4], KNOWN[6]]),
        ("*", KNOWN),
    ],
)
def test_a_pattern_means_what_it_names_and_what_lies_below(pattern: str, meant: list[str]) -> None:
    assert paths.match([pattern], KNOWN, "x") == set(meant)


def test_several_patterns_mean_what_any_of_them_means() -> None:
    assert paths.match(["decoder", "encoder.layers.0"], KNOWN, "x") == {"decoder", "decoder.out.weight", "encoder.layers.0"}
    assert paths.match([], KNOWN, "x") == set()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("encoder.layer.1", r"init\.freeze\[1\]: .*nothing called 'encoder\.layer\.1'. Did you mean 'encoder\.layers\.1'"),
        ("encoder.layers.0-2", r"nothing called 'encoder\.layers\.2' \(of 'encoder\.layers\.0-2'\). Did you mean 'encoder"),
        ("encoder.layers.3-1", r"'encoder\.layers\.3-1' has a range that ends before it begins"),
        ("zzz", r"nothing called 'zzz'. At the top it has decoder, encoder"),
        ("enc", r"nothing called 'enc'"),
    ],
)
def test_a_pattern_that_means_nothing_is_an_error_with_what_is_close(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        paths.match(["decoder", pattern], KNOWN, "init.freeze")


def test_dots_are_dots() -> None:
    with pytest.raises(ConfigError, match="nothing called"):
        paths.match(["decoder.out.weigh."], KNOWN, "x")


def test_a_model_has_modules_parameters_and_buffers() -> None:
    found = paths.names(build())
    assert {"encoder.layers.2", "encoder.layers.2.convolution.norm.running_mean", "decoder.out.weight", "preprocessor"} <= set(
        found
    )
    assert len(found) == len(set(found))
