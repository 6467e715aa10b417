"""`python -m evalkit.compare`: which settings differ between runs, and whether their scores do."""
