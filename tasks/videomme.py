"""Video-MME: a comprehensive evaluation benchmark of multi-modal LLMs in video analysis (arXiv 2405.21075).

Repository: github.com/BradyFU/Video-MME (now MME-Benchmarks). Data: huggingface.co/datasets/lmms-eval/Video-MME. Scores
with and without subtitles are far apart, so each metric is named with what the model was shown. Subtitles are those
spoken while one of the frames was taken that the model really reads; codes that sample a number of frames of their own
for this only agree with them where that number is the model's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from evalkit.errors import DataError
from evalkit.files import VideoFiles, find_tables, no_tables
from evalkit.hub_cache import cached_tables
from evalkit.scoring.grade import Choice
from evalkit.scoring.reasoning import lmms_eval, stripped
from evalkit.tables import Row, read_rows, read_table
from evalkit.task import DataSet, HubData, PromptText, Protocol, Split, Task
from evalkit.types import Context, Decoding, FramePlan, FrameStream, Question, Record, Video, VideoQuestions

from ._nested import parts
from ._subtitles import font_rows, in_font, read_srt, spoken, spoken_as_lmms_eval, untagged

_SELECT = "Select the best answer to the following multiple-choice question based on the video"
_RESPOND = "Respond with only the letter (A, B, C, or D) of the correct option."
_DIRECTLY = "Answer with the option's letter from the given choices directly."
_GROUPS = ("duration", "domain", "sub_category", "task_type")

Options = Callable[[Question], str]


def _lines(q: Question) -> str:
    return "\n".join(q.options)


def _as_list(q: Question) -> str:
    """The options as Python prints a list, with quotes, as the published code asks."""
    return str(list(q.options))


def _srt(item: VideoQuestions) -> Path | None:
    """The video's subtitle file; 156 of the 900 videos have none."""
    path = item.video.subtitles
    return path if path is not None and path.is_file() else None


# Prompts -------------------------------------------------------------------------------------------------------------


def _official(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return f"{_SELECT}. {_RESPOND}\n{q.text}\n{_lines(q)}\nThe best answer is:"


def _official_subtitles(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    asked, path = _official(item, q, plan), _srt(item)
    if path is None:
        return asked
    subtitle_text = "\n".join(untagged(line.text) for line in spoken(read_srt(path), plan))
    return f"This video's subtitles are listed below:\n{subtitle_text}\n{asked}"


def _lmms_eval(item: VideoQuestions, q: Question, plan: FramePlan, options: Options = _lines) -> str:
    return f"{_SELECT} and the subtitles. {_RESPOND}\n{q.text}\n{options(q)}\n\n{_DIRECTLY}"


def _lmms_eval_subtitles(item: VideoQuestions, q: Question, plan: FramePlan, options: Options = _lines) -> str:
    path, subtitle_text = _srt(item), "No subtitles available"
    if path is not None:
        texts = (in_font(line.text) for line in spoken_as_lmms_eval(read_srt(path), plan))
        subtitle_text = "\n".join(text for text in texts if text is not None)
    return (
        f"This video's subtitles are listed below: \n{subtitle_text}\n"
        f"{_SELECT} and the subtitles. {_RESPOND}\n{q.text}\n{options(q)}\nThe best answer is:"
    )


def _videochat_flash(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return (
        f"These are the frames of a video. {_SELECT}. {_RESPOND}\nQuestion: {q.text}\nOption:\n{_lines(q)}\n{_DIRECTLY}"
    )


def _videochat_flash_subtitles(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    path = _srt(item)
    subtitle_text = "\n".join(font_rows(path)) if path else ""
    return (
        ("This video's subtitles are listed below: \n" if path else "")
        + f"{subtitle_text}\n"
        + (
            f"These are the frames and subtitles of a video. {_SELECT} and the subtitles. {_RESPOND}"
            if subtitle_text
            else f"These are the frames of a video. {_SELECT}. {_RESPOND}"
        )
        + f"\nQuestion: {q.text}\nOption:\n{_lines(q)}\nThe best answer is:"
    )


def _shown(prompt: PromptText, shown: str, rules: Protocol) -> Protocol:
    """The protocol with another prompt, and metrics named with what was shown."""
    return replace(rules, prompt=prompt, metrics=tuple(replace(m, name=f"{m.name} ({shown})") for m in rules.metrics))


# The benchmark -------------------------------------------------------------------------------------------------------


@dataclass
class VideoMME(Task):
    """`subtitles`: show subtitles, in the protocol's way."""

    split: str = "test"
    subtitles: bool = False

    name = "videomme"
    benchmark = "Video-MME"
    splits: ClassVar = {"test": Split(questions=(2700,), videos=(900,))}
    tables = _GROUPS
    hub = HubData(
        ("lmms-eval/Video-MME", "lmms-lab/Video-MME"),
        "videomme",
        size_gb=101.0,
        by_hand="The authors themselves send the data on request: github.com/BradyFU/Video-MME.",
    )
    protocols: ClassVar = {
        "official": Protocol(
            source="github.com/BradyFU/Video-MME, evaluation/eval_your_results.py: only replies that can be read count",
            prompt=_official,
            grader=Choice("video_mme", invalid="excluded"),
        ),
        "lmms_eval": Protocol(
            source="github.com/EvolvingLMMs-Lab/lmms-eval, tasks/videomme",
            prompt=_lmms_eval,
            grader=Choice("lmms_eval"),
            clean=lmms_eval,
        ),
        "video_xl_2": Protocol(
            source="github.com/VectorSpaceLab/Video-XL, Video-XL-2/eval",
            prompt=partial(_lmms_eval, options=_as_list),
            grader=Choice("video_mme"),
            clean=stripped,
            decoding=Decoding(max_new_tokens=16),
        ),
        "videochat_flash": Protocol(
            source="github.com/OpenGVLab/VideoChat-Flash, lmms-eval_videochat; it shows all subtitles",
            prompt=_videochat_flash,
            grader=Choice("video_mme"),
            clean=stripped,
            decoding=Decoding(max_new_tokens=16),
        ),
    }
    with_subtitles: ClassVar[Mapping[str, PromptText]] = {
        "official": _official_subtitles,
        "lmms_eval": _lmms_eval_subtitles,
        "video_xl_2": partial(_lmms_eval_subtitles, options=_as_list),
        "videochat_flash": _videochat_flash_subtitles,
    }

    def available_protocols(self) -> Mapping[str, Protocol]:
        if self.subtitles:
            return {name: _shown(self.with_subtitles[name], "subtitles", p) for name, p in self.protocols.items()}
        return {name: _shown(p.prompt, "no subtitles", p) for name, p in self.protocols.items()}

    def make_miniature(self, root: Path) -> None:
        from ._mini.videomme import write

        write(root)

    def load(self, root: Path) -> Iterator[VideoQuestions]:
        files = VideoFiles(root)
        rows = (row for table in self._tables(root) for row in read_table(table))
        yield from read_rows(rows, lambda row: _read(row, files), self.allow_missing)

    def _tables(self, root: Path) -> list[Path]:
        others = ("data/*.parquet", "*.parquet", "*.jsonl", "*.jsonl.gz", "*.json")
        columns = ({"videoID", "question_id", "task_type"}, {"video_id", "questions"})
        tables = find_tables(root, _TABLES, others, columns) or cached_tables(root, self.hub, _TABLES, "test")
        if not tables:
            expected = f"{_TABLES[0]}, or a *.jsonl or *.json file with the columns of either published form"
            raise no_tables(root, self.benchmark, expected, "data/<videoID>.mp4")
        return tables

    def check_complete(self, items: Sequence[VideoQuestions], data: DataSet) -> None:
        super().check_complete(items, data)
        if self.subtitles:
            self._check_subtitles(items)

    def _check_subtitles(self, items: Sequence[VideoQuestions]) -> None:
        """Raises DataError if a long video has no subtitle file (all of the benchmark's do), or no video has one."""
        without = [item.video for item in items if _srt(item) is None]
        long = [item.video for item in items if _srt(item) is None and item.meta["duration"] == "long"]
        if long or len(without) == len(items):
            example = (long or without)[0].subtitles
            raise DataError(
                f"{self.benchmark}: {len(without)} videos have no subtitle file, {example} among them, though every "
                "long video has one. Unpack subtitle.zip, or set task.subtitles=false, or task.allow_missing=true to "
                "go on without those."
            )

    def context(self, item: VideoQuestions, frames: FrameStream) -> Context:
        if self.subtitles and (path := _srt(item)):
            read_srt(path)  # if they cannot be read, the video fails here, before the prefill
        return super().context(item, frames)

    def submission(self, records: Sequence[Record], items: Sequence[VideoQuestions]) -> dict[str, str]:
        """The file that the leaderboard takes by e-mail, with the keys of the README's template and those of the
        official script, which differ."""
        replies = {record.question: record.reply for record in records}
        videos = []
        for item in items:
            duration, domain, sub_category = (item.meta[key] for key in _GROUPS[:3])
            videos.append(
                {
                    "video_id": item.meta["video_id"],
                    "duration": duration,
                    "domain": domain,
                    "sub_category": sub_category,
                    "duration_category": duration,
                    "video_category": domain,
                    "video_subcategory": sub_category,
                    "missing": all(replies[q.id] is None for q in item.questions),
                    "questions": [
                        {
                            "question_id": q.id,
                            "task_type": q.groups["task_type"][0],
                            "question": q.text,
                            "options": q.options,
                            "answer": q.gold,
                            "response": replies[q.id] or "",
                        }
                        for q in item.questions
                    ],
                }
            )
        return {"videomme_submission.json": json.dumps(videos, indent=1, ensure_ascii=False) + "\n"}


_TABLES = ("videomme/test-00000-of-00001.parquet", "videomme/*.parquet")
_SUFFIXES = (".mp4", ".MP4", ".mkv")


def _read(row: Row, files: VideoFiles) -> VideoQuestions:
    return _from_nested(row, files) if "questions" in row.values else _from_flat(row, files)


def _from_flat(row: Row, files: VideoFiles) -> VideoQuestions:
    """A row of the hub copy: one question."""
    video_id, stem = row.id("video_id"), row.file_name("videoID", ".mp4")
    groups = {key: row.text(key) for key in _GROUPS}
    return _item(files, video_id, stem, groups, (_question(row, "options", groups),))


_NESTED_KEYS = (
    ("duration", "duration_category"),
    ("domain", "video_category"),
    ("sub_category", "video_sub_category", "video_subcategory"),
)


def _from_nested(row: Row, files: VideoFiles) -> VideoQuestions:
    """A row of the authors' JSON: a video with its questions. Both versions of the column names are read."""
    video_id, groups = row.file_name("video_id", ".mp4"), {}
    for names in _NESTED_KEYS:
        groups[names[0]] = row.text(next((name for name in names if name in row.values), names[0]))
    stem = row.file_name("videoID", ".mp4") if row.get("videoID") else _youtube_id(row.text_or("url", "")) or video_id
    questions = []
    for part in parts(row, "questions"):
        options = "options" if "options" in part.values else "choices"
        questions.append(_question(part, options, {**groups, "task_type": part.text("task_type")}))
    return _item(files, video_id, stem, groups, tuple(questions))


def _question(row: Row, options: str, groups: Mapping[str, str]) -> Question:
    answer = row.text("answer")
    if answer not in tuple("ABCD"):
        raise row.error("answer", f"expected one of A, B, C, D, found {answer!r}")
    labels = {key: (label,) for key, label in groups.items()}
    return Question(row.id("question_id"), row.text("question"), row.options(options), answer, groups=labels)


def _item(
    files: VideoFiles, video_id: str, stem: str, groups: Mapping[str, str], questions: tuple[Question, ...]
) -> VideoQuestions:
    folders = ("data/", "video/", "videos/", "")
    path = files.find(*(f"{folder}{stem}{suffix}" for folder in folders for suffix in _SUFFIXES))
    subtitles = files.at(f"subtitle/{stem}.srt", f"subtitles/{stem}.srt")
    meta = {"video_id": video_id, **{key: groups[key] for key in _GROUPS[:3]}}
    return VideoQuestions(Video(stem, path, subtitles=subtitles), questions, meta=meta)


def _youtube_id(url: str) -> str:
    match = re.search(r"(?:v=|youtu\.be/|shorts/)([\w-]{11})", url)
    return match[1] if match else ""
