"""Turn another harness's outputs into an evalkit run, graded under any protocol.

    python -m evalkit.import_log FILE [FILE ...] task=lvbench name=videoxl2-pure source=local source.root=FOLDER

FILE: a sample log of lmms-eval (JSON, JSONL), a table of VLMEvalKit (xlsx, tsv, csv, json), or JSON lines of id and
reply; also gzipped. Several files are the parts of one log; their order does not matter. The questions come from the
task's own data (videos are not needed). Settings: task=, task.*, source=, source.*, tracker=, results=<folder>,
name=<model> (default: the name of the first file in alphabetical order), unmatched=error|skip.
"""
