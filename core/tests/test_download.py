"""Models from elsewhere than the hub: by address (the hub's stand-in serves plain files too), from a package, from disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sonant import hub
from sonant.errors import DownloadError
from sonant.sources import locate
from stand_in_hub import CONTENT, Hub, cached, sha256


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


@pytest.mark.parametrize("name", ["../other.nemo", "/etc/hostname"])
def test_inside_a_package_and_nowhere_else(name: str, site: Path, card_file: Callable[..., Path]) -> None:
    (site / "acme_models").mkdir()
    (site / "other.nemo").write_bytes(CONTENT)
    with pytest.raises(DownloadError, match="leads out of"):
        locate("tiny", registry=card_file(package=f"acme_models:{name}"))


@pytest.mark.parametrize("package", ["acme_models", "acme_models.inner"])
def test_a_card_imports_no_package(package: str, site: Path, card_file: Callable[..., Path]) -> None:
    folder = site.joinpath(*package.split("."))
    folder.mkdir(parents=True)
    for level in {folder, site / "acme_models"}:
        (level / "__init__.py").write_text("raise SystemExit('imported')")
    (folder / "tiny.nemo").write_bytes(CONTENT)
    assert locate("tiny", registry=card_file(package=f"{package}:tiny.nemo")) == folder / "tiny.nemo"


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
