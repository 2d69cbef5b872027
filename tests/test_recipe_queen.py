"""The recipe `recipes/queen`: fetching from a package made here, manifests, the n-gram search, the packed model."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import io
import json
import re
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

import sonant
from sonant.build import build
from sonant_asr.evaluation.normalization import basic
from sonant_asr.fusion.estimating import arpa_of

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes" / "queen"
CASES = ROOT / "tests" / "nemo-cases"


def script(name: str) -> ModuleType:
    """A script of the recipe, as a module."""
    spec = importlib.util.spec_from_file_location(f"queen_{name}", RECIPE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Fetching: a package written by the formats' descriptions, deb(5) and ar(5)

CLIPS = {"A1": b"first clip", "A2": b"the second", "B1": b"of another bundle"}


def game_data(clips: dict[str, bytes], cut: int = 0) -> bytes:
    """The game's file: 13 bytes, a count, 21 bytes for each file in it, the files; without the last `cut` bytes."""
    at = 15 + 21 * len(clips)
    entries = b""
    for name, content in clips.items():
        entries += f"{name}.SB".encode().ljust(12, b"\0") + b"\1" + at.to_bytes(4, "big") + len(content).to_bytes(4, "big")
        at += len(content)
    whole = b"QTBL" + b"?" * 9 + len(clips).to_bytes(2, "big") + entries + b"".join(clips.values())
    return whole[: len(whole) - cut]


def package(files: dict[str, bytes], compression: str = "xz") -> bytes:
    """A Debian package that installs `files`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    found = b"!<arch>\n"
    for name, content in {
        "debian-binary": b"2.0\n",
        "control.tar.xz": b"odd",
        f"data.tar.{compression}": buffer.getvalue(),
    }.items():
        found += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2)
        )
    return found


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with a list of two of the three clips, and the checksum of the package made here."""
    module = script("fetch")
    (tmp_path / "recipe").mkdir()
    rows = [{"audio_filepath": f"queen/{name}.mp3"} for name in ("A1", "B1")]
    (tmp_path / "recipe" / "queen.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(module, "HERE", tmp_path / "recipe")
    return module


def deb(module: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch, clips: dict[str, bytes] = CLIPS, **how: Any) -> Path:
    content = package({module._DATA: game_data(clips, **how), module._COPYRIGHT: b"the notice"})
    path.write_bytes(content)
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(content).hexdigest())
    return path


def test_the_clips_that_are_listed_are_cut_out(
    fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = deb(fetch, tmp_path / "game.deb", monkeypatch)
    out = tmp_path / "data"
    fetch.main(["--output", str(out), "--deb", str(file)])
    written = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert written == {"queen/A1.mp3": b"first clip", "queen/B1.mp3": b"of another bundle", "COPYRIGHT": b"the notice"}
    # A second call writes what is missing and nothing else.
    (out / "queen" / "A1.mp3").unlink()
    (out / "queen" / "B1.mp3").write_bytes(b"mine")
    fetch.main(["--output", str(out), "--deb", str(file)])
    assert (out / "queen" / "A1.mp3").read_bytes() == b"first clip" and (out / "queen" / "B1.mp3").read_bytes() == b"mine"
    file.unlink()
    fetch.main(["--output", str(out)])
    assert capsys.readouterr().out.splitlines()[-1] == f"all 2 clips are in {out}"


@pytest.mark.parametrize("compression", ["xz", "gz", "bz2"])
def test_any_compression_of_a_package_is_read(compression: str, fetch: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "game.deb").write_bytes(package({"usr/share/x": b"wanted", "usr/share/y": b"other"}, compression))
    assert fetch.unpack(tmp_path / "game.deb", ("usr/share/x",)) == {"usr/share/x": b"wanted"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no Debian package"),
        (b"PK\3\4 a zip file", "no Debian package"),
        (b"!<arch>\n", "holds no data.tar"),
        (b"!<arch>\ndebian-binary   0 ", "cut off"),
        (package({"usr/share/other": b""}), r"does not hold usr/share/scummvm/.*queen\.1c, usr/share/doc.*another version"),
    ],
)
def test_what_is_no_such_package_is_refused(content: bytes, message: str, fetch: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "game.deb").write_bytes(content)
    with pytest.raises(fetch.FetchError, match=message):
        fetch.cut(tmp_path / "game.deb", ["queen/A1.mp3"], tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_package_that_lacks_a_clip_or_has_half_of_it_is_refused(
    fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = deb(fetch, tmp_path / "game.deb", monkeypatch, {"A1": b"x"})
    with pytest.raises(SystemExit, match=r"has no clip B1\.SB"):
        fetch.main(["--output", str(tmp_path / "data"), "--deb", str(file)])
    deb(fetch, file, monkeypatch, cut=3)
    with pytest.raises(SystemExit, match=r"B1\.SB\W.* lies beyond its end"):
        fetch.main(["--output", str(tmp_path / "data"), "--deb", str(file)])


def test_other_content_than_the_known_is_refused(fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = deb(fetch, tmp_path / "game.deb", monkeypatch)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(SystemExit, match=r"not the package that this recipe knows: its SHA-256 is [0-9a-f]{64}"):
        fetch.main(["--output", str(tmp_path / "data"), "--deb", str(file)])
    assert not (tmp_path / "data" / "queen").exists()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and its address on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_the_package_is_fetched_from_the_first_address_that_has_it(
    fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: tuple[Path, str]
) -> None:
    folder, address = server
    deb(fetch, folder / "game.deb", monkeypatch)
    (folder / "wrong.deb").write_bytes(b"not it")
    target = tmp_path / "data" / "game.deb"
    fetch.download(target, (f"{address}/absent.deb", f"{address}/wrong.deb", f"{address}/game.deb"))
    assert target.read_bytes() == (folder / "game.deb").read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["game.deb"]
    target.unlink()
    with pytest.raises(fetch.FetchError) as raised:
        fetch.download(target, (f"{address}/absent.deb", f"{address}/wrong.deb"))
    assert "absent.deb: HTTP Error 404" in str(raised.value) and "SHA-256" in str(raised.value)
    assert "--deb" in str(raised.value) and not list(target.parent.iterdir())


# Manifests


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RECIPE / "queen.jsonl").read_text("utf-8").splitlines()]


def test_the_splits_are_apart(rows: list[dict[str, Any]]) -> None:
    assert Counter(row["split"] for row in rows) == {"train": 5776, "dev": 134, "test": 224, "test_speakers": 92}
    assert len({row["audio_filepath"] for row in rows}) == len(rows)
    heard = {row.get("speaker") for row in rows if row["split"] != "test_speakers"}
    assert {row.get("speaker") for row in rows if row["split"] == "test_speakers"} == {"ian", "lola", "wedge"}
    assert not heard & {"ian", "lola", "wedge"}


def test_manifests_have_what_is_said(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    script("prepare").main(["--output", str(tmp_path)])
    written = {
        path.stem: [json.loads(line) for line in path.read_text("utf-8").splitlines()] for path in tmp_path.glob("*.jsonl")
    }
    assert {split: len(found) for split, found in written.items()} == {
        "train": 5758,
        "dev": 134,
        "test": 224,
        "test_speakers": 92,
    }
    assert all(re.fullmatch(r"[a-z']+( [a-z']+)*", row["text"]) for found in written.values() for row in found)
    # What is measured is measured on all words of all clips, and nothing was done to them but case and punctuation.
    for split in ("test", "test_speakers"):
        assert [(row["audio_filepath"], row["text"]) for row in written[split]] == [
            (row["audio_filepath"], basic(row["text"])) for row in rows if row["split"] == split
        ]
    copies = {row["audio_filepath"] for row in rows} - {row["audio_filepath"] for found in written.values() for row in found}
    assert copies > script("prepare").COPIES, "what is heard in a test is not learned"
    texts = (tmp_path / "train.txt").read_text("utf-8").splitlines()
    assert texts == [row["text"] for row in written["train"]]


def test_directions_and_numbers() -> None:
    spoken = script("prepare").spoken
    assert spoken("(sigh) Well, <gulp> I've had 24 Hours!", directions=False) == "well i've had twenty four hours"
    assert spoken("(sigh)", directions=True) == "sigh" and spoken("(sigh)", directions=False) == ""
    with pytest.raises(ValueError, match="'In 1999' has a number: add how it is said to SPOKEN"):
        spoken("In 1999", directions=True)


# The n-gram and the search


def test_the_config_builds_a_model_of_the_size_it_says() -> None:
    config = yaml.safe_load((RECIPE / "config.yaml").read_text("utf-8"))
    config["tokenizer"] = {"name": "char", "labels": [chr(ord("A") + n) for n in range(64)]}  # as many as the recipe's has
    count = sum(weight.numel() for weight in build(config).parameters())
    stated = re.search(r"([\d.]+) million parameters", (RECIPE / "config.yaml").read_text("utf-8"))
    assert stated is not None and round(count / 1e6, 1) == float(stated[1])
    assert 5e6 < count < 15e6


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A model that knows two recordings, a manifest of these, and an n-gram of what is said in them."""
    folder = tmp_path_factory.mktemp("case")
    model = sonant.load(CASES / "fastconformer_ctc_bpe.nemo", device="cpu")
    sonant.save(model, folder / "model")
    said = {name: model.transcribe(CASES / f"{name}.wav")[0].text for name in ("a", "b")}
    (folder / "text.txt").write_text("".join(text + "\n" for text in said.values()))
    (folder / "lm.arpa").write_text(arpa_of(said.values(), model.tokenizer, order=3), "utf-8")
    lines = [json.dumps({"audio_filepath": str(CASES / f"{name}.wav"), "text": text}) for name, text in said.items()]
    (folder / "all.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder / "model", folder / "all.jsonl", folder / "lm.arpa"


def test_the_ngram_is_over_the_tokens_of_a_tokenizer(case: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, manifest, lm = case
    (tokenizer,) = model.rglob("*.model")
    options = ["--tokenizer", str(tokenizer), "--order", "3", "--output", str(tmp_path / "lm.arpa")]
    script("ngram").main([str(manifest.parent / "text.txt"), *options])
    assert (tmp_path / "lm.arpa").read_text("utf-8") == lm.read_text("utf-8")


def test_the_search_is_chosen_and_used(case: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, manifest, lm = case
    module = script("search")
    chosen, heard = tmp_path / "search.yaml", tmp_path / "out" / "heard.jsonl"
    module.main(["tune", str(manifest), "--model", str(model), "--lm", str(lm), "--output", str(chosen)])
    tried = [
        (float(weight), float(bonus), float(rate))
        for weight, bonus, rate in re.findall(r"lm_weight (\S+)  beam_beta (\S+)  words wrong (\S+)%", capsys.readouterr().out)
    ]
    assert [(w, b) for w, b, _ in tried] == [(w, b) for w in module.LM_WEIGHTS for b in module.BONUSES]
    weight, bonus, least = min(tried, key=lambda row: row[2])
    search = yaml.safe_load(chosen.read_text("utf-8"))
    assert (search["fusion"]["lm_weight"], search["beam_beta"]) == (weight, bonus) and least == 0.0
    module.main(["hear", str(manifest), "--model", str(model), "--search", str(chosen), "--output", str(heard)])
    said = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    assert [json.loads(line) for line in heard.read_text("utf-8").splitlines()] == said


# The packed model


def reports(folder: Path) -> Path:
    """What evaluations write, with rates of our own."""
    for name, rate in {"test": 0.4, "test-ngram": 0.301234, "test_speakers": 0.55, "test_speakers-ngram": 0.5}.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "scores.json").write_text(json.dumps({"words": {"error_rate": rate}}))
    return folder


def chosen(lm: Path, file: Path) -> Path:
    """What `search.py tune` writes."""
    file.write_text(yaml.safe_dump(script("search").section(str(lm), 0.5, 1.0)))
    return file


def test_a_packed_model_opens_by_its_card(case: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, manifest, lm = case
    out = tmp_path / "sonant_model_en_small"
    search = chosen(lm, tmp_path / "search.yaml")
    arguments = [str(model), "--search", str(search), "--reports", str(reports(tmp_path / "reports")), "--package", str(out)]
    script("pack").main(arguments)
    cards = yaml.safe_load((out / "cards.yaml").read_text("utf-8"))
    source = cards["models"]["en-small"]["source"]
    assert source.pop("package") == "sonant_model_en_small:model"
    # The same card, to a folder of a distribution that need not be installed.
    cards["models"]["en-small"] |= {"source": source | {"file": str(out / "model")}, "requires": []}
    (tmp_path / "cards.yaml").write_text(yaml.safe_dump(cards))
    opened = sonant.load("en-small", registry=tmp_path / "cards.yaml", device="cpu", dtype="stored")
    assert next(opened.encoder.parameters()).dtype == torch.bfloat16
    count = sum(weight.numel() for weight in opened.parameters())
    assert cards["models"]["en-small"]["parameters"] == f"{count / 1e6:.1f}M"
    heard = sonant.load("en-small", registry=tmp_path / "cards.yaml", device="cpu")
    rows = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    assert heard.search.config.fusion.lm == "lm.arpa.gz"  # the one it uses unless it is asked for another
    found = heard.transcribe([row["audio_filepath"] for row in rows])
    assert [transcript.text for transcript in found] == [row["text"] for row in rows]
    scores = json.loads((out / "model" / "scores.json").read_text("utf-8"))
    assert scores == {"test": {"greedy": 40.0, "ngram": 30.12}, "test_speakers": {"greedy": 55.0, "ngram": 50.0}}


def test_what_is_too_large_is_not_packed(case: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, lm = case
    module = script("pack")
    monkeypatch.setattr(module, "LARGEST", 1000)
    search = chosen(lm, tmp_path / "search.yaml")
    written = str(reports(tmp_path / "reports"))
    arguments = [str(model), "--search", str(search), "--reports", written, "--package", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match=r"the package has [\d.]+ MB, and may have 0"):
        module.main(arguments)
