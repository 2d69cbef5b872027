"""The fenced blocks of the documentation: finding them, running them, checking what is not run.

How the blocks of a page are treated, in order, in the current folder and one Python namespace:

    python    executed; a `text` block right behind it is what it prints
    pycon     an interactive session, run by doctest
    bash      commands that must succeed
    console   commands after `$` and their output, standard output and error together
    yaml      a model config, sections of one, or model cards: filled and checked
    toml, json, jsonl    parsed
    text         read by people only

In expected output `...` stands for anything. A block whose first line is a comment with nothing but a path, as `# model.yaml`, is
written to that file, and Python is then not executed. Where that file lies beside the page, the block must be a piece of it, with
`...` for what is left out, and the whole folder is copied here. After `<!-- needs the internet -->` or another of `NOT_RUN`,
commands and Python are checked without being run: commands, options, arguments and model names must exist.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import io
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import yaml
from attrs import frozen
from click.testing import CliRunner

import sonant
from sonant import cards, config, plugins, registry
from sonant.cli.main import app
from sonant_training.optimizers.section import read_optim

REPO = Path(__file__).resolve().parents[1]
CASES = REPO / "tests" / "nemo-cases"
DOCS = REPO / "docs"
SITE = sorted(page for page in DOCS.rglob("*.md") if page.name != "README.md")  # those are of packages that the tutorial builds
_READMES = (path for folder in ("plugins", "models") for path in sorted(REPO.glob(f"{folder}/*/README.md")))
PAGES = [REPO / "README.md", REPO / "core" / "README.md", *_READMES, *SITE]
NOT_RUN = (
    "needs the internet",
    "installs packages",
    "needs a GPU",
    "needs a microphone",
    "needs ffmpeg",
    "needs NeMo",
    "takes minutes",
)


def name_of(page: Path) -> str:
    return page.relative_to(REPO).as_posix()


# What a page holds


@frozen
class Block:
    """A fenced block; `line` is that of its first line, `output` the text block right behind it."""

    language: str
    text: str
    line: int
    runs: bool
    output: str | None

    @property
    def file(self) -> str | None:
        """The path that its first line names, if that is all it does."""
        match = re.match(r"# ([\w./-]+\.\w+)\n", self.text)
        return match[1] if match else None


_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    found = list(_BLOCK.finditer(text))
    assert "```" not in prose(page), f"{name_of(page)}: a fence is not closed, or has more than a language behind it"
    for match, following in zip_longest(found, found[1:]):
        before = text[: match.start()].rstrip().rsplit("\n", 1)[-1]
        comment = re.fullmatch(r"<!-- (.*) -->", before)
        assert comment is None or comment[1] in NOT_RUN, f"{name_of(page)}: {before} is not one of {NOT_RUN}"
        is_output = following is not None and following[1] == "text" and not text[match.end() : following.start()].strip()
        yield Block(
            language=match[1],
            text=match[2],
            line=text.count("\n", 0, match.start()) + 2,
            runs=comment is None,
            output=following[2] if is_output and following is not None else None,
        )


def prose(page: Path) -> str:
    """A page without its blocks."""
    return _BLOCK.sub("", page.read_text("utf-8"))


# Running it


def sonant_command(args: list[str], stdin: bytes | None = None) -> tuple[int, str]:
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        result = CliRunner().invoke(app, args, stdin, prog_name="sonant")
    finally:  # the command line sets up logging for a process of its own
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def in_a_process(program: str, args: list[str], environment: dict[str, str]) -> tuple[int, str]:
    path = Path(sys.executable).parent / program
    done = subprocess.run([path, *args], env=os.environ | environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def metadata(project: Path) -> Path:
    """Builds a project with a `src` folder as pip does, and puts the metadata of its wheel beside its modules.

    Returns `src`: on the import path it is what `pip install -e` makes of the project.
    """
    described = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    backend = importlib.import_module(described["build-system"]["build-backend"])
    source = (project / "src").resolve()
    with TemporaryDirectory() as folder, chdir(project), zipfile.ZipFile(Path(folder, backend.build_wheel(folder))) as wheel:
        held = set(wheel.namelist())
        modules = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
        assert modules <= held, f"the wheel of {project} lacks {', '.join(sorted(modules - held))}"
        wheel.extractall(source, [name for name in held if ".dist-info/" in name])
    return source


class Session:
    """The commands and the Python of one page."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.status = 0
        self.installed: list[str] = []

    def run(self, block: Block) -> None:
        if block.file is not None and (self.page.parent / block.file).is_file():
            self._excerpt(block, self.page.parent / block.file)
            return
        if block.file is not None:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text.partition("\n")[2], "utf-8")
        handler = getattr(self, f"_{block.language or 'text'}", None)
        assert handler is not None, f"a block of {block.language!r} is not something this test can check"
        handler(block)

    def _excerpt(self, block: Block, finished: Path) -> None:
        rest = "\n" + finished.read_text("utf-8")
        pieces = re.split(r"^ *\.\.\.\n", block.text.partition("\n")[2], flags=re.MULTILINE)
        for piece in (piece.strip("\n") for piece in pieces if piece.strip()):
            _, found, rest = rest.partition(f"\n{piece}\n")
            rest = "\n" + rest
            assert found, f"{block.file} does not hold, here or further down:\n{piece}"
        folder = Path(str(block.file)).parts[0]
        shutil.copytree(self.page.parent / folder, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"), dirs_exist_ok=True)

    def _python(self, block: Block) -> None:
        code = compile("\n" * (block.line - 1) + block.text, str(self.page), "exec")
        if not block.runs:
            check_calls(ast.parse(block.text))
        elif block.file is None:
            printed = io.StringIO()
            with redirect_stdout(printed):
                exec(code, self.namespace)
            if block.output is not None:
                compare(block.output, printed.getvalue())

    def _pycon(self, block: Block) -> None:
        test = doctest.DocTestParser().get_doctest(block.text, self.namespace, self.page.name, str(self.page), block.line - 1)
        report: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
        runner.run(test, out=report.append, clear_globs=False)
        self.namespace |= test.globs
        assert not report, "".join(report)

    def _bash(self, block: Block) -> None:
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and block.runs:
                self.status, output = self._command(words)
                assert self.status == 0, f"$ {line}\n{output}"
            elif words:
                check_command(words)

    def _console(self, block: Block) -> None:
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.replace("\\\n", " ").partition("\n")
            if block.runs:
                self.status, output = self._command(shlex.split(command, comments=True))
                compare(expected, output, command)
            else:
                check_command(shlex.split(command, comments=True))

    def _command(self, words: list[str]) -> tuple[int, str]:
        environment = {}
        while "=" in words[0]:
            name, _, environment[name] = words.pop(0).partition("=")
        match words:
            case ["python", *args]:
                return in_a_process("python", args, {"PYTHONPATH": os.pathsep.join(self.installed)} | environment)
            case ["sonant", *args] if environment or (self.installed and args[0] not in app.commands):
                return in_a_process("sonant", args, {"PYTHONPATH": os.pathsep.join(self.installed)} | environment)
            case ["sonant", *args, ">", file]:
                status, output = sonant_command(args)
                Path(file).write_text(output, "utf-8")
                return status, ""
            case ["sonant", *args, "<", file]:
                return sonant_command(args, Path(file).read_bytes())
            case ["sonant", *args]:
                return sonant_command(args)
            case ["echo", "$?"]:
                return 0, f"{self.status}\n"
            case ["cat", *files]:
                return 0, "".join(Path(file).read_text("utf-8") for file in files)
            case ["ls", folder]:
                return 0, "".join(f"{path.name}\n" for path in sorted(Path(folder).iterdir()))
            case ["cp", *files, target]:
                for file in files:
                    shutil.copy(file, target)
                return 0, ""
            case ["mkdir", folder]:
                Path(folder).mkdir()
                return 0, ""
            case ["pip", "install", "-e", project]:
                return self._install(Path(project.partition("[")[0]))  # without its extras
            case ["pip", "uninstall", "-y", name]:
                return self._uninstall(name)
        raise AssertionError(f"this test does not know the command {words[0]!r}")

    def _install(self, project: Path) -> tuple[int, str]:
        app.list_commands(click.Context(app))  # those of plugins are added once: only the ones that every test has
        self.installed.append(str(metadata(project)))
        sys.path.insert(0, self.installed[-1])
        return self._changed()

    def _uninstall(self, name: str) -> tuple[int, str]:
        (source,) = (s for s in self.installed if any(Path(s).glob(f"{name.replace('-', '_')}-*.dist-info")))
        self.installed.remove(source)
        sys.path.remove(source)
        return self._changed()

    def _changed(self) -> tuple[int, str]:
        importlib.invalidate_caches()
        plugins.refresh()
        return 0, ""

    def _yaml(self, block: Block) -> None:
        data = yaml.safe_load(block.text)
        if "models" in data:
            cards.read_cards(data, name_of(self.page))
            return
        if isinstance(data.get("model"), dict):  # a training config of NeMo's, for `sonant convert-config`
            return
        path = Path("shown.yaml")
        path.write_text(block.text, "utf-8")
        resolved = config.resolve_user_file(path)
        if "optim" in resolved:
            read_optim(resolved["optim"])
        if "task" in resolved:
            config.fill_model(resolved)
            return
        kinds = {part.key: part.kind for r in registry.current() if r.spec.kind == "task" for part in r.spec.parts}
        for key, section in resolved.items():
            if key not in config.TRAINING_SECTIONS:
                config.fill_section(kinds[key], section, key)

    def _toml(self, block: Block) -> None:
        tomllib.loads(block.text)

    def _json(self, block: Block) -> None:
        json.loads(block.text)

    def _jsonl(self, block: Block) -> None:
        for line in block.text.splitlines():
            if not line.startswith("# "):
                json.loads(line)

    def _text(self, block: Block) -> None:
        pass


def compare(expected: str, got: str, command: str = "") -> None:
    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS
    expected, got = (re.sub(r"[ \t]+$", "", text.strip("\n"), flags=re.MULTILINE) + "\n" for text in (expected, got))
    if not checker.check_output(expected, got, flags):
        raise AssertionError(f"{command}\nexpected:\n{expected}\ngot:\n{got}")


def check_command(words: list[str]) -> None:
    """A command that is not run: what it names has to be there."""
    while "=" in words[0]:
        words = words[1:]
    match words:
        case ["sonant", *args]:
            check_sonant(args)
        case ["ffmpeg", *_] if "|" in words:
            check_command(words[words.index("|") + 1 :])
        case ["make", target]:
            assert re.search(rf"^{target}:", (REPO / "Makefile").read_text("utf-8"), re.MULTILINE), f"make {target}"
        case ["pip", "install", *args] | ["python", "-m", "pip", "install", *args]:
            check_pip(args)
        case ["nemo/bin/pip", "install", *_]:
            pass  # into an environment of NeMo's own
        case ["git", "clone", *_] | ["cd", _] | ["python", "-m", "venv", _] | ["source", _]:
            pass
        case _:
            raise AssertionError(f"this test does not know the command {' '.join(words)!r}")


def check_sonant(args: list[str]) -> None:
    command: click.Command = app
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), args[0])
        assert found is not None, f"there is no command {args[0]!r}"
        command, args = found, args[1:]
    parameters = command.make_context(command.name, list(args)).params
    check_model(parameters.get("model") or parameters.get("source"))


def check_model(name: str | None) -> None:
    if name is not None and not Path(name).exists() and "/" not in name and not name.endswith(".nemo"):
        assert cards.find(name.partition("@")[0]) is not None, f"there is no model card {name!r}"


def check_pip(args: list[str]) -> None:
    """Every word but options is a path of the repository, with extras behind it or without; torch comes from an index."""
    for word in args:
        if word == "torch" or args[max(0, args.index(word) - 1)] == "--index-url":
            continue
        assert word.startswith("-") or (REPO / word.partition("[")[0]).exists(), f"pip would find no {word}"


def check_calls(tree: ast.AST) -> None:
    """Calls such as `sonant.load("name", device="cuda")` in code that is not run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("sonant."):
            function = getattr(sonant, ast.unparse(node.func).removeprefix("sonant."))
            inspect.signature(function).bind(*node.args, **{str(k.arg): k.value for k in node.keywords})
            if function is sonant.load and isinstance(node.args[0], ast.Constant):
                check_model(str(node.args[0].value))
