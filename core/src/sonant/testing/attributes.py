"""What a part tells the parts that follow it."""

from __future__ import annotations

from typing import Any, Final

_WHOLE: Final = (int,)
_NUMBER: Final = (int, float)
_NEEDED: Final[dict[str, dict[str, tuple[type, ...]]]] = {
    "preprocessor": {"d_out": _WHOLE, "sample_rate": _WHOLE, "frame_rate": _NUMBER},
    "encoder": {"d_out": _WHOLE, "subsampling": _WHOLE},
    "tokenizer": {"vocab_size": _WHOLE},
    "text_frontend": {"vocab_size": _WHOLE},
    "vocoder": {"d_in": _WHOLE, "sample_rate": _WHOLE, "upsampling": _WHOLE},
    "codec": {"sample_rate": _WHOLE, "frame_rate": _NUMBER, "n_codebooks": _WHOLE, "codebook_size": _WHOLE},
}


def faults(kind: str, built: Any) -> list[str]:
    """What is wrong with the attributes of a component, none where all are positive numbers."""
    found = []
    for name, types in _NEEDED.get(kind, {}).items():
        value: Any = getattr(built, name, None)
        if type(value) not in types or value <= 0:
            found.append(f"its {name} is {value!r}, not a positive {'whole ' if types == _WHOLE else ''}number")
    return found
