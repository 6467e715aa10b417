"""Model families, one folder each. Import them as `evalkit.models.<name>`; only a config's `_target_` names one."""
