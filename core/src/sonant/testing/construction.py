"""What a component's constructor promises: it builds what the config says, and does nothing else."""

from __future__ import annotations

from sonant.testing import surroundings
from sonant.testing.attributes import faults
from sonant.testing.check import RAISED, Skipped, explain, require
from sonant.testing.subject import Subject


def builds(subject: Subject) -> None:
    """The tiny config gives a component."""
    try:
        subject.construct()
    except Skipped:
        raise
    except RAISED as error:
        raise AssertionError(f"cannot be built from its tiny config: {explain(error.__cause__ or error)}") from error


def constructor_leaves_all_else_alone(subject: Subject) -> None:
    """Building changes neither the config nor anything that the process shares."""
    section, original = subject.section, subject.section
    _ = subject.target  # importing it may well have effects of its own
    before = surroundings.read()
    subject.attempt(section, seed=before["torch's seed"])
    touched = surroundings.changed(before)
    require(not touched, f"the constructor changes {', '.join(touched)}: build modules in it and nothing else")
    require(
        section.config == original.config,
        f"the constructor writes into its config: {original.config} became {section.config}; copy what is to be changed",
    )


def attributes(subject: Subject) -> None:
    """What the parts that follow are told is there, and positive."""
    found = faults(subject.spec.kind, subject.attempt())
    require(not found, "; ".join(found))


CHECKS = (builds, constructor_leaves_all_else_alone)
