"""docs/reference/ says what the code says, in full: hooks, specs, protocols, kinds, components, models, errors. And the
tutorial's package is shown whole."""

from __future__ import annotations

import ast
import inspect
import re
import runpy
from collections.abc import Callable
from types import ModuleType
from typing import Any

import attrs
import pluggy
import pytest
from click.testing import CliRunner

from doc_blocks import DOCS, REPO, blocks
from sonant import cards, errors, hooks, index, protocols, registry, spec
from sonant.cli.main import App

SCRIPT = runpy.run_path(str(REPO / "scripts" / "make_reference.py"))
PAGES = DOCS / "reference"
HOOKS = {name: value for name, value in vars(hooks).items() if name.startswith("sonant_")}
PROTOCOLS = {
    name: value for name, value in vars(protocols).items() if isinstance(value, type) and getattr(value, "_is_protocol", False)
}


@pytest.mark.parametrize("name", SCRIPT["PAGES"])
def test_a_page_is_up_to_date(name: str) -> None:
    generated = SCRIPT["HEADER"] + SCRIPT["PAGES"][name]()
    assert (DOCS / name).read_text("utf-8") == generated, "run python scripts/make_reference.py"
    assert "scripts/make_reference.py" in generated.splitlines()[0]


def test_every_page_there_is_written_by_the_script() -> None:
    written = {name for name in SCRIPT["PAGES"] if name.startswith("reference/")}
    assert {f"reference/{page.name}" for page in PAGES.iterdir()} == written


def test_the_whole_package_of_the_tutorial_is_shown() -> None:
    """A page of the tutorial leaves out code; a reader of the site finds it there."""
    shown = {block.file: block.text.partition("\n")[2] for block in blocks(DOCS / "tutorial" / "package.md")}
    for path in (DOCS / "tutorial" / "acme-speech").rglob("*.py"):
        text = path.read_text("utf-8")
        assert shown.get(path.relative_to(DOCS / "tutorial").as_posix(), "") == text


def headings(page: str, level: int) -> list[str]:
    return re.findall(rf"^{'#' * level} `?(\w+)`?$", (PAGES / page).read_text("utf-8"), re.MULTILINE)


def section(page: str, heading: str) -> str:
    match = re.search(rf"^#+ `?{heading}`?\n(.*?)(?=^#|\Z)", (PAGES / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert match is not None, f"{page} has no heading {heading}"
    return match[1]


def definitions(page: str) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    """The functions and classes that the blocks of a page show; of two with one name, the first."""
    found: dict[str, ast.FunctionDef | ast.ClassDef] = {}
    for block in blocks(PAGES / page):
        for node in ast.parse(block.text).body if block.language == "python" else ():
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.setdefault(node.name, node)
    return found


def function(node: ast.FunctionDef) -> Callable[..., Any]:
    """The function of a shown `def`, its annotations as text."""
    bare = ast.FunctionDef(**{**dict(ast.iter_fields(node)), "decorator_list": []})
    namespace: dict[str, Any] = {}
    code = ast.fix_missing_locations(ast.Module([bare], type_ignores=[]))
    exec(compile(code, "<shown>", "exec"), namespace)  # annotations stay text: compile takes this file's __future__
    shown: Callable[..., Any] = namespace[node.name]
    return shown


def test_every_hook_is_there_with_its_signature() -> None:
    shown = definitions("hooks.md")
    for name, hook in HOOKS.items():
        node = shown[name]
        assert isinstance(node, ast.FunctionDef)
        assert inspect.signature(function(node)) == inspect.signature(hook)
        assert inspect.cleandoc(hook.__doc__ or "").splitlines()[0] in section("hooks.md", name)
    assert set(headings("hooks.md", 3)) == {
        *HOOKS,
        "ComponentSpec",
        "Part",
        "NemoSpec",
        "HuggingFaceSpec",
        "KernelSpec",
        "ModelCard",
        "ModelSource",
    }
    assert f"SONANT_API = {hooks.HOOK_API}" in (PAGES / "hooks.md").read_text("utf-8")


def test_the_examples_of_the_hooks_make_a_plugin() -> None:
    module = ModuleType("acme_speech.plugin")
    for block in blocks(PAGES / "hooks.md"):
        if "@hookimpl" in block.text:
            exec(block.text, vars(module))
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    manager.register(module)
    manager.check_pending()
    assert {hook for hook in HOOKS if getattr(manager.hook, hook).get_hookimpls()} == HOOKS.keys()
    [components], [kernels] = manager.hook.sonant_components(), manager.hook.sonant_kernels()
    assert [(s.kind, s.name) for s in components] == [("encoder", "acme/gru")]
    assert [k.backend for k in kernels] == ["reference", "triton"]
    app = App(name="sonant")
    manager.hook.sonant_commands(app=app)
    assert CliRunner().invoke(app.commands["acme-count"], ["front center"]).output == "2\n"


@pytest.mark.parametrize("cls", [*SCRIPT["SPECS"], cards.ModelCard, cards.ModelSource], ids=lambda cls: cls.__name__)
def test_every_field_is_there_with_its_meaning(cls: type) -> None:
    rows = {
        cells[0].strip("`"): cells[1:]
        for line in section("hooks.md", cls.__name__).splitlines()
        if line.startswith("| `") and (cells := line.strip("| ").split(" | "))
    }
    assert list(rows) == [f.name for f in attrs.fields(cls)]
    for field in attrs.fields(cls):
        kind, default, meaning = rows[field.name]
        assert kind.replace("` or `", " | ") == f"`{field.type}`"
        assert meaning == field.metadata["help"]
        if field.default is attrs.NOTHING:
            assert default == "required"
        elif isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
            assert ast.literal_eval(default.strip("`")) == field.default.factory()
        else:
            assert ast.literal_eval(default.strip("`")) == field.default


def test_every_spec_and_public_name_of_a_plugin_is_there() -> None:
    specs = {value.__name__ for value in vars(spec).values() if isinstance(value, type) and value.__module__ == spec.__name__}
    assert specs == {cls.__name__ for cls in SCRIPT["SPECS"]}


def test_every_kind_is_there_with_its_protocol() -> None:
    assert protocols.BY_KIND.keys() == {*spec.KINDS}
    assert headings("protocols.md", 2) == [*spec.KINDS]  # the last heading is of several words
    text = (PAGES / "protocols.md").read_text("utf-8")
    for kind, protocol in protocols.BY_KIND.items():
        part = re.search(rf"^## {kind}\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
        assert part is not None and f"### `{protocol.__name__}`\n" in part[1], kind


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_there_with_its_signatures(name: str) -> None:
    cls, node = PROTOCOLS[name], definitions("protocols.md")[name]
    assert isinstance(node, ast.ClassDef)
    shown = {
        n.target.id: ast.unparse(n.annotation)
        for n in node.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    assert shown == inspect.get_annotations(cls)
    methods = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef)}
    own = {n: v for n, v in vars(cls).items() if n == "__call__" or (not n.startswith("_") and not isinstance(v, type))}
    assert methods.keys() == own.keys()
    for method, value in own.items():
        real = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        assert inspect.signature(function(methods[method])) == inspect.signature(real)
        decorators = [ast.unparse(d) for d in methods[method].decorator_list]
        assert decorators == ([] if real is value else [type(value).__name__])
        for line in inspect.cleandoc(real.__doc__ or "").splitlines():
            assert line in section("protocols.md", name)
    for line in inspect.cleandoc(cls.__doc__ or "").splitlines():
        assert line in section("protocols.md", name)


def test_every_component_is_there_with_what_provides_it() -> None:
    for kind, names in index.packaged()["components"].items():
        lists = re.split(r"^`pip install ([\w-]+)` provides:$", section("components.md", kind), flags=re.MULTILINE)
        shown = dict(zip(lists[1::2], lists[2::2], strict=True))
        assert shown.keys() == {*names.values()}
        for name, distribution in names.items():
            assert f"| `{name}` | {registry.current().get(kind, name).spec.doc} |" in shown[distribution]


def test_every_model_is_there_with_what_it_requires() -> None:
    lists = re.split(r"^For the task `(\w+)`, with `pip install (.+)`:$", section("components.md", "Models"), flags=re.MULTILINE)
    known = list(cards.read_cards(index.packaged(), "registry.yaml").values())
    for task, requires, text in zip(lists[1::3], lists[2::3], lists[3::3], strict=True):
        rows = {re.findall(r"`(.+?)`", line)[0]: line for line in text.splitlines() if "`" in line}
        assert {card.name for card in known if card.task == task and " ".join(card.requires) == requires} == rows.keys()
        assert all(card.summary in rows[card.name] for card in known if card.name in rows)
    assert sum(len(re.findall(r"^\| \[?`", text, flags=re.MULTILINE)) for text in lists[3::3]) == len(known)


def test_every_error_is_there_with_its_bases() -> None:
    defined = {n: v for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.SonantError)}
    assert headings("errors.md", 2) == [*defined]
    for name, cls in defined.items():
        text = section("errors.md", name)
        assert inspect.cleandoc(cls.__doc__ or "") in text
        assert set(re.findall(r"`(\w+)`", text.split("Derives from")[1])) == {base.__name__ for base in cls.__bases__}
