"""Get a benchmark: what the hub has of it, unpacked where `source=hub` finds it, and word of what it has not.

    python -m evalkit.fetch task=mlvu [dry_run=true]

Says how much it is and how much room there is, then downloads and unpacks. It can be interrupted: the same command goes
on where it stopped. Settings: task=, task.*, dry_run=true (say it, fetch nothing), keep_archives=false (delete each
archive once it is unpacked), force=true (also where another harness has unpacked a copy). The data lie below
$EVALKIT_DATA, else ~/.cache/evalkit/data.
"""
