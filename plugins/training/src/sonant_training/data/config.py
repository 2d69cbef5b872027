"""Config of `train_ds`, `validation_ds` and `test_ds`: where the examples come from, and how they become batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from attrs import Attribute, field, frozen

_FILES_HELP = "one or a list of them, of which {a,b} and {0..9} stand for several; relative ones are beside the config file"


def _files(_: object, attribute: Attribute[Any], value: Any) -> None:
    items = value if isinstance(value, (list, tuple)) else [value]
    if value is not None and not (items and all(isinstance(item, str) and item for item in items)):
        raise ValueError(f"{attribute.name} {value!r} is neither the name of a file nor a list of such")


def _positive(_: object, attribute: Attribute[Any], value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} {value} is not above 0")


def _from_zero(_: object, attribute: Attribute[Any], value: float | None) -> None:
    if value is not None and not 0 <= value < math.inf:
        raise ValueError(f"{attribute.name} {value} is below 0")


def _part(_: object, attribute: Attribute[Any], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} {value} is not a probability, from 0 to 1")


def _span(_: object, attribute: Attribute[Any], value: Sequence[float] | None) -> None:
    if value is not None and not (len(value) == 2 and -math.inf < value[0] <= value[1] < math.inf):
        raise ValueError(f"{attribute.name} {value} is not [lowest, highest]")


def _speeds(_: object, attribute: Attribute[Any], value: Sequence[float]) -> None:
    if not all(0.25 <= factor <= 4 for factor in value):
        raise ValueError(f"{attribute.name} {value}: factors are from 0.25 to 4, 1.0 being the speed of the recording")


@frozen(kw_only=True)
class NoiseConfig:
    """Recordings of noise, mixed into the speech."""

    manifest_filepath: Any = field(
        validator=_files, metadata={"help": f"a manifest of noises, or a folder of audio files; {_FILES_HELP}"}
    )
    prob: float = field(default=0.5, validator=_part, metadata={"help": "which part of the examples gets noise"})
    snr_db: list[float] = field(
        factory=lambda: [10.0, 30.0],
        validator=_span,
        metadata={"help": "how much louder the speech is, in dB, between these two"},
    )


@frozen(kw_only=True)
class RirConfig:
    """Impulse responses of rooms, in which the speech then sounds."""

    manifest_filepath: Any = field(
        validator=_files, metadata={"help": f"a manifest of impulse responses, or a folder of audio files; {_FILES_HELP}"}
    )
    prob: float = field(default=0.3, validator=_part, metadata={"help": "which part of the examples is put in a room"})


@frozen(kw_only=True)
class WhiteNoiseConfig:
    """Faint white noise."""

    prob: float = field(default=0.5, validator=_part, metadata={"help": "which part of the examples gets it"})
    level_db: list[float] = field(
        factory=lambda: [-90.0, -46.0],
        validator=_span,
        metadata={"help": "its root mean square in dB of full scale, between these two"},
    )


@frozen(kw_only=True)
class ShiftConfig:
    """A shift in time: what leaves one end is lost, and silence comes in at the other."""

    prob: float = field(default=0.5, validator=_part, metadata={"help": "which part of the examples is shifted"})
    shift_ms: list[float] = field(
        factory=lambda: [-5.0, 5.0],
        validator=_span,
        metadata={"help": "by so many milliseconds, between these two; positive is later"},
    )


@frozen(kw_only=True)
class PerturbConfig:
    """What is done to the waveforms of training, differently each time an example comes. In this order."""

    speed: list[float] = field(
        factory=list,
        validator=_speeds,
        metadata={"help": "play at one of these speeds, each as likely, as [0.9, 1.0, 1.1]; the pitch changes with it"},
    )
    shift: ShiftConfig | None = field(default=None, metadata={"help": "shift in time"})
    rir: RirConfig | None = field(default=None, metadata={"help": "put into a room"})
    noise: NoiseConfig | None = field(default=None, metadata={"help": "mix with recorded noise"})
    white_noise: WhiteNoiseConfig | None = field(default=None, metadata={"help": "add white noise"})
    volume_db: list[float] | None = field(
        default=None, validator=_span, metadata={"help": "change the volume by so many dB, between these two, as [-6, 6]"}
    )


@frozen(kw_only=True)
class SourceConfig:
    """One of several places that examples come from. Exactly one of the four kinds, or a manifest with its tar files."""

    manifest_filepath: Any = field(
        default=None,
        validator=_files,
        metadata={"help": f"JSON lines with audio_filepath (relative to the manifest), text, duration; {_FILES_HELP}"},
    )
    tarred_audio_filepaths: Any = field(
        default=None,
        validator=_files,
        metadata={
            "help": "tar files that hold the audio: those a manifest names, or, without a manifest, each beside a .json or .txt "
            f"of the same name; {_FILES_HELP}"
        },
    )
    shar_path: Any = field(default=None, validator=_files, metadata={"help": f"folders in lhotse's Shar format; {_FILES_HELP}"})
    cuts_path: Any = field(default=None, validator=_files, metadata={"help": f"lhotse's manifests of cuts; {_FILES_HELP}"})
    weight: float = field(
        default=1.0,
        validator=_positive,
        metadata={"help": "how often each of its examples comes in an epoch: 2.0 is twice, 0.5 every other time, by chance"},
    )
    lang: str | None = field(default=None, metadata={"help": "`lang` of the rows that name none"})

    def __attrs_post_init__(self) -> None:
        _one_kind(self)


@frozen(kw_only=True)
class DataConfig:
    """Examples, and how they become batches."""

    manifest_filepath: Any = field(
        default=None,
        validator=_files,
        metadata={"help": f"JSON lines with audio_filepath (relative to the manifest), text, duration; {_FILES_HELP}"},
    )
    tarred_audio_filepaths: Any = field(
        default=None,
        validator=_files,
        metadata={
            "help": "tar files that hold the audio: those a manifest names, or, without a manifest, each beside a .json or .txt "
            f"of the same name; {_FILES_HELP}"
        },
    )
    shar_path: Any = field(default=None, validator=_files, metadata={"help": f"folders in lhotse's Shar format; {_FILES_HELP}"})
    cuts_path: Any = field(default=None, validator=_files, metadata={"help": f"lhotse's manifests of cuts; {_FILES_HELP}"})
    input_cfg: list[SourceConfig] = field(
        factory=list, metadata={"help": "several sources, each a mapping of the four keys above with `weight` and `lang`"}
    )
    text_field: str = field(default="text", metadata={"help": "the key of a row that holds its text"})
    channel: int | None = field(
        default=None, validator=_from_zero, metadata={"help": "which channel of the recordings, from 0; none averages all"}
    )
    min_duration: float = field(default=0.1, validator=_from_zero, metadata={"help": "shorter examples are left out, in seconds"})
    max_duration: float | None = field(
        default=None, validator=_positive, metadata={"help": "longer examples are left out, in seconds"}
    )
    max_tokens: int | None = field(
        default=None, validator=_positive, metadata={"help": "examples whose text has more tokens are left out"}
    )
    batch_size: int | None = field(
        default=None,
        validator=_positive,
        metadata={"help": "at most so many examples a batch, on each device; 16 where nothing else limits it"},
    )
    batch_duration: float | None = field(
        default=None,
        validator=_positive,
        metadata={"help": "at most so many seconds a batch, padding included: examples times the longest. On each device"},
    )
    quadratic_duration: float | None = field(
        default=None,
        validator=_positive,
        metadata={"help": "for batch_duration, d seconds count as d + d²/this: attention over long examples takes more memory"},
    )
    num_buckets: int = field(
        default=20,
        validator=_positive,
        metadata={"help": "a batch has examples of one bucket of similar durations; 1 mixes all, which pads more"},
    )
    num_token_buckets: int = field(
        default=1,
        validator=_positive,
        metadata={"help": "each bucket of durations is divided by the number of tokens too; 2 or more for transducers"},
    )
    bucket_duration_bins: list[Any] = field(
        factory=list,
        metadata={
            "help": "where each bucket ends, in seconds, or as [seconds, tokens]; empty: where the examples divide evenly. With "
            "bucket_batch_size, what is beyond the last is left out; else it is one more bucket"
        },
    )
    bucket_batch_size: list[int] = field(
        factory=list,
        metadata={"help": "how many examples a batch of each of bucket_duration_bins has, instead of batch_duration"},
    )
    shuffle: bool = field(default=True, metadata={"help": "whether training takes the examples in a new order each epoch"})
    shuffle_shards: int = field(
        default=8,
        validator=_positive,
        metadata={"help": "examples of so many tar files at a time are mixed, so that reading stays in few files"},
    )
    perturb: PerturbConfig | None = field(default=None, metadata={"help": "what is done to the waveforms of training"})
    cache: bool = field(
        default=False,
        metadata={
            "help": "keep decoded audio in memory, as 16 bit: 115 MB an hour at 16 kHz. Decoding then costs one epoch only"
        },
    )
    num_workers: int = field(
        default=1, validator=_from_zero, metadata={"help": "processes that read and perturb ahead; 0 does it between two steps"}
    )
    prefetch_factor: int = field(default=4, validator=_positive, metadata={"help": "batches that each of them is ahead"})
    on_bad: Literal["skip", "raise"] = field(
        default="skip",
        metadata={"help": "what cannot be read, or learned from, is left out with a warning, or ends the run"},
    )

    def __attrs_post_init__(self) -> None:
        own = any(getattr(self, key) is not None for key in _KINDS)
        if own == bool(self.input_cfg):
            raise ValueError("name the examples by manifest_filepath (or one of its siblings), or several sources in input_cfg")
        if own:
            _one_kind(self)
        if self.max_duration is not None and self.max_duration < self.min_duration:
            raise ValueError(f"max_duration {self.max_duration} is below min_duration {self.min_duration}")
        if self.bucket_batch_size and len(self.bucket_batch_size) != len(self.bucket_duration_bins):
            raise ValueError("bucket_batch_size needs a number for each of bucket_duration_bins")
        if any(size < 1 for size in self.bucket_batch_size):
            raise ValueError("bucket_batch_size: a batch has at least one example")
        if self.bucket_batch_size and (self.batch_size or self.batch_duration):
            raise ValueError(
                "bucket_batch_size says how large batches are: batch_size and batch_duration have no place beside it"
            )
        _check_bins(self.bucket_duration_bins)


_KINDS = ("manifest_filepath", "tarred_audio_filepaths", "shar_path", "cuts_path")


def _one_kind(source: SourceConfig | DataConfig) -> None:
    given = {key for key in _KINDS if getattr(source, key) is not None}
    if given not in ({"manifest_filepath"}, {"manifest_filepath", "tarred_audio_filepaths"}, *({key} for key in _KINDS[1:])):
        what = "none" if not given else " and ".join(sorted(given))
        raise ValueError(f"a source is one of {', '.join(_KINDS)}, or a manifest with its tar files; here: {what}")


def _check_bins(bins: Sequence[Any]) -> None:
    pairs = [tuple(item) if isinstance(item, (list, tuple)) else (item,) for item in bins]
    numbers = all(isinstance(n, (int, float)) and 0 < n < math.inf for pair in pairs for n in pair)
    if len({len(pair) for pair in pairs}) > 1 or any(len(pair) > 2 for pair in pairs) or not numbers:
        raise ValueError("bucket_duration_bins is a list of seconds, or of pairs [seconds, tokens]")
    if sorted(set(pairs)) != pairs:
        raise ValueError("bucket_duration_bins must grow: by seconds, and within these by tokens")
