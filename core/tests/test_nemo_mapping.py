"""The tables between NeMo and Sonant: interpolations stay inside a document, every key is accounted for, names map both ways."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sonant import registry
from sonant.config import load_target
from sonant.errors import CheckpointError
from sonant.nemo import ComponentMapping, NemoSection, Placed, Rename
from sonant.nemo.archive import NemoArchive
from sonant.nemo.convert import Reader, read_nemo
from sonant.nemo.interpolation import resolve

CASES = sorted((Path(__file__).resolve().parents[2] / "tests" / "nemo-cases").glob("*.nemo"))


# Interpolations ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${a}", 4),
        ("${deep.er.b}", 0.5),
        ("${ deep.er.b }", 0.5),
        ("${names.1}", "two"),
        ("${names}", ["one", "two", "4"]),
        ("${deep}", {"er": {"b": 0.5}, "same": 4}),
        ("n = ${a}, ${names.0}", "n = 4, one"),
        ("${names.${pick}}", "two"),
        ("${deep.${word}.b}", 0.5),
        ("${chain}", 4),
        ("${nothing}", None),
        ("${truth}", True),
        ("${multiply:2,3}", 6),
        ("${multiply:${a}, 0.5}", 2.0),
        ("${sum:${a},1,-2}", 3),
        ("${multiply:${sum:1,2},${a}}", 12),
        ("plain $ {a} $a }", "plain $ {a} $a }"),
        (7, 7),
        (None, None),
    ],
)
def test_what_an_interpolation_means(value: Any, expected: Any) -> None:
    document = {
        "a": 4,
        "deep": {"er": {"b": 0.5}, "same": "${a}"},
        "names": ["one", "two", "${a}x"],
        "pick": 1,
        "word": "er",
        "chain": "${chain2}",
        "chain2": "${a}",
        "nothing": None,
        "truth": True,
        "value": value,
    }
    document["names"][2] = "4"
    assert resolve(document, "here")["value"] == expected


def test_what_is_resolved_is_found_in_every_corner_and_the_document_stays() -> None:
    document = {"a": 1, "list": [{"x": ["${a}"]}], 2: "${a}"}
    assert resolve(document, "here") == {"a": 1, "list": [{"x": [1]}], 2: 1}
    assert document["list"] == [{"x": ["${a}"]}]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("${value}", "refers to itself"),
        ("${other}", "refers to itself"),
        ("a${value}", "refers to itself"),
        ("${section}", "refers to itself"),
        ("${missing}", "'${missing}' names a key that does not exist"),
        ("${section.missing.x}", "names a key that does not exist"),
        ("${list.7}", "names a key that does not exist"),
        ("${list.-1}", "names a key that does not exist"),
        ("${number.x}", "names a key that does not exist"),
        ("${}", "names a key that does not exist"),
        ("${..value}", "names a key that does not exist"),
        ("${oc.env:HOME}", "'${oc.env:HOME}' would look outside the document; refused"),
        ("x${oc.env:HOME,none}y", "would look outside the document; refused"),
        ("${oc.decode:${oc.env:HOME}}", "would look outside the document; refused"),
        ("${oc.select:number}", "would look outside"),
        ("${hydra:runtime.cwd}", "would look outside"),
        ("${eval:__import__('os').getcwd()}", "would look outside"),
        ("${multiply:2,x}", "only with numbers"),
        ("${multiply:}", "only with numbers"),
        ("${sum:[}", "only with numbers"),
        ("${unclosed", "cannot read the interpolation"),
    ],
)
def test_what_is_refused_and_why(value: str, fault: str) -> None:
    document = {"value": value, "other": "${value}", "section": {"x": "${section}"}, "list": [1], "number": 3}
    with pytest.raises(CheckpointError) as caught:
        resolve(document, "model.nemo:config")
    assert fault in str(caught.value) and str(caught.value).startswith("model.nemo:config: ")


def test_no_variable_of_the_machine_ever_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "hunter2")
    for value in ("${oc.env:A_SECRET}", "${oc.env:A_SECRET,x}", "${env:A_SECRET}", "${A_SECRET}", "${oc.env:${name}}"):
        with pytest.raises(CheckpointError) as caught:
            resolve({"name": "A_SECRET", "value": value}, "here")
        assert "hunter2" not in str(caught.value)


# Sections ----------------------------------------------------------------------------------------------------------------


def section(**values: Any) -> NemoSection:
    return NemoSection(values, "encoder")


def test_every_key_must_be_accounted_for() -> None:
    found = section(a=1, b=2, c=3, d=None, e=5)
    assert found.take("a") == 1
    found.expect("b", 1, 2)
    found.drop("c", "d", "not there")
    with pytest.raises(CheckpointError, match=r"keys that Sonant does not know: encoder\.e$"):
        found.finish()
    assert found.take("e") == 5
    assert found.finish() == ["encoder.c"]  # what was null says nothing
    assert found.keys() == []


def test_left_keys_are_named_all_of_them_even_if_they_are_no_strings() -> None:
    with pytest.raises(CheckpointError, match=r"encoder\.1, encoder\.a, encoder\.b"):
        NemoSection({"b": 1, 1: 2, "a": 3}, "encoder").finish()


def test_taking() -> None:
    found = section(a=None)
    assert found.take("b", 7) == 7
    assert found.take("a", 7) is None  # null is a value
    with pytest.raises(CheckpointError, match=r"lacks encoder\.a"):
        found.take("a")
    with pytest.raises(CheckpointError, match=r"lacks encoder\.b"):
        found.take("b")


def test_peeking_and_asking_account_for_nothing() -> None:
    found = section(a=1, b=None)
    assert ("a" in found, "b" in found, "c" in found) == (True, False, False)
    assert (found.peek("a"), found.peek("c", 5), found.keys()) == (1, 5, ["a", "b"])


@pytest.mark.parametrize(("value", "fine"), [("rel_pos", True), (None, False), ("abs_pos", False), (["rel_pos"], False)])
def test_expecting(value: Any, fine: bool) -> None:
    found = section(attention=value)
    if fine:
        found.expect("attention", "rel_pos", "local")
        found.expect("absent", "rel_pos", "local")  # the first is what is meant then
        assert found.finish() == []
    else:
        with pytest.raises(CheckpointError, match=r"encoder\.attention is .* does not support; supported: 'rel_pos', 'local'"):
            found.expect("attention", "rel_pos", "local")


def test_subsections_say_where_they_stand() -> None:
    top = NemoSection({"joint": {"net": {"x": 1}}}, "")
    with pytest.raises(CheckpointError, match=r"lacks joint\.net\.y"):
        top.section("joint").section("net").take("y")
    with pytest.raises(CheckpointError, match=r"joint in the NeMo config is None, not a section"):
        NemoSection({"joint": None}, "").section("joint")
    with pytest.raises(CheckpointError, match=r"encoder\.x in the NeMo config is \[1\], not a section"):
        section(x=[1]).section("x")


def test_reading_changes_nothing_in_the_document() -> None:
    values = {"a": 1, "b": 2}
    found = NemoSection(values, "")
    found.take("a")
    found.drop("b")
    assert values == {"a": 1, "b": 2}


# Tensor names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "theirs", "ours"),
    [
        (Rename("a.b", "c"), "a.b", "c"),
        (Rename("pre.{}", "post.{}"), "pre.conv.0.weight", "post.conv.0.weight"),
        (Rename("layers.{}.norm.{}", "blocks.{}.n.{}"), "layers.11.norm.weight", "blocks.11.n.weight"),
        (Rename("x.{}.y.{}", "{}.z.{}"), "x.1.y.bias", "1.z.bias"),
    ],
)
def test_names_map_both_ways(row: Rename, theirs: str, ours: str) -> None:
    assert row.read(theirs) == ours
    assert row.write(ours) == theirs


@pytest.mark.parametrize("name", ["a_b", "axb", "a.b.c", "xa.b", "a.", "", "a.b\n"])
def test_a_row_speaks_of_whole_names_only(name: str) -> None:
    assert Rename("a.b", "c").read(name) is None


def test_a_row_with_an_empty_place_is_no_match() -> None:
    assert Rename("a.{}", "b.{}").read("a.") is None


@pytest.mark.parametrize(
    ("row", "theirs", "ours"),
    [
        (Rename("a", "b"), (4, 3, 1), (4, 3, 1)),
        (Rename("a", "b", "conv1x1"), (4, 3, 1), (4, 3)),
        (Rename("a", "b", "conv1x1"), (4,), (4,)),  # a bias
        (Rename("a", "b", "batch"), (1, 80, 257), (80, 257)),
    ],
)
def test_shapes_map_both_ways_and_values_stay(row: Rename, theirs: tuple[int, ...], ours: tuple[int, ...]) -> None:
    tensor = torch.randn(theirs)
    assert row.to_ours(tensor).shape == ours
    assert torch.equal(row.to_theirs(row.to_ours(tensor)), tensor)


def test_a_shape_that_is_not_the_tables_is_left_for_the_check_of_shapes() -> None:
    assert Rename("a", "b", "conv1x1").to_ours(torch.zeros(4, 3, 5)).shape == (4, 3, 5)
    assert Rename("a", "b", "batch").to_ours(torch.zeros(2, 3)).shape == (2, 3)


TIED = ("transf_decoder._embedding.token_embedding.weight", "log_softmax.mlp.layer0.weight")
"""Two names of one tensor, in attention encoder-decoder models."""


def tensors_of(archive: NemoArchive) -> dict[str, torch.Tensor]:
    """Of the model, and of a second one in the archive with that one's name before theirs."""
    second = "timestamps_asr_model"
    more = archive.state(f"{second}_weights.ckpt") if f"{second}_weights.ckpt" in archive.sizes() else {}
    return {**archive.state(), **{f"{second}.{name}": tensor for name, tensor in more.items()}}


def placement(archive: NemoArchive) -> dict[str, Placed]:
    document = NemoSection(archive.config(), "")
    target = document.take("target")
    task = registry.current().stands_for("task", target)
    assert task is not None and task.spec.nemo is not None
    _, parts = load_target(task.spec.nemo.mapping, "task").read(document, Reader(archive, target))
    return parts


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_every_tensor_of_a_checkpoint_has_one_row_that_maps_it_there_and_back(case: Path) -> None:
    with NemoArchive(case) as archive:
        state, parts = tensors_of(archive), placement(archive)
    ours = {}
    for name, tensor in state.items():
        speaking = [
            (key, part, row)
            for key, part in parts.items()
            if name.startswith(part.prefix)
            for row in part.tensors
            if row.read(name.removeprefix(part.prefix)) is not None
        ]
        assert len(speaking) == 1, f"{name}: {speaking}"
        key, part, row = speaking[0]
        mapped = row.read(name.removeprefix(part.prefix))
        assert mapped is not None
        ours[f"{key}.{mapped}"] = row.to_ours(tensor)
        written = [r.write(mapped) for r in part.tensors if r.write(mapped)]
        assert written == (list(TIED) if name in TIED else [name.removeprefix(part.prefix)])
        assert torch.equal(row.to_theirs(row.to_ours(tensor)), tensor)
    assert len(ours) == len(state) - (TIED[1] in state)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_a_checkpoint_is_read_whole_and_says_what_it_dropped(case: Path) -> None:
    with NemoArchive(case) as archive:
        found = read_nemo(archive)
        theirs = {name: tensor for name, tensor in tensors_of(archive).items() if name != TIED[1]}
    assert len(found.state) == len(theirs)
    assert sorted(t.numel() for t in found.state.values()) == sorted(t.numel() for t in theirs.values())
    assert "dropped train_ds" in found.notes and "dropped decoding" in found.notes
    assert not [note for note in found.notes if "tensor" in note]


# What no table speaks of -------------------------------------------------------------------------------------------------


class Edited:
    """An archive with another config and state."""

    def __init__(
        self, archive: NemoArchive, document: Mapping[str, Any], state: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        self.path = archive.path
        self.config = lambda: dict(document)
        self.state = archive.state if state is None else lambda: dict(state)
        self.sizes, self.read = archive.sizes, archive.read


def refused(change: Any, state: Any = None, case: str = "fastconformer_ctc_bpe") -> str:
    with NemoArchive(CASES[0].with_name(f"{case}.nemo")) as archive:
        document = archive.config()
        change(document)
        tensors = archive.state()
        if state is not None:
            state(tensors)
        with pytest.raises(CheckpointError) as caught:
            read_nemo(Edited(archive, document, tensors))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nothing(_: Any) -> None:
    pass


@pytest.mark.parametrize("target", ["os.system", "subprocess.Popen", "nemo.collections.asr.models.Unheard", "", None, 5, ["a"]])
def test_a_class_that_no_plugin_stands_for(target: Any) -> None:
    assert f"its class is {str(target)!r}, and no installed plugin stands for it. Nothing was imported or run" in refused(
        lambda document: document.update(target=target)
    )


@pytest.mark.parametrize("kind", ["preprocessor", "encoder", "decoder", "spec_augment"])
def test_a_part_that_no_plugin_stands_for(kind: str) -> None:
    text = refused(lambda document: document[kind].update(_target_="os.system"))
    assert f"{kind} is 'os.system', and no installed plugin provides" in text
    assert "nemo.collections.asr.modules." in text  # what would be known
    assert "Nothing was imported or run" in text


@pytest.mark.parametrize("where", [(), ("encoder",), ("preprocessor",), ("decoder",), ("tokenizer",)])
def test_a_key_that_no_table_knows(where: tuple[str, ...]) -> None:
    def change(document: dict[str, Any]) -> None:
        for key in where:
            document = document[key]
        document["frobnicate"] = 3

    assert f"does not know: {'.'.join([*where, 'frobnicate'])}" in refused(change)


@pytest.mark.parametrize(
    ("section", "key", "value", "fault"),
    [
        (
            "encoder",
            "self_attention_model",
            "abs_pos",
            "encoder.self_attention_model is 'abs_pos', which Sonant does not support",
        ),
        ("encoder", "d_model", "wide", "encoder.d_model"),
        ("encoder", "n_layers", None, "encoder.n_layers"),
        ("encoder", "subsampling", "dw-striding", "encoder.subsampling"),
        ("encoder", "n_heads", 5, "n_heads 5 does not divide d_model 32"),
        ("preprocessor", "window", "square", "preprocessor"),
        (
            "tokenizer",
            "model_path",
            "nemo:none_tokenizer.model",
            "names the file 'nemo:none_tokenizer.model', which the archive does not",
        ),
        ("tokenizer", "model_path", "nemo:../../etc/passwd", "which the archive does not hold"),
        ("tokenizer", "type", "wpe", "wpe"),
    ],
)
def test_a_value_that_cannot_be(section: str, key: str, value: Any, fault: str) -> None:
    assert fault in refused(lambda document: document[section].update({key: value}))


@pytest.mark.parametrize("section", ["encoder", "decoder", "preprocessor", "tokenizer", "decoding", "spec_augment"])
@pytest.mark.parametrize("value", ["text", 5, [1, 2], [{"a": 1}]])
def test_a_section_that_is_no_section_is_one_clear_error(section: str, value: Any) -> None:
    assert refused(lambda document: document.update({section: value}))


@pytest.mark.parametrize("case", ["fastconformer_hybrid_tdt_ctc_bpe", "fastconformer_rnnt_bpe", "conformer_rnnt_char"])
@pytest.mark.parametrize("section", ["joint", "decoder", "aux_ctc", "model_defaults", "labels"])
@pytest.mark.parametrize("value", ["text", 5, [5]])
def test_so_it_is_for_transducers(case: str, section: str, value: Any) -> None:
    with NemoArchive(CASES[0].with_name(f"{case}.nemo")) as archive:
        document = archive.config() | {section: value}
        try:
            read_nemo(Edited(archive, document))  # type: ignore[arg-type]
        except CheckpointError as error:
            assert "\n" not in str(error)


def test_tensors_that_no_table_knows() -> None:
    text = refused(nothing, lambda state: state.update({f"encoder.new.{n}": torch.zeros(1) for n in range(6)}))
    assert text.endswith(
        "6 tensors left over that no table knows: encoder.new.0, encoder.new.1, encoder.new.2, encoder.new.3 and 2 more"
    )


def test_tensors_that_carry_nothing_are_dropped_and_listed() -> None:
    with NemoArchive(CASES[0].with_name("fastconformer_ctc_bpe.nemo")) as archive:
        state = archive.state() | {"encoder.pos_enc.pe": torch.zeros(3)}
        found = read_nemo(Edited(archive, archive.config(), state))  # type: ignore[arg-type]
    assert "dropped tensor encoder.pos_enc.pe" in found.notes
    assert len(found.state) == len(state) - 1


def test_a_component_without_a_writer_says_so() -> None:
    with pytest.raises(CheckpointError, match="cannot be written in that form"):
        ComponentMapping(read=lambda section: {}).write(None)
