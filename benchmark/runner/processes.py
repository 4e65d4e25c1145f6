"""Processes that train: how they are started, what they said, how they are asked to stop and how they are ended.

Of a run's processes nothing is left when the first of them has ended. A run is asked to stop by SIGTERM, on which the
scripts save. Should the program that started them be killed, the kernel sends that signal (PR_SET_PDEATHSIG, Linux).
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.runner.runs import ROOT

MARK = "NPP_RL_PROCESS_OF"  # variable in the environment of all processes of one start
FULL_DISK = 1 << 20  # bytes; with less left a failure is blamed on the disk
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def environment(threads: int = 0, gpus: Sequence[str] | None = None) -> dict[str, str]:
    """The environment of a script: this checkout's code, and no more threads (0: as it is) and GPUs than it was given.

    gpus: names for CUDA_VISIBLE_DEVICES; None leaves it as it is.
    """
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"}
    if threads:
        env |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    if gpus is not None:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    return env


def prepare(parent: int, cpus: Sequence[int] = ()) -> None:
    """Called in the new process before its program: it is told of its parent's death and stays on its processors.

    A cluster sends its warning, SIGUSR2, to all processes of a job. Only the one that watches the others needs it.
    """
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # killed in between
            os._exit(1)
        if cpus:
            os.sched_setaffinity(0, cpus)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def said(path: Path, begins: int = 0) -> list[str]:
    """The last lines that a process has written into a file, of those behind the byte `begins`."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(begins, stream.seek(0, os.SEEK_END) - 65536))
            text = stream.read().decode(errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]


def of_torchrun(lines: list[str], status: int) -> tuple[list[str], int]:
    """The lines without what torchrun says about itself, and the exit status of its first process that failed."""
    causes = [match for line in lines if (match := re.search(r"exitcode\s*:\s*(-?\d+)", line))]
    told = [k for k, line in enumerate(lines) if re.match(r"[EWI]\d{4} .*torch/distributed/elastic", line)]
    return lines[: told[0]] if told else lines, int(causes[-1][1]) if causes else status  # the root cause is told last


def reason(lines: list[str], status: int, place: Path) -> str:
    """Why a process ended, in a line, by what it `said` and its exit status. place: the folder into which it wrote."""
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    text = (errors or lines or ["it said nothing"])[-1][:300]
    if status < 0:
        with contextlib.suppress(ValueError):
            text = f"ended by {signal.Signals(-status).name}"
    elif status and not errors:
        text = f"status {status}: {text}"
    with contextlib.suppress(OSError):
        if status and shutil.disk_usage(place).free < FULL_DISK:
            text = f"the disk is full ({text})"
    return text


def ask_to_stop(process: subprocess.Popen) -> None:
    """Send SIGTERM to each process that trains, but not to torchrun, which would pass its own on.

    A run saves on the first signal and ends at once on the second.
    """
    torchrun = "torch.distributed.run" in process.args
    for pid in (torchrun and children(process.pid)) or [process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def kill(process: subprocess.Popen, mark: str) -> None:
    """Kill all processes of one start. The mark finds those that torchrun has put into groups of their own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`; none where /proc does not tell."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            if path.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(path.parent.name))
    return found
