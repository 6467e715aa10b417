"""`dry_run=true`: estimates what a command would cost, without evaluating anything."""
