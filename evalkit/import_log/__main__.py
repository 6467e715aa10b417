"""python -m evalkit.import_log"""

from evalkit.cli.tools import main
from evalkit.import_log import __doc__ as usage
from evalkit.import_log.command import import_log

if __name__ == "__main__":
    main(import_log, usage or "")
