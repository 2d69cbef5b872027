"""Small parts that keep every promise of the contract."""
