"""What a YAML document must not do, though YAML allows it: give a key twice, or grow without bound through its aliases."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from sonant.errors import ConfigError

MOST = 100_000
"""Values that the aliases of a document may stand for beside those that are written out."""

_MERGE = "tag:yaml.org,2002:merge"  # of the key `<<`, which may come more than once

Placed = tuple[yaml.Node, str]
"""A node and its path in the document."""


def check(root: yaml.Node, origin: str) -> None:
    """Look through a composed document.

    Raises:
        ConfigError: a key is given twice in one mapping, with the line; an alias stands for what it stands in, or aliases of
            aliases stand for more than `MOST` values, which would fill the memory where they are copied.
    """
    written, sizes = 0, dict[int, int]()  # by the identity of nodes: an alias is the same node again
    within: set[int] = set()  # those that the present one lies in
    waiting: list[tuple[yaml.Node, str, bool]] = [(root, "", False)]
    while waiting:
        node, path, is_through = waiting.pop()
        children = list(_children(node, path))
        if is_through:
            within.discard(id(node))
            sizes[id(node)] = 1 + sum(sizes.get(id(child), 1) for child, _ in children)
        elif id(node) in within:
            raise ConfigError(f"{origin}:{_line(node)}: {path}: an alias stands for what it is nested in itself")
        elif id(node) not in sizes:
            if isinstance(node, yaml.MappingNode):
                _check_keys(node, path, origin)
            collections = [(child, at) for child, at in children if isinstance(child, yaml.CollectionNode)]
            written += 1 + len(children) - len(collections)
            within.add(id(node))
            waiting += [(node, path, True), *((child, at, False) for child, at in reversed(collections))]
    if sizes[id(root)] - written > MOST:
        raise ConfigError(f"{origin}: its aliases (as *name) stand for more than {MOST:,} values; write out what is meant")


def _children(node: yaml.Node, path: str) -> Iterator[Placed]:
    if isinstance(node, yaml.SequenceNode):
        yield from ((child, f"{path}[{number}]") for number, child in enumerate(node.value))
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            at = f"{path}.{key.value}" if isinstance(key, yaml.ScalarNode) else path
            yield from ((key, path), (value, at.lstrip(".")))


def _check_keys(node: yaml.MappingNode, path: str, origin: str) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        first = lines.get((key.tag, key.value))
        lines[key.tag, key.value] = _line(key)
        if first is not None:
            raise ConfigError(
                f"{origin}:{_line(key)}: {f'{path}.{key.value}'.lstrip('.')}: this key is given twice, in line {first} too; "
                "the second would win unsaid: keep one"
            )


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
