"""Fetching models: Hugging Face repos through huggingface_hub, plain URLs, package data. Never twice, never unchecked."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import urllib.error
import urllib.request
from importlib.resources import as_file, files
from pathlib import Path

from sonant.cards import ModelCard, ModelSource
from sonant.errors import DownloadError

log = logging.getLogger(__name__)

FOLDER_CONFIG = "config.yaml"
_FOLDER_FILES = (FOLDER_CONFIG, "*.safetensors", "*.model", "*.txt", "*.json")


def fetch_card(card: ModelCard) -> Path:
    """The local file or folder of a card, downloaded first if it is not there.

    Raises:
        DownloadError: it cannot be had, or what came differs from the card.
    """
    source = card.source
    if source.hf:
        return fetch_repo(source.hf, source.revision, source.file, source)
    if source.url:
        return _fetch_url(source.url, source)
    if source.package:
        package, _, name = source.package.partition(":")
        with as_file(files(package).joinpath(name)) as path:
            return _verify(Path(path), source)
    return _verify(Path(str(source.file)).expanduser(), source)


def fetch_repo(repo: str, revision: str | None = None, file: str | None = None, expected: ModelSource | None = None) -> Path:
    """A model from a Hugging Face repo: `file`, or the repo's only `.nemo`, or the Sonant folder it holds.

    `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` are honoured. In offline mode the cache alone is used.

    Raises:
        DownloadError: no such repo or revision, no network, nothing in the cache, or the wrong content.
    """
    from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    label = f"{repo}@{revision}" if revision else repo
    try:
        file = file or _only_nemo(repo, revision)
        if file is None:
            return Path(snapshot_download(repo, revision=revision, allow_patterns=list(_FOLDER_FILES)))
        cached = try_to_load_from_cache(repo, file, revision=revision)
        path = Path(hf_hub_download(repo, file, revision=revision))
    except LocalEntryNotFoundError as error:
        raise DownloadError(
            f"{label}: {file or 'its files'} is not in the local cache and the hub cannot be reached; "
            "connect once, unset HF_HUB_OFFLINE, or pass a file you already have"
        ) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(f"{label}: the hub has no such repo, or it needs a token (HF_TOKEN)") from error
    except EntryNotFoundError as error:
        raise DownloadError(f"{label}: the repo has no file {file!r} at that revision") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise DownloadError(f"{label}: cannot be fetched: {_first_line(error)}") from error
    log.info("%s: revision %s", repo, path.parent.name)
    if expected is not None and not isinstance(cached, str):
        _verify(path, expected)
    return path


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _only_nemo(repo: str, revision: str | None) -> str | None:
    """The repo's single `.nemo`, or None where it holds a Sonant folder."""
    from huggingface_hub import constants, list_repo_files, snapshot_download

    if constants.HF_HUB_OFFLINE:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
        names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    else:
        names = list_repo_files(repo, revision=revision)
    archives = [n for n in names if n.endswith(".nemo")]
    if FOLDER_CONFIG in names and any(n.endswith(".safetensors") for n in names):
        return None
    if len(archives) != 1:
        found = ", ".join(archives) or "none"
        raise DownloadError(f"{repo}: expected one .nemo file or a Sonant folder in the repo; .nemo files there: {found}")
    return archives[0]


def _verify(path: Path, expected: ModelSource) -> Path:
    if not path.exists():
        raise DownloadError(f"{path} does not exist, though its card names it")
    if expected.size is not None and path.stat().st_size != expected.size:
        raise DownloadError(f"{path} has {path.stat().st_size} bytes, its card says {expected.size}; delete it and fetch it again")
    if expected.sha256 is not None:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != expected.sha256:
            raise DownloadError(f"{path} has sha256 {digest}, its card says {expected.sha256}; delete it and fetch it again")
    return path


def cache_folder() -> Path:
    """Where files from plain URLs are kept: `SONANT_HOME`, else `~/.cache/sonant`."""
    return Path(os.environ.get("SONANT_HOME") or Path.home() / ".cache" / "sonant")


def _fetch_url(url: str, expected: ModelSource) -> Path:
    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"{url}: only http and https addresses are fetched")
    target = cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16] / url.rsplit("/", 1)[-1]
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        whole = Path(folder) / target.name
        try:
            _download(url, whole)
        except (urllib.error.URLError, OSError) as error:
            raise DownloadError(f"{url}: cannot be fetched: {getattr(error, 'reason', error)}") from error
        _verify(whole, expected)
        os.replace(whole, target)
    return target


def _download(url: str, target: Path) -> None:
    from tqdm import tqdm

    with urllib.request.urlopen(url, timeout=60) as response, target.open("wb") as out:  # noqa: S310 (scheme checked)
        total = int(response.headers.get("Content-Length") or 0)
        with tqdm(total=total or None, unit="B", unit_scale=True, desc=target.name, disable=None) as bar:
            while block := response.read(2**20):
                out.write(block)
                bar.update(len(block))
        if total and out.tell() != total:
            raise OSError(f"the connection ended after {out.tell()} of {total} bytes")
