"""What is asked of a model that takes prompts: read, completed by manifests, refused where there is no place for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

import sonant
from sonant.cli.main import app
from sonant.errors import ConfigError
from sonant.inputs import Item
from sonant_asr.recognizer.prompt import Prompt, arguments, plan, read, timed

CASES = Path(__file__).resolve().parents[3] / "tests" / "nemo-cases"


class Told:
    """A head that writes what it is told."""

    prompt_fields = ("target_lang", "punctuation", "timestamps")

    def fill_prompt(self, prompt: Prompt) -> Prompt:
        filled = prompt.or_else(Prompt(target_lang="en", punctuation=True))
        if filled.target_lang not in ("en", "de"):
            raise ConfigError(f"target_lang={filled.target_lang!r}: this model knows de, en")
        return filled

    def prompted(self, enc: Tensor, lens: Tensor, prompts: Sequence[Prompt]) -> dict[str, Any]:
        return {"enc": enc + 1, "lens": lens, "langs": [prompt.target_lang for prompt in prompts]}


def item(**row: Any) -> Item:
    return Item(None, "x.wav", row=row)


def test_values_as_manifests_write_them() -> None:
    asked = Prompt(
        source_lang="<|en|>", target_lang="de", task="s2t_translation", punctuation="nopnc", itn="yes", diarize="<|diarize|>"
    )
    assert attrs.astuple(asked)[:4] == ("en", "de", "translate", False)
    assert asked.asked() == {
        "source_lang": "en",
        "target_lang": "de",
        "task": "translate",
        "punctuation": False,
        "itn": True,
        "diarize": True,
    }
    assert (Prompt(task="asr").task, Prompt(task="ast").task) == ("transcribe", "translate")
    assert [Prompt(punctuation=value).punctuation for value in ("no", "0", "True", 1, "pnc", False)] == [
        *(False, False, True, True, True, False)
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"punctuation": "perhaps"}, "'perhaps' is neither yes nor no"),
        ({"task": "sing"}, "the task 'sing' is not known; there are transcribe and translate"),
        ({"target_lang": ""}, "'' is not a language"),
        ({"source_lang": 3}, "3 is not a language"),
    ],
)
def test_values_that_mean_nothing(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Prompt(**fields)


def test_a_row_goes_before_what_is_asked_for_all() -> None:
    items = [item(), item(target_lang="en"), item(pnc="no", taskname="asr", source_lang="xx"), item(punctuation=True, pnc="no")]
    found = plan(Told(), Prompt(target_lang="de"), items)
    assert found is not None
    assert [(one.target_lang, one.punctuation) for one in found] == [("de", True), ("en", True), ("de", False), ("de", True)]
    assert found[2].source_lang is None  # what the head has no place for does not reach it


def test_what_a_head_has_no_place_for_is_refused_for_all_and_ignored_in_rows() -> None:
    with pytest.raises(
        ConfigError, match=r"itn: this model cannot be asked for that; it takes target_lang, punctuation, timestamps"
    ):
        plan(Told(), Prompt(itn=True), [item()])
    with pytest.raises(ConfigError, match="target_lang: this model cannot be asked for that; it takes no such options"):
        plan(object(), Prompt(target_lang="de"), [item()])
    assert plan(object(), Prompt(), [item(target_lang="de")]) is None


def test_a_wrong_row_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^target_lang='fr': this model knows de, en"):
        plan(Told(), Prompt(target_lang="fr"), [])
    for row in ({"target_lang": "fr"}, {"pnc": "perhaps"}):
        with pytest.raises(ConfigError, match=r"^x\.wav: "):
            plan(Told(), Prompt(), [item(), item(**row)])


def test_times_are_asked_of_heads_that_can_write_them() -> None:
    assert timed(Told(), Prompt(), "word").timestamps is True
    assert timed(Told(), Prompt(), None).timestamps is None
    assert timed(object(), Prompt(), "word") == Prompt()


def test_the_search_gets_what_the_head_makes_of_prompts() -> None:
    enc, lens = torch.zeros(2, 3, 4), torch.tensor([3, 2])
    assert arguments(object(), enc, lens, None) == {"enc": enc, "lens": lens}
    given = arguments(Told(), enc, lens, [Prompt(target_lang="en"), Prompt(target_lang="de")])
    assert given["langs"] == ["en", "de"] and bool((given["enc"] == 1).all())


def test_an_option_that_does_not_exist() -> None:
    with pytest.raises(TypeError, match=r"transcribe\(\) has no option 'tarhget_lang'"):
        read({"tarhget_lang": "de"})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"audio_filepath": str(CASES / "a.wav"), "target_lang": "de", "text": "Vorn Mitte, hinten rechts."},
        {"audio_filepath": str(CASES / "b.wav"), "pnc": "no", "text": "side right"},
    ]
    path = tmp_path_factory.mktemp("manifest") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_rows_of_a_manifest(manifest: Path) -> None:
    model = sonant.load(CASES / "canary2_aed.nemo", device="cpu", dtype="float32")
    found = model.transcribe(manifest, batch_size=2)
    assert [(one.text, one.language) for one in found] == [("Vorn Mitte, hinten links.", "de"), ("side right", "en")]
    found = model.transcribe(manifest, target_lang="de", punctuation=False, itn=True)
    assert [(one.text, one.language) for one in found] == [("vorn mitte hinten links", "de"), ("seite rechts", "de")]
    bad = manifest.with_name("bad.jsonl")
    bad.write_text(json.dumps({"audio_filepath": "nowhere.wav", "target_lang": "fr"}), "utf-8")
    with pytest.raises(ConfigError, match=r"nowhere\.wav: target_lang='fr': this model knows de, en"):
        model.transcribe(bad)


def test_the_command_line(manifest: Path, tmp_path: Path) -> None:
    """What is asked reaches the model, and the rows of an evaluation say it."""
    model = str(CASES / "canary2_aed.nemo")
    run = CliRunner().invoke(app, ["transcribe", str(manifest), "-m", model, "--target-lang", "de", "--no-punctuation", "--itn"])
    assert run.exit_code == 0 and run.stdout.splitlines() == ["vorn mitte hinten links", "seite rechts"]
    options = ["--no-punctuation", "--output", str(tmp_path / "report"), "--json"]
    run = CliRunner().invoke(app, ["evaluate", str(manifest), "-m", model, *options])
    assert run.exit_code == 0, run.output
    scores = json.loads(run.stdout)
    assert scores["punctuation"] == "False" and scores["words"]["errors"] == 1
    row = json.loads((tmp_path / "report" / "rows.jsonl").read_text("utf-8").splitlines()[0])
    assert row["lang"] == "de" and row["punctuation"] is False and "target_lang" not in row
