"""Runs as jobs of a Slurm cluster, through submitit: one array, each job one run, requeued until the run is done.

A job carries out its run with `launch.work`, as the local runner does, and notes how it stands in a small JSON file,
`slurm/<run>.json` of the experiment's folder, which all machines have to share. The runner here only submits, watches
and collects: it may be killed, and `--resume-from` finds the jobs that are still there by their numbers.

Slurm sends SIGUSR2 `--slurm-signal-seconds` before a job's time ends. Then the run is asked to save. Once it has
stopped, or is killed because it has not, REQUEUE_SECONDS are left to put the job back into the queue. A job that is
preempted gets SIGTERM, on which the scripts save by themselves, and Slurm requeues it. A run of several machines is one
job with one torchrun on each; when a process of it dies, the whole job is requeued.
"""

import contextlib
import dataclasses
import getpass
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.runner import launch, processes
from benchmark.runner.arguments import REQUEUE_SECONDS, Args, home
from benchmark.runner.runs import Run, Settings, Slot, directory, finished
from npp_rl.commands import ArgumentError
from npp_rl.files import read_json, write_json

try:
    import submitit
except ModuleNotFoundError:
    raise ModuleNotFoundError('--launcher: clusters need submitit: pip install -e ".[slurm]"') from None

FOLDER = "slurm"  # submitit's files and the jobs' notes, in the experiment's folder
LOOK_SECONDS = {"slurm": 5.0, "local": 0.5}  # between looks at the queue
SETTLE_SECONDS = 15.0  # within which the last note of a job is there, even on a slow file system
LINGER_SECONDS = 300.0  # that a job waits to be requeued or ended once its run was told to stop


@dataclass
class Never:
    """A `stop` that never comes."""

    number: int = 0


class Until:
    """A `stop` for the other machines of a run, which comes when the first one has ended."""

    def __init__(self, note: Path, attempt: str):
        self.note, self.attempt = note, attempt

    @property
    def number(self) -> int:
        note = read_note(self.note)
        return signal.SIGTERM if note.get("attempt") == self.attempt and note.get("ended") else 0


class Job:
    """What a job does. Pickled when it is submitted, and again, unchanged, when it is put back into the queue."""

    def __init__(self, settings: Settings, run: Run, threads: int, grace: float):
        self.settings, self.run, self.threads = settings, run, threads
        self.grace = grace  # seconds that its run has to stop once the job is warned
        self.started = []

    def __call__(self) -> None:
        job = submitit.JobEnvironment()
        attempt = f"{job.job_id}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"
        note = note_path(self.settings, self.run)
        run = dataclasses.replace(self.run, job=job.job_id)
        settings = self.settings
        if settings.nodes > 1:  # one torchrun on each machine, all started anew together
            settings = dataclasses.replace(settings, retries=0)
        slot = Slot(f"{socket.gethostname()} ({attempt})", self.threads, node=job.node)
        if settings.nodes > 1:
            slot.master = meeting_place(note.with_suffix(f".{attempt}.master"), job.node)

        def changed(ended=False):
            if job.node == 0:
                write_json(note, {**dataclasses.asdict(run), "attempt": attempt, "ended": ended})

        run.status = "done" if finished(directory(settings, run)) else "queued"
        stop = Never() if job.node == 0 else Until(note, attempt)
        launch.work(settings, [run], [slot], stop, log, changed, lambda: None, self.started)
        if job.node > 0:
            return
        if settings.nodes > 1 and run.status == "failed" and run.exit_status != launch.REFUSED:
            restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
            if restarts < self.settings.retries:
                log("the job is put back into the queue")
                changed()
                subprocess.run(["scontrol", "requeue", job.job_id], check=True)
                time.sleep(LINGER_SECONDS)
        if run.status == "stopped":  # by Slurm's own signal: it will end or requeue this job
            changed()
            time.sleep(LINGER_SECONDS)
        changed(ended=True)

    def checkpoint(self):
        """On SIGUSR2: let the run save and stop, or kill it, then submitit puts this job back into the queue."""
        for one in self.started:
            processes.ask_to_stop(one.process)
        deadline = time.monotonic() + self.grace
        while any(one.process.poll() is None for one in self.started) and time.monotonic() < deadline:
            time.sleep(launch.POLL)
        launch.end_stubborn(self.started, self.grace, log)
        return submitit.helpers.DelayedSubmission(Job(self.settings, self.run, self.threads, self.grace))


def log(text: str) -> None:
    """A line in a job's own log."""
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)


def grace(args: Args) -> float:
    """Seconds between a job's warning and the moment at which its run has to have stopped."""
    return args.slurm_signal_seconds - REQUEUE_SECONDS


def note_path(settings: Settings, run: Run) -> Path:
    return Path(settings.folder, FOLDER, f"{run.path.replace('/', '__')}.json")


def read_note(path: Path) -> dict:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


def meeting_place(path: Path, node: int, seconds: float = 600.0) -> str:
    """HOST:PORT at which the processes of a run on several machines meet. The first machine writes it into `path`."""
    if node == 0:
        with socket.socket() as listener:
            listener.bind(("", 0))
            place = f"{socket.gethostname()}:{listener.getsockname()[1]}"
        path.write_text(place + "\n")
        return place
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if (text := path.read_text()).endswith("\n"):
                return text.strip()
        time.sleep(0.2)
    raise TimeoutError(f"{path}: the first machine of the run has not written it within {seconds:.0f} s")


def slots(args: Args) -> list[Slot]:
    """What each job has, for `--dry-run`."""
    per_process = max(1, args.slurm_cpus // args.gpus_per_run)
    machines = f"{args.nodes_per_run} machines each, " if args.nodes_per_run > 1 else ""
    return [Slot(f"jobs, {machines}{args.slurm_cpus} processors", args.threads or per_process)]


def check(args: Args) -> None:
    """Raise ArgumentError where this machine cannot submit such jobs."""
    if args.launcher == "local-submitit":
        return
    if args.num_gpus == 0 and args.gpus_per_run > 1:
        raise ArgumentError("--gpus-per-run: contradicts --num-gpus 0")
    try:
        subprocess.run(
            ["squeue", "--noheader", "--user", getpass.getuser()], check=True, capture_output=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        words = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace").split("\n")[0]
        raise ArgumentError(f"--launcher slurm: squeue does not answer here ({words})") from error


def executor(args: Args, folder: Path):
    """submitit's executor for the jobs of an experiment."""
    if args.launcher == "local-submitit":
        made = submitit.LocalExecutor(folder / FOLDER, max_num_timeout=args.slurm_requeues)
        made.update_parameters(timeout_min=args.slurm_minutes, signal_delay_s=args.slurm_signal_seconds)
        return made
    made = submitit.AutoExecutor(folder / FOLDER, cluster="slurm", slurm_max_num_timeout=args.slurm_requeues)
    named = {"slurm_partition": args.slurm_partition, "slurm_account": args.slurm_account}
    made.update_parameters(
        timeout_min=args.slurm_minutes,
        nodes=args.nodes_per_run,
        tasks_per_node=1,
        cpus_per_task=args.slurm_cpus,
        slurm_job_name="_".join(folder.relative_to(home(args, folder).parent).parts),
        slurm_mem=f"{args.slurm_mem_gb * 1024:.0f}M",
        slurm_signal_delay_s=args.slurm_signal_seconds,
        slurm_array_parallelism=args.slurm_parallel,
        slurm_additional_parameters={"requeue": True, **dict(option.split("=", 1) for option in args.slurm_args)},
        # A step does not inherit its job's processors. One machine of a run may end before the others.
        slurm_srun_args=[f"--cpus-per-task={args.slurm_cpus}", "--kill-on-bad-exit=0"],
        **({"gpus_per_node": args.gpus_per_run} if args.num_gpus != 0 else {}),
        **{name: value for name, value in named.items() if value},
    )
    return made


def in_queue(args: Args, jobs: dict[str, object]) -> dict[str, str] | None:
    """States of this user's jobs that have not ended, by their numbers; None where the cluster does not answer."""
    if args.launcher == "slurm":
        words = ["squeue", "--noheader", "--array", "--format=%i %T", "--user", getpass.getuser()]
        try:
            text = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout
        except (OSError, subprocess.SubprocessError):
            return None
        return dict(line.split()[:2] for line in text.splitlines() if line.strip())
    states = {number: "RUNNING" for number, job in jobs.items() if not job.done()}
    for path in Path("/proc").glob("[0-9]*/cmdline"):  # of an earlier runner
        with contextlib.suppress(OSError):
            if path.parent.name not in jobs and b"submitit.local._local" in path.read_bytes():
                states[path.parent.name] = "RUNNING"
    return states


def work(
    args: Args,
    settings: Settings,
    runs: Sequence[Run],
    slots: Sequence[Slot],
    stop,
    say: Callable[[str], None],
    changed: Callable[[], None],
    tick: Callable[[], None],
) -> None:
    """Submit the runs that are not done, and watch until all jobs have ended; see `launch.work`.

    Being stopped leaves the jobs to the cluster.
    """
    jobs, tries, gone = {}, {}, {}
    waiting = [run for run in runs if run.status != "done"]
    states = in_queue(args, jobs) or {}
    watched = [run for run in waiting if run.job and run.job in states]
    to_submit = [run for run in waiting if run not in watched]
    if watched:
        say(f"{len(watched)} jobs of an earlier runner are still there")
    looked = time.monotonic()
    while (to_submit or watched) and not stop.number:
        if to_submit:
            for run in to_submit:
                tries[run.path] = tries.get(run.path, 0) + 1
            watched += submit(args, settings, to_submit, slots[0].threads, jobs, say)
            to_submit = []
            changed()
        tick()
        time.sleep(launch.POLL)
        if time.monotonic() - looked < LOOK_SECONDS["slurm" if args.launcher == "slurm" else "local"]:
            continue
        looked, states = time.monotonic(), in_queue(args, jobs)
        if states is None:
            continue
        before = [dataclasses.astuple(run) for run in runs]
        for run in list(watched):
            note = look(settings, run, states, gone)
            if note is None:
                continue
            watched.remove(run)
            if settle(settings, run, note, tries.get(run.path, 0)):
                say(f"{run.path}: {run.reason}; it is submitted again")
                to_submit.append(run)
            else:
                say(f"{run.path}: {run.status}{': ' + run.reason if run.reason else ''}")
        if before != [dataclasses.astuple(run) for run in runs]:
            changed()
    if stop.number and watched:
        numbers = " ".join(sorted({run.job for run in watched}))
        say(f"{len(watched)} jobs stay with the cluster; --resume-from watches them again, scancel {numbers} ends them")


def submit(
    args: Args, settings: Settings, runs: Sequence[Run], threads: int, jobs: dict[str, object], say
) -> Sequence[Run]:
    """Submit runs as one array and add their jobs to `jobs`; the runs that are in the queue now, all or none."""
    made = executor(args, Path(settings.folder))
    for run in runs:
        note_path(settings, run).unlink(missing_ok=True)
        run.status, run.reason = "queued", ""
    try:
        with made.batch():
            new = [made.submit(Job(settings, dataclasses.replace(run), threads, grace(args))) for run in runs]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
        reason = "not submitted: " + " ".join(str(error).split())[-200:]
        for run in runs:
            run.status, run.reason = "failed", reason
        say(f"warning: {len(runs)} runs {reason}")
        return []
    for run, job in zip(runs, new, strict=True):
        run.job, jobs[job.job_id] = job.job_id, job
        say(f"{run.path}: job {run.job}")
    return runs


def look(settings: Settings, run: Run, states: dict[str, str], gone: dict[str, float]) -> dict | None:
    """Take over what a run's job has noted; its last note once the job has ended, {} where that is overdue.

    states: see `in_queue`; gone: when jobs were first seen to have ended, by the run's path.
    """
    note = read_note(note_path(settings, run))
    take(run, note)
    if run.job in states:
        gone.pop(run.path, None)
        if run.status not in ("done", "failed"):
            at_work = states[run.job] == "RUNNING" and note.get("status") == "running"
            run.status = "running" if at_work else "queued"
        return None
    first = gone.setdefault(run.path, time.monotonic())
    overdue = time.monotonic() - first >= SETTLE_SECONDS
    if not (finished(directory(settings, run)) or note.get("ended") or overdue):
        return None
    del gone[run.path]
    return note


def settle(settings: Settings, run: Run, note: dict, tries: int) -> bool:
    """Set the status of a run whose job has ended; True if it is to be submitted again, after so many tries."""
    if finished(directory(settings, run)):
        run.status, run.reason = "done", ""
    elif not note.get("ended"):
        cancelled = note.get("status") == "stopped"  # its run was told to save, and nothing else followed
        words = "was cancelled" if cancelled else "ended without a word"
        run.status, run.reason = "stopped", f"job {run.job} {words} (see {FOLDER}/{run.job}_0_log.err)"
        return not cancelled and 0 < tries <= settings.retries
    return False


def take(run: Run, note: dict) -> None:
    """Take over what a job has noted about its run, if the note is of this job."""
    if note.get("job") != run.job:
        return
    for name in ("status", "attempts", "exit_status", "minutes", "reason", "pretraining"):
        if isinstance(value := note.get(name), (int, float, str)) or value is None:
            setattr(run, name, value if value is not None or name == "exit_status" else getattr(run, name))
