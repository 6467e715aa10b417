"""The command line: Hydra overrides, one table of commands, clear messages, exit codes."""
