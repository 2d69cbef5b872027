"""A kernel."""

from __future__ import annotations


def scan(values):
    return values.cumsum(1)
