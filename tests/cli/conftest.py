"""The command server, in a folder with configs that are wrong in one way each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.commands import Commands, command_server

CONFIGS = {
    "task/unreadable": "_target_: [1\n",
    "task/without_target": "split: test\n",
    "task/source": "_target_: evalkit.sources.Hub\n",
    "task/abstract": "_target_: evalkit.task.Task\n",
    "task/stranger": "_target_: nosuchpackage.tasks.X\n",
    "task/not_finite": "_target_: evalkit.tasks.niah.NIAH\ndepths: [0.5, .nan]\n",
    "model/checkpoint_needed": "_target_: evalkit.models.videoxl2.VideoXL2\ncheckpoint: ???\n",
}


@pytest.fixture(scope="module")
def evalkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    folder = tmp_path_factory.mktemp("commands")
    for name, content in CONFIGS.items():
        path = folder / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    with command_server(folder) as commands:
        yield commands
