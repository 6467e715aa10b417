"""Is a benchmark there, whole and decodable?

    python -m evalkit.doctor task=mlvu [source=local source.root=FOLDER]

Checks counts and columns, and that every video exists, opens, decodes at its start, middle and end, and is as long as
annotated. Lists what is wrong by kind, writes it to FILE with report=FILE (default: doctor-<task>-<split>.json), and
exits 1. Settings: task=, task.*, source=, source.*, video.workers=<processes> (default: all cores), report=FILE.
"""
