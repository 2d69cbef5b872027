"""The building blocks of the tables that carry a NeMo config and state dict to Sonant's and back; see `sonant.mapping`."""

from __future__ import annotations

from sonant.mapping import ComponentMapping, ForeignSection, Placed, Rename, TaskMapping

NemoSection = ForeignSection
"""One section of a NeMo config."""

__all__ = ["ComponentMapping", "NemoSection", "Placed", "Rename", "TaskMapping"]
