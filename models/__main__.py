"""python -m evalkit.models: list the models."""

from evalkit.cli.list_models import USAGE, list_models
from evalkit.cli.tools import main

if __name__ == "__main__":
    main(list_models, USAGE)
