"""Settings: what is misspelt, of the wrong type or impossible ends with one sentence before anything heavy starts."""

from dataclasses import dataclass, field

import pytest

from evalkit.config import identity, instantiate
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
