"""Training processes ("ranks"), where possible one per CPU core: a script starts them, and they add their gradients.

On a CPU, two processes of one thread each train faster than one process of two threads. They meet once a minibatch and
wait asleep. In between no thread of theirs waits for another, so a busy neighbour on the same cores takes its share and
no more. Where a run can be divided among fewer processes than there are cores, each of them has several threads.

The user's process is rank 0. It forks for each other rank, which so has all modules loaded, where fork is safe: on
Linux. Elsewhere it starts the same program once more. Ranks are connected by a socket and by memory without a name.
When rank 0 ends, for whatever reason, the others end and nothing is left. What is exchanged rarely (signals, metrics,
results) goes through torch.distributed, as under torchrun.
"""

import contextlib
import json
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from npp_rl.commands import AT_END, SIGNALS, at_end, end_on_signals_after_fork

LEAST_ROWS = 32  # of a rank's minibatch: with fewer, starting an operation takes longer than the operation
PLACE = "NPP_RL_RANK"  # variable in the environment of all ranks but 0: how they reach rank 0, as JSON
LOST = "another process of this training has ended"
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
FORKS = sys.platform == "linux"  # macOS: its libraries may have threads by then, and end a forked process


class Team:
    """The ranks of a run on this machine, as one of them sees them.

    sockets: to all other ranks (in rank 0), or to rank 0. memory: file descriptor of the memory that all ranks share.
    folder: where they meet to join a process group.
    """

    def __init__(self, rank: int, size: int, sockets: list[socket.socket], memory: int, folder: str):
        self.rank, self.size, self.sockets, self.memory, self.folder = rank, size, sockets, memory, folder
        self.children: list[subprocess.Popen | _Forked] = []  # of rank 0
        self.leaving = False

    def join(self, timeout) -> None:
        """Join torch's process group of all ranks, over the loopback device."""
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
        store = dist.FileStore(str(Path(self.folder, "store")), self.size)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.size, timeout=timeout)
        self.wait()
        if self.rank == 0:
            _remove(self.folder)

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.rank:
            _send(self.sockets[0])
            _receive(self.sockets[0])
            return
        for other in self.sockets:
            _receive(other)
        for other in self.sockets:
            _send(other)


def _send(other):
    try:
        other.send(b"\0")
    except ConnectionError:
        raise RuntimeError(LOST) from None


def _receive(other):
    with contextlib.suppress(ConnectionError):
        if other.recv(1):
            return
    raise RuntimeError(LOST)


def most_ranks(threads: int, divides: Callable[[int], bool]) -> int:
    """The most ranks, at most `threads`, among which a run can be divided. divides: whether a number of ranks can."""
    return next(count for count in range(max(threads, 1), 0, -1) if count == 1 or divides(count))


def is_program(args) -> bool:
    """Whether the script of these arguments was started as a program, and not by another one that called its `main`."""
    main = sys.modules.get("__main__")
    return hasattr(main, "__file__") and getattr(main, "Args", None) is type(args)


def start(size: int) -> Team:
    """Start the other ranks of this program -> the team.

    Where ranks are forked, each of them returns from here too, with the team as it sees it. So call it before this
    process has threads that compute.
    """
    memory = os.memfd_create("npp_rl") if hasattr(os, "memfd_create") else _unnamed_file()
    team = Team(0, size, [], memory, tempfile.mkdtemp(prefix="npp_rl_"))
    logs = []
    for rank in range(1, size):
        own, its = socket.socketpair()
        log = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the process)
        numbers = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
        numbers = {name: str(value) for name, value in numbers.items()}
        if FORKS:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # for a moment their handler is the parent's
            pid = os.fork()
            if pid == 0:
                for other in (*team.sockets, own):  # by their end this process sees that of rank 0
                    other.close()
                _begin_forked(log, numbers)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                threading.Thread(target=_follow, args=(its,), daemon=True).start()
                return Team(rank, size, [its], memory, team.folder)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            child = _Forked(pid)
        else:
            place = json.dumps({"socket": its.fileno(), "memory": memory, "folder": team.folder})
            child = subprocess.Popen(
                [sys.executable, *sys.orig_argv[1:]],
                env=os.environ | numbers | {PLACE: place},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=(its.fileno(), memory),
                start_new_session=True,  # Ctrl-C in a terminal reaches rank 0, which tells the others
            )
        its.close()
        team.sockets.append(own)
        team.children.append(child)
        logs.append(log)
    for rank, (child, log) in enumerate(zip(team.children, logs, strict=True), 1):  # after all forks
        threading.Thread(target=_watch, args=(team, child, rank, log), daemon=True).start()
    at_end(_remove, team.folder)
    at_end(_end, team)
    usual = sys.excepthook

    def hook(kind, error, trace):
        """The thread that watches says why a rank is lost, and not the call that missed it."""
        if kind is RuntimeError and (LOST in str(error) or "gloo" in str(error)):
            time.sleep(10)  # it ends this process before
        usual(kind, error, trace)

    sys.excepthook = hook
    return team


class _Forked:
    """A forked process, with the methods of subprocess.Popen that are needed."""

    def __init__(self, pid: int):
        self.pid, self.ended, self.lock = pid, False, threading.Lock()

    def wait(self) -> int:
        """Wait until it has ended -> its status, or minus the number of the signal that ended it."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)  # until it is collected, its number is no other's
        with self.lock:
            self.ended = True
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        with self.lock:
            if not self.ended:
                os.kill(self.pid, signal.SIGKILL)


def _begin_forked(log, numbers):
    """Make a forked process one of its own: its session (as above), its streams, its answer to signals."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream, place in ((0, nothing), (1, nothing), (2, log.fileno())):
        os.dup2(place, stream)
    os.close(nothing)
    os.environ.update(numbers)
    end_on_signals_after_fork()


def joined() -> Team | None:
    """The team of a rank that `start` has started as a program. None in any other process."""
    if PLACE not in os.environ:
        return None
    place = json.loads(os.environ[PLACE])
    to_rank_0 = socket.socket(fileno=place["socket"])
    threading.Thread(target=_follow, args=(to_rank_0,), daemon=True).start()
    return Team(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), [to_rank_0], place["memory"], place["folder"])


def _unnamed_file():
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _remove(folder):
    with contextlib.suppress(OSError):
        for path in Path(folder).iterdir():
            path.unlink()
        Path(folder).rmdir()


def _end(team):
    team.leaving = True
    for child in team.children:
        child.kill()


def _watch(team, child, rank, log):
    """End rank 0, and say why in a line, when another rank has ended too early."""
    status = child.wait()
    if status == 0:
        return
    time.sleep(1)  # an error that both have, such as a missing data set, rank 0 says itself
    if team.leaving:
        return
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    ended = f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    line = f"error: process {rank} of this training {ended}: {(lines or ['it said nothing'])[-1]}"
    line = next((line for line in reversed(lines) if line.startswith("error: ")), line)
    os.write(2, f"{line}\n".encode(errors="backslashreplace"))
    for function in AT_END:
        function()
    os._exit(status if status > 0 else 1)


def _follow(to_rank_0):
    """End this rank when rank 0 has: its end of the connection is closed then."""
    poll = select.poll()
    poll.register(to_rank_0, getattr(select, "POLLRDHUP", 0))  # errors and POLLHUP are always reported
    poll.poll()
    os._exit(1)


class Sum:
    """Adds one array of each rank, in memory that all ranks share. The result is the same in all of them, bit for bit.

    array: float32 [n] for this rank's array, anew before each `add`. total: float32 [n], what `add` leaves.
    """

    def __init__(self, team: Team, count: int):
        self.team, self.turn = team, 0
        padded = -(-count // 16) * 16  # whole cache lines
        turns = 2 if team.size == 2 else 1
        size = 4 * padded * (turns * team.size + 1)
        os.ftruncate(team.memory, size)
        shared = torch.frombuffer(mmap.mmap(team.memory, size), dtype=torch.float32).view(-1, padded)[:, :count]
        self.arrays, self.sums = shared[:-1].view(turns, team.size, count), shared[-1]
        self.total = torch.zeros(count)

    @property
    def array(self) -> torch.Tensor:
        return self.arrays[self.turn, self.team.rank]

    def add(self) -> None:
        """Add the arrays of all ranks. It waits for the same call in all of them."""
        arrays = self.arrays[self.turn]
        self.team.wait()
        if self.team.size == 2:  # both add all; the next arrays lie elsewhere, as the other rank may still read these
            torch.add(arrays[0], arrays[1], out=self.total)
            self.turn = 1 - self.turn
            return
        count = len(self.total)  # each rank adds its part of the arrays, and reads all parts
        first, last = (count * rank // self.team.size for rank in (self.team.rank, self.team.rank + 1))
        torch.sum(arrays[:, first:last], 0, out=self.sums[first:last])
        self.team.wait()
        self.total.copy_(self.sums)
