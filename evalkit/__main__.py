"""python -m evalkit task=<task> model=<model>"""

import sys

from evalkit.cli.command import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before a run has begun, or after it has ended: there is nothing to save
        sys.exit(130)
