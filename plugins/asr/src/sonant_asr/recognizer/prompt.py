"""What a user may ask of a model that is told what to do: which language to write, whether to punctuate, and so on.

A head that is told such things ("takes prompts") has three things. `prompt_fields` are the fields of `Prompt` it has a place for.
`fill_prompt(prompt)` returns the prompt with the model's own choice where nothing was asked, and raises a `ConfigError` for what
the model cannot do. `prompted(enc, lens, prompts)` returns the arguments of the search: `enc` and `lens`, changed or not, and
what else it reads, by name. Where the language asked for decides how text is spelt, `labels_of(text, prompt)` does it to train.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import attrs
from attrs import field, frozen
from torch import Tensor

from sonant.errors import ConfigError
from sonant.inputs import Item

_TASKS = {
    **dict.fromkeys(("asr", "transcribe", "<|transcribe|>"), "transcribe"),
    **dict.fromkeys(("ast", "translate", "s2t_translation", "<|translate|>"), "translate"),
}
_WORDS = ("pnc", "itn", "timestamp", "diarize")
_YES = frozenset({"yes", "true", "1", *_WORDS})
_NO = frozenset({"no", "false", "0", *(f"no{word}" for word in _WORDS)})
_ROW_KEYS = {  # as NeMo's manifests and ours call them
    "source_lang": ("source_lang",),
    "target_lang": ("target_lang",),
    "task": ("task", "taskname"),
    "punctuation": ("punctuation", "pnc"),
    "itn": ("itn",),
    "diarize": ("diarize",),
    "context": ("context", "decodercontext"),
}

_LANGUAGES = ("source_lang", "target_lang")


def _lang(value: Any) -> str | None:
    """`de`, for `de` and for the token `<|de|>`."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip("<|> "):
        raise ConfigError(f"{value!r} is not a language, as 'en' is")
    return value.removeprefix("<|").removesuffix("|>")


def _task(value: Any) -> Any:
    if value is None:
        return None
    if str(value) not in _TASKS:
        raise ConfigError(f"the task {value!r} is not known; there are transcribe and translate")
    return _TASKS[str(value)]


def _flag(value: Any) -> bool | None:
    """A truth value as manifests write it: `yes`, `1`, `true`, or the word itself, as `pnc` and `<|nopnc|>`."""
    if value is None or isinstance(value, bool):
        return value
    plain = str(value).lower().removeprefix("<|").removesuffix("|>")
    if plain not in _YES | _NO:
        raise ConfigError(f"{value!r} is neither yes nor no")
    return plain in _YES


def _text(value: Any) -> str | None:
    """Free text, which must not be read as the tokens that a prompt is made of."""
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"context: {value!r} is not text")
    if value is not None and "<|" in value:
        raise ConfigError("context: '<|' begins the model's own tokens, and cannot stand in text")
    return value


@frozen(kw_only=True)
class Prompt:
    """What is asked for one recording. What is None is left to the model."""

    source_lang: str | None = field(default=None, converter=_lang, metadata={"help": "the language spoken, as en"})
    target_lang: str | None = field(default=None, converter=_lang, metadata={"help": "the language to write, as de"})
    task: Literal["transcribe", "translate"] | None = field(default=None, converter=_task, metadata={"help": "what to write"})
    punctuation: bool | None = field(default=None, converter=_flag, metadata={"help": "punctuation and capital letters"})
    itn: bool | None = field(default=None, converter=_flag, metadata={"help": "numbers and abbreviations as people write them"})
    timestamps: bool | None = field(default=None, converter=_flag, metadata={"help": "the model writes the times of words"})
    diarize: bool | None = field(default=None, converter=_flag, metadata={"help": "the model writes who speaks"})
    context: str | None = field(
        default=None, converter=_text, metadata={"help": "text that came before, which the model continues"}
    )

    def asked(self) -> dict[str, Any]:
        """The fields that are not left to the model."""
        return {name: value for name, value in attrs.asdict(self).items() if value is not None}

    def or_else(self, other: Prompt) -> Prompt:
        """This prompt, with what `other` asks where it asks nothing."""
        return attrs.evolve(other, **self.asked())


@runtime_checkable
class Prompted(Protocol):
    """A head that takes prompts; see the module's docstring."""

    prompt_fields: tuple[str, ...]

    def fill_prompt(self, prompt: Prompt) -> Prompt:
        """`prompt` with the model's own choice where nothing was asked."""
        ...

    def prompted(self, enc: Tensor, lens: Tensor, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """What the search is called with beside the head, by name."""
        ...


def read(asked: Mapping[str, Any]) -> Prompt:
    """The prompt of keyword arguments.

    Raises:
        TypeError: one is not a field of `Prompt`.
    """
    unknown = asked.keys() - {slot.name for slot in attrs.fields(Prompt)}
    if unknown:
        raise TypeError(f"transcribe() has no option {sorted(unknown)[0]!r}")
    return Prompt(**asked)


def plan(head: Any, asked: Prompt, items: Iterable[Item]) -> list[Prompt] | None:
    """A filled prompt for each of `items`, or None for a head that takes none.

    What the row of a manifest says of its recording goes before what is asked for all.

    Raises:
        ConfigError: something is asked that the head has no place for, or that its model cannot do; with the recording's name
            where its row says it.
    """
    fields = getattr(head, "prompt_fields", ())
    for name in asked.asked():
        if name not in fields:
            takes = f"it takes {', '.join(fields)}" if fields else "it takes no such options"
            raise ConfigError(f"{name}: this model cannot be asked for that; {takes}")
    if not fields:
        return None
    if asked.asked():
        head.fill_prompt(asked)
    return [_of_item(head, asked, item, fields) for item in items]


def learnt(head: Any, item: Item) -> tuple[Item, Prompt | None]:
    """An example to learn from, and what the head is told with it: None for a head that takes nothing.

    A `lang` of the row's is the language spoken and the language to write, where the row does not say these.

    Raises:
        ValueError: the model cannot be told what the row says.
    """
    fields, lang = getattr(head, "prompt_fields", ()), item.row.get("lang")
    if not fields:
        return item, None
    unsaid = [name for name in _LANGUAGES if name in fields and item.row.get(name) is None] if lang is not None else []
    item = attrs.evolve(item, row={**item.row, **dict.fromkeys(unsaid, lang)})
    try:
        return item, _of_item(head, Prompt(), item, fields)
    except ConfigError as error:
        reason = str(error).removeprefix(f"{item.name}: ")
        raise ValueError(f"its lang is {lang!r}: {reason}" if unsaid else reason) from error


def timed(head: Any, prompt: Prompt, level: str | None) -> Prompt:
    """The prompt, and that times are written, where a level of them is asked for and the head has a place for that."""
    if level is None or "timestamps" not in getattr(head, "prompt_fields", ()):
        return prompt
    return attrs.evolve(prompt, timestamps=True)


def _of_item(head: Prompted, asked: Prompt, item: Item, fields: Sequence[str]) -> Prompt:
    values = {
        name: next((item.row[key] for key in _ROW_KEYS[name] if key in item.row), None) for name in fields if name in _ROW_KEYS
    }
    if not any(value is not None for value in values.values()):
        return head.fill_prompt(asked)
    try:
        return head.fill_prompt(Prompt(**values).or_else(asked))
    except ConfigError as error:
        raise ConfigError(f"{item.name}: {error}") from error


def arguments(head: Any, enc: Tensor, lens: Tensor, prompts: Sequence[Prompt] | None) -> Mapping[str, Any]:
    """What a search is called with beside the head: `enc` `(B, T, D)`, `lens` `(B,)`, and what a head makes of prompts."""
    if prompts is None:
        return {"enc": enc, "lens": lens}
    return dict(head.prompted(enc, lens, prompts))
