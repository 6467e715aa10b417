"""The command `evalkit ask`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from evalkit import plugins
from evalkit.ask.costs import prefill_line, reply_line
from evalkit.cli.compose import check_names, compose, require, swept
from evalkit.cli.tools import Arguments
from evalkit.config import EvalConfig, instantiate, root_settings
from evalkit.errors import ConfigError, SampleError
from evalkit.model import Answers, ModelSettings
from evalkit.types import Context, Decoding, FramePlan, Prompt, Video
from evalkit.video.reader import FrameReader


@dataclass(frozen=True)
class Request:
    """What the command line asks for. `questions`: in the user's words."""

    video: Video
    questions: list[str]
    system: str | None
    model: ModelSettings
    settings: EvalConfig


def ask(arguments: Arguments) -> int:
    """Answer all questions. Returns the exit code. Raises EvalkitError."""
    request = parsed(arguments)
    failures = 0
    with answered(request) as (answers, plan):
        for remark in request.model.remarks():
            note(remark)
        note(prefill_line(answers.prefill, plan))
        for question in request.questions:
            reply = next(answers.replies)
            if len(request.questions) > 1:
                print(f"\n{question}", flush=True)
            if isinstance(reply, SampleError):
                failures += 1
                print(f"error: {reply}", file=sys.stderr, flush=True)
                continue
            print(reply.text, flush=True)
            for line in [reply_line(reply), *reply.remarks, *request.model.describe(_shown(reply.details), plan).lines]:
                note(line)
    return 1 if failures else 0


def parsed(arguments: Arguments) -> Request:
    """Raises ConfigError."""
    system, fps = arguments.setting("system"), arguments.setting("fps")
    if len(arguments.names) < 2:
        raise ConfigError('name a video and at least one question: evalkit ask clip.mp4 "What happens?" model=<model>.')
    require(["model"], check_names(arguments.overrides, arguments.dirs, "ask"), arguments.dirs)
    config = compose(arguments.overrides, arguments.dirs, "ask")
    if several := swept(arguments.overrides):
        raise ConfigError(f"{several[0]} names several values, and this command takes one.")
    config.plugins = plugins.names(config.plugins)
    settings = root_settings(config)
    path = Path(arguments.names[0]).expanduser()
    video = Video(path.name, path, fps=_number("fps", fps))
    model = instantiate(settings.model, "model", settings.plugins)
    return Request(video, arguments.names[1:], system, model, settings)


@contextmanager
def answered(request: Request) -> Iterator[tuple[Answers, FramePlan]]:
    """The model's answers and the frames that it has read. The video is opened before the model is loaded, because its
    faults are known sooner."""
    settings = request.settings
    with FrameReader(settings.video) as reader:
        frames = reader.open(request.video, request.model.frames_wanted())
        with closing(request.model.build()) as model:
            context = Context(request.video, frames, request.system)
            answers = model.answer(context, prompts(request.questions), decoding(settings))
            try:
                yield answers, frames.plan
            finally:
                answers.close()
                frames.close()


def prompts(questions: Sequence[str]) -> list[Prompt]:
    return [Prompt(text, question_id=str(number), question=text) for number, text in enumerate(questions, 1)]


def decoding(settings: EvalConfig) -> Decoding:
    """The settings of the command line; configs/ask.yaml has the others."""
    return Decoding(**{name: value for name, value in vars(settings.decoding).items() if value is not None})


def note(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def _number(name: str, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ConfigError(f"{name}={value}: give a positive number.")
    return number


def _shown(details: object) -> dict[str, object]:
    """The details of a reply without its dollars, which stand with its cost."""
    assert isinstance(details, dict)
    return {name: value for name, value in details.items() if name != "dollars"}
