"""For every test of the repository."""

import os

# Before torch is imported, and for the processes that tests start: on tensors this small, threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
