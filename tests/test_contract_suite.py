"""Every component of every plugin in this repository keeps the contract."""

from __future__ import annotations

import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from sonant.testing import contract

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = sorted(tomllib.loads(p.read_text("utf-8"))["project"]["name"] for p in ROOT.glob("plugins/*/pyproject.toml"))
CHECKS = [check for distribution in DISTRIBUTIONS for check in contract.checks(distribution)]

NOT_APPLICABLE = {
    "encoder conformer: streaming equals offline": "does not stream",
    "encoder convolutional: streaming equals offline": "does not stream",
    "encoder transformer: streaming equals offline": "does not stream",
    "encoder stacking_transformer: streaming equals offline": "does not stream",
    "encoder language_prompt: streaming equals offline": "does not stream",
    "preprocessor log_mel: streaming equals offline": "does not stream",
    "preprocessor log_mel: gradients reach every parameter": "has no parameters to train",
    "search aed_beam: streaming equals one pass": "does not stream",
    "search aed_greedy: streaming equals one pass": "does not stream",
    "search ctc_beam: streaming equals one pass": "does not stream",
    "search transducer_beam: streaming equals one pass": "does not stream",
    "search transducer_maes: streaming equals one pass": "does not stream",
    "augmentation spec_augment: gradients reach every parameter": "has no parameters to train",
    "loss angular_softmax: gradients reach every parameter": "has no parameters to train",
    "loss bce: gradients reach every parameter": "has no parameters to train",
    "loss cross_entropy: gradients reach every parameter": "has no parameters to train",
    "loss ctc: gradients reach every parameter": "has no parameters to train",
    "loss rnnt: gradients reach every parameter": "has no parameters to train",
    "loss tdt: gradients reach every parameter": "has no parameters to train",
}
if find_spec("triton") is None:
    NOT_APPLICABLE["kernel transducer_loss/triton: loads"] = "needs triton, which is not installed here"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.label)
def test_contract(check: contract.Check) -> None:
    reason = NOT_APPLICABLE.get(check.label)
    if reason is None:
        check()
    else:
        with pytest.raises(contract.Skipped, match=reason):
            check()


def test_what_does_not_apply_is_there() -> None:
    assert NOT_APPLICABLE.keys() <= {check.label for check in CHECKS}
