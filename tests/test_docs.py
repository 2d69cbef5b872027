"""What the documentation shows is run, and what it says of names, options and files is compared with the code.

How the fenced blocks of a page are treated, in order, in one folder (`workspace`) and one Python namespace:

    python    executed; a `text` block right behind it is what it prints
    pycon     an interactive session, run by doctest
    bash      commands that must succeed
    console   commands after `$` and their output, standard output and error together
    yaml      a model config, sections of one, or model cards: filled and checked
    toml, json, jsonl    parsed
    text, mermaid        read by people only

In expected output `...` stands for anything. A block whose first line is a comment with nothing but a path, as `# model.yaml`, is
written to that file, and Python is then not executed. After `<!-- needs the internet -->` or another of `NOT_RUN`, commands and
Python are checked without being run: commands, options, arguments and model names must exist.
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
import tarfile
import tomllib
import xml.etree.ElementTree
from collections.abc import Iterator
from contextlib import redirect_stdout
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click
import pytest
import soundfile
import torch
import yaml
from attrs import frozen
from click.testing import CliRunner

import sonant
from sonant import cards, config, errors, hooks, plugins, registry, spec
from sonant.cli import inspect as inspect_commands
from sonant.cli import model as model_commands
from sonant.cli.main import app

REPO = Path(__file__).resolve().parents[1]
CASES = REPO / "tests" / "nemo-cases"
DOCS = REPO / "docs"
PAGES = [REPO / "README.md", REPO / "core" / "README.md", *sorted(REPO.glob("plugins/*/README.md")), *sorted(DOCS.rglob("*.md"))]
NOT_RUN = ("needs the internet", "installs packages", "needs a GPU", "takes minutes")

inspect_commands.add_to(app)
model_commands.add_to(app)


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


def sonant_command(args: list[str]) -> tuple[int, str]:
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        result = CliRunner().invoke(app, args, prog_name="sonant")
    finally:  # the command line sets up logging for a process of its own
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def in_a_process(args: list[str], environment: dict[str, str]) -> tuple[int, str]:
    program = Path(sys.executable).parent / "sonant"
    done = subprocess.run([program, *args], env=os.environ | environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def metadata(project: Path) -> None:
    """What pip would write for a project with a `src` folder, beside its modules."""
    described = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    assert described["build-system"]["build-backend"]
    name, version = described["project"]["name"], described["project"]["version"]
    info = project / "src" / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    with (info / "entry_points.txt").open("w") as file:
        for group, entries in described["project"]["entry-points"].items():
            file.write(f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items()))


class Session:
    """The commands and the Python of one page."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.status = 0
        self.installed: list[str] = []

    def run(self, block: Block) -> None:
        if block.file is not None:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text.partition("\n")[2], "utf-8")
        handler = getattr(self, f"_{block.language or 'text'}", None)
        assert handler is not None, f"a block of {block.language!r} is not something this test can check"
        handler(block)

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
            case ["sonant", *args] if environment:
                return in_a_process(args, {"PYTHONPATH": os.pathsep.join(self.installed)} | environment)
            case ["sonant", *args, ">", file]:
                status, output = sonant_command(args)
                Path(file).write_text(output, "utf-8")
                return status, ""
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
                return self._install(Path(project))
        raise AssertionError(f"this test does not know the command {words[0]!r}")

    def _install(self, project: Path) -> tuple[int, str]:
        metadata(project)
        self.installed.append(str((project / "src").resolve()))
        sys.path.insert(0, self.installed[-1])
        importlib.invalidate_caches()
        plugins.refresh()
        return 0, ""

    def _yaml(self, block: Block) -> None:
        data = yaml.safe_load(block.text)
        if "models" in data:
            cards.read_cards(data, name_of(self.page))
            return
        path = Path("shown.yaml")
        path.write_text(block.text, "utf-8")
        resolved = config.resolve_user_file(path)
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

    def _mermaid(self, block: Block) -> None:
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
        case ["make", target]:
            assert re.search(rf"^{target}:", (REPO / "Makefile").read_text("utf-8"), re.MULTILINE), f"make {target}"
        case ["pip", "install", *args] | ["python", "-m", "pip", "install", *args]:
            check_pip(args)
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
    """Every word but options is a path of the repository."""
    for word in args:
        assert word.startswith("-") or (REPO / word).exists(), f"pip would find no {word}"


def check_calls(tree: ast.AST) -> None:
    """Calls such as `sonant.load("name", device="cuda")` in code that is not run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("sonant."):
            function = getattr(sonant, ast.unparse(node.func).removeprefix("sonant."))
            inspect.signature(function).bind(*node.args, **{str(k.arg): k.value for k in node.keywords})
            if function is sonant.load and isinstance(node.args[0], ast.Constant):
                check_model(str(node.args[0].value))


# The folder a page is read in


def altered(source: Path, target: Path, changes: dict[str, Any]) -> None:
    """A copy of a `.nemo` file with values of its config replaced, by dotted key."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old.getmembers():
            content = old.extractfile(member)
            if content is None:
                continue
            data = content.read()
            if member.name.endswith("model_config.yaml"):
                document = yaml.safe_load(data)
                for dotted, value in changes.items():
                    *parents, key = dotted.split(".")
                    section = document
                    for parent in parents:
                        section = section[parent]
                    section[key] = value
                data = yaml.safe_dump(document).encode()
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))


FOREIGN = {  # checkpoints of kinds that Sonant does not open
    "local-attention.nemo": {"encoder.self_attention_model": "rel_pos_local_attn", "encoder.att_context_size": [128, 128]},
    "canary.nemo": {"target": "nemo.collections.asr.models.aed_multitask_models.EncDecMultiTaskModel"},
    "wordpiece.nemo": {"tokenizer.type": "wpe"},
    "citrinet.nemo": {"encoder._target_": "nemo.collections.asr.modules.ConvASREncoder"},
    "hat.nemo": {"joint._target_": "nemo.collections.asr.modules.HATJoint"},
    "adapters.nemo": {"adapters": {"linear": {}}},
    "hostile.nemo": {"encoder._target_": "os.system"},
    "curious.nemo": {"preprocessor.sample_rate": "${oc.env:HOME}"},
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages speak of."""
    folder = tmp_path_factory.mktemp("samples")
    (folder / "recordings").mkdir()
    for name, file in {
        "talk.wav": "a.wav",
        "side.wav": "b.wav",
        "model.nemo": "fastconformer_tdt_bpe.nemo",
        "hybrid.nemo": "fastconformer_hybrid_tdt_ctc_bpe.nemo",
        "ctc.nemo": "fastconformer_ctc_bpe.nemo",
        "streaming.nemo": "fastconformer_streaming_ctc_bpe.nemo",
        "recordings/talk.wav": "a.wav",
    }.items():
        shutil.copy(CASES / file, folder / name)
    sound, rate = soundfile.read(CASES / "b.wav")
    soundfile.write(folder / "recordings" / "side.flac", sound, rate)
    for name, changes in FOREIGN.items():
        altered(CASES / "fastconformer_tdt_bpe.nemo", folder / name, changes)
    return folder


@pytest.fixture
def workspace(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with those files, the current one; plugins installed meanwhile are forgotten afterwards."""
    shutil.copytree(samples, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "nemo-cases").symlink_to(CASES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)  # on tensors this small, threads only wait
    before = set(sys.modules)
    yield tmp_path
    for name in sys.modules.keys() - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    monkeypatch.undo()
    importlib.invalidate_caches()
    plugins.refresh()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_shows_is_so(page: Path, workspace: Path) -> None:
    session = Session(page)
    for block in blocks(page):
        problem = None
        try:
            session.run(block)
        except Exception as error:
            problem = f"{name_of(page)}:{block.line}: {type(error).__name__}: {error}"
        if problem is not None:
            pytest.fail(problem, pytrace=False)


# Links, pictures, names


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(h) for h in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)}


@pytest.mark.parametrize("page", sorted({*PAGES, *REPO.glob("*.md"), *REPO.glob("*/*.md"), *CASES.glob("*.md")}), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(page))):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        assert not anchor or anchor in anchors(target), f"{name_of(page)} links to {link}, which has no such heading"


def test_every_page_is_reachable_from_the_index() -> None:
    linked = set(re.findall(r"\]\((\w+\.md)\)", (DOCS / "index.md").read_text("utf-8")))
    assert linked == {page.name for page in DOCS.glob("*.md")} - {"index.md"}


@pytest.mark.parametrize("picture", sorted(DOCS.rglob("*.svg")), ids=name_of)
def test_pictures_name_real_components(picture: Path) -> None:
    texts = {"".join(e.itertext()).strip() for e in xml.etree.ElementTree.parse(picture).iter() if e.tag.endswith("}text")}
    known = {r.spec.name for r in registry.current()} | {f"{p.distribution}" for p in plugins.installed()}
    named = {word for text in texts for word in re.findall(r"\bsonant-[a-z]+\b|\b[a-z]+_[a-z]+\b", text)}
    assert named, "the picture names none"
    assert named <= known | {"from_parts"}


def rows(section: str) -> list[list[str]]:
    """The cells of every table row of a piece of Markdown."""
    found = [[c.strip() for c in line.strip("|").split(" | ")] for line in section.splitlines() if line.startswith("|")]
    return [row for row in found if not set("".join(row)) <= set("-: |")]


def section(page: str, heading: str) -> str:
    text = (DOCS / page).read_text("utf-8")
    match = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert match is not None, f"{page} has no heading {heading!r}"
    return match[1]


def ticked(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def commands(group: click.Group, prefix: str = "sonant") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def test_the_command_line_page_has_every_option() -> None:
    for name, command in commands(app):
        text = section("cli.md", name)
        documented = {option: row for row in rows(text) for option in ticked(row[0]) if option.startswith("-")}
        options = [p for p in command.params if isinstance(p, click.Option)]
        assert set(documented) == {o for p in options for o in (*p.opts, *p.secondary_opts)}, name
        for option in options:
            row = " ".join(documented[option.opts[0]])
            if isinstance(option.type, click.Choice):
                assert set(option.type.choices) <= ticked(row), f"{name} {option.opts[0]}"
            if option.show_default:
                assert f"default `{option.default}`" in row, f"{name} {option.opts[0]}"
    assert set(re.findall(r"^## (sonant .+)$", (DOCS / "cli.md").read_text("utf-8"), re.MULTILINE)) == {
        n for n, _ in commands(app)
    }


def test_every_environment_variable_is_documented() -> None:
    used = {
        name
        for source in (REPO / "core" / "src", *REPO.glob("plugins/*/src"))
        for path in source.rglob("*.py")
        for name in re.findall(r"environ(?:\.get\(|\[)\"(\w+)\"", path.read_text("utf-8"))
    }
    documented = {name for row in rows(section("cli.md", "Environment variables")) for name in ticked(row[0])}
    assert used <= documented
    assert {n for n in documented if n.startswith("SONANT_")} <= used


def test_every_hook_is_a_heading() -> None:
    named = {name for name in vars(hooks) if name.startswith("sonant_")}
    assert set(re.findall(r"^### `(sonant_\w+)", (DOCS / "plugins.md").read_text("utf-8"), re.MULTILINE)) == named


def test_every_kind_and_component_is_documented() -> None:
    table = rows(section("concepts.md", "Kinds"))[1:]
    assert [ticked(row[0]) for row in table] == [{kind} for kind in spec.KINDS]
    for registered in registry.current():
        row = next(row for row in table if f"`{registered.spec.kind}`" == row[0])
        assert f"`{registered.spec.name}`" in row[-1], f"{registered.spec.kind} {registered.spec.name}"
    installed = {r.spec.name for r in registry.current()}
    assert {name for row in table for name in ticked(row[-1])} <= installed


def test_every_error_is_documented() -> None:
    defined = {name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, errors.SonantError)}
    table = {row[0].strip("`"): row for row in rows(section("python.md", "Errors"))[1:]}
    assert table.keys() == defined.keys() - {"SonantError"}
    for name, row in table.items():
        assert ticked(row[1]) == {base.__name__ for base in defined[name].__bases__} - {"SonantError"}, name


@pytest.mark.parametrize("heading", ["sonant.load", "sonant.build", "sonant.save", "model.transcribe"])
def test_every_argument_is_documented(heading: str) -> None:
    function = getattr(registry_target("task", "asr") if heading.startswith("model.") else sonant, heading.partition(".")[2])
    documented = [row[0].strip("`*") for row in rows(section("python.md", heading))[1:]]
    assert documented == [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_encoders_are_compared_as_they_are() -> None:
    table = {row[0]: row[1:] for row in rows(section("concepts.md", "Encoders"))}
    names = [cell.strip("`") for cell in table[""]]
    sections = {"task": "asr", "preprocessor": "log_mel", "tokenizer": {"name": "char", "labels": [" ", "a"]}, "decoder": "ctc"}
    for column, name in enumerate(names):
        with torch.device("meta"):
            model = sonant.build(sections, encoder=name)
        millions = sum(p.numel() for p in model.encoder.parameters()) / 1e6
        assert table["parameters at the defaults"][column] == f"{millions:.0f} million"
        assert table["a frame every"][column] == f"{1000 * model.frame_seconds:.0f} ms"
        assert table["subsampling"][column].startswith(f"{model.encoder.subsampling}, ")
        kernel = getattr(model.encoder.config, "conv_kernel_size", None)
        assert table["convolution kernel"][column] == ("none" if kernel is None else f"{kernel} frames")
        assert ("no counterpart" in table["in `.nemo` files"][column]) == (
            registry.current().get("encoder", name).spec.nemo is None
        )


def test_the_direct_dependencies_are_named() -> None:
    project = tomllib.loads((REPO / "core" / "pyproject.toml").read_text("utf-8"))["project"]
    names = [re.match(r"\w+", dependency)[0] for dependency in project["dependencies"]]  # type: ignore[index]
    assert len(names) == 8
    assert f"{', '.join(names[:-1])} and {names[-1]}" in " ".join((DOCS / "install.md").read_text("utf-8").split())


def registry_target(kind: str, name: str) -> Any:
    found = registry.current().get(kind, name)
    return config.load_target(found.spec.target, name)
