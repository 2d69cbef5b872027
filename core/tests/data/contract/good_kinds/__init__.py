"""Small components of the other kinds that keep every promise of the contract."""
