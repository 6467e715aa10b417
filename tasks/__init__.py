"""Benchmarks, one file each, imported as `evalkit.tasks.<name>`. Only a config's `_target_` names one."""

if __name__ != "evalkit.tasks":
    raise ImportError(f"import evalkit.tasks, not {__name__}: under two names a class would exist twice.")
