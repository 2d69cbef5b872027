"""The contract of the kinds that a recognizer does without: losses, optimizers, schedulers, vocoders, codecs and others."""

from __future__ import annotations

import pytest

from contract_cases import BROKEN_KINDS, SKIPPED_KINDS, assert_fails, by_subject, outcomes, skipped_only
from sonant import protocols, registry
from sonant.spec import KINDS
from sonant.testing.calls import loss_inputs
from sonant.testing.subject import Subject

DISTRIBUTIONS = "good-parts,good-kinds,broken-kinds"


pytestmark = pytest.mark.usefixtures("contract_plugins")


def subject(kind, name):
    return Subject(registry.current().get(kind, name))


def test_good_components_keep_every_promise():
    assert skipped_only("good-kinds") == SKIPPED_KINDS


@pytest.mark.parametrize("subject", BROKEN_KINDS)
def test_a_broken_promise_fails_there_and_only_there(subject):
    assert_fails(by_subject(["broken-kinds"])[subject], BROKEN_KINDS[subject])


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ("loss broken/infinite", "does not give one finite number"),
        ("optimizer broken/no_rate", "not a usable torch.optim.Optimizer"),
        ("vocoder broken/no_rate", "its attributes are not usable"),
        ("codec broken/no_size", "its attributes are not usable"),
    ],
)
def test_one_fault_is_reported_once(subject, reason):
    skipped = outcomes(by_subject(["broken-kinds"])[subject], "skipped")
    assert len(skipped) >= 3
    assert set(skipped.values()) - {"not a torch.nn.Module"} == {reason}


def test_every_kind_has_a_protocol():
    assert set(protocols.BY_KIND) == set(KINDS)


def test_the_good_components_are_what_the_protocols_say():
    found = [Subject(r) for r in registry.current() if r.plugin.distribution == "good-kinds" or r.spec.name in GOOD_PARTS]
    assert {each.spec.kind for each in found} == set(KINDS)
    for each in found:
        assert isinstance(each.build(), protocols.BY_KIND[each.spec.kind]), each.label


GOOD_PARTS = ("blocks", "mask", "running_mean", "frames", "best", "letters", "spell")


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("first_label", {"logits": (3, 30, 13), "lens": (3,), "labels": (3, 5)}),  # not the cube, with which it fails
        ("lattice", {"logits": (3, 30, 6, 13), "lens": (3,), "labels": (3, 5), "label_lens": (3,)}),
        ("weighted", {"scores": (3, 30, 13), "weights": (3, 30), "lens": (3,)}),
        ("distance", {"pred": (3, 30, 16), "target": (3, 30, 16), "lens": (3,)}),
    ],
)
def test_a_loss_is_called_with_what_it_names(name, shapes):
    loss = subject("loss", name)
    assert {name: tuple(value.shape) for name, value in loss_inputs(loss, loss.build()).items()} == shapes
