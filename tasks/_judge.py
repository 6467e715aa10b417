"""The settings of the judge of a task whose replies are open, and the judge they describe."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from evalkit.scoring.judge import Judge, JudgeSettings


@dataclass
class JudgeConfig(JudgeSettings):
    """The keys of `task.judge`.

    Without a `base_url` there is no judge: replies are kept and stay ungraded, and
    `python -m evalkit.rescore RUN task.judge.base_url=... task.judge.model=...` grades them later.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._judge = Judge(self) if self.base_url else None

    def judge(self) -> Judge | None:
        """The judge: one for each task object, so that a run counts all its requests together."""
        return self._judge

    def __reduce__(self) -> tuple[type[JudgeConfig], tuple[Any, ...]]:
        """Another process gets the settings, and makes a judge of its own."""
        return type(self), tuple(getattr(self, f.name) for f in fields(self))
