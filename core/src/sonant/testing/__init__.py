"""For authors of plugins: the contract that every component is held to. Start at `sonant.testing.contract`."""
