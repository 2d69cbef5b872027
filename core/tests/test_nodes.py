"""Keys that are given twice, and aliases that stand for more than a machine holds."""

from __future__ import annotations

import pytest
import yaml

from sonant import config
from sonant.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("task: asr\nencoder: a\ntask: b\n", "mine.yaml:3: task: this key is given twice, in line 1 too"),
        ("encoder:\n  name: x\n  d: 1\n  name: y\n", "mine.yaml:4: encoder.name: this key is given twice, in line 2 too"),
        ("a: [1, {b: 1, b: 1}]\n", "mine.yaml:1: a[1].b: this key is given twice, in line 1 too"),
        ("a: {'b': 1,\n b: 1}\n", "mine.yaml:2: a.b: this key is given twice, in line 1 too"),
    ],
)
@pytest.mark.parametrize("beside", ["", "x: [" + "[], " * 1000 + "]"], ids=["in C", "in Python"])
def test_a_key_that_is_given_twice_is_an_error(text: str, told: str, beside: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.parse_yaml(text + beside, "mine.yaml")
    assert str(refused.value).startswith(told)


def test_keys_may_be_merged_and_then_given_anew() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, <<: *a, y: 4}\nd: {1: one, '1': text}\n"
    found = config.parse_yaml(text, "mine.yaml")
    assert found == yaml.safe_load(text) and found["c"] == {"x": 1, "y": 4} and found["d"] == {1: "one", "1": "text"}


def bomb(levels: int, kind: str) -> str:
    """Each level holds the one before nine times."""
    first, form = {"lists": ("[x, y]", "[{}]"), "mappings": ("{{x: y}}", "{{{}}}"), "merged": ("{{x: y}}", "{{<<: [{}]}}")}[kind]
    lines = [f"a0: &a0 {first.format()}"]
    for level in range(1, levels + 1):
        names = [f"*a{level - 1} "] * 9
        inner = ", ".join(f"k{n}: {name}" for n, name in enumerate(names)) if kind == "mappings" else ", ".join(names)
        lines.append(f"a{level}: &a{level} {form.format(inner)}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("kind", ["lists", "mappings", "merged"])
def test_aliases_that_grow_without_bound_are_refused(kind: str) -> None:
    """At nine to the sixtieth nothing that made a copy would ever end."""
    for levels in (6, 60):
        with pytest.raises(ConfigError, match=r"^mine\.yaml: its aliases \(as \*name\) stand for more than 100,000 values"):
            config.parse_yaml(bomb(levels, kind), "mine.yaml")
    small = bomb(3, kind)
    assert config.parse_yaml(small, "mine.yaml") == yaml.safe_load(small)


def test_an_alias_within_what_it_stands_for_is_refused() -> None:
    for text in ("a:\n  &a [1, {b: *a }]\n", "a:\n  &a {b: {c: *a }}\n"):
        with pytest.raises(ConfigError, match=r"^mine\.yaml:2: a.*: an alias stands for what it is nested in itself"):
            config.parse_yaml(text, "mine.yaml")


def test_long_documents_and_aliases_of_long_lists_are_read() -> None:
    labels = ", ".join(f"l{n}" for n in range(20_000))
    found = config.parse_yaml(f"labels: &all [{labels}]\ndecoder: {{vocabulary: *all , other: *all }}\n", "mine.yaml")
    assert found["decoder"]["vocabulary"] == found["labels"] and len(found["labels"]) == 20_000
