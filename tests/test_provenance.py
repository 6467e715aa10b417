"""The manifest names what a run is based on, and a run is not continued with something else without a message."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit import provenance
from evalkit.errors import RunError
from evalkit.testing import Constant
from evalkit.video.identity import ENDS_BYTES, identity
from tests.helpers import only_run, run_here, stable, toy_arguments
from tests.toy import write_toy


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_toy(tmp_path / "data")


def manifest(results: Path) -> dict[str, Any]:
    return json.loads((only_run(results) / "manifest.json").read_text(encoding="utf-8"))


def half(results: Path, keep: int = 5) -> None:
    """Remove all answers but the first, as after an interruption."""
    records = only_run(results) / "records.jsonl"
    records.write_text("".join(records.read_text(encoding="utf-8").splitlines(keepends=True)[:keep]), encoding="utf-8")


def test_the_manifest_names_what_a_run_is_based_on(data: Path, tmp_path: Path) -> None:
    assert run_here(toy_arguments(data, tmp_path / "r", "limit=6")) == 0
    found = manifest(tmp_path / "r")
    assert set(found["code"]) == {"evalkit", "revision", "dirty", "source_sha256"}
    assert {"torch", "transformers", "av", "pillow", "numpy"} <= set(found["packages"])
    assert found["decoder"]["backend"] == "pyav" and found["decoder"]["ffmpeg"]
    assert found["seed"] == 0 and found["identity"]["decoding"]["seed"] == 0
    assert found["config"]["video"]["backend"] == "pyav" and found["config"]["limit"] == 6
    assert found["data"]["source"] == "local" and found["data"]["questions"] == 6
    assert found["hardware"]["host"] == platform.node() and found["workers"]["local"] == found["hardware"]
    videos = {name: data / "videos" / name for name in ("v0.mp4", "v1.mp4")}  # those that were read
    assert found["files"] == {
        name: {"bytes": path.stat().st_size, "ends_sha256": slow_hash(path)} for name, path in videos.items()
    }
    for row in stable(only_run(tmp_path / "r") / "records.jsonl"):
        assert row["sampling"]["file"] == found["files"][row["video"]]


def slow_hash(path: Path) -> str:
    content = path.read_bytes()
    return sha256(content[:ENDS_BYTES] + content[max(0, len(content) - ENDS_BYTES) :]).hexdigest()


@given(st.binary(max_size=300), st.integers(1, 200))
@settings(max_examples=50, deadline=None)
def test_the_ends_of_a_file(tmp_path_factory: pytest.TempPathFactory, content: bytes, length: int) -> None:
    from evalkit.video.identity import ends_sha256

    path = tmp_path_factory.getbasetemp() / "ends"
    path.write_bytes(content)
    assert ends_sha256(path, length) == sha256(content[:length] + content[max(0, len(content) - length) :]).hexdigest()


def test_a_folder_of_pictures_is_identified_by_names_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"abc")
    before = identity(tmp_path)
    assert before is not None and before["bytes"] == 3
    (tmp_path / "1.jpg").rename(tmp_path / "2.jpg")
    assert identity(tmp_path) != before
    assert identity(tmp_path / "nothing") is None


def test_another_file_under_the_same_name_needs_force(data: Path, tmp_path: Path) -> None:
    arguments = toy_arguments(data, tmp_path / "r")
    assert run_here(arguments) == 0
    half(tmp_path / "r")
    shutil.copy(data / "videos" / "v3.mp4", data / "videos" / "v0.mp4")
    shutil.copy(data / "videos" / "v3.mp4", data / "videos" / "v2.mp4")  # not answered yet, so this one may change
    with pytest.raises(RunError, match=r"begun with other videos \(v0\.mp4\) than are here now.*resume=force"):
        run_here(arguments)
    assert len(stable(only_run(tmp_path / "r") / "records.jsonl")) == 5
    assert run_here([*arguments, "resume=force"]) == 0
    found = manifest(tmp_path / "r")
    assert len(found["history"]) == 1
    assert found["files"]["v2.mp4"]["bytes"] == (data / "videos" / "v3.mp4").stat().st_size


def test_a_copy_of_the_same_videos_elsewhere_continues_the_run(data: Path, tmp_path: Path) -> None:
    assert run_here(toy_arguments(data, tmp_path / "r")) == 0
    half(tmp_path / "r")
    moved = shutil.copytree(data, tmp_path / "elsewhere", copy_function=shutil.copyfile)  # other times, too
    assert run_here(toy_arguments(moved, tmp_path / "r")) == 0
    assert manifest(tmp_path / "r")["history"] == []


@pytest.mark.parametrize("what", ["code", "weights"])
def test_other_code_or_weights_need_force(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    arguments = toy_arguments(data, tmp_path / "r")
    assert run_here(arguments) == 0
    half(tmp_path / "r")
    kept = (only_run(tmp_path / "r") / "records.jsonl").read_bytes()
    before = manifest(tmp_path / "r")
    if what == "code":
        true = provenance.code
        monkeypatch.setattr(provenance, "code", lambda *a: {**true(*a), "source_sha256": "other"})
    else:
        monkeypatch.setattr(Constant, "provenance", lambda self: {"checkpoint": "other"})
    with pytest.raises(RunError, match=f"begun with other {what} than are here now.*resume=force"):
        run_here(arguments)
    assert (only_run(tmp_path / "r") / "records.jsonl").read_bytes() == kept
    assert run_here([*arguments, "resume=force"]) == 0
    (was,) = manifest(tmp_path / "r")["history"]
    assert was[what] == before[what] != manifest(tmp_path / "r")[what]
    half(tmp_path / "r")
    assert run_here(arguments) == 0  # the new state is accepted from now on


def test_a_repository_says_whether_it_was_changed(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert provenance._git(tmp_path) == {"revision": None, "dirty": None}
    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    assert provenance._git(tmp_path) == {"revision": git("rev-parse", "HEAD").strip(), "dirty": False}
    (tmp_path / "file").write_text("two")
    assert provenance._git(tmp_path)["dirty"] is True


SMI = """#!/bin/sh
echo "0, GPU-aaaa, NVIDIA H100 80GB HBM3, 81559 MiB, 550.54.15"
echo "1, GPU-bbbb, NVIDIA A100-SXM4-40GB, 40960 MiB, 550.54.15"
"""


@pytest.mark.parametrize(
    ("visible", "names"),
    [(None, ["H100", "A100"]), ("1", ["A100"]), ("GPU-aaaa", ["H100"]), ("", []), ("1,0", ["H100", "A100"])],
)
def test_only_gpus_that_may_be_used_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, names: list[str]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(SMI)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = provenance.gpus()
    assert [any(name in gpu for gpu in found) for name in ("H100", "A100")] == [n in names for n in ("H100", "A100")]
    assert all("MiB, driver 550.54.15" in gpu for gpu in found)
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert provenance.gpus() == []


ADAPTER = """
from dataclasses import dataclass
from evalkit.model import ModelSettings
from evalkit.types import FrameRequest
from {shared} import helper

@dataclass
class Mine(ModelSettings):
    def frames_wanted(self):
        return FrameRequest("uniform", 4)

    def build(self):
        from .network import Network
        return Network()
"""


def test_the_code_of_a_run_is_what_its_task_and_model_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an external package, the modules that an adapter imports count, lazily imported ones too; other adapters do
    not."""
    package = tmp_path / "theirmodels"
    for folder in ("mine", "other", "shared"):
        (package / folder).mkdir(parents=True)
        (package / folder / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "mine" / "settings.py").write_text(ADAPTER.format(shared="..shared.helpers"))
    (package / "mine" / "network.py").write_text("import theirmodels.shared.layers\nclass Network: pass\n")
    (package / "shared" / "helpers.py").write_text("def helper(): pass\n")
    (package / "shared" / "layers.py").write_text("")
    (package / "other" / "settings.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    from theirmodels.mine.settings import Mine  # type: ignore[import-not-found]

    def changed(file: Path) -> bool:
        before = provenance.code(Mine())["source_sha256"]
        file.write_text(file.read_text() + "\n# changed\n")
        return provenance.code(Mine())["source_sha256"] != before

    assert changed(package / "mine" / "settings.py") and changed(package / "mine" / "network.py")
    assert changed(package / "shared" / "helpers.py") and changed(package / "shared" / "layers.py")
    assert not changed(package / "other" / "settings.py")
    assert "theirmodels.mine.network" not in sys.modules  # nothing is imported to find out


def test_the_code_of_a_task_includes_neither_models_nor_other_tasks() -> None:
    from evalkit.models.videoxl2.settings import VideoXL2
    from evalkit.tasks.videomme import VideoMME

    names = {file.name for file in provenance.own_files(VideoMME)}
    assert {"videomme.py", "_subtitles.py", "_nested.py"} <= names and not names & {"mlvu.py", "settings.py"}
    assert {"adapter.py", "dts.py", "qwen2.py"} <= {file.name for file in provenance.own_files(VideoXL2)}


def test_keys_do_not_change_when_a_class_moves(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = toy_arguments(data, tmp_path / "r")
    assert run_here([*arguments, "limit=2"]) == 0
    monkeypatch.setattr(Constant, "__module__", "somewhere.else")
    assert run_here([*arguments, "limit=2"]) == 0
    only_run(tmp_path / "r")


def test_a_finished_run_keeps_its_manifest(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With nothing left to ask, the same command on another copy must not write that copy into the manifest."""
    assert run_here(toy_arguments(data, tmp_path / "r")) == 0
    before = (only_run(tmp_path / "r") / "manifest.json").read_bytes()
    config = (only_run(tmp_path / "r") / "config.yaml").read_bytes()
    moved = shutil.copytree(data, tmp_path / "elsewhere")
    assert run_here(toy_arguments(moved, tmp_path / "r")) == 0
    assert (only_run(tmp_path / "r") / "manifest.json").read_bytes() == before
    assert (only_run(tmp_path / "r") / "config.yaml").read_bytes() == config
    shutil.copy(data / "videos" / "v3.mp4", moved / "videos" / "v0.mp4")
    capsys.readouterr()
    assert run_here(toy_arguments(moved, tmp_path / "r")) == 0
    assert "was made with other videos (v0.mp4) than are here now" in capsys.readouterr().err
    assert (only_run(tmp_path / "r") / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", "null", "{", "[" * 100_000])
def test_a_damaged_manifest_is_named(data: Path, tmp_path: Path, content: str) -> None:
    arguments = toy_arguments(data, tmp_path / "r")
    assert run_here([*arguments, "limit=2"]) == 0
    (only_run(tmp_path / "r") / "manifest.json").write_text(content)
    with pytest.raises(RunError, match=r"manifest\.json is damaged .* Restore it, remove it"):
        run_here(arguments)
