"""What the documentation shows is run (`doc_blocks.py` says how), and what it says of names, options and files is compared with
the code."""

from __future__ import annotations

import gzip
import importlib
import inspect
import io
import os
import re
import shutil
import sys
import tarfile
import tomllib
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import soundfile
import torch
import yaml

import sonant
from doc_blocks import CASES, DOCS, PAGES, REPO, Session, blocks, name_of, prose
from nemo_cases import noisy
from sonant import config, errors, hooks, plugins, registry, spec
from sonant.cli.main import app
from sonant.nemo.archive import CONFIG, WEIGHTS, NemoArchive, write_archive

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


_ADAPTERS = "nemo.collections.asr.parts.submodules.adapters.multi_head_attention_adapter_module"
FOREIGN = {  # checkpoints of kinds that Sonant does not open
    "absolute.nemo": {"encoder.self_attention_model": "abs_pos"},
    "multitalker.nemo": {"target": "nemo.collections.asr.models.multitalker_asr_models.EncDecMultiTalkerRNNTBPEModel"},
    "wordpiece.nemo": {"tokenizer.type": "wpe"},
    "parallel.nemo": {"encoder._target_": "nemo.collections.asr.modules.ParallelConvASREncoder"},
    "unmasked.nemo": {"encoder": {"_target_": "nemo.collections.asr.modules.ConvASREncoder", "conv_mask": False}},
    "multiblank.nemo": {"joint.num_extra_outputs": 2, "decoding.big_blank_durations": [2, 4]},
    "adapters.nemo": {"adapters": {"mine": {"_target_": f"{_ADAPTERS}.RelPositionMultiHeadAttentionAdapter"}}},
    "newer.nemo": {"encoder.rotary": True},
    "hostile.nemo": {"encoder._target_": "os.system"},
    "curious.nemo": {"preprocessor.sample_rate": "${oc.env:HOME}"},
}


class Unpickled:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


def with_code(source: Path, target: Path) -> None:
    """A copy of a `.nemo` file with an object among its tensors."""
    with NemoArchive(source) as archive:
        files = {name: archive.read(name) for name in archive.sizes() if name not in (CONFIG, WEIGHTS)}
        write_archive(target, archive.config(), {**archive.state(), "extra": Unpickled()}, files)  # type: ignore[dict-item]


def with_member(source: Path, target: Path, entry: tarfile.TarInfo) -> None:
    """A copy of a `.nemo` file with one more member."""
    shutil.copy(source, target)
    with tarfile.open(target, "a") as tar:
        tar.addfile(entry)


def link(name: str, target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry


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
        "multilingual.nemo": "prompt_rnnt_bpe.nemo",
        "conversation.nemo": "eou_rnnt_bpe.nemo",
        "lookaheads.nemo": "fastconformer_streaming_rnnt_bpe.nemo",
        "canary.nemo": "canary2_aed.nemo",
        "recordings/talk.wav": "a.wav",
    }.items():
        shutil.copy(CASES / file, folder / name)
    sound, rate = soundfile.read(CASES / "b.wav")
    soundfile.write(folder / "recordings" / "side.flac", sound, rate)
    soundfile.write(folder / "noisy.wav", noisy(CASES / "a.wav"), 16000)
    for name, changes in FOREIGN.items():
        altered(folder / "model.nemo", folder / name, changes)
    with_code(folder / "model.nemo", folder / "code.nemo")
    (folder / "bomb.arpa.gz").write_bytes(gzip.compress(bytes(2**26)))
    with_member(folder / "model.nemo", folder / "link.nemo", link("x", "/etc/passwd"))
    with_member(folder / "model.nemo", folder / "outside.nemo", tarfile.TarInfo("../../x"))
    return folder


@pytest.fixture
def workspace(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with those files, the current one; plugins installed meanwhile are forgotten afterwards."""
    shutil.copytree(samples, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "nemo-cases").symlink_to(CASES)
    (tmp_path / "models").symlink_to(REPO / "models")
    (tmp_path / "sample.mp3").symlink_to(REPO / "models" / "en-small" / "sample.mp3")
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
        assert not Path("owned").exists(), "code of a checkpoint was run"
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


@pytest.mark.parametrize("picture", sorted({*DOCS.rglob("*.svg")} - {DOCS / "images" / "favicon.svg"}), ids=name_of)
def test_pictures_name_real_components(picture: Path) -> None:
    texts = {"".join(e.itertext()).strip() for e in xml.etree.ElementTree.parse(picture).iter() if e.tag.endswith("}text")}
    known = {r.spec.name for r in registry.current()} | {f"{p.distribution}" for p in plugins.installed()} | {*spec.KINDS}
    named = {word for text in texts for word in re.findall(r"\bsonant-[a-z]+\b|\b[a-z]+_[a-z]+\b", text)}
    named |= texts & {*spec.KINDS}
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
    documented = [name for row in rows(section("python.md", heading))[1:] for name in re.findall(r"`\**(\w+)`", row[0])]
    assert documented == [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_encoders_are_compared_as_they_are() -> None:
    table = {row[0]: row[1:] for row in rows(section("concepts.md", "Encoders"))}
    names = [cell.strip("`") for cell in table[""]]
    sections = {"task": "asr", "preprocessor": "log_mel", "tokenizer": {"name": "char", "labels": [" ", "a"]}, "decoder": "ctc"}
    (example,) = re.findall(r"```yaml\n(encoder:.*?)```", section("concepts.md", "Encoders"), re.DOTALL)
    shown = yaml.safe_load(example)["encoder"]  # of the one that has no defaults
    for column, name in enumerate(names):
        with torch.device("meta"):
            model = sonant.build(sections, encoder=shown if name == shown["name"] else name)
        millions = sum(p.numel() for p in model.encoder.parameters()) / 1e6
        assert table["parameters at the defaults"][column].partition(",")[0] == f"{millions:.0f} million"
        assert table["a frame every"][column] == f"{1000 * model.frame_seconds:.0f} ms"
        assert table["subsampling"][column].startswith(f"{model.encoder.subsampling}, ")
        blocks = getattr(model.encoder.config, "blocks", [])
        several = f"1 to {max(b.kernel for b in blocks)}" if blocks else None
        kernel = getattr(model.encoder.config, "conv_kernel_size", several)
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
