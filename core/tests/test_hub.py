"""Fetching models from the hub, for which `stand_in_hub` stands in, and keeping them in its cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants
import huggingface_hub.hf_api
import pytest
import torch

import sonant
from sonant.errors import DownloadError, UnknownName
from sonant.sources import locate
from stand_in_hub import CASES, CONTENT, NEMO, Hub, cached, commit, sha256


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads are tried again without a pause."""
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))


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


def test_a_hub_that_is_away_is_asked_once(stand_in: Hub, card_file: Callable[..., Path]) -> None:
    registry = card_file(hf="acme/tiny", file="tiny.nemo")
    path = locate("tiny", registry=registry)
    stand_in.down, stand_in.asked = True, []
    assert locate("tiny", registry=registry) == path
    assert len(stand_in.asked) == 1
    wanted = r"acme/other: tiny\.nemo is not in the local cache .* the hub cannot be reached \(.*503"
    with pytest.raises(DownloadError, match=wanted):
        locate("tiny", registry=card_file(hf="acme/other", file="tiny.nemo"))
    assert len(stand_in.asked) == 2


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("acme/absent", "^acme/absent: there is no such file or folder here, and no such repo on the hub"),
        ("acme/tiny@v9", "^acme/tiny@v9: the repo has no such revision"),
        ("acme/gated", r"^acme/gated: the repo is gated: .* set HF_TOKEN"),
        ("acme/ti ny", "^acme/ti ny: cannot be fetched: Repo id must"),
        (
            "acme/two",
            r"^acme/two: expected one \.nemo file, a Sonant folder .* in the repo; \.nemo files there: a\.nemo, b\.nemo; a",
        ),
        ("acme/none", r"^acme/none: expected one \.nemo file, a Sonant folder .*; \.nemo files there: none$"),
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
