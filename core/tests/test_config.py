"""Configs are filled and checked before anything is built; an error says where, what is allowed and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
import yaml
from attrs import field, frozen

from sonant import config
from sonant.errors import ConfigError, DuplicateName, SonantError, UnknownName

Install = Callable[..., Any]
Cli = Callable[..., Any]

MODEL = """\
# a small recognizer
task: asr
preprocessor:
  name: log_mel
  features: 16
tokenizer: {name: char, labels: [" ", a, b]}
encoder:
  name: fastconformer
  n_layers: 2
  d_model: 32
  n_heads: 4
decoder: ctc
optim:
  name: adamw
  lr: 1.0e-3
"""


@frozen(kw_only=True)
class Statistics:
    mean: float
    spread: float = 1.0
    shape: Literal["flat", "peaked"] = "flat"


@frozen(kw_only=True)
class Net:
    layers: int = 4
    rate: float = 0.5
    bias: bool = True
    mode: Literal["pre", "post"] = "pre"
    label: str = "x"
    sizes: list[int] = field(factory=lambda: [3, 5])
    statistics: Statistics | None = None
    extra: dict[str, Any] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f"layers {self.layers} must be positive")


@frozen(kw_only=True)
class Words:
    labels: list[str]


@frozen(kw_only=True)
class Stack:
    nets: list[Net]


def refused(cls: type, values: dict[Any, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        config.fill(cls, values, "encoder")
    return str(caught.value)


def model_file(folder: Path, text: str = MODEL) -> Path:
    file = folder / "model.yaml"
    file.write_text(text, "utf-8")
    return file


def test_defaults_are_filled() -> None:
    assert config.fill(Net, {}, "encoder") == Net()
    config.fill(Net, {}, "encoder").extra["left"] = "behind"  # defaults are filled once, and everybody has them to himself
    assert config.fill(Net, {}, "encoder") == Net()
    given = config.fill(Net, {"layers": 7, "statistics": {"mean": 2}, "extra": {"deep": [1, {"a": None}]}}, "encoder")
    assert given == Net(layers=7, statistics=Statistics(mean=2.0), extra={"deep": [1, {"a": None}]})
    assert type(given.extra) is dict
    assert config.fill(Stack, {"nets": [{"layers": 2}, Net(layers=3)]}, "x") == Stack(nets=[Net(layers=2), Net(layers=3)])
    assert type(given.sizes) is list


def test_filling_changes_nothing_that_was_given() -> None:
    values = {"sizes": [1], "statistics": {"mean": 2}}
    given = config.fill(Net, values, "encoder")
    assert values == {"sizes": [1], "statistics": {"mean": 2}}
    given.sizes.append(9)
    assert values["sizes"] == [1]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        given.layers = 3


KNOWN = "Known keys: layers, rate, bias, mode, label, sizes, statistics, extra"


@pytest.mark.parametrize(
    ("cls", "values", "wanted"),
    [
        (Net, {"layrs": 1}, f"encoder.layrs: unknown key. Did you mean 'layers'? {KNOWN}"),
        (Net, {"zzz": 1}, f"encoder.zzz: unknown key. {KNOWN}"),
        (
            Net,
            {"statistics": {"mean": 1, "spraed": 2}},
            "encoder.statistics.spraed: unknown key. Did you mean 'spread'? Known keys: mean, spread, shape",
        ),
        (Net, {3: 4}, "encoder: the key 3 is not a string"),
        (Net, {"extra": {3: 4}}, "encoder.extra.3: key 3 (int) is incompatible with (str)"),
        (Net, {"layers": "many"}, "encoder.layers: value 'many' of type 'str' could not be converted to Integer"),
        (Net, {"layers": 2.5}, "encoder.layers: value '2.5' of type 'float' could not be converted to Integer"),
        (Net, {"layers": True}, "encoder.layers: value 'True' of type 'bool' could not be converted to Integer"),
        (Net, {"layers": None}, "encoder.layers: incompatible value 'None' for field of type 'int'"),
        (Net, {"layers": [1]}, "encoder.layers: value '[1]' of type 'ListConfig' could not be converted to Integer"),
        (Net, {"bias": "perhaps"}, "encoder.bias: value 'perhaps' is not a valid bool (type str)"),
        (Net, {"sizes": [1, "x"]}, "encoder.sizes[1]: value 'x' of type 'str' could not be converted to Integer"),
        (Net, {"sizes": 5}, "encoder.sizes: "),
        (Net, {"statistics": 5}, "encoder.statistics: "),
        (Net, {"mode": "between"}, "encoder.mode: invalid value 'between', expected one of ['pre', 'post']"),
        (
            Net,
            {"statistics": {"mean": 1, "shape": 3}},
            "encoder.statistics.shape: invalid value '3', expected one of ['flat', 'peaked']",
        ),
        (Words, {}, "encoder.labels: a value is required here"),
        (Words, {"labels": "???"}, "encoder.labels: a value is required here"),
        (Net, {"statistics": {"spread": 2}}, "encoder.statistics.mean: a value is required here"),
        (Net, {"layers": 0}, "encoder: layers 0 must be positive"),
        (Stack, {"nets": [{}, {"layers": 0}]}, "encoder.nets[1]: layers 0 must be positive"),
        (Stack, {"nets": [{}, {}, {"layrs": 1}]}, f"encoder.nets[2].layrs: unknown key. Did you mean 'layers'? {KNOWN}"),
        (Stack, {"nets": [{"mode": "between"}]}, "encoder.nets[0].mode: invalid value 'between', expected one of"),
        (Stack, {"nets": [{"statistics": {}}]}, "encoder.nets[0].statistics.mean: a value is required here"),
        (Stack, {"nets": [{}, 3]}, "encoder.nets[1]: expected a mapping here, not 3"),
        (Stack, {"nets": {"layers": 3}}, "encoder.nets: expected a list here, not a mapping"),
        (Stack, {"nets": 3}, "encoder.nets: expected a list here, not a single value"),
        (Stack, {}, "encoder.nets: a value is required here"),
        (Net, {"label": "${oc.env:HOME}"}, "encoder.label: the interpolation '${oc.env:HOME}' is refused"),
        (Net, {"extra": {"a": [{"b": "${x}"}]}}, "encoder.extra.a.b: the interpolation '${x}' is refused"),
    ],
)
def test_what_does_not_fit_is_refused(cls: type, values: dict[Any, Any], wanted: str) -> None:
    assert refused(cls, values).startswith(wanted)


def test_a_model_is_filled() -> None:
    filled = config.fill_model(yaml.safe_load(MODEL))
    assert filled.task.name == "asr"
    assert list(filled.parts) == ["preprocessor", "tokenizer", "encoder", "decoder"]
    encoder = filled.parts["encoder"]
    assert (encoder.name, encoder.config.n_layers, encoder.config.subsampling_factor) == ("fastconformer", 2, 8)
    assert filled.training == {"optim": {"name": "adamw", "lr": 1e-3}}


def without(section: str) -> dict[str, Any]:
    return {key: value for key, value in yaml.safe_load(MODEL).items() if key != section}


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"encodr": {}}, r"encodr: unknown section\. Did you mean 'encoder'\? Sections of the task 'asr': preprocessor, "),
        ({"zzz": {}}, r"zzz: unknown section\. Sections of the task 'asr': "),
        ({1: {}}, r"1: unknown section"),
        ({"encoder": None}, r"encoder is missing: the task 'asr' needs a section encoder: \{name: …\}"),
        ({"encoder": 5}, r"encoder: expected a component, e\.g\. encoder: \{name: …\}, not 5"),
        ({"encoder": ["fastconformer"]}, r"encoder: expected a component"),
        ({"encoder": {}}, r"encoder\.name is missing: it says which encoder to use \(installed: .*\bfastconformer\b"),
        ({"encoder": {"name": 3}}, r"encoder\.name is missing"),
        ({"encoder": {"name": "fastconformer", "d_modle": 3}}, r"encoder\.d_modle: unknown key\. Did you mean 'd_model'\?"),
        ({"encoder": {"name": "fastconformer", "n_heads": 7}}, r"encoder: n_heads 7 does not divide d_model 512"),
        ({"encoder": {"name": "fastconformer", "_target_": "os.system"}}, r"encoder\._target_: unknown key\."),
        (
            {"preprocessor": {"name": "log_mel", "fixed": {"maen": [1.0]}}},
            r"preprocessor\.fixed\.maen: unknown key\. Did you mean 'mean'\?",
        ),
        ({"decoder": {"name": "ctc", "blank": 0}}, r"decoder\.blank: unknown key\. Known keys: none"),
        ({"tokenizer": "char"}, r"tokenizer\.labels: a value is required here"),
        ({"task": 5}, r"task: expected a component, e\.g\. task: \{name: …\}, not 5"),
    ],
)
def test_sections_that_do_not_fit(change: dict[Any, Any], wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.fill_model(yaml.safe_load(MODEL) | change)
    assert re.match(wanted, str(caught.value))


def test_the_task_must_be_named() -> None:
    with pytest.raises(ConfigError, match=r"^task is missing: it says what the model does \(installed: .*\basr\b"):
        config.fill_model(without("task"))


@pytest.mark.parametrize("part", ["preprocessor", "tokenizer", "encoder", "decoder"])
def test_required_parts(part: str) -> None:
    with pytest.raises(ConfigError, match=f"^{part} is missing: the task 'asr' needs a section {part}: "):
        config.fill_model(without(part))


@pytest.mark.parametrize("name", ["fastconfomer", "os.system", "acme.net:Net", "__import__"])
def test_a_name_is_looked_up_and_never_imported(name: str) -> None:
    with pytest.raises(UnknownName, match=re.escape(f"encoder.name: no encoder named {name!r}.")):
        config.fill_model(yaml.safe_load(MODEL) | {"encoder": {"name": name}})


def test_a_name_that_two_distributions_claim(install: Install) -> None:
    install(
        "acme-speech",
        "from sonant import ComponentSpec, hookimpl\nSONANT_API = 1\n@hookimpl\ndef sonant_components():\n"
        "    return [ComponentSpec(kind='encoder', name='fastconformer', target='a:b', config='a:c', doc='')]\n",
        version="0.2",
    )
    with pytest.raises(
        DuplicateName, match=r"^encoder\.name: .*'fastconformer' is registered by both acme-speech 0\.2 and sonant-encoders"
    ):
        config.fill_model(yaml.safe_load(MODEL))


@pytest.mark.parametrize(
    ("reference", "wanted"),
    [
        ("acme_absent:Config", "cannot import 'acme_absent:Config'"),
        ("acme_speech:Absent", "'acme_speech' has no attribute 'Absent'"),
        ("acme_speech:SONANT_API", "is not an attrs class"),
    ],
)
def test_a_config_class_that_cannot_be_used(reference: str, wanted: str, install: Install) -> None:
    install(
        "acme-speech",
        "from sonant import ComponentSpec, hookimpl\nSONANT_API = 1\n@hookimpl\ndef sonant_components():\n"
        f"    return [ComponentSpec(kind='encoder', name='acme/net', target='a:b', config='{reference}', doc='')]\n",
    )
    with pytest.raises(SonantError, match=wanted) as caught:
        config.fill_section("encoder", "acme/net", "encoder")
    assert "encoder 'acme/net' (acme-speech 0.1)" in str(caught.value)


@pytest.mark.parametrize(
    ("override", "keys", "before", "after"),
    [
        ("encoder.n_layers=5", ["encoder", "n_layers"], 2, 5),
        ("encoder.name=conformer", ["encoder", "name"], "fastconformer", "conformer"),
        ("encoder.name=conformer", ["encoder", "n_layers"], 2, 2),
        ("encoder=conformer", ["encoder", "n_layers"], 2, 17),
        ("encoder.att_context_size=[4,2]", ["encoder", "att_context_size"], [-1, -1], [4, 2]),
        ("encoder.d_model=${preprocessor.features}", ["encoder", "d_model"], 32, 16),
        ("tokenizer.labels=[x,y=z]", ["tokenizer", "labels"], [" ", "a", "b"], ["x", "y=z"]),
        ("optim.lr=1e-4", ["optim"], {"name": "adamw", "lr": 1e-3}, {"name": "adamw", "lr": 1e-4}),
        ("trainer.max_steps=10", ["trainer"], None, {"max_steps": 10}),
        ("search.name=transducer_greedy", ["search", "name"], None, "transducer_greedy"),
    ],
)
def test_overrides(override: str, keys: list[str], before: Any, after: Any, tmp_path: Path) -> None:
    for overrides, wanted in (([], before), ([override], after)):
        value: Any = config.fill_model(config.resolve_user_file(model_file(tmp_path), overrides)).to_dict()
        for key in keys:
            value = None if value is None else value.get(key)
        assert value == wanted


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("encoder.n_layers", "the override 'encoder.n_layers' is not of the form section.key=value"),
        ("=5", "is not of the form section.key=value"),
        ("encoder.=5", "is not of the form section.key=value"),
        (".n_layers=5", "is not of the form section.key=value"),
        ("encoder..n_layers=5", "is not of the form section.key=value"),
        ("", "is not of the form section.key=value"),
        ("encoder.n_layers=[1", "model.yaml: while parsing a flow sequence"),
        ("encoder.n_layers=!!python/object/apply:os.getcwd []", "model.yaml: could not determine a constructor"),
        ("encoder.d_model=${nope}", "encoder.d_model: Interpolation key 'nope' not found"),
        ("tokenizer.labels.0=x", "model.yaml: "),
        ("encoder.n_layers=many", "encoder.n_layers: value 'many'"),
        ("encoder.n_layers=", "encoder.n_layers: incompatible value 'None'"),
        ("encoder.n_layers.x=3", "encoder.n_layers: "),
        ("encoder.d_modle=64", "encoder.d_modle: unknown key. Did you mean 'd_model'?"),
        ("encodr.d_model=64", "encodr: unknown section. Did you mean 'encoder'?"),
        ("encoder=null", "encoder is missing"),
    ],
)
def test_overrides_that_are_refused(override: str, wanted: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(wanted)):
        config.fill_model(config.resolve_user_file(model_file(tmp_path), [override]))


def test_interpolation_in_a_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_DATA", "/data")
    text = (
        MODEL.replace("d_model: 32", "d_model: ${preprocessor.features}")
        + "train_ds: {manifest: '${oc.env:ACME_DATA}/a.jsonl'}\n"
    )
    filled = config.fill_model(config.resolve_user_file(model_file(tmp_path, text)))
    assert filled.parts["encoder"].config.d_model == 16
    assert filled.training["train_ds"] == {"manifest": "/data/a.jsonl"}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("${nope}", "model.yaml:10: encoder.d_model: Interpolation key 'nope' not found"),
        ("${encoder.d_model}", "Recursive interpolation detected"),
        ("${oc.env:ACME_UNSET_VARIABLE}", "encoder.d_model: .*'ACME_UNSET_VARIABLE' not found"),
    ],
)
def test_interpolation_without_a_target(value: str, wanted: str, tmp_path: Path) -> None:
    file = model_file(tmp_path, MODEL.replace("d_model: 32", f"d_model: {value}"))
    with pytest.raises(ConfigError, match=wanted):
        config.resolve_user_file(file)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"task: asr\nencoder: [1\ndecoder: ctc\n", "model.yaml is not plain YAML: .*line 3, column"),
        (
            b"task: asr\nencoder: !!python/object/apply:os.system [echo]\n",
            "is not plain YAML: could not determine a constructor.*line 2",
        ),
        (b"task: !!python/name:os.system\n", "is not plain YAML: could not determine a constructor.*line 1"),
        (b"task: \xff\xfe\n", "is not plain YAML: .*can't decode byte 0xff in position 6"),
        (b"task: a\x00b\n", "is not plain YAML: .*characters are not allowed"),
        (b"- asr\n", "holds a list, not a mapping of sections"),
        (b"", "holds a NoneType, not a mapping of sections"),
        (b"asr\n", "holds a str, not a mapping of sections"),
    ],
)
def test_files_that_are_no_config(content: bytes, wanted: str, tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_bytes(content)
    for read in (config.load_yaml, config.resolve_user_file):
        with pytest.raises(ConfigError, match=wanted) as caught:
            read(file)
        assert str(file) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the config .*absent\.yaml: No such file"):
        config.load_yaml(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match=r"cannot read the config .*: Is a directory"):
        config.load_yaml(tmp_path)


@pytest.mark.parametrize(
    ("dotted", "line"),
    [
        ("task", 2),
        ("encoder", 7),
        ("encoder.n_layers", 9),
        ("encoder.absent", 7),
        ("encoder.n_layers.deeper", 9),
        ("tokenizer.labels", 6),
        ("optim.lr", 15),
        ("absent", None),
        ("", None),
    ],
)
def test_find_line(dotted: str, line: int | None, tmp_path: Path) -> None:
    assert config.find_line(model_file(tmp_path), dotted) == line


def test_find_line_where_there_is_none(tmp_path: Path) -> None:
    assert config.find_line(tmp_path / "absent.yaml", "encoder") is None
    assert config.find_line(model_file(tmp_path, "[1"), "encoder") is None
    assert config.find_line(model_file(tmp_path, "- encoder\n"), "encoder") is None
    assert config.find_line(model_file(tmp_path, ""), "encoder") is None


def test_written_out_it_is_plain_and_complete() -> None:
    filled = config.fill_model(yaml.safe_load(MODEL) | {"search": "ctc_greedy"})
    document = filled.to_dict()
    assert yaml.safe_load(yaml.safe_dump(document)) == document
    assert list(document) == ["task", "preprocessor", "tokenizer", "encoder", "decoder", "search", "optim"]
    assert document["encoder"]["name"] == "fastconformer"
    assert set(document["encoder"]) - {"name"} == {a.name for a in attrs.fields(type(filled.parts["encoder"].config))}
    again = config.fill_model(document)
    assert again.to_dict() == document
    assert again.parts == filled.parts


def test_what_is_stored_with_weights_has_no_search_and_no_training() -> None:
    training = {"trainer": {"max_steps": 1}, "train_ds": {"manifest": "a.jsonl"}, "seed": 1}
    filled = config.fill_model(yaml.safe_load(MODEL) | {"search": "ctc_greedy"} | training)
    assert list(filled.to_dict(runtime=False)) == ["task", "preprocessor", "tokenizer", "encoder", "decoder"]
    assert filled.to_dict()["trainer"] == {"max_steps": 1}


def test_showing_a_config_is_a_fixed_point(tmp_path: Path, cli: Cli) -> None:
    first = cli("config", "show", model_file(tmp_path), "encoder.n_layers=3", "search=ctc_greedy")
    assert (first.returncode, first.stderr) == (0, "")
    shown = yaml.safe_load(first.stdout)
    assert (shown["encoder"]["n_layers"], shown["encoder"]["d_model"], shown["encoder"]["subsampling_factor"]) == (3, 32, 8)
    assert shown["optim"] == {"name": "adamw", "lr": 1e-3}
    second = cli("config", "show", model_file(tmp_path, first.stdout))
    assert second.stdout == first.stdout


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("d_model: 32", "d_modle: 32", r"model\.yaml:10: encoder\.d_modle: unknown key\. Did you mean 'd_model'\?"),
        ("n_layers: 2", "n_layers: two", r"model\.yaml:9: encoder\.n_layers: value 'two'"),
        ("name: fastconformer", "name: fastconfomer", r"model\.yaml:8: encoder\.name: no encoder named 'fastconfomer'\."),
        ("n_heads: 4", "n_heads: 5", r"model\.yaml:7: encoder: n_heads 5 does not divide d_model 32"),
        ("decoder: ctc", "decoder:\n  {}", r"model\.yaml:12: decoder\.name is missing"),
        ("decoder: ctc", "decodr: ctc", r"model\.yaml:12: decodr: unknown section\. Did you mean 'decoder'\?"),
    ],
)
def test_an_error_names_file_and_line(old: str, new: str, wanted: str, tmp_path: Path) -> None:
    assert old in MODEL
    file = model_file(tmp_path, MODEL.replace(old, new))
    with pytest.raises(SonantError, match=wanted) as caught, config.located(file):
        config.fill_model(config.resolve_user_file(file))
    assert str(caught.value).startswith(str(file))


def test_showing_a_bad_config(tmp_path: Path, cli: Cli) -> None:
    shown = cli("config", "show", model_file(tmp_path, MODEL.replace("d_model: 32", "d_modle: 32")))
    assert (shown.returncode, shown.stdout) == (1, "")
    assert re.search(r"^Error: .*model\.yaml:10: encoder\.d_modle: unknown key\. Did you mean 'd_model'\?", shown.stderr)
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("value", ["2024-99-01", "!!int x", "!!bool zz", "!!int ''", "!!float x", "9" * 5000, "!!timestamp x"])
def test_yaml_whose_values_cannot_be_made(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^mine\.yaml is not plain YAML: "):
        config.parse_yaml(f"key: {value}\n", "mine.yaml")


def test_a_truth_value_where_text_belongs() -> None:
    with pytest.raises(ConfigError, match=r"^tokenizer\.labels\[1\]: expected text, not True: YAML reads on, off, yes and no"):
        config.fill_section("tokenizer", yaml.safe_load("{name: char, labels: [a, on]}"), "tokenizer")
    with pytest.raises(ConfigError, match=r"^tokenizer\.labels: expected a list here, not a single value"):
        config.fill_section("tokenizer", {"name": "char", "labels": 4}, "tokenizer")


def test_a_saved_config_is_a_config() -> None:
    data = yaml.safe_load(MODEL)
    assert config.fill_model(data | {"sonant": {"version": "0.1.0"}}) == config.fill_model(data)
