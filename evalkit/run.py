"""python -m evalkit.run task=<task> model=<model>: the same as python -m evalkit."""

import sys

from evalkit.cli.command import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
