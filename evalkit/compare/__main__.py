"""python -m evalkit.compare RUN_A RUN_B [RUN_C ...]"""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
