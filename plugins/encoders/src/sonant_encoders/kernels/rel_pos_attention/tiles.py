"""How the GPU programs of `rel_pos_attention` cut their work."""

from __future__ import annotations

from typing import Final

from attrs import frozen


@frozen
class Tile:
    """A program owns `block` rows and goes over others `span` at a time, with `warps` groups of 32 threads; `stages` is how many
    steps are being read or computed at once. `attend` and `of_queries` want `span` or `2 span` rows, the others any `block`."""

    block: int
    span: int
    warps: int = 4
    stages: int = 2


_HOPPER: Final = 9  # multiplies 64 rows at a time, straight from shared memory
PROGRAMS: Final = ("attend", "of_queries", "of_keys", "of_positions")


def tile(program: str, width: int, size: int, capability: tuple[int, int]) -> Tile:
    """For heads `width` wide, of numbers of `size` bytes, on a GPU of that compute capability.

    All were chosen for what the compiler makes of them: tensor cores at work, next to nothing kept outside the registers.
    """
    if size > 2:
        return Tile(16, 16, stages=1) if width > 64 or program == "of_queries" else Tile(32, 32, stages=1)
    if capability[0] != _HOPPER:
        return Tile(32, 32)
    if width > 64 and program in ("of_keys", "of_positions"):
        return Tile(64, 16)
    return Tile(64, 32)
