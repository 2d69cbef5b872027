"""Fetching models: from a local stand-in for the hub's HTTP interface, by address, from a package, from disk.

The stand-in speaks what huggingface_hub asks for: `/api/models/…` (a repo's commit and files), `/api/models/…/tree/…`, and
`/…/resolve/…` with the hub's headers. It serves a real `.nemo` and can break off transfers.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import huggingface_hub.hf_api
import pytest
import torch
import yaml

import sonant
from sonant import hub
from sonant.checkpoint import locate
from sonant.errors import DownloadError, UnknownName

CASES = Path(__file__).resolve().parents[2] / "tests" / "nemo-cases"
NEMO = CASES / "fastconformer_ctc_bpe.nemo"
CONTENT = NEMO.read_bytes()
Files = dict[str, bytes]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def commit(number: int) -> str:
    return f"{number:040x}"


class Hub(ThreadingHTTPServer):
    """Repos as lists of commits, the last of which is `main`; plain files below `/files/`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, list[Files]] = {}
        self.files: Files = {}
        self.gated: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.cut: dict[str, int] = {}  # file name -> how many transfers still break off half-way
        self.short: set[str] = set()  # files of which a half comes, declared as all
        self.down = False

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def downloads(self) -> list[str]:
        """The files whose content was asked for."""
        return [path.rsplit("/", 1)[-1] for method, path in self.asked if method == "GET" and not path.startswith("/api/")]


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append((self.command, path))
        if self.server.down:
            self.reply(503, b"down for maintenance")
        elif path.startswith("/files/"):
            content = self.server.files.get(path.removeprefix("/files/"))
            self.reply(404, b"") if content is None else self.send(path, content, {})
        else:
            api = path.startswith("/api/models/")
            owner, name, *rest = path.removeprefix("/api/models").strip("/").split("/")
            self.answer_for(f"{owner}/{name}", rest, api)

    def answer_for(self, repo: str, rest: list[str], api: bool) -> None:
        commits = self.server.repos.get(repo)
        if repo in self.server.gated:
            return self.reply(403, b"", {"X-Error-Code": "GatedRepo"})
        if commits is None:
            return self.reply(401, b"", {"X-Error-Code": "RepoNotFound"})
        revision = rest[1] if len(rest) > 1 else "main"
        number = len(commits) if revision == "main" else next((n for n in range(1, len(commits) + 1) if commit(n) == revision), 0)
        if not number:
            return self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
        files = commits[number - 1]
        if api:
            return self.describe(repo, commit(number), files, tree="tree" in rest)
        name = "/".join(rest[2:])
        headers = {"X-Repo-Commit": commit(number)}
        if name not in files:
            return self.reply(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
        digest = sha256(files[name])
        return self.send(name, files[name], headers | {"ETag": f'"{digest}"', "X-Linked-Size": str(len(files[name]))})

    def describe(self, repo: str, revision: str, files: Files, *, tree: bool) -> None:
        document: Any = {"id": repo, "sha": revision, "siblings": [{"rfilename": name} for name in files]}
        if tree:
            document = [
                {
                    "type": "file",
                    "path": name,
                    "size": len(content),
                    "oid": hashlib.sha1(content).hexdigest(),
                    "lfs": {"oid": sha256(content), "size": len(content), "pointerSize": 130},
                }
                for name, content in files.items()
            ]
        self.reply(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def send(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        name = path.rsplit("/", 1)[-1]
        if self.command == "GET" and name in self.server.short:
            return self.reply(200, content[: len(content) // 2], headers)
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if first:
            headers = headers | {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
        cut = self.command == "GET" and self.server.cut.get(name, 0) > 0
        if cut:
            self.server.cut[name] -= 1
        return self.reply(206 if first else 200, content[first:], headers, sent=(len(content) - first) // 2 if cut else None)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None, sent: int | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:sent])
        if sent is not None:
            self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running stand-in that holds one repo, `acme/tiny`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Hub() as running:
        running.repos["acme/tiny"] = [{"README.md": b"# Tiny", "tiny.nemo": CONTENT}]
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()
    huggingface_hub.close_session()


@pytest.fixture
def stand_in(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The stand-in in the place of the hub, in this process; an empty cache."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", server.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("SONANT_HOME", str(tmp_path / "sonant"))
    return server


@pytest.fixture
def offline(stand_in: Hub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Turns the offline mode on (or off), and forgets what was asked until then."""

    def turn(on: bool = True) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", on)
        stand_in.asked.clear()

    return turn


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads are tried again without a pause."""
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def card_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a registry with one card, `tiny`, of the given source."""

    def write(requires: list[str] | None = None, **source: Any) -> Path:
        card = {"task": "asr", "summary": "Tiny.", "source": source, "requires": requires or []}
        file = tmp_path / "registry.yaml"
        file.write_text(yaml.safe_dump({"models": {"tiny": card}}), "utf-8")
        return file

    return write


def cached(folder: Path) -> list[int]:
    """The sizes of what lies in a cache."""
    return [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1000]


def same_model(ours: Any, theirs: Any) -> bool:
    ours, theirs = ours.state_dict(), theirs.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_by_repo_id(stand_in: Hub) -> None:
    model = sonant.load("acme/tiny", device="cpu", dtype="float32")
    assert same_model(model, sonant.load(NEMO, device="cpu", dtype="float32"))
    assert stand_in.downloads() == ["tiny.nemo"]


def test_a_second_time_from_the_cache(stand_in: Hub) -> None:
    path = locate("acme/tiny")
    assert path.read_bytes() == CONTENT
    assert locate("acme/tiny") == path
    assert stand_in.downloads() == ["tiny.nemo"]


def test_a_pinned_commit(stand_in: Hub) -> None:
    stand_in.repos["acme/tiny"] = [{"old.nemo": CONTENT}, {"new.nemo": b"new"}]
    assert locate("acme/tiny").read_bytes() == b"new"
    pinned = locate(f"acme/tiny@{commit(1)}")
    assert (pinned.name, pinned.read_bytes()) == ("old.nemo", CONTENT)
    assert locate("acme/tiny", revision=commit(1)) == pinned


def test_what_is_new_on_the_hub_is_fetched(stand_in: Hub) -> None:
    assert locate("acme/tiny").read_bytes() == CONTENT
    stand_in.repos["acme/tiny"].append({"tiny.nemo": b"better"})
    assert locate("acme/tiny").read_bytes() == b"better"


def test_offline_from_the_cache(stand_in: Hub, offline: Callable[..., None]) -> None:
    paths = [locate("acme/tiny"), locate(f"acme/tiny@{commit(1)}")]
    offline()
    assert [locate("acme/tiny"), locate(f"acme/tiny@{commit(1)}")] == paths
    assert stand_in.asked == []


def test_offline_with_an_empty_cache(stand_in: Hub, offline: Callable[..., None], tmp_path: Path) -> None:
    offline()
    wanted = f"acme/tiny: the model is not in the local cache .{tmp_path}/hub. and HF_HUB_OFFLINE is set; unset it"
    with pytest.raises(DownloadError, match=wanted):
        locate("acme/tiny")
    assert stand_in.asked == []


def test_offline_names_the_file_and_the_revision_that_are_missing(
    stand_in: Hub, offline: Callable[..., None], card_file: Callable[..., Path]
) -> None:
    stand_in.repos["acme/tiny"] = [{"a.nemo": CONTENT, "b.nemo": CONTENT}, {}]
    locate("tiny", registry=card_file(hf="acme/tiny", file="a.nemo", revision=commit(1)))
    offline()
    with pytest.raises(
        DownloadError, match=rf"acme/tiny@{commit(1)}: b\.nemo is not in the local cache .* HF_HUB_OFFLINE is set"
    ):
        locate("tiny", registry=card_file(hf="acme/tiny", file="b.nemo", revision=commit(1)))
    with pytest.raises(DownloadError, match=f"acme/tiny@{commit(2)}: the model is not in the local cache"):
        locate(f"acme/tiny@{commit(2)}")


def test_the_cache_serves_while_the_hub_is_down(stand_in: Hub) -> None:
    path = locate("acme/tiny")
    stand_in.down = True
    assert locate("acme/tiny") == path
    with pytest.raises(
        DownloadError, match=r"acme/other: the model is not in the local cache .* the hub cannot be reached \(.*503"
    ):
        locate("acme/other")


def test_the_cache_serves_without_a_network(stand_in: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    path = locate("acme/tiny")
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", "http://127.0.0.1:9")
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    )
    assert locate("acme/tiny") == path
    with pytest.raises(DownloadError, match=r"acme/other: the model is not in the local cache .* the hub cannot be reached \("):
        locate("acme/other")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("acme/absent", "^acme/absent: there is no such file or folder here, and no such repo on the hub"),
        ("acme/tiny@v9", "^acme/tiny@v9: the repo has no such revision"),
        ("acme/gated", r"^acme/gated: the repo is gated: .* set HF_TOKEN"),
        ("acme/ti ny", "^acme/ti ny: cannot be fetched: Repo id must"),
        (
            "acme/two",
            r"^acme/two: expected one \.nemo file or a Sonant .* in the repo; \.nemo files there: a\.nemo, b\.nemo; a model card",
        ),
        ("acme/none", r"^acme/none: expected one \.nemo file or a Sonant folder .*; \.nemo files there: none$"),
    ],
)
def test_what_the_hub_does_not_have(name: str, wanted: str, stand_in: Hub) -> None:
    stand_in.gated.add("acme/gated")
    stand_in.repos |= {"acme/two": [{"a.nemo": b"a", "b.nemo": b"b"}], "acme/none": [{"model.bin": b"x", "config.yaml": b"{}"}]}
    with pytest.raises(DownloadError, match=wanted):
        locate(name)
    assert stand_in.downloads() == []


def test_a_card_names_one_of_several_files(stand_in: Hub, card_file: Callable[..., Path]) -> None:
    stand_in.repos["acme/two"] = [{"a.nemo": b"a", "sub/b.nemo": CONTENT}]
    registry = card_file(hf="acme/two", file="sub/b.nemo")
    for name in ("tiny", "acme/two"):
        assert locate(name, registry=registry).read_bytes() == CONTENT
    with pytest.raises(DownloadError, match=r"^acme/two: the repo has no file 'c\.nemo' at that revision"):
        locate("tiny", registry=card_file(hf="acme/two", file="c.nemo"))


def test_a_card_with_checksum_and_size(stand_in: Hub, card_file: Callable[..., Path]) -> None:
    registry = card_file(hf="acme/tiny", revision=commit(1), sha256=sha256(CONTENT), size=len(CONTENT))
    for _ in range(2):
        assert locate("tiny", registry=registry).read_bytes() == CONTENT
    assert stand_in.downloads() == ["tiny.nemo"]


@pytest.mark.parametrize(
    ("expected", "wanted"),
    [
        ({"sha256": sha256(b"other")}, f"tiny.nemo has sha256 {sha256(CONTENT)}, and its model card says {sha256(b'other')}"),
        ({"size": 7}, f"tiny.nemo has {len(CONTENT)} bytes, and its model card says 7"),
        ({"size": 7, "sha256": sha256(CONTENT)}, "tiny.nemo has .* and its model card says 7"),
    ],
)
def test_content_that_differs_from_the_card_is_refused_and_not_kept(
    expected: dict[str, Any], wanted: str, stand_in: Hub, card_file: Callable[..., Path], tmp_path: Path
) -> None:
    registry = card_file(hf="acme/tiny", **expected)
    for times in (1, 2):
        with pytest.raises(DownloadError, match=f"^acme/tiny: {wanted}"):
            locate("tiny", registry=registry)
        assert stand_in.downloads() == ["tiny.nemo"] * times
        assert cached(tmp_path / "hub") == []
    registry = card_file(hf="acme/tiny", sha256=sha256(CONTENT), size=len(CONTENT))
    assert locate("tiny", registry=registry).read_bytes() == CONTENT


def test_what_is_cached_already_is_checked_too(
    stand_in: Hub, card_file: Callable[..., Path], offline: Callable[..., None]
) -> None:
    path = locate("acme/tiny")
    registry = card_file(hf="acme/tiny", sha256=sha256(b"other"))
    with pytest.raises(DownloadError, match="and its model card says"):
        locate("tiny", registry=registry)
    offline()
    with pytest.raises(DownloadError, match="and its model card says"):
        locate("tiny", registry=registry)
    assert path.read_bytes() == CONTENT  # it was there before: others may want it


def test_what_is_new_on_the_hub_is_checked_too(stand_in: Hub, card_file: Callable[..., Path]) -> None:
    registry = card_file(hf="acme/tiny", sha256=sha256(CONTENT))
    locate("tiny", registry=registry)
    stand_in.repos["acme/tiny"].append({"tiny.nemo": b"not what was seen"})
    with pytest.raises(DownloadError, match="and its model card says"):
        locate("tiny", registry=registry)


def test_another_revision_than_the_card_s(stand_in: Hub, card_file: Callable[..., Path]) -> None:
    stand_in.repos["acme/tiny"].append({"tiny.nemo": b"newer"})
    registry = card_file(hf="acme/tiny", file="tiny.nemo", revision=commit(1), sha256=sha256(CONTENT))
    assert locate("tiny", registry=registry).read_bytes() == CONTENT
    assert locate(f"tiny@{commit(2)}", registry=registry).read_bytes() == b"newer"
    assert locate(f"tiny@{commit(1)}", registry=registry).read_bytes() == CONTENT
    with pytest.raises(DownloadError, match="'tiny' does not come from a Hugging Face repo: it has no revision 'v2'"):
        locate("tiny@v2", registry=card_file(url=f"{stand_in.endpoint}/files/tiny.nemo"))


def test_a_model_that_requires_what_is_not_installed(stand_in: Hub, card_file: Callable[..., Path]) -> None:
    registry = card_file(hf="acme/tiny", requires=["sonant-asr", "acme-absent", "acme-gone"])
    with pytest.raises(UnknownName, match="the model 'tiny' needs acme-absent and acme-gone: pip install acme-absent acme-gone"):
        locate("tiny", registry=registry)
    assert stand_in.asked == []
    assert locate("tiny", registry=card_file(hf="acme/tiny", requires=["sonant-asr"])).name == "tiny.nemo"


@pytest.fixture
def folder_repo(stand_in: Hub, tmp_path: Path) -> Any:
    """A repo that holds a Sonant folder beside other things; the model."""
    model = sonant.load(NEMO, device="cpu", dtype="float32")
    folder = sonant.save(model, tmp_path / "saved")
    held = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {"config.yaml", "model.safetensors"} < set(held)
    stand_in.repos["acme/folder"] = [{"README.md": b"# Folder", "pytorch_model.bin": b"x", "whole.nemo": b"x", **held}]
    return model


def test_a_repo_that_holds_a_folder(stand_in: Hub, folder_repo: Any, offline: Callable[..., None]) -> None:
    assert same_model(sonant.load("acme/folder", device="cpu", dtype="float32"), folder_repo)
    assert not {"pytorch_model.bin", "whole.nemo"} & set(stand_in.downloads())
    path = locate("acme/folder")
    offline()
    assert locate("acme/folder") == path
    assert locate(f"acme/folder@{commit(1)}") == path
    assert stand_in.asked == []


def test_a_folder_is_checked_by_its_weights(stand_in: Hub, folder_repo: Any, card_file: Callable[..., Path]) -> None:
    weights = stand_in.repos["acme/folder"][0]["model.safetensors"]
    with pytest.raises(DownloadError, match=r"model\.safetensors has sha256 .*, and its model card says"):
        locate("tiny", registry=card_file(hf="acme/folder", sha256=sha256(b"other")))
    registry = card_file(hf="acme/folder", sha256=sha256(weights), size=len(weights))
    assert (locate("tiny", registry=registry) / "model.safetensors").read_bytes() == weights


def test_half_a_folder_is_no_model(stand_in: Hub, folder_repo: Any, offline: Callable[..., None]) -> None:
    stand_in.short.add("model.safetensors")
    with pytest.raises(DownloadError, match="acme/folder: "):
        locate("acme/folder")
    offline()
    with pytest.raises(DownloadError, match="acme/folder: "):
        locate("acme/folder")
    offline(False)
    stand_in.short.clear()
    assert same_model(sonant.load("acme/folder", device="cpu", dtype="float32"), folder_repo)


def test_a_transfer_that_ends_early(stand_in: Hub, tmp_path: Path) -> None:
    stand_in.short.add("tiny.nemo")
    with pytest.raises(DownloadError, match=f"^acme/tiny: cannot be fetched: .*{len(CONTENT)}"):
        locate("acme/tiny")
    assert [p.name for p in (tmp_path / "hub").rglob("*.nemo")] == []
    stand_in.short.clear()
    assert locate("acme/tiny").read_bytes() == CONTENT


@pytest.mark.usefixtures("impatient")
def test_a_transfer_that_breaks_off_is_continued(stand_in: Hub) -> None:
    stand_in.cut["tiny.nemo"] = 2
    assert locate("acme/tiny").read_bytes() == CONTENT
    assert stand_in.downloads() == ["tiny.nemo"] * 3


@pytest.mark.usefixtures("impatient")
def test_a_transfer_that_keeps_breaking_off(stand_in: Hub, tmp_path: Path) -> None:
    stand_in.repos["acme/tiny"] = [{"tiny.nemo": CONTENT}]
    stand_in.cut["tiny.nemo"] = 1000
    with pytest.raises(DownloadError, match="^acme/tiny: cannot be fetched: "):
        locate("acme/tiny")
    assert [p.name for p in (tmp_path / "hub").rglob("*.nemo")] == []


def test_in_processes_of_their_own_with_the_hub_s_variables(server: Hub, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    hub_variables = {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}

    def python(code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *arguments]
        environment = kept | hub_variables | variables
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    main = "from sonant.cli.main import main; main()"
    heard = python(main, "transcribe", str(CASES / "a.wav"), "--model", "acme/tiny", "--device", "cpu")
    text = json.loads(NEMO.with_suffix(".json").read_text("utf-8"))["text"][0]
    assert (heard.returncode, heard.stdout.strip()) == (0, text), heard.stderr
    assert "Traceback" not in heard.stderr
    server.asked.clear()

    fetch = "from sonant import hub; print(hub.fetch_repo('acme/tiny'))"
    again = python(fetch, HF_HUB_OFFLINE="1")
    path = Path(again.stdout.strip())
    assert path.is_relative_to(tmp_path / "home")
    assert path.read_bytes() == CONTENT
    empty = python(fetch, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "empty"))
    assert (empty.returncode, empty.stdout) == (1, "")
    assert "DownloadError: acme/tiny: the model is not in the local cache" in empty.stderr
    assert server.asked == []


def test_by_address(stand_in: Hub, card_file: Callable[..., Path], tmp_path: Path, offline: Callable[..., None]) -> None:
    stand_in.files["a/tiny.nemo"] = CONTENT
    registry = card_file(url=f"{stand_in.endpoint}/files/a/tiny.nemo?download=true", sha256=sha256(CONTENT), size=len(CONTENT))
    path = locate("tiny", registry=registry)
    assert (path.name, path.read_bytes()) == ("tiny.nemo", CONTENT)
    assert path.is_relative_to(tmp_path / "sonant")
    assert locate("tiny", registry=registry) == path
    assert stand_in.downloads() == ["tiny.nemo"]
    offline()
    assert locate("tiny", registry=registry) == path
    assert stand_in.asked == []


def test_by_address_offline_with_an_empty_cache(
    stand_in: Hub, card_file: Callable[..., Path], offline: Callable[..., None]
) -> None:
    offline()
    with pytest.raises(DownloadError, match=r"/files/tiny\.nemo: .*tiny\.nemo is not there and HF_HUB_OFFLINE is set; unset it"):
        locate("tiny", registry=card_file(url=f"{stand_in.endpoint}/files/tiny.nemo"))
    assert stand_in.asked == []


def test_by_address_a_new_checksum_means_new_content(stand_in: Hub, card_file: Callable[..., Path]) -> None:
    url = f"{stand_in.endpoint}/files/tiny.nemo"
    stand_in.files["tiny.nemo"] = b"first"
    assert locate("tiny", registry=card_file(url=url, sha256=sha256(b"first"))).read_bytes() == b"first"
    stand_in.files["tiny.nemo"] = b"second"
    assert locate("tiny", registry=card_file(url=url, sha256=sha256(b"first"))).read_bytes() == b"first"
    assert locate("tiny", registry=card_file(url=url, sha256=sha256(b"second"))).read_bytes() == b"second"


@pytest.mark.parametrize(
    ("expected", "fault", "wanted"),
    [
        ({"sha256": sha256(b"other")}, None, f"tiny.nemo has sha256 {sha256(CONTENT)}, and its model card says"),
        ({"size": 7}, None, f"tiny.nemo has {len(CONTENT)} bytes, and its model card says 7"),
        ({}, "cut", f"cannot be fetched: the connection ended after .* of {len(CONTENT)} bytes"),
        ({}, "down", "cannot be fetched: HTTP Error 503"),
        ({}, "absent", "cannot be fetched: HTTP Error 404: Not Found"),
    ],
)
def test_by_address_what_does_not_arrive_is_not_kept(
    expected: dict[str, Any], fault: str | None, wanted: str, stand_in: Hub, card_file: Callable[..., Path], tmp_path: Path
) -> None:
    stand_in.files["tiny.nemo"] = CONTENT
    url = f"{stand_in.endpoint}/files/{'absent' if fault == 'absent' else 'tiny'}.nemo"
    stand_in.cut["tiny.nemo"] = 1 if fault == "cut" else 0
    stand_in.down = fault == "down"
    with pytest.raises(DownloadError, match=f"^{url}: {wanted}"):
        locate("tiny", registry=card_file(url=url, **expected))
    assert cached(tmp_path / "sonant") == []
    assert list((tmp_path / "sonant").rglob("*.nemo")) == []
    if fault == "cut":
        assert locate("tiny", registry=card_file(url=url)).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("file:///etc/hostname", "only http and https addresses are fetched"),
        ("ftp://127.0.0.1/tiny.nemo", "only http and https addresses are fetched"),
        ("http://127.0.0.1:9/", "the address names no file"),
        ("http://127.0.0.1:9/a/..", "the address names no file"),
        ("http://127.0.0.1:9/tiny.nemo", "cannot be fetched: .*[Rr]efused"),
        ("http://127.0.0.1:port/tiny.nemo", "cannot be fetched: "),
    ],
)
def test_addresses_that_cannot_be_fetched(
    url: str, wanted: str, stand_in: Hub, card_file: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match=wanted):
        locate("tiny", registry=card_file(url=url))
    assert cached(tmp_path / "sonant") == []


def test_where_files_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SONANT_HOME", raising=False)
    assert hub.cache_folder() == tmp_path / ".cache" / "sonant"
    monkeypatch.setenv("SONANT_HOME", str(tmp_path / "elsewhere"))
    assert hub.cache_folder() == tmp_path / "elsewhere"


def test_inside_a_package(site: Path, card_file: Callable[..., Path]) -> None:
    package = site / "acme_models"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "data" / "tiny.nemo").write_bytes(CONTENT)
    source = "acme_models:data/tiny.nemo"
    assert locate("tiny", registry=card_file(package=source, sha256=sha256(CONTENT))).read_bytes() == CONTENT
    with pytest.raises(DownloadError, match=f"^{source}: tiny.nemo has 624640 bytes, and its model card says 1"):
        locate("tiny", registry=card_file(package=source, size=1))
    with pytest.raises(DownloadError, match=r"data/other\.nemo does not exist, though the model card names it"):
        locate("tiny", registry=card_file(package="acme_models:data/other.nemo"))
    with pytest.raises(DownloadError, match="the package 'acme_absent' that holds the model is not installed"):
        locate("tiny", registry=card_file(package="acme_absent:tiny.nemo"))


def test_on_disk(card_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.nemo").write_bytes(CONTENT)
    monkeypatch.chdir("/")
    for file in ("models/tiny.nemo", str(tmp_path / "models" / "tiny.nemo")):
        assert locate("tiny", registry=card_file(file=file, sha256=sha256(CONTENT))).read_bytes() == CONTENT
    with pytest.raises(DownloadError, match=r"the model 'tiny': tiny\.nemo has sha256 .*, and its model card says"):
        locate("tiny", registry=card_file(file="models/tiny.nemo", sha256=sha256(b"other")))
    with pytest.raises(
        DownloadError, match=r"the model 'tiny': .*models/absent\.nemo does not exist, though the model card names it"
    ):
        locate("tiny", registry=card_file(file="models/absent.nemo"))
