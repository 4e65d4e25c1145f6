"""Processes of an experiment: starts the scripts, watches and retries them, asks them to stop, reads how far they are.

A run is one directory, `<architecture>/<condition>/seed_<k>`, of an experiment's folder. What happened to it stands on
disk: it is done when its report.md and eval_results.json are there, and it is resumed when it has a config.json. So it
does not matter which process of which day looks at it.

Of a run's processes nothing is left when the first of them has ended. It is asked to stop
by SIGTERM, on which the scripts save. Should the runner itself be killed, the kernel sends that signal
(PR_SET_PDEATHSIG, Linux); a run that works on all the same holds the lock of its log.jsonl, and a later runner waits
for it.
"""

import contextlib
import ctypes
import fcntl
import functools
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "npp_rl"
LEAST_MINUTES = 0.05  # of a training whose pretraining has taken its time
BC_CHECKPOINT = "bc/checkpoints/best.pt"  # of a run with pretraining, in its directory
REFUSED = 2  # exit status of a script for what the user has to mend; trying again is no use
GRACE = 300.0  # seconds that stopped runs have to finish an iteration or an evaluation and to save
POLL = 0.1  # seconds between looks at the processes
MARK = "NPP_RL_PROCESS_OF"
FULL_DISK = 1 << 20  # bytes; with less left a failure is blamed on the disk


@dataclass
class Run:
    """One training. `status`: queued, running, done, stopped (resumable, nothing was wrong) or failed."""

    architecture: str
    condition: str  # no_pretrain or with_pretrain
    seed: int
    status: str = "queued"
    attempts: int = 0  # starts of the script
    exit_status: int | None = None  # of the last process; minus the signal that ended it
    minutes: float = 0.0  # as the run itself counts them, over its resumes
    reason: str = ""  # why it failed, stopped or waits
    pretraining: str = ""  # the checkpoint that it began from, or "none, because ..."
    job: str = ""  # of a cluster

    @property
    def path(self) -> str:
        """Its directory, relative to the experiment's folder."""
        return f"{self.architecture}/{self.condition}/seed_{self.seed}"


@dataclass
class Settings:
    """What all runs of an experiment have in common. Plain values: a cluster's job carries them to its machine."""

    folder: str  # of the experiment, absolute
    flags: list[str]  # of every training
    bc_flags: list[str]  # of every pretraining
    s3_prefix: str | None = None  # of the experiment, where its runs go to S3
    processes: int = 1  # of one training on each machine; more than one go through torchrun
    nodes: int = 1  # machines of one training
    retries: int = 2
    require_pretraining: bool = False
    scripts: str = str(SCRIPTS)


@dataclass
class Slot:
    """A share of the machine that holds one run at a time."""

    name: str
    threads: int  # CPU threads of each process
    gpus: tuple[str, ...] | None = None  # CUDA_VISIBLE_DEVICES; None leaves it as it is
    cpus: tuple[int, ...] = ()  # processors that the run is kept on; none: wherever the system likes
    node: int = 0  # of the machines of one training, and where its first process listens
    master: str = ""


@dataclass
class Started:
    run: Run
    slot: Slot
    process: subprocess.Popen
    stage: str  # bc or ppo
    begins: int  # where this attempt begins in console.log
    mark: str  # in the environment, as MARK, of all its processes


@dataclass
class Progress:
    """How far a run is, from its metrics.jsonl; None for what is not known yet."""

    step: int = 0
    minutes: float = 0.0
    share: float | None = None
    steps_per_second: float | None = None
    success: float | None = None
    minutes_left: float | None = None
    stage: str = ""


def directory(settings: Settings, run: Run) -> Path:
    return Path(settings.folder, run.path)


def finished(run_dir: Path) -> bool:
    """Whether a run has left all its results; report.md is the last of them."""
    return (run_dir / "report.md").is_file() and results(run_dir) is not None


def results(run_dir: Path) -> dict | None:
    """`overall` and `by_category` of a run's eval_results.json; None where it has none that can be read."""
    try:
        with (run_dir / "eval_results.json").open() as stream:
            content = json.load(stream)
        return {name: dict(content[name]) for name in ("overall", "by_category")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


@functools.lru_cache(maxsize=4096)
def finished_results(run_dir: Path) -> dict | None:
    """`results` of a run that is done: they do not change any more."""
    return results(run_dir)


def success(run_dir: Path) -> float | None:
    """Success on test levels of a run that is done."""
    rate = ((finished_results(run_dir) or {}).get("overall") or {}).get("success_rate")
    return rate if isinstance(rate, (int, float)) else None


def commands(settings: Settings, run: Run, slot: Slot) -> dict[str, list[str]]:
    """The command lines that a run still needs: `bc`, where its pretraining is still to be done, and `ppo`."""
    run_dir = directory(settings, run)
    script = [*python(settings, slot), str(Path(settings.scripts, f"ppo_{run.architecture}.py"))]
    if (run_dir / "config.json").is_file():
        return {"ppo": [*script, "--resume", str(run_dir), "--threads", str(slot.threads)]}
    lines = {}
    flags = ["--run-dir", str(run_dir), "--seed", str(run.seed), "--threads", str(slot.threads), *settings.flags]
    if settings.s3_prefix is not None:  # the script adds the name of the run's directory
        flags += ["--s3-prefix", "/".join(part for part in (settings.s3_prefix, str(Path(run.path).parent)) if part)]
    if run.condition == "with_pretrain":
        if not run.pretraining:
            bc = [sys.executable, str(Path(settings.scripts, "bc_pretrain.py"))]
            if (run_dir / "bc/config.json").is_file():
                lines["bc"] = [*bc, "--resume", str(run_dir / "bc")]
            else:
                about = ["--arch", run.architecture, "--seed", str(run.seed), "--threads", str(slot.threads)]
                lines["bc"] = [*bc, "--run-dir", str(run_dir / "bc"), *about, *settings.bc_flags]
        if not run.pretraining.startswith("none"):
            flags += ["--pretrained-checkpoint", str(run_dir / BC_CHECKPOINT)]
            if "--max-minutes" in settings.flags:  # the minutes of its pretraining are the run's own
                at = flags.index("--max-minutes") + 1
                flags[at] = f"{max(float(flags[at]) - minutes_of(run_dir / 'bc'), LEAST_MINUTES):.3f}"
    return lines | {"ppo": [*script, *flags]}


def minutes_of(run_dir: Path) -> float:
    """Minutes that a run has taken by its metrics.jsonl, 0 where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        rows = (json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines())
        return max(float(row["minutes"]) for row in rows)
    return 0.0


def python(settings: Settings, slot: Slot) -> list[str]:
    """The beginning of a training's command line: Python, or torchrun for several processes."""
    if settings.processes * settings.nodes == 1:
        return [sys.executable]
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(settings.processes)]
    if settings.nodes == 1:
        return [*words, "--standalone"]
    host, _, port = slot.master.rpartition(":")
    words += ["--nnodes", str(settings.nodes), "--node-rank", str(slot.node)]
    return [*words, "--master-addr", host or "HOST", "--master-port", port or "PORT"]


def work(
    settings: Settings,
    runs: Sequence[Run],
    slots: Sequence[Slot],
    stop,
    say: Callable[[str], None],
    changed: Callable[[], None],
    tick: Callable[[], None],
    started: list[Started],
) -> None:
    """Carry out `runs` in their order, one a slot, until all are done, stopped or failed.

    stop: its `number` is not 0 once the runs have to save and stop. `changed` is called when a run's status has,
    `tick` all the time. `started` (empty) holds what is at work; nothing of it is when this function has ended, however
    it ends.
    """
    waiting, free, tries = [run for run in runs if run.status != "done"], list(slots), {}
    for run in waiting:
        run.status, run.reason = "queued", ""
    asked = None
    try:
        while started or (waiting and not stop.number):
            for one in list(started):
                if one.process.poll() is None:
                    continue
                kill(one)  # what it has left behind
                started.remove(one)
                again = judge(settings, one, bool(stop.number), tries, say)
                if not (again and begin(settings, one.run, one.slot, tries, say, started)):
                    free.append(one.slot)
                changed()
            if stop.number and asked is None:
                asked = time.monotonic()
                for one in started:
                    ask_to_stop(one)
            elif asked is not None and time.monotonic() - asked > GRACE:
                say(f"runs that have not stopped after {GRACE:.0f} s are killed")
                asked = math.inf  # is said once
                for one in started:
                    kill(one)
            for run in list(waiting) if free and asked is None else ():
                if not free:
                    break
                if locked(directory(settings, run)):
                    if not run.reason:
                        run.reason = "waits for a process of an earlier runner that works in it"
                        say(f"{run.path}: {run.reason}")
                        changed()
                    continue
                waiting.remove(run)
                if finished(directory(settings, run)):  # by that process
                    run.status, run.reason = "done", ""
                elif begin(settings, run, free[0], tries, say, started):
                    free.pop(0)
                changed()
            tick()
            time.sleep(POLL)
    finally:
        for one in started:
            kill(one)
            one.process.wait()
            one.run.status, one.run.reason = "stopped", "killed with the runner"


def compile_ahead(settings: Settings, runs: Sequence[Run], stop, say: Callable[[str], None]) -> None:
    """Have the simulator compiled before the clock of any run starts; later ones take it from Numba's cache."""
    names = sorted({run.architecture for run in runs if run.status != "done"})
    if not names or settings.scripts != str(ROOT / "npp_rl"):
        return
    say("compiling the simulator before the first run starts (only the first time takes a minute or two)")
    code = "import sys; from npp_rl import agents; agents.compile_ahead(sys.argv[1:])"
    with subprocess.Popen([sys.executable, "-c", code, *names], cwd=ROOT, stdin=subprocess.DEVNULL) as process:
        while process.poll() is None and not stop.number:
            time.sleep(POLL)
        if process.poll() is None:
            process.kill()
        elif process.returncode:
            say("warning: the simulator could not be compiled; the first runs will try, in their own time")


def begin(settings: Settings, run: Run, slot: Slot, tries: dict, say, started: list[Started]) -> bool:
    """Start the process that a run needs next and note it in `started`; False where that fails, as the run then has."""
    run_dir = directory(settings, run)
    first = slot.node == 0  # of the machines of one training, the one that changes files
    try:
        stage, words = next(iter(commands(settings, run, slot).items()))
        if first and "--resume" not in words:
            clear_start(run_dir / "bc" if stage == "bc" else run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        with (run_dir / ("console.log" if first else f"console_{slot.node}.log")).open("ab") as console:
            console.write(f"$ {shlex.join(words)}\n".encode(errors="surrogateescape"))
            console.flush()
            begins, mark = console.tell(), str(uuid.uuid4())
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=environment(slot) | {MARK: mark},
                start_new_session=True,
                preexec_fn=functools.partial(prepare, os.getpid(), slot.cpus),
            )
    except OSError as error:
        run.status, run.reason = "failed", f"{error.filename or run_dir}: {error.strerror or error}"
        say(f"{run.path}: failed: {run.reason}")
        return False
    tries[run.path, stage] = tries.get((run.path, stage), 0) + 1
    run.attempts += stage == "ppo"
    run.status, run.reason = "running", ""
    started.append(Started(run, slot, process, stage, begins, mark))
    resumed = " (resumes)" if "--resume" in words else ""
    say(f"{run.path}: {'pretraining' if stage == 'bc' else 'training'} starts on {slot.name}{resumed}")
    return True


def judge(settings: Settings, one: Started, stopping: bool, tries: dict, say) -> bool:
    """Set the status of the run whose process has ended; True if its next process is to start."""
    run, run_dir = one.run, directory(settings, one.run)
    words, status = last_words(settings, one)
    run.exit_status, run.minutes = status, progress(settings, run).minutes
    spent = tries[run.path, one.stage] > settings.retries
    if one.stage == "bc":
        worked = finished(run_dir / "bc") and (run_dir / BC_CHECKPOINT).is_file()
        if worked:
            run.pretraining = BC_CHECKPOINT
            say(f"{run.path}: pretraining done")
        if stopping:
            run.status, run.reason = "stopped", f"{'after' if worked else 'in'} its pretraining"
            return False
        if worked:
            return True
        if status == 0:
            run.status, run.reason = "stopped", f"in its pretraining, by a signal from elsewhere ({words})"
            say(f"{run.path}: {run.status} {run.reason}")
            return False
        if status != REFUSED and not spent:
            say(f"{run.path}: pretraining died ({words}); it is started again")
        elif settings.require_pretraining:
            run.status, run.reason = "failed", f"no pretraining: {words}"
            say(f"{run.path}: failed: {run.reason}")
            return False
        else:
            run.pretraining = f"none, because {words}"
            say(f"warning: {run.path}: trains WITHOUT pretraining, because {words}")
        return True
    if finished(run_dir):
        run.status = "done"
        rate = success(run_dir)
        shown = f", success on test levels {rate:.1%}" if rate is not None else ""
        say(f"{run.path}: done in {run.minutes:.1f} minutes{shown}")
    elif stopping or status == 0:
        run.status, run.reason = "stopped", words if stopping else f"by a signal from elsewhere ({words})"
        say(f"{run.path}: stopped")
    elif status == REFUSED or spent:
        run.status, run.reason = "failed", words
        say(f"{run.path}: failed: {words}")
    else:
        say(f"{run.path}: died ({words}); it is started again, {settings.retries + 1 - tries[run.path, 'ppo']} left")
        return True
    return False


def last_words(settings: Settings, one: Started) -> tuple[str, int]:
    """Why a process ended, in a line, and its exit status; of torchrun, the status of its first failed process."""
    run_dir, status = directory(settings, one.run), one.process.returncode
    try:
        with (run_dir / ("console.log" if one.slot.node == 0 else f"console_{one.slot.node}.log")).open("rb") as stream:
            stream.seek(max(one.begins, stream.seek(0, os.SEEK_END) - 65536))
            lines = [line.strip() for line in stream.read().decode(errors="replace").splitlines()]
    except OSError:
        lines = []
    if settings.processes * settings.nodes > 1 and status == 1:
        causes = [match for line in lines if (match := re.search(r"exitcode\s*:\s*(-?\d+)", line))]
        status = int(causes[-1][1]) if causes else status  # the root cause is told last
        told = [k for k, line in enumerate(lines) if re.match(r"[EWI]\d{4} .*torch/distributed/elastic", line)]
        lines = lines[: told[0]] if told else lines  # what torchrun says is about itself
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    text = (errors or [line for line in lines if line] or ["it said nothing"])[-1][:300]
    if status < 0:
        with contextlib.suppress(ValueError):
            text = f"ended by {signal.Signals(-status).name}"
    elif status and not errors:
        text = f"status {status}: {text}"
    with contextlib.suppress(OSError):
        if status and shutil.disk_usage(run_dir).free < FULL_DISK:
            text = f"the disk is full ({text})"
    return text, status


def clear_start(run_dir: Path) -> None:
    """Remove what a process that died before it had a configuration left; logs and a pretraining stay."""
    for path in run_dir.iterdir() if run_dir.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            if path.name != "bc":
                shutil.rmtree(path)
        elif path.suffix != ".log":
            path.unlink()


def environment(slot: Slot) -> dict[str, str]:
    """The environment of a slot's processes: this checkout's code, its GPUs, and no more threads than it has."""
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"}
    env |= {name: str(slot.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    if slot.gpus is not None:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(slot.gpus)
    return env


LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def prepare(parent: int, cpus: Sequence[int]) -> None:
    """In the new process, before its program: to be told of the runner's death, to stay on its processors.

    A cluster's warning, SIGUSR2, goes to all processes of a job; it is meant for the one that watches.
    """
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # killed in between
            os._exit(1)
        if cpus:
            os.sched_setaffinity(0, cpus)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def ask_to_stop(one: Started) -> None:
    """SIGTERM, once for each process that trains: a second one would end it at once, and torchrun passes its own on."""
    torchrun = "torch.distributed.run" in one.process.args
    for pid in (torchrun and children(one.process.pid)) or [one.process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def kill(one: Started) -> None:
    """End all of a run's processes at once: torchrun gives those that train process groups of their own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(one.process.pid, signal.SIGKILL)
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{MARK}={one.mark}".encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`; none where /proc does not tell."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            if path.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(path.parent.name))
    return found


def locked(run_dir: Path) -> bool:
    """Whether a process works in a run's directory or in its pretraining's (see checkpoints.claim)."""
    for path in (run_dir / "log.jsonl", run_dir / "bc/log.jsonl"):
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:  # a file system without locks
                pass
    return False


@functools.lru_cache(maxsize=1024)
def _goal(config: Path) -> tuple[int, float | None]:
    """Steps and minutes at which a run ends, by its configuration."""
    args = json.loads(config.read_text())["args"]
    return int(args["total_timesteps"]), args.get("max_minutes")


def progress(settings: Settings, run: Run) -> Progress:
    """How far a run is. Half-written and missing files tell less, and never raise."""
    run_dir, now = directory(settings, run), Progress()
    if run.condition == "with_pretrain" and not (run_dir / "config.json").is_file() and (run_dir / "bc").is_dir():
        run_dir, now.stage = run_dir / "bc", "pretraining"
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        with (run_dir / "metrics.jsonl").open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 16384))
            rows = [json.loads(line) for line in stream.read().split(b"\n")[:-1] if line.startswith(b'{"kind"')]
        now.step, now.minutes = int(rows[-1].get("global_step", 0)), float(rows[-1]["minutes"])
        for row in rows:
            now.steps_per_second = row.get("charts/SPS", now.steps_per_second)
            now.success = row.get("charts/success_rate", now.success)
        if now.stage:
            return now
        steps, minutes = _goal(run_dir / "config.json")
        now.share = min(1.0, now.step / steps if minutes is None else now.minutes / minutes)
        if now.share > 0:
            now.minutes_left = now.minutes * (1 - now.share) / now.share
    return now
