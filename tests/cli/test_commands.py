"""One grammar: every command by `evalkit <name>` and by `python -m evalkit.<name>`, light until a model is built."""

import os
import subprocess
import sys

import pytest

from evalkit.cli.commands import COMMANDS
from tests.helpers import ROOT

RUN = ["task=mlvu", "model=videoxl2"]


def python(*arguments, **changes):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, env=os.environ | changes, timeout=60
    )


def test_help_lists_every_command_with_its_summary(evalkit):
    ended = evalkit("--help")
    lines = ended.out.splitlines()
    for name, command in COMMANDS.items():
        assert any(line.split()[:1] == [name] and line.endswith(command.summary) for line in lines), name
    assert ended.code == 0


def test_help_lists_ones_own_configs(evalkit):
    assert "without_target" in evalkit("--config-dir", "conf", "--help").out
    assert "without_target" in evalkit("--help", "-cd", "conf").out
    assert "without_target" not in evalkit("--help").out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_without_heavy_imports(evalkit, name):
    ended = evalkit(name, "--help")
    assert (ended.code, ended.err, ended.heavy) == (0, "", "")
    assert len(ended.out.splitlines()) > 3


def test_a_command_is_the_same_as_its_module(evalkit):
    for name, module in (("tasks", "evalkit.tasks"), ("models", "evalkit.models"), ("run", "evalkit.run")):
        words = ["--cfg", "job", *RUN] if name == "run" else []
        done = python("-m", module, *words)
        assert (done.returncode, done.stdout) == (0, evalkit(name, *words).out), done.stderr
        assert done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["--version"],
        ["--cfg", "job", *RUN],
        ["--info", *RUN],
        ["tasks"],
        ["models"],
        ["doctor", "task=mlvu", "source=local"],
        ["report", "nowhere"],
        ["compare", "a", "b"],
    ],
)
def test_nothing_heavy_is_imported(evalkit, command):
    ended = evalkit(*command)
    assert ended.heavy == "", ended
    assert ended.code == (1 if command[0] in ("doctor", "report", "compare") else 0), ended


def test_tasks_lists_splits_counts_protocols_and_where_the_data_is(evalkit, tmp_path, monkeypatch):
    (tmp_path / "lvbench").mkdir()
    done = python("-m", "evalkit", "tasks", "lvbench", "mlvu", EVALKIT_DATA=str(tmp_path), HF_HOME=str(tmp_path / "hf"))
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["task", "benchmark", "split", "questions", "videos", "GB", "protocols", "data"]
    assert rows[1][:6] == ["lvbench", "LVBench", "test*", "1,549", "103", "61.8"]
    assert "video_xl_2," in rows[1] and rows[1][-1] == str(tmp_path / "lvbench")
    assert [row[:2] for row in rows[2:4]] == [["mlvu", "MLVU"], ["test", "502"]]
    assert done.stdout.count("not here") == 4


def test_tasks_goes_on_without_a_config_that_cannot_be_used(evalkit):
    ended = evalkit("tasks", "--config-dir", "conf")
    assert ended.code == 0
    assert "warning: task=without_target is left out" in ended.err
    assert "\nmlvu" in ended.out


def test_models_says_where_the_weights_are(tmp_path):
    from evalkit.cli.list_models import weights

    assert weights(str(tmp_path)) == "folder without complete weights"
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'
    )
    (tmp_path / "1.safetensors").touch()
    assert weights(str(tmp_path)) == "folder without complete weights"
    (tmp_path / "2.safetensors").touch()
    assert weights(str(tmp_path)) == "in this folder"
    assert weights("nobody/nothing-of-this-name") == "not here"
    assert weights("mini") == "-"


def test_models_lists_what_they_are(evalkit):
    ended = evalkit("models", "--config-dir", "conf")
    rows = {line.split()[0]: line for line in ended.out.splitlines()}
    assert "Video-XL-2" in rows["videoxl2"] and "BAAI/Video-XL-2" in rows["videoxl2"]
    assert "model.checkpoint=FOLDER" in rows["checkpoint_needed"]


def test_a_mandatory_checkpoint_can_be_given(evalkit):
    ended = evalkit(
        "--config-dir", "conf", "--cfg", "job", "task=mlvu", "model=checkpoint_needed", "model.checkpoint=/x"
    )
    assert ended.code == 0, ended.err
    assert "checkpoint: /x" in ended.out


@pytest.mark.parametrize(("name", "instead"), [("tasks", "evalkit.tasks"), ("models", "evalkit.models")])
def test_a_checkout_has_one_name_for_each_package(name, instead):
    done = python("-c", f"import {name}")
    assert done.returncode == 1
    assert f"ImportError: import {instead}, not {name}" in done.stderr
    assert python("-c", f"import {instead}").returncode == 0


def test_nothing_else_of_a_checkout_is_a_part_of_evalkit():
    for name in ("tests", "benchmarks", "evalkit", "hatch_build"):
        assert f"No module named 'evalkit.{name}'" in python("-c", f"import evalkit.{name}").stderr


def test_completion_offers_commands_and_choices():
    def complete(line):
        return python("-m", "evalkit", "-sc", "query=bash", COMP_LINE=line).stdout.split()

    assert "fetch" in complete("evalkit fe")
    assert "task=mlvu" in complete("evalkit task=ml")
    assert "task=mlvu" in complete("evalkit doctor task=ml")
