"""Write docs/reference/: the hooks and specs, the protocols, the components and models, the errors, as the code states them;
and the page of the tutorial that shows its finished package.

What stands in the pages comes from signatures, docstrings, the `help` of fields, and `registry.yaml`. The plugins of this
repository must be installed (editable is best). Run it after any of these change:

    python scripts/make_reference.py
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from sonant import (
    config,
    errors,
    exporting,
    files,
    hooks,
    index,
    inputs,
    kernels,
    lengths,
    memory,
    outputs,
    protocols,
    registry,
    results,
    runtime,
    spec,
)
from sonant.cards import ModelCard, ModelSource, read_cards
from sonant.testing import contract

build = import_module("sonant.build")  # `sonant.build` is the function

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs"
LINE = 130  # as in pyproject.toml
FINISHED = TARGET / "tutorial" / "acme-speech"
HEADER = "<!-- Written by `python scripts/make_reference.py` from the code: do not edit this page, run the script. -->\n\n"
SPECS = (spec.ComponentSpec, spec.Part, spec.NemoSpec, spec.HuggingFaceSpec, spec.KernelSpec)

TOOLBOX: dict[ModuleType, tuple[str, ...]] = {  # module: the names to show, all if none are given
    lengths: (),
    inputs: (),
    runtime: (),
    memory: (),
    results: (),
    outputs: ("open_sink",),
    exporting: ("Export", "Graph"),
    files: ("Files",),
    build: ("Blueprint", "instantiate"),
    config: ("fill_section", "fill", "load_yaml"),
    kernels: ("get", "available"),
    contract: ("suite", "checks", "run"),
}

CARDS = """
models:
  acme-gru-small:
    task: asr
    summary: English, read speech.
    languages: [en]
    parameters: 12M
    source: {hf: acme/gru-small, file: gru-small.nemo, revision: 8f1c3d2}
    requires: [acme-speech, sonant-asr, sonant-features]
    license: CC-BY-4.0
"""

# Pieces of Markdown


class _Bare(str):
    """An annotation that `str(signature)` shows as it is written."""

    def __repr__(self) -> str:
        return str(self)


def signature_of(function: Callable[..., Any]) -> str:
    """`(feats: Tensor, lens: Tensor) -> Tensor`, as it stands in the source."""
    signature = inspect.signature(function)
    parameters = [p.replace(annotation=_annotation(p.annotation)) for p in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=_annotation(signature.return_annotation)))


def _annotation(value: Any) -> Any:
    return _Bare(value) if isinstance(value, str) else value


def code(text: str, language: str = "python") -> str:
    return f"```{language}\n{text.strip()}\n```\n"


def text_of(thing: Any) -> str:
    """A docstring as Markdown: its `Raises:` and the like as a list, its `Example:` as a block of code."""
    doc = inspect.cleandoc(thing.__doc__)
    before, *sections = re.split(r"^(Args|Returns|Raises|Example):\n", doc, flags=re.MULTILINE)
    text = before.strip() + "\n"
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        body = textwrap.dedent(body).strip("\n")
        text += f"\n{title}:\n\n" + (code(body) if title == "Example" else _list(body))
    return text


def _list(body: str) -> str:
    items = re.sub(r"\n +", " ", body).splitlines()
    named = (re.sub(r"^(\w+(?:, \w+)*):", r"`\1`:", item) for item in items if item)
    return "".join(f"- {item}\n" for item in named)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """No cell may hold a `|`: Markdown dialects differ on how it is escaped inside code."""
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def fields_of(cls: type) -> str:
    """A table of an attrs class's fields."""
    rows = []
    for f in attrs.fields(cls):
        kinds = re.split(r" \| (?![^\[]*\])", f.type if isinstance(f.type, str) else inspect.formatannotation(f.type))
        row = [f"`{f.name}`", " or ".join(f"`{kind}`" for kind in kinds), _default(f)]
        rows.append([*row, f.metadata["help"]] if "help" in f.metadata else row)
    head = ["field", "type", "default", "meaning"]
    return table(head[: len(rows[0])], rows)


def _default(f: attrs.Attribute[Any]) -> str:
    if f.default is attrs.NOTHING:
        return "required"
    return f"`{f.default.factory()!r}`" if isinstance(f.default, attrs.Factory) else f"`{f.default!r}`"  # type: ignore[arg-type]


# The pages


def hook_functions() -> dict[str, Callable[..., Any]]:
    return {name: value for name, value in vars(hooks).items() if name.startswith("sonant_")}


def hooks_page() -> str:
    text = f"""# Hooks and specs

A plugin is a module that an entry point of the group `{hooks.ENTRY_POINT_GROUP}` names. It states the hook API it was written
for, which is {hooks.HOOK_API} in this release (`sonant.HOOK_API`), and implements any of the hooks below, each marked with
`@sonant.hookimpl`:

{code(f"SONANT_API = {hooks.HOOK_API}")}
The module imports `sonant` and the standard library only, and no module of a config imports torch. A hook may leave out
arguments that it does not use. [Writing a plugin](../plugins.md) shows all of it at work.

## Hooks
"""
    for name, hook in hook_functions().items():
        text += f"\n### `{name}`\n\n{code(f'def {name}{signature_of(hook)}: ...')}\n{text_of(hook)}"
    text += """
## Specs

What the hooks return. All are imported from `sonant`, frozen, and take keyword arguments only. A value that is not allowed is a
`ValueError` that says what is; the plugin then counts as failed, and everything else works on.
"""
    for cls in SPECS:
        text += f"\n### `{cls.__name__}`\n\n{text_of(cls)}\n{fields_of(cls)}"
    text += f"""
## Model cards

What the files of `sonant_model_cards` hold, and files given as `--registry`: below `models`, each name with the fields of its
card. A plugin's own weights are best fetched from a repo with a pinned `revision`, and checked by `sha256`.

{code(CARDS, "yaml")}"""
    for cls in (ModelCard, ModelSource):
        text += f"\n### `{cls.__name__}`\n\n{text_of(cls)}\n{fields_of(cls)}"
    return text


def public_classes() -> list[type]:
    """The classes of `sonant.protocols`, in its order."""
    return [value for name in protocols.__all__ if isinstance(value := getattr(protocols, name), type)]


def kind_of(cls: type) -> str:
    """The kind that a class of the module belongs to: that of the protocol it is or extends, else none."""
    return next((kind for kind, protocol in protocols.BY_KIND.items() if protocol in cls.__mro__), "")


def methods_of(cls: type) -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """Decorator (or nothing), name and function of what a protocol itself asks for."""
    for name, value in vars(cls).items():
        decorator = {property: "@property", classmethod: "@classmethod", staticmethod: "@staticmethod"}.get(type(value), "")
        function = getattr(value, "fget", None) or getattr(value, "__func__", None) or value
        if inspect.isfunction(function) and function.__qualname__ == f"{cls.__name__}.{name}":
            yield decorator, name, function


def class_code(cls: type) -> str:
    lines = [f"{name}: {annotation}\n" for name, annotation in vars(cls).get("__annotations__", {}).items()]
    for decorator, _, function in methods_of(cls):
        lines.append(f"\n{decorator}\n{definition(function, indent=4)}\n".replace("\n\n", "\n", not decorator))
    bases = ", ".join(base.__name__ for base in cls.__bases__)
    return code(f"class {cls.__name__}({bases}):\n" + textwrap.indent("".join(lines).lstrip("\n") or "...\n", "    "))


def protocol_text(cls: type) -> str:
    text = f"\n### `{cls.__name__}`\n\n{text_of(cls)}\n"
    if attrs.has(cls):
        return text + fields_of(cls)
    text += class_code(cls)
    described = [(name, text_of(function)) for _, name, function in methods_of(cls) if function.__doc__]
    for name, doc in described:
        text += f"\n`{name}`: {doc}"
    return text


def protocols_page() -> str:
    intro, *rest = inspect.cleandoc(protocols.__doc__ or "").split("\n\n")
    paragraphs = "\n\n".join(rest)
    text = f"""# Protocols

{intro}

{paragraphs}

Each is a `typing.Protocol` in `sonant.protocols`, and `BY_KIND` says which belongs to a kind:

{
        code('''
from typing import Protocol

from sonant.protocols import BY_KIND

print(BY_KIND["encoder"].__name__)
''')
    }
```text
{protocols.BY_KIND["encoder"].__name__}
```
"""
    for kind in spec.KINDS:
        text += f"\n## {kind}\n" + "".join(protocol_text(cls) for cls in public_classes() if kind_of(cls) == kind)
    others = [cls for cls in public_classes() if not kind_of(cls)]
    return text + "\n## Beside the kinds\n" + "".join(map(protocol_text, others))


def components_page() -> str:
    text = """# Components and models

Which plugin of this repository provides what. Those of all installed plugins, others' included: `sonant components`. The fields
of a component: `sonant describe KIND NAME`. A config that names a component of an absent plugin gets an error with the command
that installs it. Until the packages are on an index, they are installed [from a checkout](../install.md#from-a-checkout).

## Components
"""
    provided = index.packaged()["components"]
    for kind in (k for k in spec.KINDS if k in provided):
        text += f"\n### {kind}\n"
        for distribution in sorted(set(provided[kind].values())):
            docs = {name: registry.current().get(kind, name).spec.doc for name, d in provided[kind].items() if d == distribution}
            text += f"\n`pip install {distribution}` provides:\n\n"
            text += table(["name", "what it is"], ((f"`{name}`", doc) for name, doc in docs.items()))
    none = [f"`{k}`" for k in spec.KINDS if k not in provided]
    if none:
        text += f"\nNo plugin of this repository provides a component of the kinds {', '.join(none)}; yours can.\n"
    return text + models_text()


def models_text() -> str:
    """The model cards, by task and by what they require."""
    text = """
## Models

What `sonant.load` and `--model` open by name. Each is fetched at its first use. The licence is the model's own.
"""
    groups: dict[tuple[str, str], list[ModelCard]] = {}
    for card in read_cards(index.packaged(), "registry.yaml").values():
        groups.setdefault((card.task, " ".join(card.requires)), []).append(card)
    for (task, requires), cards in sorted(groups.items()):
        text += f"\nFor the task `{task}`, with `pip install {requires}`:\n\n"
        rows = map(_card_row, sorted(cards, key=lambda card: card.name))
        text += table(["name", "what it is", "languages", "parameters", "licence"], rows)
    return text


def _card_row(card: ModelCard) -> tuple[str, ...]:
    name = f"[`{card.name}`]({card.origin})" if card.origin else f"`{card.name}`"
    return name, card.summary, ", ".join(card.languages), card.parameters or "", card.license or "not stated"


def error_classes() -> list[type[errors.SonantError]]:
    return [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, errors.SonantError)]


def errors_page() -> str:
    intro = inspect.cleandoc(errors.__doc__ or "")
    text = f"# Errors\n\n{intro}\n\nAll are in `sonant.errors`. On the command line their text is what stands behind `Error:`.\n"
    for cls in error_classes():
        bases = " and ".join(f"`{base.__name__}`" for base in cls.__bases__)
        text += f"\n## `{cls.__name__}`\n\n{text_of(cls)}\nDerives from {bases}.\n"
    return text


def package_page() -> str:
    """Every file of the tutorial's package, whole."""
    text = (
        "# The finished package\n\nEvery file of the package that the tutorial builds, whole. In a checkout of Sonant it is the "
        "folder `docs/tutorial/acme-speech`.\n"
        "Beside these, each of the folders `encoder`, `cif` and `spotting` has an empty `__init__.py`.\n"
    )
    for path in sorted((*FINISHED.glob("*.*"), *FINISHED.rglob("*/*.py")), key=lambda path: (path.parts[:-1], path.name)):
        content, language = path.read_text("utf-8"), {".py": "python", ".toml": "toml"}.get(path.suffix)
        if language and content:
            shown = code(f"# {path.relative_to(FINISHED.parent)}\n{content}", language)
            text += f"\n## `{path.relative_to(FINISHED)}`\n\n{shown}"
    return text


def public_names(module: ModuleType) -> list[str]:
    """The functions and classes that a module defines for others, in its order."""
    chosen = TOOLBOX[module]
    return list(chosen) or [name for name, value in vars(module).items() if _is_public(name, value, module)]


def _is_public(name: str, value: Any, module: ModuleType) -> bool:
    is_definition = inspect.isfunction(value) or isinstance(value, type)
    return is_definition and value.__module__ == module.__name__ and value.__name__ == name and not name.startswith("_")


def toolbox_page() -> str:
    text = """# Python for plugins

What components and tasks use of the core, beside the [protocols](protocols.md), [hooks](hooks.md) and [errors](errors.md).
`sonant.load`, `build`, `save` and `inspect` are [in the guide](../python.md).
"""
    for module in TOOLBOX:
        text += f"\n## `{module.__name__}`\n\n{text_of(module)}"
        for name in public_names(module):
            value = getattr(module, name)
            text += f"\n### `{name}`\n\n" + (class_text(value) if isinstance(value, type) else function_text(value))
    return text


def function_text(function: Callable[..., Any]) -> str:
    return f"{code(definition(function))}\n{text_of(function)}"


def definition(function: Callable[..., Any], indent: int = 0) -> str:
    """`def name(…) -> …: ...`, as a formatter would break it where it stands so far to the right."""
    width = LINE - indent
    line = f"def {function.__name__}{signature_of(function)}: ...".replace("'", '"')
    if len(line) <= width:
        return line
    begin, end = line.index("(") + 1, line.rindex(") ->")
    indented = f"{line[:begin]}\n    {line[begin:end]}\n{line[end:]}"
    if len(line[begin:end]) + 4 <= width:
        return indented
    signature = inspect.signature(function)
    return f"{line[:begin]}\n" + "".join(f"    {p},\n" for p in _written(signature)) + line[end:]


def _written(signature: inspect.Signature) -> Iterator[str]:
    """Each parameter as it is written, and the bare `*` where those that follow are keyword-only."""
    positional = True
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and positional:
            positional = False
            yield "*"
        yield str(parameter.replace(annotation=_annotation(parameter.annotation))).replace("'", '"')


def class_text(cls: type) -> str:
    """A class with those of its methods that are for others."""
    text = text_of(cls) + (f"\n{fields_of(cls)}" if attrs.has(cls) and "__init__" in vars(cls) else "")
    described = [(decorator, function) for decorator, name, function in methods_of(cls) if function.__doc__ and name[0] != "_"]
    for decorator, function in described:
        shown = f"{decorator}\n{definition(function)}".lstrip("\n")
        text += f"\n{code(shown)}\n{text_of(function)}"
    return text


PAGES: dict[str, Callable[[], str]] = {
    "reference/hooks.md": hooks_page,
    "reference/protocols.md": protocols_page,
    "reference/components.md": components_page,
    "reference/errors.md": errors_page,
    "reference/toolbox.md": toolbox_page,
    "tutorial/package.md": package_page,
}


def main() -> None:
    """Write the pages and say how long they are."""
    (TARGET / "reference").mkdir(exist_ok=True)
    for name, page in PAGES.items():
        text = HEADER + page()
        (TARGET / name).write_text(text, "utf-8")
        print(f"{(TARGET / name).relative_to(ROOT)}: {text.count(chr(10))} lines", file=sys.stderr)


if __name__ == "__main__":
    main()
