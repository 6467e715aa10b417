"""python -m evalkit.tasks: list the benchmarks."""

from evalkit.cli.list_tasks import USAGE, list_tasks
from evalkit.cli.tools import main

if __name__ == "__main__":
    main(list_tasks, USAGE)
