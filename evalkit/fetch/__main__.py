"""python -m evalkit.fetch"""

from evalkit.cli.tools import main
from evalkit.fetch import __doc__ as usage
from evalkit.fetch.command import fetch

if __name__ == "__main__":
    main(fetch, usage or "")
