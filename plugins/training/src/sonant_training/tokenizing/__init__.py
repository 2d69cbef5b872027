"""Making tokenizers from texts. Light: neither torch nor lhotse is imported."""
