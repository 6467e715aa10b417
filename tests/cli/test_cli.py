"""Commands as a user types them: right ones, wrong ones, and how fast they are."""

import subprocess
import sys

import pytest

from evalkit.cli.command import check, prepared
from evalkit.errors import ConfigError
from tests.helpers import CONF, ROOT, run_command

TOY = ["task=toy", "model=scripted", "plugins=[tests]", "--config-dir", str(CONF)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tsk=mlvu"], ['"tsk"', 'Did you mean "task"?']),
        (["task=mvlu", "model=videoxl2"], ['task="mvlu"', 'Did you mean "mlvu"?']),
        (["task=mlvu"], ["no model is named", "videoxl2"]),
        (["model=videoxl2"], ["no task is named", "mlvu"]),
        (["task=mlvu", "model=videoxl2", "model.frames.mx=3"], ['"model.frames.mx"', 'Did you mean "max"?']),
        (["task=mlvu", "model=videoxl2", "frames.max=3"], ['"frames.max"']),
        (["task=mlvu", "model=videoxl2", "bakend=decord"], ['"bakend"']),
        (["task=mlvu", "model=videoxl2", "source=loc"], ['Did you mean "local"?']),
        (["task=mlvu,mvlu", "model=videoxl2", "-m"], ['task="mvlu"']),
        (["task=mlvu", "model=videoxl2", "experiment=embeded"], ['Did you mean "embedded"?']),
        (["mlvu"], ['"mlvu" is not a setting', "key=value"]),
        (["task=mlvu", "model=videoxl2", "model.frames.max=[1"], ["model.frames.max"]),
    ],
)
def test_a_mistake_is_one_sentence_with_the_near_match(arguments, words):
    with pytest.raises(ConfigError) as caught:
        check(*prepared(arguments))
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        TOY,
        [*TOY, "-m", "model.frames=2,4", "task.protocol=official,strict"],
        ["experiment=embedded"],
        ["task=mlvu", "model=videoxl2", "model.bilevel_decode.compression=2,4,8", "-m"],
        ["task=mlvu", "model=videoxl2", "hydra.verbose=true"],
    ],
)
def test_right_commands_pass(arguments):
    check(*prepared(arguments))


def test_a_command_without_arguments_runs_the_embedded_demo_and_says_so(capsys):
    assert prepared([]) == ([], ["experiment=embedded"])
    assert prepared(["--cfg", "job"]) == (["--cfg=job"], ["experiment=embedded"])
    assert "experiment=embedded" in capsys.readouterr().err
    assert prepared(["task=mlvu"]) == ([], ["task=mlvu"])


@pytest.mark.parametrize("given", ["plugins=a,b", "plugins=[a,b]", "plugins=[a, b]"])
def test_plugins_need_no_quotes(given):
    assert prepared(["task=mlvu", given]) == ([], ["task=mlvu", "plugins=[a,b]"])


def test_info_takes_only_its_own_values():
    assert prepared(["--info", "task=mlvu"]) == (["--info=all"], ["task=mlvu"])
    assert prepared(["--info", "defaults", "task=mlvu"]) == (["--info=defaults"], ["task=mlvu"])


def test_help_names_groups_and_examples():
    done = run_command("--help")
    assert done.returncode == 0
    assert all(
        word in done.stdout
        for word in ("task=", "model=", "mlvu", "videoxl2", "python -m evalkit task=mlvu model=videoxl2")
    )
    assert done.stdout.count("\n  python -m evalkit") >= 3


def test_cfg_job_shows_every_setting():
    done = run_command("--cfg", "job", "task=toy", "model=scripted")
    assert done.returncode == 0
    assert "protocol: official" in done.stdout
    assert "min_coverage: 1.0" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["task=toy", "model=scripted", "plugins=[tests]", "source=local", "source.root=/nowhere"], "is not a folder"),
        (["task=toy", "model=scripted", "plugins=[tests]", "source=local"], "source.root=<folder"),
        (["task=toy", "model=scripted", "plugins=[tests]", "task.split=tset"], 'Did you mean "test"?'),
        (["task=toy", "model=scripted", "plugins=[tests]", "task.protocol=lmms"], "has no such protocol"),
        (["task=toy", "model=scripted"], "outside evalkit"),
        (["task=toy", "model=scripted", "plugins=[tests]", "limit=0"], "at least 1"),
        (["task=toy", "model=scripted", "plugins=[tests]", "limit=many"], "limit"),
        (["task=toy", "model=scripted", "plugins=[tests]", "video.backend=opencv"], "video.backend"),
    ],
)
def test_a_users_mistake_exits_1_without_a_traceback(arguments, words, tmp_path):
    done = run_command(*arguments, f"results={tmp_path}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stderr.count("error: ") == 1


LIGHT = """
import sys
import evalkit.cli.command, evalkit.cli.hydra_job, evalkit.doctor.command, evalkit.rescore, evalkit.import_log.command
heavy = [m for m in ("torch", "transformers", "datasets", "pandas", "wandb", "matplotlib") if m in sys.modules]
sys.exit(", ".join(heavy) or 0)
"""


def test_nothing_heavy_is_imported_before_a_model_is_built():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_a_sweep_runs_every_cell_and_reports_the_worst(tmp_path):
    from tests.toy import write_toy

    data = write_toy(tmp_path / "data")
    named = ["task=toy", "model=scripted", "source=local", f"source.root={data}", "plugins=[tests]", "tracker=csv"]
    done = run_command("-m", *named, "model.reply=A,B", "model.frames=0,2", f"results={tmp_path / 'r'}")
    assert done.returncode == 1
    assert len(list((tmp_path / "r").glob("toy/constant/*/summary.json"))) == 2, done.stderr
