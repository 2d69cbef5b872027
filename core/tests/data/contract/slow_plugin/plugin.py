from __future__ import annotations

import time

SONANT_API = 1

_start = time.process_time()
while time.process_time() - _start < 0.25:
    pass
