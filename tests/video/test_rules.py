"""Sampling rules of a plugin, by import path: only from packages that are trusted, and through the decoding process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evalkit.config import instantiate
from evalkit.errors import ConfigError
from evalkit.types import FrameRequest, Video
from evalkit.video import sampling
from evalkit.video.reader import FrameReader
from evalkit.video.sampling import check, rule, sample
from evalkit.video.settings import VideoSettings

from .corpus import Corpus

CODE = """
from evalkit.video.sampling import Rule

def every_seventh(request, count, native_fps):
    return range(0, count, 7)[: request.max_frames]

def all_of_them(request, count, native_fps):
    return range(count)

unlimited = Rule(all_of_them, unlimited=True)

def backwards(request, count, native_fps):
    return range(count)[::-1]

def beyond(request, count, native_fps):
    return [0, count]

number = 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a package of somebody else's, not trusted yet."""
    name = f"somebody_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "rules.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sampling, "_trusted", {"evalkit"})
    return name


@pytest.mark.parametrize("separator", [".", ":"])
def test_a_plugins_rule_by_its_import_path(package: str, separator: str, corpus: Corpus) -> None:
    path = f"{package}.rules{separator}every_seventh"
    request = FrameRequest(path, 5)
    with pytest.raises(ConfigError, match=rf"is outside evalkit.*plugins=\[{package}\]"):
        check(request)
    assert package not in sys.modules  # refused before it is imported
    with FrameReader(VideoSettings(workers=1), plugins=[package]) as reader:
        stream = reader.open(Video("v", corpus["closed_gop.mp4"]), request)
        (frames,) = stream.batches(9)
    assert stream.plan.indices == (0, 7, 14, 21, 28) and len(frames) == 5
    assert stream.plan.rule == path


def test_plugins_of_the_configuration_are_trusted(package: str) -> None:
    model = {"_target_": "evalkit.testing.Constant"}
    instantiate(model, "model", [package])
    assert len(sample(FrameRequest(f"{package}.rules.unlimited", 0), 9, 25.0)) == 9
    with pytest.raises(ConfigError, match="max_frames is 0"):
        check(FrameRequest(f"{package}.rules.all_of_them", 0))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rules.misspelt", "has no function misspelt"),
        ("rules.number", "has no function number"),
        ("rulez.every_seventh", "there is no module"),
        ("rules.backwards", "not ascending"),
        ("rules.beyond", "between 0 and 99"),
    ],
)
def test_a_rule_that_cannot_work_says_why(package: str, name: str, words: str) -> None:
    sampling.trust([package])
    with pytest.raises(ConfigError) as error:
        sample(FrameRequest(f"{package}.{name}", 5), 100, 25.0)
    assert words in str(error.value)


def test_nothing_else_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_trusted", {"evalkit"})
    for name in ("os.system", "subprocess:check_call", "evalkitten.rule", "tests.video.corpus.encode"):
        with pytest.raises(ConfigError, match="is outside evalkit"):
            rule(name)
    assert rule("evalkit.video.sampling.uniform").indices is sampling.uniform


def test_the_code_of_a_rule_is_part_of_the_frame_stores_key(package: str, corpus: Corpus, tmp_path: Path) -> None:
    request = FrameRequest(f"{package}.rules.every_seventh", 5)
    for shift in (7, 11):
        (tmp_path / package / "rules.py").write_text(CODE.replace("count, 7", f"count, {shift}"))
        settings = VideoSettings(workers=1, cache=str(tmp_path / "store"))
        with FrameReader(settings, plugins=[package]) as reader:
            stream = reader.open(Video("v", corpus["closed_gop.mp4"]), request)
            assert len(next(stream.batches(5))) == 5
            assert stream.plan.indices[1] == shift
