"""The rules that keep the core slim, the plugins apart and the checkpoints safe, held on the source text of every file."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from packaging.requirements import Requirement

from sonant import config, registry
from sonant.errors import ConfigError
from sonant.registry import Registered

ROOT = Path(__file__).resolve().parent.parent
MOST_LINES = 450
SOURCES = {  # import package: folder
    "sonant": ROOT / "core" / "src" / "sonant",
    **{p.parent.name: p.parent for p in sorted(ROOT.glob("plugins/*/src/*/plugin.py"))},
    **{p.parent.name: p.parent for p in sorted(ROOT.glob("models/*/src/*/plugin.py"))},
}
PLUGINS = [name for name in SOURCES if name != "sonant"]
COMPONENTS = [r for r in registry.current() if r.plugin.distribution.replace("-", "_") in SOURCES]


@frozen
class Import:
    """One imported module or name: `from a.b import c` is module `a.b`, name `c`."""

    module: str
    name: str
    line: int

    @property
    def root(self) -> str:
        return self.module.partition(".")[0]


def _files(*folders: Path) -> list[Path]:
    return sorted(p for folder in folders for p in folder.rglob("*.py"))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def _imports(tree: ast.AST) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, "", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield from (Import(node.module or "", alias.name, node.lineno) for alias in node.names)


def _dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or an attribute of one, else the empty string."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _label(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


# Who imports whom


@pytest.mark.parametrize("package", SOURCES)
def test_plugins_are_imported_by_themselves_only(package: str) -> None:
    """The core knows no plugin, and plugins meet by name in configs."""
    found = [
        f"{_label(path, i.line)} imports {i.module}"
        for path in _files(SOURCES[package])
        for i in _imports(_tree(path))
        if i.root.startswith("sonant_") and i.root != package
    ]
    assert not found


def _private(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Private names of the core that a file imports, or reads from a module of the core."""
    modules = set()
    for i in _imports(tree):
        if i.root == "sonant":
            if any(part.startswith("_") and not part.startswith("__") for part in (*i.module.split("."), i.name)):
                yield i.line, f"{i.module}.{i.name}"
            modules.add(i.name or i.module)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = _dotted(node.value)
            if owner in modules or owner.startswith("sonant."):
                yield node.lineno, f"{owner}.{node.attr}"


def test_private_names_of_the_core_stay_in_the_core() -> None:
    outside = _files(*(ROOT / name for name in ("plugins", "tests", "benchmarks", "scripts")))
    assert not [f"{_label(path, line)}: {name}" for path in outside for line, name in _private(_tree(path))]


@pytest.mark.parametrize(
    "text",
    [
        "from sonant.plugins import _load",
        "import sonant._x",
        "from sonant import runtime\nruntime._infer(1)",
        "import sonant\nsonant.build._merge",
    ],
)
def test_private_names_are_noticed(text: str) -> None:
    assert list(_private(ast.parse(text)))


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported: not those of functions, nor those for type checkers."""
    for node in body:
        if isinstance(node, ast.If) and _dotted(node.test).endswith("TYPE_CHECKING"):
            continue
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


@pytest.mark.parametrize("package", PLUGINS)
def test_plugin_module_imports_only_sonant_and_the_standard_library(package: str) -> None:
    tree = _tree(SOURCES[package] / "plugin.py")
    for node in _at_import(tree.body):
        for i in _imports(node):
            assert i.root == "sonant" or i.root in sys.stdlib_module_names, f"{package}.plugin imports {i.module}"


@pytest.mark.parametrize("package", SOURCES)
def test_third_party_imports_are_declared(package: str) -> None:
    """By the distribution itself, by the core, or by a direct requirement of those (numpy, click, tqdm and PyYAML come so)."""
    providers = metadata.packages_distributions()
    declared = {Requirement(r).name for d in {"sonant", package.replace("_", "-")} for r in metadata.requires(d) or ()}
    brought = {Requirement(r).name.lower() for d in declared for r in metadata.requires(d) or ()}
    allowed = {name.lower().replace("_", "-") for name in declared | brought}
    for path in _files(SOURCES[package]):
        for i in _imports(_tree(path)):
            if i.root in sys.stdlib_module_names or i.root in SOURCES:
                continue
            if i.root == "triton":
                assert path.name.startswith("triton"), f"{_label(path, i.line)}: only a kernel's own file imports triton"
                continue
            names = {name.lower().replace("_", "-") for name in providers.get(i.root, [])}
            assert names & allowed, f"{_label(path, i.line)} imports {i.root}, which no requirement brings"


# What is imported when

_IMPORTS_NO_TORCH = """
import importlib, json, sys
import sonant
early = sorted(m for m in sys.modules if m.partition(".")[0].startswith(("torch", "sonant_", "numpy", "omegaconf")))
for module in json.loads(sys.argv[1]):
    importlib.import_module(module)
    if "torch" in sys.modules:
        sys.exit(f"{module} imports torch")
print(json.dumps(early))
"""


def test_configs_and_plugin_modules_import_no_torch() -> None:
    """In one fresh process; before that, `import sonant` alone loads neither torch nor a plugin nor anything heavy."""
    light = [p for name in PLUGINS for p in _files(SOURCES[name]) if p.name in ("plugin.py", "config.py")]
    modules = [".".join(p.relative_to(p.parents[[q.name for q in p.parents].index("src")]).with_suffix("").parts) for p in light]
    assert len(modules) > len(PLUGINS)
    done = subprocess.run([sys.executable, "-c", _IMPORTS_NO_TORCH, json.dumps(modules)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


# Components


def test_names_are_unique() -> None:
    claimed = [(r.spec.kind, r.spec.name) for r in COMPONENTS]
    assert len(set(claimed)) == len(claimed)
    targets = [t for r in COMPONENTS if r.spec.nemo for t in r.spec.nemo.targets]
    assert len(set(targets)) == len(targets)


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda r: f"{r.spec.kind}-{r.spec.name}")
def test_tiny_fills_the_config(component: Registered) -> None:
    spec = component.spec
    section = config.fill_section(spec.kind, {"name": spec.name, **spec.tiny}, spec.kind)
    values = section.to_dict()
    assert _holds(values, {"name": spec.name, **spec.tiny})
    assert config.fill_section(spec.kind, values, spec.kind) == section
    assert spec.config.partition(":")[0].endswith(".config"), "configs lie in a config.py, which imports no torch"


def _holds(filled: Any, given: Any) -> bool:
    """Whether all of what was given is in the filled config, sections within lists included."""
    if isinstance(given, dict):
        return all(key in filled and _holds(filled[key], value) for key, value in given.items())
    if isinstance(given, list):
        return len(filled) == len(given) and all(map(_holds, filled, given))
    return bool(filled == given)


# The shape of the code


def test_files_are_short() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text("utf-8").splitlines()) for p in _own_files()}
    assert not {path: n for path, n in lengths.items() if n > MOST_LINES}, "one concept a file: is there a seam?"


def _own_files() -> list[Path]:
    return _files(*(ROOT / name for name in ("core", "plugins", "tests", "benchmarks", "scripts")))


def test_own_classes_do_not_inherit_from_each_other() -> None:
    """Models are composed of parts. Errors, configs and protocols may extend one another."""
    classes = [
        (path, node) for path in _files(*SOURCES.values()) for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef)
    ]
    own = {node.name for _, node in classes}
    found = [
        f"{_label(path, node.lineno)}: {node.name}({_dotted(base)})"
        for path, node in classes
        if path.name not in ("errors.py", "config.py") and path.parent.name != "protocols"
        for base in node.bases
        if _dotted(base).rpartition(".")[2] in own and not _dotted(base).startswith("torch.")
    ]
    assert not found


# Nothing in a file can run, and the process stays as it was


def _argument(call: ast.Call, keyword: str) -> str:
    """A keyword argument as source text."""
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == keyword), "")


def _always(call: ast.Call) -> bool:
    return True


SAFE_LOADERS = ("yaml.SafeLoader", "yaml.CSafeLoader", "_safe_loader(text)")
RUNS_CODE: dict[str, Callable[[ast.Call], bool]] = {
    **dict.fromkeys(("eval", "exec", "compile", "__import__", "os.system", "os.popen"), _always),
    **dict.fromkeys(("yaml.full_load", "yaml.unsafe_load", "yaml.load_all", "yaml.full_load_all"), _always),
    "yaml.load": lambda call: _argument(call, "Loader") not in SAFE_LOADERS,
    "torch.load": lambda call: _argument(call, "weights_only") != "True",
    **dict.fromkeys(("subprocess.run", "subprocess.Popen"), lambda call: _argument(call, "shell") not in ("", "False")),
}
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
CHANGES_PROCESS = {"os.chdir", "os.putenv", "os.environ.update", "os.environ.setdefault", "os.environ.pop", "os.environ.clear"}


def _unsafe(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What could run the content of a file."""
    yield from ((i.line, i.module) for i in _imports(tree) if i.root in UNSAFE_MODULES)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (check := RUNS_CODE.get(_dotted(node.func))) and check(node):
            yield node.lineno, ast.unparse(node)


def _meddling(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What changes the folder or the environment of the process."""
    for node in ast.walk(tree):
        calls = isinstance(node, ast.Call) and _dotted(node.func) in CHANGES_PROCESS
        writes = isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load) and _dotted(node.value) == "os.environ"
        if isinstance(node, ast.expr) and (calls or writes):
            yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize("package", SOURCES)
def test_nothing_runs_the_content_of_files(package: str) -> None:
    assert not [f"{_label(path, line)}: {what}" for path in _files(SOURCES[package]) for line, what in _unsafe(_tree(path))]


@pytest.mark.parametrize("beside", ["", "x: [" + "[], " * 1000 + "]"], ids=["small", "many brackets"])
def test_every_yaml_parser_refuses_tags(beside: str) -> None:
    with pytest.raises(ConfigError, match="not plain YAML"):
        config.parse_yaml(f"a: !!python/object/apply:os.getcwd []\n{beside}", "model.yaml")
    assert config.parse_yaml(f"a: 1\n{beside}", "model.yaml")["a"] == 1


@pytest.mark.parametrize("package", SOURCES)
def test_nothing_changes_the_process(package: str) -> None:
    """But for the contract kit, which puts back what a component under test has changed."""
    files = [path for path in _files(SOURCES[package]) if path.parent.name != "testing"]
    assert not [f"{_label(path, line)}: {what}" for path in files for line, what in _meddling(_tree(path))]


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')",
        "exec(code)",
        "import pickle",
        "from pickle import loads",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "torch.load(f, weights_only=flag)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
    ],
)
def test_unsafe_code_is_noticed(text: str) -> None:
    assert list(_unsafe(ast.parse(text)))


@pytest.mark.parametrize(
    "text", ["os.chdir('/')", "os.environ['A'] = '1'", "del os.environ['A']", "os.environ.setdefault('A', '1')"]
)
def test_meddling_is_noticed(text: str) -> None:
    assert list(_meddling(ast.parse(text)))


@pytest.mark.parametrize("text", ["model.eval()", "torch.load(f, weights_only=True)", "yaml.safe_load(t)", "os.environ['A']"])
def test_safe_code_passes(text: str) -> None:
    assert not [*_unsafe(ast.parse(text)), *_meddling(ast.parse(text))]
