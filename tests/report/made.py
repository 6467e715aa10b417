"""Run folders as finished runs leave them, without a model: real tasks, settings, records, summaries and manifests
around answers drawn from a simulation. Questions of a video share its difficulty, and settings of a model share most of
their marks, as real ones do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from evalkit.config import identity
from evalkit.efficiency import efficiency
from evalkit.model import ModelSettings
from evalkit.models.videoxl2 import VideoXL2, VideoXL2Mini
from evalkit.models.videoxl2.settings import BilevelDecode, FrameSettings, SparsePrefill
from evalkit.runs import Run, write_atomically
from evalkit.task import Task
from evalkit.tasks.lvbench import LVBench
from evalkit.tasks.mlvu import MLVU
from evalkit.testing import Constant
from evalkit.trackers.base import About, Outcome
from evalkit.trackers.csv import Csv
from evalkit.types import Record

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


def write_run(results: Path, made: Made, shape: Shape | None = None) -> Path:
    """One run folder below `results`, with everything a finished run has."""
    return write_records(results, made, simulate(made, shape or SHAPES[made.task.name]))


def write_records(results: Path, made: Made, records: Sequence[Record], root: Path | None = None) -> Path:
    """The folder of a run with these answers, whose videos and questions lie below `root`."""
    task = made.task
    task.miniature = made.source == "mini"
    who = {
        "task": {"name": task.name, **identity(task)},
        "model": {"id": made.model_id, **identity(made.model)},
        "source": made.source,
        "decoding": identity(task.rules.decoding),
        "video": {"backend": "pyav"},
    }
    config = {
        "task": {"_target_": _target(task), "split": task.split, "protocol": task.protocol},
        "model": {"_target_": _target(made.model), **_plain(made.model)},
        "source": {"_target_": f"evalkit.sources.{made.source.title()}"},
        "min_coverage": 1.0,
        "limit": made.limit,
    }
    with Run(results, task.name, made.model_id, who) as run:
        records = [replace(record, run=run.key) for record in records]
        run.records = {record.question: record for record in records}
        run.settle(record.question for record in records)
        manifest = {
            "key": run.key,
            "identity": who,
            "code": {"version": "0.1.0", "revision": "4c3fe71", "source_sha256": "ab" * 32},
            "packages": {"torch": "2.13.0", "transformers": "5.0.0", "av": "16.0.1"},
            "weights": {"checkpoint": getattr(made.model, "checkpoint", made.model.name), "revision": "1f2e3d"},
            "data": {
                "root": str(root or results / "data"), "source": made.source, "questions": len(records),
                "videos": len({r.video for r in records}), "questions_sha256": "cd" * 32, "videos_sha256": "ef" * 32,
            },
            "limit": made.limit,
            "hardware": {"host": "node1", "gpu": "NVIDIA H200"},
        }  # fmt: skip
        write_atomically(run.path / "manifest.json", json.dumps(manifest, indent=1) + "\n")
        write_atomically(run.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
        remarks = [*made.model.remarks()]
        if task.miniature:
            remarks.append(f"source=mini: a miniature of {task.benchmark}, not the benchmark.")
        if made.limit is not None:
            remarks.append(f"limit={made.limit}: only the first questions are asked.")
        about = About(run.path, task, config, remarks=remarks)
        csv = Csv(results)
        csv.start(about)
        csv.finish(Outcome(task.summarize(records, len(records)), efficiency(records), records))
    return run.path


def simulate(made: Made, shape: Shape) -> list[Record]:
    """Answers that share what they would share: the video, the question, the model."""
    world, own = np.random.default_rng(7), np.random.default_rng(made.seed)
    records: list[Record] = []
    for v in range(shape.videos):
        length = float(world.uniform(*shape.seconds))
        video_effect = world.normal(0, 0.5)
        kind = {name: labels[v % len(labels)] for name, labels in shape.groups.items() if name in ("type", "frames")}
        cost = _cost(made.model, length, own)
        for q in range(shape.questions):
            difficulty, noise, gold = world.normal(0, 1.1), world.normal(0, 0.8), LETTERS[world.integers(4)]
            label = {name: labels[(v + 3 * q + v * q) % len(labels)] for name, labels in shape.groups.items()}
            right = made.ability + video_effect - difficulty + noise + own.normal(0, 0.35) > 0
            reply = gold if right else LETTERS[(LETTERS.index(gold) + 1 + int(own.integers(3))) % 4]
            records.append(_record(made, (v, q), {**label, **kind}, gold, reply, cost, own))
    records = records[: made.limit]
    for position in made.fail:
        _break(records[position])
    for position, values in made.change.items():
        for name, value in values.items():
            setattr(records[position], name, value)
    return records


def _record(
    made: Made,
    place: tuple[int, int],
    label: Mapping[str, str],
    gold: str,
    reply: str,
    cost: Mapping[str, Any],
    own: np.random.Generator,
) -> Record:
    v, q = place
    options = [OBJECTS[(v + q + i) % len(OBJECTS)] for i in range(4)]
    lines = "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=True))
    text = f"What does {SUBJECTS[(v + q) % len(SUBJECTS)]} hold when scene {q + 1} begins?"
    generate = float(own.uniform(0.02, 0.05))
    return Record(
        run="", task=made.task.name, split=made.task.split, protocol=made.task.protocol, model=made.model_id,
        video=f"video_{v:03}", question=f"{made.task.name}-{v}-{q}", unit=f"{made.task.name}-{v}-{q}",
        cluster=f"video_{v:03}", groups={name: [value] for name, value in label.items()}, gold=gold, status="ok",
        reply=reply, extracted=reply, score=float(reply == gold), rule="first letter", valid=True,
        prompt=f"<|im_start|>user\n<video>\n{text}\n{lines}\n{ONLY_LETTER}<|im_end|>\n<|im_start|>assistant\n",
        tokens={"visual": cost["groups"] * 144, "context": cost["groups"] * 153, "prompt": 60 + 5 * q, "new": 2},
        seconds={**cost["seconds"], "question": round(0.08 * cost["used"], 6), "generate": round(generate, 6)},
        ttft=0.09 * cost["used"] + 0.01, kv_bytes={"dense": cost["kv"], "used": int(cost["kv"] * cost["used"])},
        frames=cost["frames"], sampling=cost["sampling"], attention_density=cost["density"],
        flops={"prefill": 2.0e12 * cost["frames"] * cost["density"], "question": 4e11}, finish="stop",
        dense_chunks=_dense(cost["chunks"], own) if cost["bilevel"] else None,
        chunk_frames=4 * cost["per_chunk"] if cost["bilevel"] else None, worker="local",
        peak_memory={"device": 18 * 2**30 + cost["kv"], "host": 6 * 2**30}, started="2026-11-18T09:00:00.000+00:00",
    )  # fmt: skip


def _dense(chunks: int, own: np.random.Generator) -> list[int]:
    """The first and the last chunk, and up to five others."""
    return sorted({0, chunks - 1, *(int(i) for i in own.integers(0, chunks, 5))})


def _cost(model: ModelSettings, length: float, own: np.random.Generator) -> dict[str, Any]:
    """What a video's prefill takes under these settings; plausible, and the same for all its questions."""
    wanted = model.frames_wanted()
    frames = min(wanted.max_frames, int(length)) // 4 * 4
    sparse = isinstance(model, VideoXL2) and bool(model.sparse_prefill.enabled)
    bilevel = isinstance(model, VideoXL2) and bool(model.bilevel_decode.enabled)
    groups = frames // 4
    per_chunk = (model.bilevel_decode.chunk_groups or 4) if isinstance(model, VideoXL2) and bilevel else 4
    chunks = -(-groups // per_chunk)
    ratio = model.bilevel_decode.compression if isinstance(model, VideoXL2) and bilevel else 1
    dense_share = min(1.0, 7 / chunks)
    used = dense_share + (1 - dense_share) / (ratio or 1)
    density = min(1.0, 16 / groups) if sparse else 1.0
    times = [round(i * length / frames, 3) for i in range(frames)]
    seconds = {
        "video_decode": round(length / 400 + float(own.uniform(0, 1)), 6),
        "vision": round(0.006 * frames, 6),
        "prefill": round(0.00008 * frames**1.7 * (0.25 + 0.75 * density) + 0.2, 6),
    }
    return {
        "frames": frames, "groups": groups, "chunks": chunks, "per_chunk": per_chunk, "bilevel": bilevel,
        "used": used, "density": density,
        "kv": groups * 153 * 28 * 2 * 4 * 128 * 2, "seconds": seconds,
        "sampling": {"rule": wanted.rule, "indices": [round(t * 25) for t in times], "times_s": times,
                     "native_fps": 25.0, "frame_count": int(length * 25), "decoder": "pyav 16.0.1"},
    }  # fmt: skip


def _break(record: Record) -> None:
    record.status, record.score, record.reply, record.extracted, record.valid = "failed", None, None, None, False
    record.error = {"kind": "damaged", "message": "the video ends after 12.4 s of 1800 s; fetch it again"}
    record.seconds, record.tokens, record.kv_bytes, record.flops = {}, {}, {}, {}
    record.sampling = record.frames = record.ttft = record.dense_chunks = record.prompt = None


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


def gallery(results: Path, shapes: Mapping[str, Shape] = SHAPES) -> list[Path]:
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
    return [write_run(results, made, mini if made.source == "mini" else shapes[made.task.name]) for made in runs]


def _target(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _plain(model: ModelSettings) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.structured(model), resolve=True)
    assert isinstance(content, dict)
    return {str(k): v for k, v in content.items()}
