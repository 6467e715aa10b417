"""All runs of a results folder on pages that need no network: leaderboard, figures, questions."""
