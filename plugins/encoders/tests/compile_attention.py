"""Compiles the GPU programs of `rel_pos_attention`, as they are started, for a GPU that need not be there:
`compile_attention.py CAPABILITY`, as 90. Prints as JSON what came of each. `test_rel_pos_triton.py` runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as compile_program

from sonant_encoders.kernels.rel_pos_attention import triton_backward, triton_forward
from sonant_encoders.kernels.rel_pos_attention.tiles import PROGRAMS, tile

_HEADS = 8
_NUMBERS = dict.fromkeys(("by_key", "by_place", "norms", "shares", "of_u", "of_p", "of_v_bias"), "*fp32")
_OTHERS = {"rows": "*i64", "keys": "*i64", "scale": "fp32", "unscaled": "fp32"}
_TENSORS = ("q", "k", "v", "p", "u", "v_bias", "out", "of_out", "of_q", "of_k", "of_v")
_STRIDES = ("q_b", "q_h", "k_b", "k_h", "p_h")
_SIZES = {"*bf16": 2, "*fp16": 2, "*fp32": 4}


def compiled(name: str, capability: int, width: int, kind: str = "*bf16", precision: str = "tf32") -> dict[str, Any]:
    """One program, for heads of a width on a GPU of a capability, as 90."""
    program = getattr(triton_forward, name, None) or getattr(triton_backward, name)
    cut = tile(name, width, _SIZES[kind], (capability // 10, capability % 10))
    row = _HEADS * width
    constants: dict[str, Any] = {"q_t": row, "k_t": row, "p_m": row, "heads": _HEADS, "WIDTH": width, "PADDED": width}
    constants |= {"BLOCK": cut.block, "SPAN": cut.span, "PRECISION": precision}
    kinds = dict.fromkeys(_TENSORS, kind) | _NUMBERS | _OTHERS | dict.fromkeys(constants, "constexpr")
    signature = {argument: kinds.get(argument, "i32") for argument in program.arg_names}
    aligned = [
        number for number, argument in enumerate(program.arg_names) if signature[argument].startswith("*") or argument in _STRIDES
    ]
    source = ASTSource(
        program,
        signature,
        {name: value for name, value in constants.items() if name in signature},
        {(number,): [["tt.divisibility", 16]] for number in aligned},
    )
    how = {"num_warps": cut.warps, "num_stages": cut.stages}
    result = compile_program(source, target=GPUTarget("cuda", capability, 32), options=how)
    usage = _usage(result.asm["cubin"])
    ptx = result.asm["ptx"]
    return {
        "name": name,
        "target": next(line.split()[1].rstrip(",a") for line in ptx.splitlines() if line.startswith(".target")),
        "width": width,
        "wgmma": ptx.count("wgmma.mma_async"),
        "mma": ptx.count("mma.sync"),
        "registers": usage["REG"],
        "spilled": usage["STACK"] + usage["LOCAL"],
        "shared": result.metadata.shared,
    }


def _usage(cubin: bytes) -> dict[str, int]:
    """What a program takes on the GPU, in registers and bytes."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        report = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", report)
    assert found is not None, report
    return dict(zip(("REG", "STACK", "LOCAL"), map(int, found.groups()), strict=True))


if __name__ == "__main__":
    print(json.dumps([compiled(name, int(sys.argv[1]), width) for width in (64, 128) for name in PROGRAMS]))
