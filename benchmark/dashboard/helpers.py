"""Processes beside the server that simulate, plan and run agents, so that the server stays small and always answers.

The server imports neither the simulator nor torch. A helper is a process of worker.py with one thread and the least
priority. It does one task at a time; others wait for it, a limited number of them. It starts with its first task and
ends by itself when nobody has asked for some minutes. A task is stopped when the browser that asked for it has left.
"""

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from starlette.exceptions import HTTPException
from starlette.requests import Request

NAMES = ("show", "play", "agents", "planner")
MOST_WAITING = 12  # tasks of one helper, the one that it does included
PATIENCE = 5.0  # seconds that a task has to stop before its process is ended
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Helper:
    """One process; `ask` may be called from many threads."""

    def __init__(self, name: str):
        self.name = name
        self.process: subprocess.Popen | None = None
        self.lock, self.waiting, self.count = threading.Lock(), 0, threading.Lock()
        # Its own threads, so that those who wait for one helper keep none from the others. One more than may wait: it
        # tells who comes too many.
        self.pool = ThreadPoolExecutor(MOST_WAITING + 1, f"{name} waits")

    def ask(self, task: str, arguments: dict, left: threading.Event) -> dict:
        """The result of a task of worker.py. left: set when nobody waits for it any more.

        Raises HTTPException: 400 and 404 for what the user asked, 503 where too many wait or the process has ended.
        """
        with self.count:
            if self.waiting >= MOST_WAITING:
                raise HTTPException(503, "the dashboard is busy: try again in a moment")
            self.waiting += 1
        try:
            while not self.lock.acquire(timeout=0.1):
                if left.is_set():
                    raise HTTPException(499, "nobody waits")
            try:
                return self._ask(json.dumps({"task": task, "arguments": arguments}).encode() + b"\n", left)
            finally:
                self.lock.release()
        finally:
            with self.count:
                self.waiting -= 1

    def _ask(self, line: bytes, left) -> dict:
        for attempt in range(2):  # the process may end itself just now
            if self.process is None or self.process.poll() is not None:
                self._start()
            try:
                self.process.stdin.write(line)
                self.process.stdin.flush()
                answer = self._answer(left)
            except BrokenPipeError:
                answer = b""
            if answer:
                break
            self.end()
            if left.is_set() or attempt:
                raise HTTPException(503, "the process that simulates has ended (not enough memory?)")
        found = json.loads(answer)
        if "error" in found:
            raise HTTPException(found.get("status", 400), found["error"])
        return found["result"]

    def _answer(self, left) -> bytes:
        """The line that the process writes; nothing if it ends."""
        parts, asked_to_stop = [], None
        stream = self.process.stdout.fileno()
        while not (parts and parts[-1].endswith(b"\n")):
            if select.select([stream], [], [], 0.1)[0]:
                data = os.read(stream, 1 << 20)
                if not data:
                    return b""
                parts.append(data)
            elif left.is_set() and asked_to_stop is None:
                asked_to_stop = time.monotonic()
                self.process.send_signal(signal.SIGINT)
            elif asked_to_stop is not None and time.monotonic() > asked_to_stop + PATIENCE:
                self.process.kill()
        return b"".join(parts)

    def _start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmark.dashboard.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # a Ctrl-C in the terminal is the server's
            env=os.environ | dict.fromkeys(ONE_THREAD, "1"),
        )
        # Where the process ends by itself, its entry among the system's processes goes too.
        threading.Thread(target=self.process.wait, daemon=True).start()

    def end(self) -> None:
        """End the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()
            self.process = None


def helpers() -> dict[str, Helper]:
    return {name: Helper(name) for name in NAMES}


async def ask(request: Request, name: str, task: str, **arguments) -> dict:
    """The result of a task of a helper. The task is stopped if the browser that sent the request leaves."""
    helper, left = request.app.state.dashboard.helpers[name], threading.Event()
    call = asyncio.get_running_loop().run_in_executor(helper.pool, helper.ask, task, arguments, left)
    try:
        while not call.done():
            await asyncio.wait({call}, timeout=0.25)
            if not call.done() and (request.app.state.dashboard.stopping() or await request.is_disconnected()):
                left.set()
        return call.result()
    finally:
        left.set()
