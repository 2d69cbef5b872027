"""A loss that is always zero."""

from __future__ import annotations


class Zero:
    def __init__(self, config):
        self.config = config
