"""python -m evalkit task=<task> model=<model>, and the console script `evalkit`."""

import sys

from evalkit.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
