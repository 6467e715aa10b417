"""What pip installs: every import is declared, and messages name the distribution, not the import name."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from evalkit.errors import DISTRIBUTION, install_hint
from tests.helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
NOT_INSTALLED = {"flash_attn": "flash-attn"}


def normal(name):
    """A distribution's name without version and markers, as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


def imports():
    """Top-level name of each third-party import outside `if TYPE_CHECKING` -> a file that imports it."""
    for folder in ("evalkit", "tasks", "models"):
        for file in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module]
                for name in names:
                    yield name.split(".")[0], file.relative_to(ROOT)


def test_every_import_is_declared():
    runtime = [extra for extra in EXTRAS if extra not in ("test", "dev")]
    declared = {normal(name) for name in [*PROJECT["dependencies"], *(n for e in runtime for n in EXTRAS[e])]}
    known = packages_distributions() | {name: [dist] for name, dist in NOT_INSTALLED.items()}
    missing = {
        f"{name} ({file})"
        for name, file in imports()
        if name not in sys.stdlib_module_names
        and name not in ("evalkit", "_typeshed")
        and not declared & {normal(dist) for dist in known.get(name, [name])}
    }
    assert missing == set()


def test_the_distribution_has_one_name_everywhere():
    assert PROJECT["name"] == DISTRIBUTION != "evalkit"
    assert install_hint("ray") == "pip install 'evalkit-video[ray]'"
    own = [name for extra in EXTRAS.values() for name in extra if name.startswith("evalkit")]
    assert own and all(name.startswith(f"{DISTRIBUTION}[") for name in own)
    for file in [ROOT / "README.md", *(ROOT / "configs").rglob("*.yaml")]:
        assert "'evalkit[" not in file.read_text(encoding="utf-8"), file


def test_install_hints_name_extras_that_exist():
    texts = [
        f.read_text(encoding="utf-8") for d in ("evalkit", "models", "configs") for f in (ROOT / d).rglob("*.*[ly]")
    ]
    named = {extra for text in texts for extra in re.findall(r"install_hint\(\"(\w+)\"\)|evalkit-video\[(\w+)\]", text)}
    assert {a or b for a, b in named} <= set(EXTRAS)
