"""Fetching models: Hugging Face repos through huggingface_hub, plain URLs, package data. Never twice, never unchecked."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import urllib.error
import urllib.request
from http.client import HTTPException
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from attrs import evolve

from sonant.cards import ModelCard, ModelSource
from sonant.errors import DownloadError, UnknownName
from sonant.files import check_member_name
from sonant.layout import (
    FOLDER_CONFIG,
    FOLDER_WEIGHTS,
    HF_CONFIG,
    HF_INDEX,
    HF_PREPROCESSOR,
    HF_PROCESSOR,
    HF_WEIGHTS,
    LICENSE_FILES,
)

log = logging.getLogger(__name__)

_NEVER_READ = ("*.nemo", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.onnx", "*.h5")
"""What a repo may hold beside a Sonant folder; a component's own files can have any other name."""


_OF_TRANSFORMERS = (
    *(HF_CONFIG, HF_WEIGHTS, HF_INDEX, "model-*.safetensors", HF_PREPROCESSOR, HF_PROCESSOR, "generation_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "vocab.txt"),
    *("README.md", *LICENSE_FILES),
)
"""What of a Hugging Face model is fetched: never its code, nor weights in other forms."""


def fetch_card(card: ModelCard, revision: str | None = None) -> Path:
    """The local file or folder of a card, downloaded first if it is not there.

    `revision` asks for another one than the card's; the card's checksum does not speak of it then.

    Raises:
        UnknownName: a distribution that the model requires is not installed; nothing was downloaded.
        DownloadError: it cannot be had, or what came differs from the card.
    """
    absent = [name for name in card.requires if not _installed(name)]
    if absent:
        raise UnknownName(f"the model {card.name!r} needs {' and '.join(absent)}: pip install {' '.join(absent)}")
    source = card.source
    if revision is not None and revision != source.revision:
        if not source.hf:
            raise DownloadError(
                f"the model {card.name!r} does not come from a Hugging Face repo: it has no revision {revision!r}"
            )
        source = evolve(source, revision=revision, sha256=None, size=None)
    if source.hf:
        return fetch_repo(source.hf, source.revision, source.file, source)
    if source.url:
        return _fetch_url(source.url, source)
    if source.package:
        return _fetch_package(source.package, source)
    return _verify(Path(str(source.file)).expanduser(), source, f"the model {card.name!r}")


def _installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def fetch_repo(repo: str, revision: str | None = None, file: str | None = None, expected: ModelSource | None = None) -> Path:
    """A model from a Hugging Face repo: `file`, or the Sonant folder it holds, or its only `.nemo`, or a model of transformers.

    A `file` that is a `config.json` means the model of transformers.

    `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` are honoured. In offline mode, and where the hub cannot be reached,
    the cache alone is used.

    Raises:
        DownloadError: no such repo or revision, no network, nothing in the cache, or the wrong content.
    """
    from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache

    label = f"{repo}@{revision}" if revision else repo
    try:
        names, away = _ask(repo, revision)
        file = file or _what_to_open(repo, names if away is None else _cached_files(repo, revision, away), reached=away is None)
        folder = file in (FOLDER_CONFIG, HF_CONFIG)
        cached = try_to_load_from_cache(repo, FOLDER_WEIGHTS if folder else file, revision=revision)
        here: dict[str, Any] = {"revision": revision, "local_files_only": away is not None}
        try:
            if file == FOLDER_CONFIG:
                path = Path(snapshot_download(repo, ignore_patterns=list(_NEVER_READ), **here))
            elif file == HF_CONFIG:
                path = Path(snapshot_download(repo, allow_patterns=list(_OF_TRANSFORMERS), **here))
            else:
                path = Path(hf_hub_download(repo, file, **here))
        except FileNotFoundError as absent:
            raise absent from absent.__cause__ or away
    except DownloadError:
        raise
    except Exception as error:  # the hub's own, its HTTP client's, and the system's
        raise DownloadError(f"{label}: {_explain(error, None if file in (FOLDER_CONFIG, HF_CONFIG) else file)}") from error
    log.info("%s: %s", label, path)
    if expected is not None:
        _verify_cached(path, expected, label, fresh=cached != str(path / FOLDER_WEIGHTS if folder else path))
    return path


def _explain(error: Exception, file: str | None) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, LocalEntryNotFoundError):
        what = f"{file or 'the model'} is not in the local cache ({constants.HF_HUB_CACHE})"
        if constants.HF_HUB_OFFLINE:
            return f"{what} and HF_HUB_OFFLINE is set; unset it to fetch the model once, or pass a file you already have"
        reason = _first_line(error.__cause__ or error)
        return f"{what} and the hub cannot be reached ({reason}); connect once, or pass a file you already have"
    if isinstance(error, GatedRepoError):
        return "the repo is gated: accept its terms on the hub's page of the model and set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such file or folder here, and no such repo on the hub, or it needs a token (HF_TOKEN)"
    if isinstance(error, RevisionNotFoundError):
        return "the repo has no such revision"
    if isinstance(error, EntryNotFoundError):
        return f"the repo has no file {file!r} at that revision"
    return f"cannot be fetched: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _ask(repo: str, revision: str | None) -> tuple[list[str], Exception | None]:
    """The names of a repo's files; or none, and why the hub does not answer. Asked once: the downloads themselves would try again
    for half a minute before they turn to the cache."""
    from huggingface_hub import model_info
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return [sibling.rfilename for sibling in model_info(repo, revision=revision, timeout=10).siblings or []], None
    except (RepositoryNotFoundError, RevisionNotFoundError, ValueError):
        raise
    except Exception as error:  # offline mode, no network, or the hub is down
        return [], error


def _cached_files(repo: str, revision: str | None, away: Exception) -> list[str]:
    """The names of a repo's files in the cache."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=[]))
    except FileNotFoundError as absent:
        raise absent from away
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _what_to_open(repo: str, names: list[str], *, reached: bool) -> str:
    """The file that stands for the form to open: a Sonant folder's config, the only `.nemo`, or transformers' config.

    A `.nemo` says more of a model than what transformers keeps of it, so it goes first.
    """
    if FOLDER_CONFIG in names and FOLDER_WEIGHTS in names:
        return FOLDER_CONFIG
    archives = [n for n in names if n.endswith(".nemo")]
    if len(archives) == 1:
        return archives[0]
    if not archives and HF_CONFIG in names and (HF_WEIGHTS in names or HF_INDEX in names):
        return HF_CONFIG
    found = ", ".join(archives) or "none"
    where = "the repo" if reached else "the local cache of the repo (the hub was not asked)"
    raise DownloadError(
        f"{repo}: expected one .nemo file, a Sonant folder ({FOLDER_CONFIG}, {FOLDER_WEIGHTS}) or a model of transformers "
        f"({HF_CONFIG}, {HF_WEIGHTS}) in {where}; .nemo files there: {found}"
        + ("; a model card can name one of them as `file`" if archives else "")
    )


def _verify(path: Path, expected: ModelSource, label: str) -> Path:
    """Check a file, or a folder's weights, against size and checksum where the card has them."""
    if not path.exists():
        raise DownloadError(f"{label}: {path} does not exist, though the model card names it")
    weights = path / FOLDER_WEIGHTS if path.is_dir() else path
    if (expected.size or expected.sha256) and not weights.exists():
        raise DownloadError(
            f"{label}: the model card's size and checksum are those of {weights.name}, and its weights lie in several files"
        )
    if expected.size is not None and weights.stat().st_size != expected.size:
        raise DownloadError(
            f"{label}: {weights.name} has {weights.stat().st_size} bytes, and its model card says {expected.size}"
        )
    if expected.sha256 is not None:
        with weights.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != expected.sha256:
            raise DownloadError(f"{label}: {weights.name} has sha256 {digest}, and its model card says {expected.sha256}")
    return path


def _verify_cached(path: Path, expected: ModelSource, label: str, *, fresh: bool) -> None:
    """Check a file in the hub's cache. One that came just now and is wrong does not stay there."""
    weights = path / FOLDER_WEIGHTS if path.is_dir() else path
    blob = weights.resolve()
    if not fresh and blob.name == expected.sha256:
        return  # the cache names large files by their checksum, and this one was read in full when it came
    try:
        _verify(path, expected, label)
    except DownloadError:
        if fresh:
            weights.unlink(missing_ok=True)
            blob.unlink(missing_ok=True)
        raise


def _fetch_package(source: str, expected: ModelSource) -> Path:
    package, _, name = source.partition(":")
    top, *inner = package.split(".")
    try:
        check_member_name(name)
        found = find_spec(top)  # of a name without dots: finds and does not import, so a card cannot make anything run
    except ValueError as error:
        raise DownloadError(f"{source}: {error}") from error
    if found is None or not found.submodule_search_locations:
        raise DownloadError(f"{source}: the package {package!r} that holds the model is not installed")
    return _verify(Path(next(iter(found.submodule_search_locations)), *inner, name), expected, source)


def cache_folder() -> Path:
    """Where files from plain URLs are kept: `SONANT_HOME`, else `~/.cache/sonant`."""
    return Path(os.environ.get("SONANT_HOME") or Path.home() / ".cache" / "sonant")


def _fetch_url(url: str, expected: ModelSource) -> Path:
    from huggingface_hub import constants

    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"{url}: only http and https addresses are fetched")
    name = PurePosixPath(urlsplit(url).path).name
    if name in ("", ".."):
        raise DownloadError(f"{url}: the address names no file")
    # by checksum too, so that a card that asks for other content is not given the old
    key = hashlib.sha256(f"{url} {expected.sha256}".encode()).hexdigest()[:16]
    target = cache_folder() / key / name
    if target.exists():
        return target
    if constants.HF_HUB_OFFLINE:
        raise DownloadError(f"{url}: {target} is not there and HF_HUB_OFFLINE is set; unset it to fetch the model once")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        whole = Path(folder) / name
        try:
            _download(url, whole)
        except urllib.error.HTTPError as error:
            raise DownloadError(f"{url}: cannot be fetched: {error}") from error
        except (OSError, HTTPException, ValueError) as error:
            raise DownloadError(f"{url}: cannot be fetched: {getattr(error, 'reason', error)}") from error
        _verify(whole, expected, url)
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
