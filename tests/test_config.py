"""Settings that are misspelt, of the wrong type or impossible raise ConfigError with one clear message."""

from dataclasses import dataclass, field

import pytest

from evalkit.config import check_value, identity, instantiate
from evalkit.errors import ConfigError
from evalkit.model import NEUTRAL


@dataclass
class Inner:
    rate: float = 1.0


@dataclass
class Thing:
    size: int = 3
    device: str = field(default="cpu", metadata=NEUTRAL)
    inner: Inner = field(default_factory=Inner)
    hidden: int = field(init=False, default=7)


HERE = __name__


def make(**values):
    return instantiate({"_target_": f"{HERE}.Thing", **values}, "thing", plugins=[HERE.split(".")[0]])


def test_values_are_typed():
    thing = make(size="5", inner={"rate": 2})
    assert (thing.size, thing.inner.rate, thing.hidden) == (5, 2.0, 7)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sise": 1}, ['no setting "sise"', 'Did you mean "size"?']),
        ({"size": "many"}, ["thing.size", "could not be converted to Integer"]),
        ({"inner": {"ratio": 1}}, ["thing.inner", '"ratio"', 'Did you mean "rate"?']),
        ({"hidden": 1}, ['no setting "hidden"']),
    ],
)
def test_mistakes_are_named(values, words):
    with pytest.raises(ConfigError) as caught:
        make(**values)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("target", ["os.system", "subprocess.Popen", "evalkit_evil.Thing", "builtins.eval"])
def test_only_evalkit_and_plugins_are_instantiated(target):
    with pytest.raises(ConfigError, match="outside evalkit"):
        instantiate({"_target_": target}, "task")


@pytest.mark.parametrize(
    "target", ["evalkit.runs.os", "evalkit.runs.run_key", "evalkit.nowhere.Thing", "evalkit.runs.Missing"]
)
def test_a_target_must_be_a_dataclass(target):
    with pytest.raises(ConfigError, match=r"no dataclass|no module"):
        instantiate({"_target_": target}, "task")


def test_identity_leaves_out_what_cannot_change_an_answer():
    assert identity(Thing(device="cuda")) == identity(Thing(device="cpu")) == {"size": 3, "inner": {"rate": 1.0}}
    assert identity(Thing(inner=Inner(2.0))) != identity(Thing())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "-inf", "nan"])
def test_a_number_must_be_finite(value):
    with pytest.raises(ConfigError, match=r"thing\.inner\.rate=.*finite"):
        make(inner={"rate": value})


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, "99999999999999999999"])
def test_an_integer_has_64_bits(value):
    assert make(size=2**63 - 1).size == 2**63 - 1
    with pytest.raises(ConfigError, match=r"thing\.size=.*too large"):
        make(size=value)


def test_a_mandatory_setting_must_be_given():
    with pytest.raises(ConfigError, match=r"thing\.size has no value: add thing\.size=<value>"):
        make(size="???")


@pytest.mark.parametrize("value", ["", "OPENAI_API_KEY", "KEY", "KEY2", "_KEY", "lower_case_but_set"])
def test_names_of_variables_are_accepted(value, monkeypatch):
    monkeypatch.setenv("lower_case_but_set", "x")
    check_value("task.judge.api_key_env", value)


@pytest.mark.parametrize(
    "key",
    ["sk-abc", "hf_abcDEF123", "AKIAIOSFODNN7EXAMPLE", "0123456789ABCDEF", "9f86d081884c7d659a2f", "a b", "Bearer x"],
)
def test_a_key_is_not_the_name_of_a_variable(key):
    with pytest.raises(ConfigError) as caught:
        check_value("task.judge.api_key_env", key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(("node", "words"), [(None, "no task is named"), ("mlvu", "single value"), (3, "single value")])
def test_a_group_must_be_a_config(node, words):
    with pytest.raises(ConfigError, match=words):
        instantiate(node, "task")


@pytest.mark.parametrize("group", ["task", "model", "executor", "tracker"])
def test_a_target_must_be_of_its_groups_class(group):
    with pytest.raises(ConfigError, match=f"does not fit the group {group}"):
        instantiate({"_target_": "evalkit.sources.Hub"}, group)
