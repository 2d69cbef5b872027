"""Looking at data: what is wrong in a manifest, and what it holds. Light: neither torch nor lhotse is imported."""
