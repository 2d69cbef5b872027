"""What a part tells the parts that follow it."""

from __future__ import annotations

from typing import Any, Final

_WHOLE: Final = (int,)
_NEEDED: Final[dict[str, dict[str, tuple[type, ...]]]] = {
    "preprocessor": {"d_out": _WHOLE, "sample_rate": _WHOLE, "frame_rate": (int, float)},
    "encoder": {"d_out": _WHOLE, "subsampling": _WHOLE},
    "tokenizer": {"vocab_size": _WHOLE},
}


def faults(kind: str, built: Any) -> list[str]:
    """What is wrong with the attributes of a component, none where all are positive numbers."""
    found = []
    for name, types in _NEEDED.get(kind, {}).items():
        value: Any = getattr(built, name, None)
        if type(value) not in types or value <= 0:
            found.append(f"its {name} is {value!r}, not a positive {'whole ' if types == _WHOLE else ''}number")
    return found
