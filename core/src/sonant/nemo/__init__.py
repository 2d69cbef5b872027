"""NeMo's `.nemo` checkpoints, read and written without NeMo.

`archive` opens and writes the tar; `mapping` holds the building blocks of the tables that
plugins contribute; `convert` turns a checkpoint into a Sonant config and state, and back.
"""

from sonant.nemo.mapping import ComponentMapping, NemoSection, Placed, Rename, TaskMapping

__all__ = ["ComponentMapping", "NemoSection", "Placed", "Rename", "TaskMapping"]
