"""What no row of a manifest has: whatever is beyond is a mistake, or meant to break something."""

from __future__ import annotations

MOST_BYTES = 1 << 20
"""Of a line. A book as the text of one recording would fit into no memory that a loss is computed in."""

MOST_SECONDS = 1e9
"""30 years."""
