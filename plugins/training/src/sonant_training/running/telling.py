"""What a run says: lines on standard error, above the bar where there is one, and in a file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

ROOT = logging.getLogger("sonant_training")


class _AboveTheBar(logging.Handler):
    """Lines that leave a progress bar whole."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stderr)
            sys.stderr.flush()
        except OSError:  # a terminal that has gone
            self.handleError(record)


@contextmanager
def told(file: Path | None) -> Iterator[None]:
    """Meanwhile what this package logs goes to standard error, and to `file`."""
    handlers: list[logging.Handler] = [_AboveTheBar()]
    handlers[0].setFormatter(logging.Formatter("%(message)s"))
    if file is not None:
        handlers.append(logging.FileHandler(file, encoding="utf-8", delay=True))
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    level, propagates = ROOT.level, ROOT.propagate
    ROOT.setLevel(logging.INFO)
    ROOT.propagate = False
    for handler in handlers:
        ROOT.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            ROOT.removeHandler(handler)
            handler.close()
        ROOT.setLevel(level)
        ROOT.propagate = propagates
