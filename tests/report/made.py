"""Run folders as finished runs leave them, without a model: real tasks, settings, records, summaries and manifests
around answers drawn from a simulation. Questions of a video share its difficulty, and settings of a model share most of
their marks, as real ones do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from evalkit.config import identity
from evalkit.efficiency import efficiency
from evalkit.flat import flatten
from evalkit.model import ModelSettings
from evalkit.models.videoxl2 import VideoXL2, VideoXL2Mini
from evalkit.models.videoxl2.settings import BilevelDecode, FrameSettings, SparsePrefill
from evalkit.runs import RunFolder, manifest, results, write_atomically
from evalkit.task import Task
from evalkit.tasks.lvbench import LVBench
from evalkit.tasks.mlvu import MLVU
from evalkit.testing import Constant
from evalkit.trackers.base import RunInfo, RunResult, Trackers
from evalkit.trackers.csv import Csv
from evalkit.types import Prefill, Record

LETTERS = "ABCD"
ONLY_LETTER = "Answer with the option's letter from the given choices directly."
SUBJECTS = ("the man in the red coat", "the narrator", "the second goalkeeper", "the chef", "the woman by the window")
OBJECTS = ("a silver key", "the blue umbrella", "two loaves of bread", "an old map", "the trophy", "a folded letter")


@dataclass(frozen=True)
class Made:
    """A run to be made: `ability` moves its share of right answers, `key` seeds what is its own."""

    task: Task
    model: ModelSettings
    model_id: str
    ability: float
    seed: int
    limit: int | None = None
    fail: Sequence[int] = ()  # positions of questions that failed
    source: str = "hub"
    change: Mapping[int, dict[str, Any]] = field(default_factory=dict)  # position -> fields of the record


@dataclass(frozen=True)
class Shape:
    """How a benchmark is built: its videos, their questions and lengths, and the labels of its slices."""

    videos: int
    questions: int
    seconds: tuple[float, float]
    groups: Mapping[str, Sequence[str]]


SHAPES: Mapping[str, Shape] = {
    "lvbench": Shape(103, 15, (1800.0, 7200.0), {
        "type": ("cartoon", "documentary", "live", "selfmedia", "sport", "tv"),
        "capability": ("entity recognition", "event understanding", "key information retrieval", "reasoning",
                       "summarization", "temporal grounding"),
    }),
    "mlvu": Shape(300, 3, (180.0, 3600.0), {
        "task": ("plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning"),
        "ability": ("single detail", "multi detail", "holistic"),
    }),
}  # fmt: skip


@dataclass
class Lines:
    """What a run folder holds: its records, and its prefills by id."""

    records: list[Record]
    prefills: dict[str, Prefill] = field(default_factory=dict)


def write_run(folder: Path, made: Made, shape: Shape | None = None) -> Path:
    """One run folder below `folder`, with everything a finished run has."""
    return write_lines(folder, made, simulate(made, shape or SHAPES[made.task.name]))


def write_lines(folder: Path, made: Made, lines: Lines, root: Path | None = None) -> Path:
    """The folder of a run with these answers, whose videos and questions lie below `root`."""
    task, model = made.task, made.model
    identity_of_run = {
        "task": {"name": task.name, **identity(task)},
        "model": {"id": made.model_id, **identity(model)},
        "source": made.source,
        "decoding": identity(task.rules.decoding),
        "video": {"backend": "pyav"},
    }
    config = {
        "task": {"_target_": _target(task), "split": task.split, "protocol": task.protocol},
        "model": {"_target_": _target(model), **_plain(model)},
        "source": {"_target_": f"evalkit.sources.{made.source.title()}"},
        "min_coverage": 1.0,
        "limit": made.limit,
    }
    with RunFolder(folder, task.name, made.model_id, identity_of_run) as run:
        for line in [*lines.prefills.values(), *(replace(record, run=run.key) for record in lines.records)]:
            run.append(line)
        records = run.settle(record.question for record in lines.records)
        info = RunInfo(
            path=run.path,
            task=task,
            config=config,
            remarks=_remarks(made),
            axes=results.axes_of(model, flatten(identity(model))),
            source=made.source,
            limit=made.limit,
        )
        known = {"key": run.key, "identity": identity_of_run, "limit": made.limit}
        data = _data(records, str(root or folder / "data"), made.source)
        manifest.save(run.path, {**known, **PROVENANCE, "weights": _weights(model), "data": data,
                                 "remarks": info.remarks, "axes": info.axes})  # fmt: skip
        write_atomically(run.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
        trackers = Trackers([Csv(folder)])
        trackers.start(info)
        scores = task.summarize(records, len(records))
        results.write(
            info, run, RunResult(scores, efficiency(records, list(lines.prefills.values())), records), trackers
        )
        assert trackers.failures == []
    return run.path


PROVENANCE: Mapping[str, Any] = {
    "code": {"version": "0.1.0", "revision": "4c3fe71", "source_sha256": "ab" * 32},
    "packages": {"torch": "2.13.0", "transformers": "5.0.0", "av": "16.0.1"},
    "hardware": {"host": "node1", "gpu": "NVIDIA H200"},
}


def _weights(model: ModelSettings) -> dict[str, str]:
    return {"checkpoint": getattr(model, "checkpoint", model.name), "revision": "1f2e3d"}


def _data(records: Sequence[Record], root: str, source: str) -> dict[str, Any]:
    counts = {"questions": len(records), "videos": len({r.video for r in records})}
    return {"root": root, "source": source, **counts, "questions_sha256": "cd" * 32, "videos_sha256": "ef" * 32}


def _remarks(made: Made) -> list[str]:
    remarks = [*made.model.remarks()]
    if made.source == "mini":
        remarks.append(f"source=mini: a miniature of {made.task.benchmark}, not the benchmark.")
    if made.limit is not None:
        remarks.append(f"limit={made.limit}: only the first questions are asked.")
    return remarks


def simulate(made: Made, shape: Shape) -> Lines:
    """Answers that share what they would share: the video, the question, the model."""
    world, own = np.random.default_rng(7), np.random.default_rng(made.seed)
    lines = Lines([])
    for v in range(shape.videos):
        length = float(world.uniform(*shape.seconds))
        video_effect = world.normal(0, 0.5)
        kind = {name: labels[v % len(labels)] for name, labels in shape.groups.items() if name in ("type", "frames")}
        cost = _cost(made.model, length)
        prefill = _prefill(f"video_{v:03}", cost, own)
        lines.prefills[prefill.id] = prefill
        for q in range(shape.questions):
            difficulty, noise, gold = world.normal(0, 1.1), world.normal(0, 0.8), LETTERS[world.integers(4)]
            label = {name: labels[(v + 3 * q + v * q) % len(labels)] for name, labels in shape.groups.items()}
            right = made.ability + video_effect - difficulty + noise + own.normal(0, 0.35) > 0
            reply = gold if right else LETTERS[(LETTERS.index(gold) + 1 + int(own.integers(3))) % 4]
            lines.records.append(_record(made, (v, q), {**label, **kind}, gold, reply, prefill, cost, own))
    lines.records = lines.records[: made.limit]
    for position in made.fail:
        _break(lines.records[position])
    for position, values in made.change.items():
        for name, value in values.items():
            setattr(lines.records[position], name, value)
    return lines


def _record(
    made: Made,
    place: tuple[int, int],
    label: Mapping[str, str],
    gold: str,
    reply: str,
    prefill: Prefill,
    cost: Cost,
    own: np.random.Generator,
) -> Record:
    v, q = place
    options = [OBJECTS[(v + q + i) % len(OBJECTS)] for i in range(4)]
    lines = "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=True))
    text = f"What does {SUBJECTS[(v + q) % len(SUBJECTS)]} hold when scene {q + 1} begins?"
    return Record(
        run="", task=made.task.name, split=made.task.split, protocol=made.task.protocol, model=made.model_id,
        video=f"video_{v:03}", question=f"{made.task.name}-{v}-{q}", unit=f"{made.task.name}-{v}-{q}",
        cluster=f"video_{v:03}", groups={name: [value] for name, value in label.items()}, gold=gold, status="ok",
        reply=reply, extracted=reply, score=float(reply == gold), rule="first letter", valid=True,
        prompt=f"<|im_start|>user\n<video>\n{text}\n{lines}\n{ONLY_LETTER}<|im_end|>\n<|im_start|>assistant\n",
        prefill=prefill.id, tokens={"prompt": 60 + 5 * q, "new": 2},
        seconds={"question": round(0.08 * cost.used, 6), "generate": round(float(own.uniform(0.02, 0.05)), 6)},
        ttft=0.09 * cost.used + 0.01, kv_bytes_used=int(cost.kv_bytes * cost.used), flops=4e11, finish="stop",
        details=_details(cost, own), host_memory_bytes=6 * 2**30, worker="local",
        started="2026-11-18T09:00:00.000+00:00",
    )  # fmt: skip


def _details(cost: Cost, own: np.random.Generator) -> dict[str, Any]:
    """Dense are the first and the last chunk, and up to five others."""
    if cost.compression is None:
        return {}
    dense = sorted({0, cost.chunks - 1, *(int(i) for i in own.integers(0, cost.chunks, 5))})
    return {"dense_chunks": dense, "chunk_frames": 4 * cost.per_chunk, "compression": cost.compression}


@dataclass(frozen=True)
class Cost:
    """What a video takes under a model's settings; plausible, and the same for all its questions."""

    length_s: float
    rule: str
    frames: int
    per_chunk: int
    density: float
    compression: int | None

    @property
    def groups(self) -> int:
        return self.frames // 4

    @property
    def chunks(self) -> int:
        return -(-self.groups // self.per_chunk)

    @property
    def used(self) -> float:
        dense = min(1.0, 7 / self.chunks)
        return dense + (1 - dense) / (self.compression or 1)

    @property
    def kv_bytes(self) -> int:
        return self.groups * 153 * 28 * 2 * 4 * 128 * 2


def _cost(model: ModelSettings, length: float) -> Cost:
    wanted = model.frames_wanted()
    frames = min(wanted.max_frames, int(length)) // 4 * 4
    known = model if isinstance(model, VideoXL2) else None
    bilevel = known.bilevel_decode if known and known.bilevel_decode.enabled else None
    density = min(1.0, 64 / frames) if known and known.sparse_prefill.enabled else 1.0
    per_chunk = (bilevel.chunk_groups or 4) if bilevel else 4
    return Cost(length, wanted.rule, frames, per_chunk, density, bilevel.compression if bilevel else None)


def _prefill(video: str, cost: Cost, own: np.random.Generator) -> Prefill:
    times = [round(i * cost.length_s / cost.frames, 3) for i in range(cost.frames)]
    return Prefill(
        id=f"p-{video}", video=video, decoder="pyav 16.0.1", frames=cost.frames,
        plan={"rule": cost.rule, "indices": [round(t * 25) for t in times], "times_s": times, "native_fps": 25.0,
              "frame_count": int(cost.length_s * 25)},
        tokens={"visual": cost.groups * 144, "context": cost.groups * 153},
        seconds={
            "video_decode": round(cost.length_s / 400 + float(own.uniform(0, 1)), 6),
            "vision": round(0.006 * cost.frames, 6),
            "prefill": round(0.00008 * cost.frames**1.7 * (0.25 + 0.75 * cost.density) + 0.2, 6),
        },
        kv_bytes=cost.kv_bytes, attention_density=cost.density, flops=2.0e12 * cost.frames * cost.density,
        peak_memory_bytes=18 * 2**30 + cost.kv_bytes, worker="local", started="2026-11-18T09:00:00.000+00:00",
    )  # fmt: skip


def _break(record: Record) -> None:
    record.status, record.score, record.reply, record.extracted, record.valid = "failed", None, None, None, False
    record.error = {"kind": "damaged", "message": "the video ends after 12.4 s of 1800 s; fetch it again"}
    record.seconds, record.tokens, record.details = {}, {}, {}
    record.kv_bytes_used = record.flops = record.prefill = record.ttft = record.prompt = None


def settings(frames: int = 256, sparse: bool = False, compression: int | None = None) -> VideoXL2:
    return VideoXL2(
        frames=FrameSettings(max=frames),
        sparse_prefill=SparsePrefill(enabled=sparse or compression is not None),
        bilevel_decode=BilevelDecode(compression=compression) if compression else BilevelDecode(enabled=False),
    )


SMALL: Mapping[str, Shape] = {
    "lvbench": replace(SHAPES["lvbench"], videos=40, questions=6),
    "mlvu": replace(SHAPES["mlvu"], videos=40),
}
"""The same with fewer videos, for tests of the pages rather than of the statistics."""


def gallery(folder: Path, shapes: Mapping[str, Shape] = SHAPES) -> list[Path]:
    """A results folder as a study leaves it: a sweep, an ablation on a second benchmark, a weak baseline, a limited
    run, one with failures, and a miniature."""
    sweep = [
        (settings(128), 0.02), (settings(256), 0.15), (settings(512), 0.22),
        (settings(256, sparse=True), 0.12), (settings(512, sparse=True), 0.2),
        (settings(512, compression=2), 0.22), (settings(512, compression=4), 0.2), (settings(512, compression=8), 0.12),
        (settings(512, compression=16), -0.05),
    ]  # fmt: skip
    runs = [Made(LVBench(), model, "videoxl2", ability, 10 + i) for i, (model, ability) in enumerate(sweep)]
    runs += [Made(MLVU(), model, "videoxl2", ability + 0.9, 30 + i) for i, (model, ability) in enumerate(sweep[1:6:2])]
    runs.append(Made(LVBench(), Constant(name="Uniform 32", frames=32), "uniform32", -0.25, 50))
    runs.append(Made(MLVU(protocol="video_xl_2"), settings(256), "videoxl2", 1.0, 51, fail=(3, 4, 5)))
    runs.append(Made(LVBench(), settings(1024), "videoxl2", 0.3, 52, limit=60))
    runs.append(Made(MLVU(), VideoXL2Mini(), "videoxl2_mini", -0.7, 53, source="mini"))
    mini = Shape(5, 4, (20.0, 60.0), SHAPES["mlvu"].groups)
    return [write_run(folder, made, mini if made.source == "mini" else shapes[made.task.name]) for made in runs]


def _target(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _plain(model: ModelSettings) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.structured(model), resolve=True)
    assert isinstance(content, dict)
    return {str(k): v for k, v in content.items()}
