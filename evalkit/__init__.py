"""evalkit: evaluation harness for long-video language models.

In a checkout `tasks/`, `models/` and `configs/` are folders beside this package; in a wheel they are inside it. Both
ways the code is imported as `evalkit.tasks` and `evalkit.models`. Importing evalkit imports no torch.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

__version__ = "0.1.0"


class _CheckoutFinder(MetaPathFinder):
    """Finds evalkit.tasks and evalkit.models, and nothing else, in the folder above this package. Extending `__path__`
    would also make tests/ and benchmarks/ importable as parts of evalkit."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in ("evalkit.tasks", "evalkit.models"):
            return None
        return PathFinder.find_spec(fullname, [str(self.root)])


_package = Path(__file__).resolve().parent
PACKAGE_ROOT = _package if (_package / "tasks").is_dir() else _package.parent
"""The folder that holds tasks/, models/ and configs/."""

if _package != PACKAGE_ROOT:
    sys.meta_path.append(_CheckoutFinder(PACKAGE_ROOT))

CONFIGS = PACKAGE_ROOT / "configs"
"""The folder of the Hydra groups."""
