"""Runs many commands as a user types them, each in a process of its own: a server imports the libraries once and
forks for each command, which is ten times faster than starting Python each time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

SERVER = """
import json, os, sys, tempfile
# Libraries only, no part of evalkit, and none of those that the tests look for.
import av, filelock, httpx, hydra, hydra.core.override_parser.overrides_parser, jinja2, numpy, omegaconf, openpyxl
import pandas, psutil, rich.console, rich.progress

for line in sys.stdin:
    argv = json.loads(line)
    files = [tempfile.TemporaryFile() for _ in range(3)]
    child = os.fork()
    if not child:
        os.dup2(files[0].fileno(), 1)
        os.dup2(files[1].fileno(), 2)
        sys.argv = ["evalkit", *argv]
        try:
            from evalkit.__main__ import main
            sys.exit(main())
        finally:
            files[2].write(" ".join({"torch", "transformers", "ray", "datasets"} & set(sys.modules)).encode())
            files[2].flush()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = []
    for file in files:
        file.seek(0)
        texts.append(file.read().decode())
    print(json.dumps([code, *texts]), flush=True)
"""


class Ended(NamedTuple):
    code: int
    out: str
    err: str
    heavy: str
    """The heavy libraries that the command has imported."""


class Commands:
    """The server's client."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def __call__(self, *argv: str) -> Ended:
        assert self.process.stdin and self.process.stdout
        print(json.dumps(argv), file=self.process.stdin, flush=True)
        return Ended(*json.loads(self.process.stdout.readline()))


@contextmanager
def command_server(folder: Path) -> Iterator[Commands]:
    """The commands run in `folder`."""
    server = [sys.executable, "-c", SERVER]
    with subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        yield Commands(process)
