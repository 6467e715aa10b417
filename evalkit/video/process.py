"""The reader's handle on one decoding process."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import evalkit

from .info import BackendFailed
from .stream import Closed, QueuedStream
from .wire import Garbled, Hangup, Silence, receive

PIPE_BYTES = 1 << 20
PARENT_FOLDER = Path(evalkit.__file__).resolve().parents[1]


class WorkerDied(BackendFailed):
    kind = "decoder_crash"


class WorkerSilent(BackendFailed):
    kind = "timeout"


class Worker:
    """Starts at once; decodes one video at a time. A plain new interpreter: neither forked (an open container does not
    survive that) nor importing the caller's main module again."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        path = os.pathsep.join(filter(None, [os.fspath(PARENT_FOLDER), os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "evalkit.video.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C in the terminal reaches the reader alone
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        with suppress(AttributeError, OSError):  # Linux alone has it; a wide pipe carries large frames twice as fast
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.idle = True

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Whoever waits for it finds it dead."""
        self._process.kill()

    def start(self, job: dict[str, Any]) -> None:
        """Hand over a job; `idle` is to be set when its last message has come."""
        self.idle = False
        try:
            self._stdin.write(json.dumps(job).encode() + b"\n")
        except BrokenPipeError:
            raise self._died() from None

    def receive(self, timeout_s: float) -> tuple[dict[str, Any], np.ndarray | None]:
        """The next message. Raises WorkerDied or WorkerSilent; the process is gone then."""
        try:
            return receive(self._stdout, timeout_s)
        except Silence:
            self.end()
            raise WorkerSilent(f"no progress in {timeout_s:g} s") from None
        except Garbled:
            self.end()
            raise WorkerDied("what its process sent cannot be read") from None
        except Hangup:
            raise self._died() from None

    def _died(self) -> WorkerDied:
        self._process.kill()
        code = self._process.wait()
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:] or [""]
        self.end()
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return WorkerDied(f"its process ended, {how}{': ' + last[0][:200] if last[0] else ''}")

    def end(self) -> None:
        """Kill the process, stopped or not."""
        self._process.kill()
        self._process.wait()
        for file in (self._stdin, self._stdout, self._log):
            file.close()


class WorkerPool:
    """Workers by the stream they fill. Idle ones are used again; one left in the middle of a video is ended."""

    def __init__(self) -> None:
        self._idle: list[Worker] = []
        self._busy: dict[QueuedStream, Worker] = {}
        self._lock = threading.Lock()
        self._closed = False

    def take(self, stream: QueuedStream) -> Worker:
        """Raises Closed."""
        with self._lock:
            if self._closed:
                raise Closed
            while self._idle and not self._idle[-1].alive:  # killed for memory, say, between two videos
                self._idle.pop().end()
            worker = self._busy[stream] = self._idle.pop() if self._idle else Worker()
            return worker

    def give_back(self, worker: Worker, stream: QueuedStream) -> None:
        with self._lock:
            del self._busy[stream]
            if worker.idle and not self._closed:
                self._idle.append(worker)
                return
        worker.end()

    def busy(self) -> list[int]:
        """Process ids of the workers that are decoding."""
        with self._lock:
            return [worker.pid for worker in self._busy.values()]

    def close(self) -> None:
        """End all workers, also those that hang, and close their streams."""
        with self._lock:
            self._closed = True
            busy, idle, self._idle = list(self._busy.items()), self._idle, []
        for stream, worker in busy:
            stream.close()
            worker.kill()
        for worker in idle:
            worker.end()
