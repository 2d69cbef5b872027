"""A plugin that works while it is imported."""
