"""The reader's handles on decoding processes."""

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
from .messages import ConnectionClosed, InvalidMessage, ReceiveTimeout, receive
from .stream import StreamClosed

PIPE_BYTES = 1 << 20
PACKAGE_PARENT = Path(evalkit.__file__).resolve().parents[1]


class ProcessDied(BackendFailed):
    kind = "decoder_crash"


class ProcessTimedOut(BackendFailed):
    kind = "timeout"


class DecodingProcess:
    """A running `evalkit.video.process_main`; decodes one video at a time. It is a new interpreter: a fork would share
    open containers, and the caller's main module is not imported again."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        path = os.pathsep.join(dict.fromkeys(filter(None, [os.fspath(PACKAGE_PARENT), *sys.path])))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "evalkit.video.process_main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C in the terminal reaches the reader alone
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        with suppress(AttributeError, OSError):  # only on Linux; a large pipe carries large frames twice as fast
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.idle = True

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill the process; `receive` then raises ProcessDied."""
        self._process.kill()

    def start(self, job: dict[str, Any]) -> None:
        """Hand over a decoding job; the caller sets `idle` when its last message has arrived."""
        self.idle = False
        try:
            self._stdin.write(json.dumps(job).encode() + b"\n")
        except BrokenPipeError:
            raise self._died() from None

    def receive(self, timeout_s: float) -> tuple[dict[str, Any], np.ndarray | None]:
        """The next message. Raises ProcessDied or ProcessTimedOut; the process has been ended then."""
        try:
            return receive(self._stdout, timeout_s)
        except ReceiveTimeout:
            self.end()
            raise ProcessTimedOut(f"no progress in {timeout_s:g} s") from None
        except InvalidMessage:
            self.end()
            raise ProcessDied("its process sent an invalid message") from None
        except ConnectionClosed:
            raise self._died() from None

    def _died(self) -> ProcessDied:
        self._process.kill()
        code = self._process.wait()
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:] or [""]
        self.end()
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return ProcessDied(f"its process ended, {how}{': ' + last[0][:200] if last[0] else ''}")

    def end(self) -> None:
        """Kill the process, also one that is stopped, and free its pipes."""
        self._process.kill()
        self._process.wait()
        for file in (self._stdin, self._stdout, self._log):
            file.close()


class ProcessPool:
    """Decoding processes by the stream that they decode for. Idle ones are reused; one that was left in the middle of a
    video is ended. Safe for several threads."""

    def __init__(self) -> None:
        self._idle: list[DecodingProcess] = []
        self._busy: dict[Any, DecodingProcess] = {}
        self._lock = threading.Lock()
        self._closed = False

    def take(self, stream: Any) -> DecodingProcess:
        """A process for `stream`. Raises StreamClosed when the pool is closed."""
        with self._lock:
            if self._closed:
                raise StreamClosed
            while self._idle and not self._idle[-1].alive:  # killed between two videos, for memory say
                self._idle.pop().end()
            process = self._busy[stream] = self._idle.pop() if self._idle else DecodingProcess()
            return process

    def give_back(self, process: DecodingProcess, stream: Any) -> None:
        with self._lock:
            del self._busy[stream]
            if process.idle and not self._closed:
                self._idle.append(process)
                return
        process.end()

    def busy(self) -> list[int]:
        """Process ids of the processes that are decoding."""
        with self._lock:
            return [process.pid for process in self._busy.values()]

    def close(self) -> None:
        """End all processes, also those that hang, and close their streams."""
        with self._lock:
            self._closed = True
            busy, idle, self._idle = list(self._busy.items()), self._idle, []
        for stream, process in busy:
            stream.close()
            process.kill()
        for process in idle:
            process.end()
