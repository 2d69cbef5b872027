"""Where a model runs and how recordings reach it: device and dtype, batches by length, decoding ahead of the model."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal

import torch
from attrs import frozen
from torch import Tensor, nn

from sonant import lengths
from sonant.errors import AudioError, ConfigError, SonantError
from sonant.inputs import Item
from sonant.results import Failure

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_WINDOW = 16  # batches that are sorted by length together; bounds both padding and the wait for the first result
_WORTHWHILE = 10.0  # seconds of audio in a batch, from which on a processor is kept busy
_AHEAD = 2  # batches decoded while the model works
_MOST_AHEAD = 1800.0  # seconds of audio in them; a longer batch is decoded when its turn comes


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; `auto` is CUDA where there is one.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used here ({_first_line(error)}); 'auto' and 'cpu' always can") from error
    return device


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called `name`; `auto` is bfloat16 on a GPU that computes in it, else float32.

    Raises:
        ConfigError: no such dtype.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    if name not in DTYPES:
        raise ConfigError(f"dtype {name!r} is not known; there are: auto, {', '.join(DTYPES)}, stored")
    return DTYPES[name]


def place(model: nn.Module, device: str = "auto", dtype: str = "auto") -> nn.Module:
    """Move a model to its device and dtype; `stored` leaves every tensor as it is, for saving it again.

    Submodules with `float32_only = True` (features) are float32 in any other.
    """
    where = choose_device(device)
    kind = None if dtype == "stored" else choose_dtype(dtype, where)
    exact = {id(t) for m in model.modules() if getattr(m, "float32_only", False) for t in (*m.parameters(), *m.buffers())}

    def move(tensor: Tensor) -> Tensor:
        if kind is None or not tensor.is_floating_point():
            return tensor.to(where)
        return tensor.to(where, torch.float32 if id(tensor) in exact else kind)

    return model._apply(move)


@contextmanager
def in_eval(model: nn.Module) -> Iterator[None]:
    """`model` in eval mode; afterwards each of its modules is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@frozen
class Batch:
    """Recordings padded to one length: `wav` `(B, N)` float32, `lens` `(B,)` samples, and where they came from."""

    wav: Tensor
    lens: Tensor
    items: tuple[Item, ...]

    def each(self) -> Iterator[Batch]:
        """Its recordings one by one, without padding."""
        for row, item in enumerate(self.items):
            yield Batch(self.wav[row : row + 1, : int(self.lens[row])], self.lens[row : row + 1], (item,))


@frozen(kw_only=True)
class Batching:
    """How recordings are grouped: at most `batch_size` of them, and at most `batch_seconds` with padding.

    A batch that holds ten seconds already takes none that is shorter than the part `shortest` of its longest. A recording of more
    than `longest` seconds shares no batch, so that what one needs is not needed for each.
    """

    batch_size: int = 16
    batch_seconds: float | None = None
    shortest: float = 0.0
    longest: float = math.inf
    channel: int | None = None
    workers: int = 2

    def __attrs_post_init__(self) -> None:
        if min(self.batch_size, self.workers) < 1 or (self.batch_seconds is not None and self.batch_seconds <= 0):
            raise ConfigError("batch_size and workers must be at least 1, and batch_seconds more than 0")


def plan(durations: Sequence[float], batching: Batching) -> list[list[int]]:
    """Indices grouped into batches of similar length, longest first.

    A recording longer than `batch_seconds` gets a batch of its own.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(durations)), key=lambda i: -durations[i]):
        if batches and _fits(durations[index], [durations[i] for i in batches[-1]], batching):
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _fits(duration: float, batch: list[float], batching: Batching) -> bool:
    """Whether a batch, longest first, has room for one more that is no longer."""
    if len(batch) >= batching.batch_size or batch[0] > batching.longest:
        return False
    if batching.batch_seconds is not None and (len(batch) + 1) * batch[0] > batching.batch_seconds:
        return False
    return duration >= batching.shortest * batch[0] or sum(batch) < _WORTHWHILE


def process(
    items: Sequence[Item],
    infer: Callable[[Batch], Sequence[Any]],
    sample_rate: int,
    batching: Batching | None = None,
    on_error: Literal["raise", "return"] = "raise",
) -> Iterator[Any]:
    """Run `infer` over recordings; yields its results in the order of the items, as soon as that order allows.

    Recordings are sorted by length within windows of a few batches, and decoded ahead in threads.

    Args:
        items: what to process.
        infer: from a batch to one result for each of its items.
        sample_rate: in Hz, of the samples `infer` gets.
        batching: how to group.
        on_error: `raise` stops at the first recording that fails; `return` yields a `Failure` in its place and goes on.

    Raises:
        AudioError: a recording cannot be read and `on_error` is `raise`; the text begins with its name.
    """
    batching = batching or Batching()
    window = batching.batch_size * _WINDOW
    with ThreadPoolExecutor(batching.workers, thread_name_prefix="sonant-audio") as pool:
        for start in range(0, len(items), window):
            results = _process_window(items[start : start + window], infer, sample_rate, batching, pool)
            for result in results:
                if isinstance(result, Failure) and on_error == "raise":
                    raise _named(result)
                yield result


def _named(failure: Failure) -> Exception:
    error = failure.error
    if isinstance(error, SonantError):
        named = type(error)(str(failure))
        named.__cause__ = error
        return named
    error.add_note(f"while processing {failure.source}")
    return error


def _process_window(
    items: Sequence[Item], infer: Callable[[Batch], Sequence[Any]], sample_rate: int, batching: Batching, pool: ThreadPoolExecutor
) -> Iterator[Any]:
    """Results of one window in order, each yielded once everything before it is there."""
    durations = list(pool.map(lambda item: _attempt(item, lambda: item.seconds(sample_rate)), items))
    done: dict[int, Any] = {i: d for i, d in enumerate(durations) if isinstance(d, Failure)}
    good = [i for i in range(len(items)) if i not in done]
    batches = [[good[j] for j in batch] for batch in plan([durations[i] for i in good], batching)]

    def decode(index: int) -> Any:
        return _attempt(items[index], lambda: torch.from_numpy(items[index].read(sample_rate, batching.channel)))

    waiting: deque[tuple[list[int], list[Future[Any]]]] = deque()
    emitted = 0
    remaining = deque(batches)
    while True:
        while remaining and _is_time_for(remaining[0], [i for indices, _ in waiting for i in indices], len(waiting), durations):
            indices = remaining.popleft()
            waiting.append((indices, [pool.submit(decode, i) for i in indices]))
        while emitted in done:
            yield done.pop(emitted)
            emitted += 1
        if not waiting:
            return
        indices, futures = waiting.popleft()
        decoded = dict(zip(indices, (f.result() for f in futures), strict=True))
        done |= {i: value for i, value in decoded.items() if isinstance(value, Failure)}
        ready = [i for i in indices if i not in done]
        if ready:
            results = _infer(infer, [items[i] for i in ready], [decoded[i] for i in ready])
            done |= dict(zip(ready, results, strict=True))
        del decoded, futures  # hours of audio, perhaps


def _is_time_for(batch: list[int], waiting: list[int], batches: int, durations: Sequence[Any]) -> bool:
    """Whether to begin to decode a batch while so many `batches` with the recordings `waiting` are decoded or being so."""
    ahead = sum(durations[i] for i in (*waiting, *batch))
    return batches == 0 or (batches < _AHEAD and ahead <= _MOST_AHEAD)


def _attempt(item: Item, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except (AudioError, OSError, MemoryError) as error:
        return Failure(item.name, error)


def _batch(samples: list[Tensor], items: list[Item]) -> Batch:
    if len(samples) == 1:  # not copied
        return Batch(samples[0][None], torch.tensor([len(samples[0])]), tuple(items))
    return Batch(*lengths.pad(samples), tuple(items))


def _infer(infer: Callable[[Batch], Sequence[Any]], items: list[Item], samples: list[Tensor]) -> Sequence[Any]:
    """One batch; should it fail (most likely out of memory), its recordings one by one, so that one cannot take the rest down."""
    try:
        return infer(_batch(samples, items))
    except (RuntimeError, MemoryError) as error:
        if len(items) == 1:
            log.debug("inference failed", exc_info=True)
            return [Failure(items[0].name, error)]
        log.warning("a batch of %d failed (%s); trying its recordings one by one", len(items), _first_line(error))
    return [_infer(infer, [item], [wav])[0] for item, wav in zip(items, samples, strict=True)]
