"""One promise about one component, and what keeping it to that promise can come to."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final, Literal

import torch
from attrs import field, frozen

from sonant.errors import SonantError
from sonant.testing import surroundings

Outcome = Literal["passed", "failed", "skipped"]
RAISED: Final = (Exception, SystemExit)
"""Whatever the code of a component can raise; some of it is made of scripts, which exit."""


class Skipped(Exception):
    """The promise does not apply here; the text says why."""


@frozen
class Check:
    """A promise: calling it raises `AssertionError` where it is broken, and `Skipped` where it does not apply."""

    subject: str
    name: str
    promise: str
    function: Callable[[], str | None] = field(repr=False, eq=False)

    @property
    def label(self) -> str:
        """`encoder fastconformer: padding invariance`"""
        return f"{self.subject}: {self.name}"

    def __call__(self) -> str:
        """Returns a remark, usually none. Random numbers, settings of torch and the environment are left as they were."""
        with surroundings.kept(), torch.random.fork_rng(devices=[]):
            return self.function() or ""


def require(condition: object, message: str) -> None:
    """Like `assert`, and also where Python is told to leave those out."""
    __tracebackhide__ = True
    if not condition:
        raise AssertionError(message)


def run(check: Check) -> tuple[Outcome, str]:
    """Whether a promise is kept, and the remark, fault or reason that goes with it.

    What a component prints goes to standard error: standard output is for the report.
    """
    try:
        with redirect_stdout(sys.stderr):
            return "passed", check()
    except Skipped as reason:
        return "skipped", str(reason)
    except AssertionError as fault:
        return "failed", str(fault)
    except RAISED as error:
        return "failed", explain(error)


def explain(error: BaseException) -> str:
    """An exception in one line: its text, and for those not meant for users its type and where it was raised."""
    if isinstance(error, SonantError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = os.path.dirname(__file__)
    place = next((f for f in reversed(frames) if not f.filename.startswith((own, os.path.dirname(torch.__file__)))), None)
    where = f" ({Path(place.filename).name}:{place.lineno})" if place else ""
    return f"{type(error).__name__}: {str(error).strip()}{where}"
