"""The command line: Hydra's grammar, messages of our own, exit codes."""
