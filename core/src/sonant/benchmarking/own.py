"""Sonant's side: any task's model, in this process."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

import sonant
from sonant import inputs, lengths, protocols, runtime
from sonant.benchmarking import cases
from sonant.benchmarking.workers.serve import Stage, Stages, once
from sonant.errors import ConfigError

_VERBS: Final = ("transcribe", "diarize", "embed", "enhance")
"""Of tasks that take recordings; a model without any is given batches, by `infer`."""


class Own:
    """A model and what can be timed of it, answering as a worker does.

    Raises:
        ConfigError: the model says of no sample rate, so that nothing can be given to it.
    """

    def __init__(self, source: str, *, device: str, dtype: str, registry: str | None = None) -> None:
        self.opened = once(lambda: self._open(source, device, dtype, registry), {})
        self._stages = Stages({"encoder": self._encoder, "decoder": self._decoder, "memory": self._memory, "files": self._files})

    def _open(self, source: str, device: str, dtype: str, registry: str | None) -> int:
        self.model: Any = sonant.load(source, device=device, dtype=dtype, registry=registry)
        rate = getattr(self.model, "sample_rate", None)
        if not isinstance(rate, int):
            raise ConfigError(f"{source} is a {type(self.model).__name__}, which has no sample_rate: it cannot be given audio")
        self.sample_rate = rate
        first = next(self.model.parameters(), torch.zeros(0))
        self.device, self.dtype = first.device, self._dtype(first)
        return sum(p.numel() for p in self.model.parameters())

    def _dtype(self, first: Tensor) -> str:
        """Of most numbers: some parts stay in float32."""
        sizes: dict[torch.dtype, int] = {}
        for parameter in self.model.parameters():
            sizes[parameter.dtype] = sizes.get(parameter.dtype, 0) + parameter.numel()
        return str(max(sizes, key=lambda kind: sizes[kind], default=first.dtype)).removeprefix("torch.")

    @property
    def lacks(self) -> dict[str, str]:
        """The stages that this model does not have, and why."""
        model, found = self.model, {}
        parts = {"preprocessor": protocols.Preprocessor, "encoder": protocols.Encoder}
        absent = [name for name, protocol in parts.items() if not isinstance(getattr(model, name, None), protocol)]
        kind = type(model).__name__
        if absent:
            found["encoder"] = f"{kind} has no {' and no '.join(absent)}"
        if absent or not isinstance(model, protocols.Decoding):
            found["decoder"] = found.get("encoder", f"{kind} has no method decode, from frames to results")
        return found

    @torch.inference_mode()
    def time(self, stage: str, calls: int, keep: bool = False, **arguments: Any) -> dict[str, Any]:
        """So many calls of a stage; `cannot` where memory is too small for it."""
        try:
            with runtime.in_eval(self.model):
                return self._stages.time(stage, calls, keep, **arguments)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        self._stages.forget()
        return {"cannot": "out of memory"}

    @torch.inference_mode()
    def prepare(self, batches: Sequence[Sequence[str]], feats: Sequence[str], frames: Sequence[str], *, decoded: bool) -> None:
        """Write what encoders and decoders are given, a file a batch: features, and with `decoded` the frames of our encoder."""
        for files, to_feats, to_frames in zip(batches, feats, frames, strict=True):
            wav, lens = lengths.pad([torch.from_numpy(samples) for samples in cases.read(files, self.sample_rate)])
            x, x_lens = self.model.preprocessor(wav.to(self.device), lens.to(self.device))
            _write(to_feats, x, x_lens)
            if decoded:
                _write(to_frames, *self.model.encoder(x, x_lens))

    def forget(self) -> None:
        """Let go of the model."""
        self._stages.forget()
        self.model = nn.Identity()
        gc.collect()

    def _read(self, batches: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        found = []
        for file in batches:
            with np.load(file) as arrays:
                found.append(tuple(torch.from_numpy(arrays[name]).to(self.device) for name in ("x", "lens")))
        return found  # type: ignore[return-value]

    def _encoder(self, batches: list[str], output: str) -> Stage:
        given, encoder = self._read(batches), self.model.encoder

        def keep(found: list[tuple[Tensor, Tensor]]) -> None:
            arrays: dict[str, Any] = {f"x{n}": enc.float().cpu().numpy() for n, (enc, _) in enumerate(found)}
            arrays |= {f"lens{n}": lens.cpu().numpy() for n, (_, lens) in enumerate(found)}
            np.savez(output, **arrays)

        return lambda: [encoder(feats, lens) for feats, lens in given], keep

    def _decoder(self, batches: list[str]) -> Stage:
        first = next(self.model.encoder.parameters(), torch.zeros(0))
        given = [(enc.to(first.dtype), lens) for enc, lens in self._read(batches)]
        return lambda: [one for enc, lens in given for one in self.model.decode(enc, lens)], _texts

    def _memory(self, files: list[str], batch: int) -> Stage:
        items = inputs.expand(files)
        sounds = [torch.from_numpy(samples) for samples in cases.read(files, self.sample_rate)]
        given = []
        for at in range(0, len(sounds), batch):
            wav, lens = lengths.pad(sounds[at : at + batch])
            given.append(runtime.Batch(wav.to(self.device), lens.to(self.device), tuple(items[at : at + batch])))
        return lambda: [one for each in given for one in self.model.infer(each)], _texts

    def _files(self, files: list[str], batch: int) -> Stage:
        verb = self._verb()
        if verb is not None:
            return lambda: verb(files, batch_size=batch), _texts
        items, batching = inputs.expand(files), runtime.Batching(batch_size=batch)
        return lambda: list(runtime.process(items, self.model.infer, self.sample_rate, batching)), _texts

    def _verb(self) -> Callable[..., Any] | None:
        for name in _VERBS:
            verb = getattr(self.model, name, None)
            if callable(verb) and "batch_size" in inspect.signature(verb).parameters:
                return verb
        return None


def out_of_memory(error: Exception) -> bool:
    """Whether a computation failed because memory is too small for it; on a CPU only the text says so."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)


def _texts(results: Sequence[Any]) -> list[str]:
    """What results say, where they are texts."""
    return [str(getattr(one, "text", "")) for one in results]


def _write(file: str, x: Tensor, lens: Tensor) -> None:
    np.savez(file, x=x.float().cpu().numpy(), lens=lens.cpu().numpy())
