"""The `sonant` command line. Plugins add their commands through the hook `sonant_commands`."""
