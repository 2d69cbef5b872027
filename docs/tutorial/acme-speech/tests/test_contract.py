"""Every component keeps the contract of its kind."""

from __future__ import annotations

from sonant.testing import contract

test_contract = contract.suite("acme-speech")
