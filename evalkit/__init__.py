"""evalkit: evaluation harness for long-video language models.

`tasks/`, `models/` and `configs/` stand beside this package in the repository and inside it in a wheel; both ways they
are imported as `evalkit.tasks`, `evalkit.models` and `evalkit.configs`. Importing evalkit imports no torch.
"""

from pathlib import Path

__version__ = "0.1.0"

_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "tasks").is_dir():
    __path__.append(str(_root))
    PACKAGE_ROOT = _root
else:
    PACKAGE_ROOT = Path(__file__).resolve().parent

CONFIGS = PACKAGE_ROOT / "configs"
"""The folder of the Hydra groups."""
