"""`dry_run=true`: what a command would take, before it is paid for."""
