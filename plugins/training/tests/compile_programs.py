"""Compiles the programs of the transducer loss for a GPU of compute capability 9.0, which need not be there, and prints as JSON
what came of it. `test_transducer_triton.py` runs it."""

from __future__ import annotations

import json
import os

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as compile_program

from sonant_training.kernels.transducer_loss import triton_programs as programs

_KINDS = {"logits": "*bf16", "grads": "*bf16", "steps": "*i32", "sigma": "fp32", "emphasis": "fp32"}
_KINDS |= dict.fromkeys(("labels", "lens", "label_lens"), "*i64") | dict.fromkeys(
    ("frames", "positions", "outputs", "classes"), "i32"
)

found = []
for durations in (0, 5):
    for program in (programs.normalize, programs.sum_paths, programs.write_gradients):
        sizes = {"STEPS": durations or 1, "DURATIONS": durations, "WIDTH": 128, "SPANS": 8 if durations else 1}
        sizes = {name: size for name, size in sizes.items() if name in program.arg_names}
        signature = {name: "constexpr" if name in sizes else _KINDS.get(name, "*fp32") for name in program.arg_names}
        compiled = compile_program(ASTSource(program, signature, sizes), target=GPUTarget("cuda", 90, 32))
        ptx = compiled.asm["ptx"]
        target = next(line.split()[1].rstrip(",a") for line in ptx.splitlines() if line.startswith(".target"))
        waits, stale = "bar.sync" in ptx, "ld.global.nc" in ptx
        size = len(compiled.asm["cubin"])
        found.append({"name": program.__name__, "target": target, "bytes": size, "waits": waits, "reads_stale": stale})
print(json.dumps(found))
