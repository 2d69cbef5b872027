"""From a run's config to its sections, checked; nothing is built and no torch imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from sonant import config
from sonant.config import ModelConfig
from sonant.errors import ConfigError
from sonant_training.data.config import DataConfig
from sonant_training.optimizers.section import read_optim
from sonant_training.running.config import ExperimentConfig
from sonant_training.tuning import config as tuning
from sonant_training.tuning.config import InitConfig

EXAMPLES = {
    "train_ds": "train_ds: {manifest_filepath: train.jsonl, batch_duration: 120}",
    "optim": "optim: {name: adamw, lr: 1.0e-3}",
    "trainer": "trainer: {max_steps: 10000}",
}
ONLY = ""
"""What the one validation set is called that has no name."""


@frozen(kw_only=True)
class Run:
    """A run's config: `data`, all its sections as they were given, and those of the run itself filled.

    Those of the model are filled when it is built, for they may be changes to another model's (`init`). `folder` is what files
    are relative to that the config names, `name` what the run is called if its config does not say.
    """

    data: Mapping[str, Any]
    folder: Path
    name: str
    init: InitConfig
    train: DataConfig
    validation: Mapping[str, DataConfig]
    test: Mapping[str, DataConfig]
    optim: Mapping[str, Any]
    trainer: Mapping[str, Any]
    experiment: ExperimentConfig
    seed: int

    @property
    def max_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return int(self.trainer["max_steps"])

    @property
    def log_every(self) -> int:
        """Numbers are written down every so many steps; 0: never. The default is Lightning's."""
        every = self.trainer.get("log_every_n_steps")
        return 50 if every is None else int(every)

    def to_dict(self, model: ModelConfig) -> dict[str, Any]:
        """All sections as plain values with every default, those of the model from its own config."""
        filled = {"train_ds": _plain(self.train), "exp_manager": _plain(self.experiment), "seed": self.seed}
        for key, sets in (("validation_ds", self.validation), ("test_ds", self.test)):
            if sets:
                filled[key] = _plain(sets[ONLY]) if ONLY in sets else {name: _plain(one) for name, one in sets.items()}
        return model.to_dict() | filled


def read(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), over: Mapping[str, Any] | None = None) -> Run:
    """The run of a config file or a mapping.

    Args:
        source: a YAML file, or its sections.
        overrides: `section.key=value` items, for a file.
        over: values merged over the config's.

    Raises:
        ConfigError: names the key's full path, and of a file the line.
        UnknownName, DuplicateName: a component's name cannot be resolved.
    """
    if isinstance(source, Mapping):
        return _filled(config.merged(source, over or {}), Path.cwd(), "run")
    path = Path(source)
    data = config.resolve_user_file(path, overrides)
    with config.located(path):
        return _filled(config.merged(data, over or {}), path.resolve().parent, path.stem)


def _plain(section: Any) -> dict[str, Any]:
    return attrs.asdict(section, value_serializer=config.plain)


def _filled(data: Mapping[str, Any], folder: Path, name: str) -> Run:
    init = tuning.read(data.get("init"))
    if init.source is None:
        config.fill_model(data)
    return Run(
        data=data,
        folder=folder,
        name=name,
        init=init,
        train=config.fill(DataConfig, _required(data, "train_ds"), "train_ds"),
        validation=_sets(data, "validation_ds"),
        test=_sets(data, "test_ds"),
        optim=_optim(data),
        trainer=_trainer(data),
        experiment=config.fill(ExperimentConfig, _mapping(data, "exp_manager"), "exp_manager"),
        seed=_seed(data),
    )


def _mapping(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"{key}: expected a mapping here, not {value!r}")
    return value or {}


def _required(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    if data.get(key) is None:
        raise ConfigError(f"{key} is missing: to train, a config needs it, e.g. {EXAMPLES[key]}")
    return _mapping(data, key)


def _sets(data: Mapping[str, Any], key: str) -> dict[str, DataConfig]:
    """One set, or several by name: a mapping of mappings, and no key one that a set has."""
    values = _mapping(data, key)
    own = {a.name for a in attrs.fields(DataConfig)}
    if values and not own & values.keys() and any(isinstance(value, Mapping) for value in values.values()):
        return {
            str(name): config.fill(DataConfig, _set(value, f"{key}.{name}"), f"{key}.{name}") for name, value in values.items()
        }
    return {ONLY: config.fill(DataConfig, values, key)} if values else {}


def _set(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path}: expected a mapping here, not {value!r}")
    return value


def _optim(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """As it is given: it is filled again where it is built."""
    values = _required(data, "optim")
    read_optim(values)
    return values


def _trainer(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its keys are those of Lightning's `Trainer`, and compared with them once that is imported."""
    values = _required(data, "trainer")
    steps = values.get("max_steps")
    if steps is None:
        raise ConfigError("trainer.max_steps is missing: it says after how many optimizer steps the training ends")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ConfigError(f"trainer.max_steps: expected a number of optimizer steps, from 1 on, not {steps!r}")
    return values


def _seed(data: Mapping[str, Any]) -> int:
    seed = data.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ConfigError(f"seed: expected a whole number from 0 up to, but without, 2**32, not {seed!r}")
    return seed
