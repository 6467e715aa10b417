"""Download a benchmark from the hub and unpack it where `source=hub` finds it.

    python -m evalkit.fetch task=mlvu [dry_run=true]

Prints how large it is and how much room there is, then downloads and unpacks. It can be interrupted: the same command
continues where it stopped. Where lmms-eval has unpacked the videos below $HF_HOME they are kept, and only tables that
are missing are downloaded. Settings: task=, task.*, dry_run=true (print, download nothing), keep_archives=false (delete
each archive once it is unpacked), force=true (a whole copy, although another harness has one). The data lie below
$EVALKIT_DATA, else ~/.cache/evalkit/data.
"""
