"""A local stand-in for the hub's HTTP interface; the fixtures `server` and `stand_in` run it.

It speaks what huggingface_hub asks for: `/api/models/…` (a repo's commit and files), `/api/models/…/tree/…`, and
`/…/resolve/…` with the hub's headers. It serves a real `.nemo` and can break off transfers.
"""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

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


def cached(folder: Path) -> list[int]:
    """The sizes of what lies in a cache."""
    return [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1000]
