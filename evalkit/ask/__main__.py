"""python -m evalkit.ask"""

from evalkit.ask import __doc__ as usage
from evalkit.ask.command import ask
from evalkit.cli.tools import main

if __name__ == "__main__":
    main(ask, usage or "")
