from __future__ import annotations

import torch
from attrs import field, frozen


@frozen(kw_only=True)
class Heavy:
    threads: int = field(default=torch.get_num_threads(), metadata={"help": "threads"})
