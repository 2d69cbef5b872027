"""A loss that nobody can be measured by."""

from __future__ import annotations


class Unheard:
    """The sum of something that no head returns."""

    def __init__(self, config):
        self.config = config

    def __call__(self, heat):
        return heat.sum()
