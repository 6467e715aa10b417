"""A package that is installed with an entry point adds its tasks, models and configs to every command."""

import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT

TASK = """
from dataclasses import dataclass
from tests.toy import Toy

@dataclass
class MyToy(Toy):
    name = "mytoy"
    benchmark = "My Toy"
"""


def install(site, name, value, files):
    """What pip leaves of a package with one entry point."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[evalkit.plugins]\n{name} = {value}\n")
    for path, content in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(content)


@pytest.fixture
def evalkit(tmp_path):
    def run(*arguments):
        paths = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
        return subprocess.run(
            [sys.executable, "-m", "evalkit", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": paths},
            timeout=60,
        )

    return run


@pytest.fixture
def plugin(tmp_path):
    files = {
        "myplug/__init__.py": "",
        "myplug/tasks.py": TASK,
        "myplug/configs/task/mytoy.yaml": "_target_: myplug.tasks.MyToy\nsplit: test\nprotocol: official\n",
        "myplug/configs/model/mine.yaml": "_target_: evalkit.testing.Constant\nreply: A\nframes: 4\n",
    }
    install(tmp_path / "site", "myplug", "myplug", files)


def test_a_plugin_needs_no_flags(evalkit, plugin, tmp_path):
    done = evalkit("task=mytoy", "model=mine", "source=mini", f"source.root={tmp_path}", "tracker=csv")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "results").glob("mytoy/*/*/records.jsonl"))) == 1
    assert "mytoy" in evalkit("--help").stdout
    assert "My Toy" in evalkit("tasks", "mytoy").stdout


def test_the_folder_can_be_named_by_an_attribute(evalkit, tmp_path):
    source = "from pathlib import Path\nCONFIGS = Path(__file__).parent / 'conf'\n"
    files = {"other/__init__.py": source, "other/conf/model/second.yaml": "_target_: evalkit.testing.Constant\n"}
    install(tmp_path / "site", "other", "other:CONFIGS", files)
    assert "second" in evalkit("models", "second").stdout


@pytest.mark.parametrize(
    ("value", "source", "reason"),
    [
        ("nosuchmodule", None, "there is no package nosuchmodule"),
        ("broken:CONFIGS", "raise RuntimeError('not today')", "RuntimeError: not today"),
        ("broken:CONFIGS", "CONFIGS = '/nowhere'", "/nowhere is not a folder"),
        ("broken:CONFIGS", "", "AttributeError"),
    ],
)
def test_a_broken_plugin_costs_a_warning(evalkit, tmp_path, value, source, reason):
    install(tmp_path / "site", "broken", value, {} if source is None else {"broken/__init__.py": source})
    done = evalkit("--cfg", "job", "task=mlvu", "model=videoxl2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: the plug-in broken") == 1
    assert reason in done.stderr


def test_a_plugin_cannot_replace_a_config_of_evalkit(evalkit, tmp_path):
    files = {"thief/__init__.py": "", "thief/configs/task/mlvu.yaml": "_target_: thief.X\n"}
    install(tmp_path / "site", "thief", "thief", files)
    done = evalkit("--cfg", "job", "task=mlvu", "model=videoxl2")
    assert "_target_: evalkit.tasks.mlvu.MLVU" in done.stdout
    assert "is ignored" in done.stderr
