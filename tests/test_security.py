"""evalkit never runs what it reads as code: checked over all source files, and with hostile files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit.config import instantiate
from evalkit.errors import ConfigError, EvalkitError
from tests.helpers import ROOT

FILES = sorted(
    file for folder in ("evalkit", "tasks", "models", "benchmarks") for file in (ROOT / folder).rglob("*.py")
)
_UNPICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
_RUNNING = {"eval", "exec", "compile", "__import__"}


def dangers(source: str) -> Iterator[str]:
    """The statements in a source file that could run data as code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"imports {name}" for name in names if name.split(".")[0] in _UNPICKLING)
        if isinstance(node, ast.Call):
            yield from _dangers_of_call(node)


def _dangers_of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in _RUNNING:
        yield f"calls {name}"
    if name == "torch.load" and given.get("weights_only") != "True":
        yield "unpickles weights"
    if name in ("yaml.load", "yaml.full_load", "yaml.unsafe_load", "os.system", "os.popen"):
        yield f"calls {name}"
    if given.get("trust_remote_code", "False") != "False":
        yield "trusts remote code"
    if given.get("allow_pickle", "False") != "False":
        yield "unpickles arrays"
    if given.get("shell", "False") != "False":
        yield "starts a shell"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_runs_data_as_code(file):
    assert list(dangers(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from dill import loads",
        "eval(text)",
        "exec(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
    ],
)
def test_the_check_finds_each_danger(source):
    assert len(list(dangers(source))) == 1


def test_the_check_accepts_safe_code():
    safe = "ast.literal_eval(x); model.eval(); torch.load(p, weights_only=True); re.compile(x); yaml.safe_load(x)"
    assert list(dangers(safe)) == []


@pytest.mark.parametrize("target", ["os.system", "subprocess.Popen", "builtins.eval", "posix.system", "tests.toy.Toy"])
@pytest.mark.parametrize("group", ["task", "model", "source", "tracker", "executor"])
def test_a_group_can_name_only_classes_of_listed_packages(group, target):
    with pytest.raises(ConfigError, match="outside evalkit"):
        instantiate({"_target_": target, "args": ["touch /tmp/evalkit-evil"]}, group)


@pytest.mark.parametrize("nested", [{"_target_": "os.system", "command": "x"}, {"judge": {"_target_": "os.system"}}])
def test_a_target_inside_a_setting_is_data(nested):
    with pytest.raises(EvalkitError):
        instantiate({"_target_": "evalkit.tasks.mlvu.MLVU", "judge": nested}, "task")


def test_hydras_own_instantiation_is_not_used():
    """It would call any function that a `_target_` names."""
    used = [file for file in FILES if "hydra.utils" in file.read_text(encoding="utf-8")]
    assert used == []


def test_a_configuration_file_cannot_make_objects(tmp_path):
    from omegaconf import OmegaConf

    evil = tmp_path / "config.yaml"
    evil.write_text(f"task: !!python/object/apply:os.system ['touch {tmp_path}/evil']\n")
    with pytest.raises(Exception, match="could not determine a constructor"):
        OmegaConf.load(evil)
    assert not Path(tmp_path / "evil").exists()
