"""Are two runs different, and is it what was meant to be tested that made them so: `python -m evalkit.compare`."""
