"""Config of a run: what is written where, when it stops, what is kept."""

from __future__ import annotations

import re
from typing import Literal

from attrs import field, frozen
from attrs.validators import ge, optional

TIME = re.compile(r"(?P<days>\d+):(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+)")


def seconds(text: str) -> float:
    """`days:hours:minutes:seconds`, as Lightning writes times, in seconds."""
    match = TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time of the form days:hours:minutes:seconds, e.g. 00:01:30:00")
    days, hours, minutes, rest = map(int, match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)


@frozen(kw_only=True)
class CheckpointsConfig:
    """Which states of a run are kept, to go on from or to choose among."""

    monitor: str | None = field(
        default=None,
        metadata={"help": "what says which are the best, as val_wer; none means val_loss, if there is a validation_ds"},
    )
    mode: Literal["min", "max"] = field(default="min", metadata={"help": "whether less of it is better or more"})
    save_top_k: int = field(default=3, validator=ge(-1), metadata={"help": "so many of the best are kept; 0: none, -1: all"})
    save_last: bool = field(default=True, metadata={"help": "whether the newest is kept too, for going on"})
    every_n_steps: int | None = field(
        default=None,
        validator=optional(ge(1)),
        metadata={"help": "also save the newest after so many optimizer steps; none: after each validation only"},
    )


@frozen(kw_only=True)
class EarlyStoppingConfig:
    """Stop when it gets no better."""

    monitor: str | None = field(default=None, metadata={"help": "what is looked at; none means that of the checkpoints"})
    mode: Literal["min", "max"] = field(default="min", metadata={"help": "whether less of it is better or more"})
    patience: int = field(
        default=10,
        validator=ge(1),
        metadata={"help": "so many validations without getting better end the run"},
    )
    min_delta: float = field(
        default=0.0,
        validator=ge(0),
        metadata={"help": "what counts as getting better, at least"},
    )


@frozen(kw_only=True)
class EmaConfig:
    """An exponential moving average of the weights, which is what is validated and saved."""

    decay: float = field(default=0.999, metadata={"help": "how much of the average a step keeps"})
    every_n_steps: int = field(
        default=1,
        validator=ge(1),
        metadata={"help": "average after every so many optimizer steps"},
    )
    start_step: int = field(
        default=0,
        validator=ge(0),
        metadata={"help": "the average is the weights themselves before this optimizer step"},
    )

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay {self.decay} is not from 0 up to, but without, 1")


@frozen(kw_only=True)
class ExperimentConfig:
    """The section `exp_manager`: where a run is written, `exp_dir/name/version`, and what is kept of it."""

    exp_dir: str = field(default="runs", metadata={"help": "the folder of all runs, from the current folder on"})
    name: str | None = field(default=None, metadata={"help": "what is trained; none means the name of the config file"})
    version: str | None = field(
        default=None,
        metadata={"help": "the folder of this run; none means version_0, version_1 and so on, the next one"},
    )
    resume_if_exists: bool = field(
        default=False, metadata={"help": "go on with the newest version that has a checkpoint, or with `version`"}
    )
    resume_from: str | None = field(default=None, metadata={"help": "go on from this checkpoint file, in a version of its own"})
    max_time_per_run: str | None = field(
        default=None,
        metadata={"help": "stop after so long, days:hours:minutes:seconds, with a checkpoint to go on from"},
    )
    checkpoints: CheckpointsConfig = field(factory=CheckpointsConfig, metadata={"help": "which states are kept"})
    early_stopping: EarlyStoppingConfig | None = field(default=None, metadata={"help": "stop when it gets no better"})
    ema: EmaConfig | None = field(default=None, metadata={"help": "average the weights; none: do not"})
    max_bad_steps: int = field(
        default=10,
        validator=ge(1),
        metadata={"help": "steps whose gradient is not finite are left out; so many in a row end the run"},
    )
    tensorboard: bool = field(default=True, metadata={"help": "write curves, transcripts and pictures for TensorBoard"})
    samples: int = field(
        default=4,
        validator=ge(0),
        metadata={"help": "so many examples of each validation are written down, with what the model hears in them"},
    )
    pictures: bool = field(default=True, metadata={"help": "whether the first of these is drawn: when the model hears what"})
    final: Literal["best", "last"] = field(
        default="best",
        metadata={"help": "the weights of the model at the end: those of the best checkpoint, if one is known, or the last"},
    )
    save_nemo: bool = field(default=False, metadata={"help": "also write the model as a .nemo file, which NeMo opens"})

    def __attrs_post_init__(self) -> None:
        if self.max_time_per_run is not None:
            seconds(self.max_time_per_run)
        for key in ("name", "version"):
            value = getattr(self, key)
            if value is not None and (not value or value in (".", "..") or re.search(r"[/\\\0]", value)):
                raise ValueError(f"{key} {value!r} is not the name of a folder")
        if self.resume_from is not None and self.resume_if_exists:
            raise ValueError("resume_from names a checkpoint and resume_if_exists looks for one: give one of them")
