"""Carries out runs on this machine: starts their processes, watches and retries them, and lets them stop.

A run that works on after its runner was killed holds the lock of its log.jsonl, and a later runner waits for it.
"""

import functools
import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.runner import processes
from benchmark.runner.runs import (
    BC_CHECKPOINT,
    ROOT,
    SCRIPTS,
    Run,
    Settings,
    Slot,
    commands,
    directory,
    finished,
    locked,
    progress,
    success,
)

REFUSED = 2  # exit status of a script for what the user has to mend; trying again is no use
GRACE = 300.0  # seconds that runs have to stop and save when they are asked to; on a cluster, cluster.grace
POLL = 0.1  # seconds between looks at the processes


@dataclass
class Started:
    """A run in work."""

    run: Run
    slot: Slot
    process: subprocess.Popen
    stage: str  # bc or ppo
    begins: int  # where this attempt begins in console.log
    mark: str  # in the environment, as processes.MARK, of all its processes


@dataclass
class Desk:
    """The state of `work`."""

    settings: Settings
    say: Callable[[str], None]
    changed: Callable[[], None]  # to be called when a run's status has changed
    started: list[Started]
    waiting: list[Run]
    free: list[Slot]
    tries: dict[tuple[str, str], int] = field(default_factory=dict)  # starts of a run's stage


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

    stop: its `number` is not 0 once the runs have to save and stop. After GRACE seconds they are killed. `changed` is
    called when a run's status has changed, `tick` all the time. `started`, empty at first, holds the runs in work. None
    is in work any more when this function has ended, however it ends.
    """
    desk = Desk(settings, say, changed, started, [run for run in runs if run.status != "done"], list(slots))
    for run in desk.waiting:
        run.status, run.reason = "queued", ""
    deadline = None
    try:
        while started or (desk.waiting and not stop.number):
            settle(desk, bool(stop.number))
            if not stop.number:
                start_waiting(desk)
            elif deadline is None:
                deadline = time.monotonic() + GRACE
                for one in started:
                    processes.ask_to_stop(one.process)
            elif time.monotonic() > deadline:
                end_stubborn(started, GRACE, say)
            tick()
            time.sleep(POLL)
    finally:
        for one in started:
            processes.kill(one.process, one.mark)
            one.process.wait()
            one.run.status, one.run.reason = "stopped", "killed with the runner"


def settle(desk: Desk, stopping: bool) -> None:
    """Judge the runs whose processes have ended; start what they need next, or free their slots."""
    for one in list(desk.started):
        if one.process.poll() is None:
            continue
        processes.kill(one.process, one.mark)  # processes that it has left behind
        desk.started.remove(one)
        again = judge(desk.settings, one, stopping, desk.tries, desk.say)
        if not (again and begin(desk, one.run, one.slot)):
            desk.free.append(one.slot)
        desk.changed()


def start_waiting(desk: Desk) -> None:
    """Start the runs that wait, in their order, as far as there are slots."""
    for run in list(desk.waiting) if desk.free else ():
        if not desk.free:
            break
        run_dir = directory(desk.settings, run)
        if locked(run_dir):
            if not run.reason:
                run.reason = "waits for a process of an earlier runner that works in it"
                desk.say(f"{run.path}: {run.reason}")
                desk.changed()
            continue
        desk.waiting.remove(run)
        if finished(run_dir):  # by that process
            run.status, run.reason = "done", ""
        elif begin(desk, run, desk.free[0]):
            desk.free.pop(0)
        desk.changed()


def end_stubborn(started: Sequence[Started], seconds: float, say: Callable[[str], None]) -> None:
    """Kill what has not stopped within so many seconds, and say so."""
    alive = [one for one in started if one.process.poll() is None]
    for one in alive:
        say(f"{one.run.path}: has not stopped within {seconds:.0f} s and is killed")
        processes.kill(one.process, one.mark)
        one.process.wait()


def compile_ahead(settings: Settings, runs: Sequence[Run], stop, say: Callable[[str], None]) -> None:
    """Have the simulator compiled before the clock of any run starts; the runs take it from Numba's cache."""
    left = {run.architecture for run in runs if run.status != "done"}
    names = sorted(settings.own.get(name, name) for name in left)
    if not names or settings.scripts != str(SCRIPTS):
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


def begin(desk: Desk, run: Run, slot: Slot) -> bool:
    """Start the process that a run needs next, and note it; False where that fails, and with it the run."""
    run_dir = directory(desk.settings, run)
    first = slot.node == 0  # only the first machine of a training changes files
    try:
        stage, words = next(iter(commands(desk.settings, run, slot).items()))
        if first and "--resume" not in words:
            clear_start(run_dir / "bc" if stage == "bc" else run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        with console_of(run_dir, slot).open("ab") as console:
            console.write(f"$ {shlex.join(words)}\n".encode(errors="surrogateescape"))
            console.flush()
            begins, mark = console.tell(), str(uuid.uuid4())
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=processes.environment(slot.threads, slot.gpus) | {processes.MARK: mark},
                start_new_session=True,
                preexec_fn=functools.partial(processes.prepare, os.getpid(), slot.cpus),
            )
    except OSError as error:
        run.status, run.reason = "failed", f"{error.filename or run_dir}: {error.strerror or error}"
        desk.say(f"{run.path}: failed: {run.reason}")
        return False
    desk.tries[run.path, stage] = desk.tries.get((run.path, stage), 0) + 1
    run.attempts += stage == "ppo"
    run.status, run.reason = "running", ""
    desk.started.append(Started(run, slot, process, stage, begins, mark))
    resumed = " (resumes)" if "--resume" in words else ""
    desk.say(f"{run.path}: {'pretraining' if stage == 'bc' else 'training'} starts on {slot.name}{resumed}")
    return True


def console_of(run_dir: Path, slot: Slot) -> Path:
    """Where the processes of a run on one machine write."""
    return run_dir / ("console.log" if slot.node == 0 else f"console_{slot.node}.log")


def judge(settings: Settings, one: Started, stopping: bool, tries: dict, say: Callable[[str], None]) -> bool:
    """Set the status of the run whose process has ended; True if its next process is to start."""
    run, run_dir = one.run, directory(settings, one.run)
    words, status = last_words(settings, one)
    run.exit_status, run.minutes = status, progress(settings, run).minutes
    spent = tries[run.path, one.stage] > settings.retries
    if one.stage == "bc":
        return judge_pretraining(settings, one, stopping, spent, words, say)
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


def judge_pretraining(settings: Settings, one: Started, stopping: bool, spent: bool, words: str, say) -> bool:
    """`judge` for a run whose pretraining has ended. spent: whether it must not be tried again."""
    run, run_dir = one.run, directory(settings, one.run)
    worked = finished(run_dir / "bc") and (run_dir / BC_CHECKPOINT).is_file()
    if worked:
        run.pretraining = BC_CHECKPOINT
        say(f"{run.path}: pretraining done")
    if stopping:
        run.status, run.reason = "stopped", f"{'after' if worked else 'in'} its pretraining"
        return False
    if worked:
        return True
    if run.exit_status == 0:
        run.status, run.reason = "stopped", f"in its pretraining, by a signal from elsewhere ({words})"
        say(f"{run.path}: {run.status} {run.reason}")
        return False
    if run.exit_status != REFUSED and not spent:
        say(f"{run.path}: pretraining died ({words}); it is started again")
        return True
    if settings.require_pretraining:
        run.status, run.reason = "failed", f"no pretraining: {words}"
        say(f"{run.path}: failed: {run.reason}")
        return False
    run.pretraining = f"none, because {words}"
    say(f"warning: {run.path}: trains WITHOUT pretraining, because {words}")
    return True


def last_words(settings: Settings, one: Started) -> tuple[str, int]:
    """Why a process ended, in a line, and its exit status. torchrun has that of its first process that failed."""
    run_dir, status = directory(settings, one.run), one.process.returncode
    lines = processes.said(console_of(run_dir, one.slot), one.begins)
    if settings.processes * settings.nodes > 1 and status == 1:
        lines, status = processes.of_torchrun(lines, status)
    return processes.reason(lines, status, run_dir), status


def clear_start(run_dir: Path) -> None:
    """Remove what is left of a process that died before it wrote config.json; logs and a pretraining stay."""
    for path in run_dir.iterdir() if run_dir.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            if path.name != "bc":
                shutil.rmtree(path)
        elif path.suffix != ".log":
            path.unlink()
