"""The judge of a task whose answers are open, as its configuration names it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from evalkit.errors import ConfigError
from evalkit.model import NEUTRAL

if TYPE_CHECKING:
    from evalkit.scoring.judge import Judge, JudgeSettings


@dataclass
class JudgeConfig:
    """The keys of `task.judge`, as in `evalkit.scoring.judge.JudgeSettings`.

    Without a `base_url` there is no judge: the answers are kept and stay ungraded, and
    `python -m evalkit.rescore RUN task.judge.base_url=... task.judge.model=...` grades them later.
    """

    base_url: str = ""
    model: str = ""
    api_key_env: str = field(default="", metadata=NEUTRAL)
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 1024
    extra: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = field(default=120.0, metadata=NEUTRAL)
    retries: int = field(default=5, metadata=NEUTRAL)
    max_calls: int = field(default=5000, metadata=NEUTRAL)
    workers: int = field(default=8, metadata=NEUTRAL)

    def __post_init__(self) -> None:
        if self.base_url:
            self._settings()
        elif self.model:
            raise ConfigError("judge.model is set without judge.base_url: name the endpoint that serves it.")

    def _settings(self) -> JudgeSettings:
        from evalkit.scoring.judge import JudgeSettings  # brings an HTTP client

        return JudgeSettings(**vars(self))

    def judge(self) -> Judge | None:
        """The judge, the same for the same settings throughout a process: its calls are counted together."""
        return _judge(json.dumps(vars(self), sort_keys=True)) if self.base_url else None


@lru_cache
def _judge(settings: str) -> Judge:
    from evalkit.scoring.judge import Judge, JudgeSettings

    return Judge(JudgeSettings(**json.loads(settings)))
