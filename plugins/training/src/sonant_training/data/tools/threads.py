"""Work on many files at once, its results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

from sonant import cpus

_AHEAD: Final = 16  # items each worker may be ahead of the one that is waited for
A = TypeVar("A")
B = TypeVar("B")


def in_order(function: Callable[[A], B], items: Iterable[A], workers: int | None = None) -> Iterator[B]:
    """The results of a function in the order of its arguments, computed in threads: decoders and numpy leave Python to others."""
    workers = workers or cpus.usable()
    waiting: deque[Future[B]] = deque()
    source = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting.extend(pool.submit(function, item) for item in islice(source, _AHEAD * workers))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(source, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
