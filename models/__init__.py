"""Model families, one folder each, imported as `evalkit.models.<name>`. Only a config's `_target_` names one."""

if __name__ != "evalkit.models":
    raise ImportError(f"import evalkit.models, not {__name__}: under two names a class would exist twice.")
