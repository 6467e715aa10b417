"""Benchmarks, one file each. Import them as `evalkit.tasks.<name>`; only a config's `_target_` names one."""
