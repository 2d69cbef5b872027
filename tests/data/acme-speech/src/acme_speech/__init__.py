"""Acme's speech encoders for Sonant."""
