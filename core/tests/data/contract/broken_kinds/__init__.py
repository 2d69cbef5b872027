"""Components that each break one promise of the contract."""
