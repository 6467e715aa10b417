"""One environment for all tests: offline, one thread, no wandb, miniatures in pytest's own cache folder."""

import os
import sys

import pytest

for name, value in {
    "OMP_NUM_THREADS": "1",  # two torch processes that share two cores are forty times slower with more
    "HF_HUB_OFFLINE": "1",  # a hub call without network would retry for 23 s
    "HF_DATASETS_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "NO_COLOR": "1",
    "COLUMNS": "120",
}.items():
    os.environ[name] = value

# Without the bytecode cache, which some machines disable, a few hundred test processes would compile evalkit again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_configure(config: pytest.Config) -> None:
    from evalkit.models.shared.torchvision_import import import_torchvision

    import_torchvision()  # tests import transformers before evalkit's models do
    os.environ["EVALKIT_CACHE"] = str(config.cache.mkdir("evalkit"))  # miniatures of other code have other names
