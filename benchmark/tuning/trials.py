"""Trials in work: each trains real runs of the script, one a seed. Their metrics are followed, and bad trials ended."""

import contextlib
import dataclasses
import functools
import json
import os
import subprocess
import sys
import typing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmark.runner.processes import environment, prepare, reason, said
from benchmark.runner.runs import SCRIPTS
from benchmark.tuning.spaces import flags, named_in, values_of
from npp_rl.commands import CheckpointError, UserError, parse
from npp_rl.files import read_json

CHECKS = 10  # of a run: at each tenth of its budget its success so far is compared with earlier trials'
RECENT = 0.2  # of the budget: a run's success is the mean of its evaluations in this last part
PATIENCE = 60  # seconds that a run has to save and end after SIGTERM


@dataclass
class Trial:
    """A trial in work. Its runs, one a seed, follow one another, so that the first can already end a bad trial."""

    trial: typing.Any  # the trial in Optuna's terms
    folder: Path
    slot: int  # number of its share of the machine
    finals: list[float] = field(default_factory=list)  # success of the runs that ended, in the order of the seeds
    untrained: list[float] = field(
        default_factory=list
    )  # success of the runs before training, where they are evaluated then
    process: subprocess.Popen | None = None
    expected: dict = field(default_factory=dict)  # arguments of the run in work
    offset: int = 0  # bytes of its metrics.jsonl that were read
    evaluations: list[tuple[float, float]] = field(default_factory=list)  # share of the budget used, success
    checks: int = 0  # tenths of its budget that were reported
    tested: bool = False  # its test suite was played: it has come to its end

    @property
    def run_dir(self) -> Path:
        return self.folder / f"seed_{self.expected['seed']}"

    @property
    def success(self) -> float | None:
        """Success of the run in work on its validation levels, None before the first evaluation."""
        return recent(self.evaluations) if self.evaluations else None


class Ended(Exception):
    """A trial's end other than success; the message is the reason."""


def recent(evaluations: list[tuple[float, float]]) -> float:
    """Mean success of a run's last evaluations: those within RECENT, a share of its budget, of the very last."""
    since = evaluations[-1][0] - RECENT - 1e-9
    return float(np.mean([success for used, success in evaluations if used >= since]))


def script_path(arch: str) -> Path:
    """The script of an architecture, or of a path to a script of one's own."""
    return Path(arch) if arch.endswith(".py") else SCRIPTS / f"ppo_{arch}.py"


def check_config(run_dir: Path, expected: dict, sizes: tuple[str, ...]) -> None:
    """Raise CheckpointError where a run's recorded arguments are not those that it was given.

    A layer size that nobody set (None) is the preset's.
    """
    path = run_dir / "config.json"
    try:
        recorded = dict(read_json(path)["args"])
    except (OSError, UserError, KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path}: not a run's configuration") from None
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in expected.items()}
    free = [name for name in sizes if expected[name] is None]
    wrong = [
        f"{name} is {recorded.get(name)!r}, the trial's {value!r}"
        for name, value in plain.items()
        if name not in free and (name not in recorded or recorded[name] != value)
    ]
    if wrong:
        raise CheckpointError(f"{path}: {'; '.join(wrong)}")


def start_run(work: Trial, args, script, rest: list[str]) -> None:
    """Start the trial's next run as a process of its own. args: of benchmark.tune; rest: the script's own flags."""
    seed = args.seeds[len(work.finals)]
    given = {"seed": seed, "run_dir": str(work.folder / f"seed_{seed}"), "size": args.size}
    given |= {name: value for name in budget_of(rest) if (value := getattr(args, name)) is not None}
    if args.jobs > 1 and "threads" not in named_in(rest):
        given["threads"] = max(1, (os.cpu_count() or 1) // args.jobs)
    values = values_of(work.trial.params)
    words = [*rest, *flags(given | values)]
    work.expected = dataclasses.asdict(parse(script.Args, words)) | values
    work.offset, work.evaluations, work.checks, work.tested = 0, [], 0, False
    work.folder.mkdir(parents=True, exist_ok=True)
    with (work.folder / f"seed_{seed}.log").open("wb") as log:
        work.process = subprocess.Popen(
            [sys.executable, str(script_path(args.arch)), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(gpus=gpu_of(work.slot)),
            start_new_session=True,  # Ctrl-C is for the tuner, which ends its runs itself
            preexec_fn=functools.partial(prepare, os.getpid()),
        )


def budget_of(rest: list[str]) -> list[str]:
    """Arguments that the tuner passes on to its runs: those that are not among the script's own flags."""
    names = ("max_minutes", "total_timesteps", "eval_freq", "validation_fraction")
    return [name for name in names if name not in named_in(rest)]


def gpu_of(slot: int) -> list[str] | None:
    """The GPU of a share of the machine; None on machines with fewer than two."""
    import torch

    if (count := torch.cuda.device_count()) < 2:
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    visible = visible if len(visible) == count else [str(k) for k in range(count)]
    return [visible[slot % count]]


def follow(work: Trial, args, script) -> None:
    """Read what the run has logged since the last look, report its success at each tenth of the budget.

    Raises Ended where the trial is to be pruned or the run has other arguments than it was given.
    """
    path = work.run_dir / "metrics.jsonl"
    if not path.is_file():
        return
    with path.open("rb") as stream:
        stream.seek(work.offset)
        data = stream.read()
    data = data[: data.rfind(b"\n") + 1]
    if data and not work.offset:
        try:
            check_config(work.run_dir, work.expected, tuple(script.SIZES[args.size]))
        except CheckpointError as error:
            raise Ended(str(error)) from None
    work.offset += len(data)
    for line in data.splitlines():
        row = json.loads(line)
        work.tested |= row["kind"] == "test"
        used = row["global_step"] / args.total_timesteps if args.total_timesteps else row["minutes"] / args.max_minutes
        if row["kind"] == "eval":
            work.evaluations.append((used, row["eval/success_rate"]))
            if row["global_step"] == 0:
                work.untrained.append(row["eval/success_rate"])
        while work.evaluations and work.checks < min(CHECKS, int(used * CHECKS + 1e-9)):
            work.checks += 1
            mean = float(np.mean([*work.finals, work.success]))
            work.trial.report(mean, len(work.finals) * CHECKS + work.checks)
            if args.prune and work.checks < CHECKS and work.trial.should_prune():
                raise Ended("pruned")


def end_process(process: subprocess.Popen) -> None:
    """SIGTERM, on which a run saves and ends; SIGKILL where it does not."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def step(work: Trial, args, script, rest: list[str]) -> float | None:
    """Go on with a trial; its value once all its runs have ended. Raises Ended."""
    status = work.process.poll()  # before reading, so that nothing is missed
    follow(work, args, script)
    if status is None:
        return None
    seed = args.seeds[len(work.finals)]
    if status:
        log = work.folder / f"seed_{seed}.log"
        raise Ended(f"seed {seed}: {reason(said(log), status, work.folder)}")
    if not work.tested:
        raise Ended(f"seed {seed}: ended before its time")
    if work.success is None:
        raise Ended(f"seed {seed}: no validation result (expected validation levels and --eval-freq above 0)")
    work.finals.append(work.success)
    config = read_json(work.run_dir / "config.json")
    work.trial.set_user_attr("success_by_seed", work.finals)
    if work.untrained:
        work.trial.set_user_attr("untrained", float(np.mean(work.untrained)))
    work.trial.set_user_attr("parameters", config.get("parameters"))
    with contextlib.suppress(KeyError, TypeError):
        work.trial.set_user_attr("validation_levels", config["levels"]["validation"])
    (work.run_dir / "checkpoints/latest.pt").unlink(missing_ok=True)  # the largest file, for a resume only
    if len(work.finals) < len(args.seeds):
        start_run(work, args, script, rest)
        return None
    return float(np.mean(work.finals))
